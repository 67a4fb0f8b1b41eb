"""How often a loop goes round, and what its variables begin with."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.kernel.events import NodeSucceeded
from headrace.node import Flow
from tests.engine.driving import counting, drive
from tests.engine.nests import adds, flow, iteration, loop, node, variable


@pytest.mark.parametrize(
    ("count", "until", "n", "rounds"), [(3, None, 4, 3), (10, 4, 4, 3), (3, 4, 4, 3), (10, 1, 1, None)]
)
async def test_a_loop_goes_round_until_its_condition_holds(
    count: int, until: int | None, n: int | None, rounds: int | None
):
    state, _ = await drive(counting(count, until))
    assert state.ended is not None
    assert state.ended.outputs == {"n": n, "rounds": rounds}
    assert (state.ended.status, state.ended.steps) == ("succeeded", 3)


async def test_a_loop_ends_with_the_round_that_reaches_its_end():
    case = {
        "case_id": "stop",
        "logical_operator": "and",
        "conditions": [{"variable_selector": ["lp", "n"], "comparison_operator": "=", "value": "3"}],
    }
    inside = [node("if", "if-else", "lp", cases=[case]), node("le", "loop-end", "lp")]
    state, records = await drive(counting(10, None, *inside, edges="add>if if:stop>le"))
    assert state.ended is not None
    assert state.ended.outputs == {"n": 3, "rounds": 2}
    done = next(r.event for r in records if isinstance(r.event, NodeSucceeded) and r.event.path == "lp")
    assert done.process["loop_variable_map"] == {"0": {"n": 2}, "1": {"n": 3}}


async def test_a_failure_inside_ends_the_loop():
    inside = [node("in", "slow-echo", "lp", reads=[["lp", "n"]], fails_on=[3])]
    state, _ = await drive(counting(5, None, *inside, edges="add>in"))
    assert state.ended is not None
    assert (state.ended.status, state.ended.error) == ("failed", "boom on [3]")


def beginning(*variables: dict[str, Any]) -> Flow:
    """A loop of one round that puts out its last variable."""
    return flow(
        [loop("lp", 1, loop_variables=list(variables)), node("in", inside="lp")],
        "start>lp lp-start>in lp>end",
        {"out": ["lp", variables[-1]["label"]]},
    )


@pytest.mark.parametrize(
    ("kind", "value", "out"),
    [
        ("string", "a", "a"),
        ("string", "", ""),
        ("number", 2, 2),
        ("number", "2.5", 2.5),
        ("boolean", False, False),
        ("boolean", "true", True),
        ("object", {"a": 1}, {"a": 1}),
        ("object", '{"a": 1}', {"a": 1}),
        ("array[string]", '["a"]', ["a"]),
        ("array[number]", "[1, 2.5]", [1, 2.5]),
        ("array[object]", '[{"a": 1}]', [{"a": 1}]),
        ("array[boolean]", [True], [True]),
        ("array[string]", "", []),
        ("array[string]", None, []),
    ],
)
async def test_what_a_loop_variable_begins_with(kind: str, value: Any, out: Any):
    state, _ = await drive(beginning(variable("v", value, kind)))
    assert state.ended is not None
    assert (state.ended.status, state.ended.outputs) == ("succeeded", {"out": out})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[("string", 1), ("string", None), ("number", "x"), ("number", True), ("number", "NaN"), ("number", "1e999")],
        *[("boolean", 1), ("object", "{"), ("object", ""), ("array[number]", '["a"]'), ("array[number]", "[true]")],
        *[("array[object]", "[1]"), ("array[string]", "null")],
    ],
)
async def test_a_loop_variable_of_another_type(kind: str, value: Any):
    state, _ = await drive(beginning(variable("v", value, kind)))
    assert state.ended is not None
    assert (state.ended.status, state.ended.error) == ("failed", "Invalid value for loop variable v")


def taken(label: str, selector: Any) -> dict[str, Any]:
    return variable(label, selector) | {"value_type": "variable"}


async def test_a_loop_variable_begins_with_another_variable():
    state, _ = await drive(beginning(taken("v", ["start", "items"])), items=[1, None])
    assert state.outputs == {"out": [1, None]}
    state, _ = await drive(beginning(variable("a", 1), taken("v", ["lp", "a"])))
    assert state.outputs == {"out": 1}


@pytest.mark.parametrize("selector", [["lp", "b"], ["nobody", "x"], [], None, "start.items"])
async def test_a_loop_variable_that_begins_with_what_is_not_there(selector: Any):
    state, _ = await drive(beginning(taken("v", selector), variable("b", 1)))
    assert state.ended is not None
    assert state.ended.error == "Invalid value for loop variable v"


@pytest.mark.parametrize(
    ("condition", "rounds"),
    [
        ((["in", "r"], "is", "in:3"), 3),
        ((["in", "r"], "is", "never"), 5),
        ((["nobody", "x"], "is", "x"), 5),
        ((["lp", "n"], "contains", "x"), 5),
        ((["lp", "n"], ">", "not a number"), 5),
    ],
)
async def test_a_condition_on_what_a_round_put_out(condition: tuple[Any, str, str], rounds: int):
    names = ("variable_selector", "comparison_operator", "value")
    until = dict(zip(names, condition, strict=True))
    workflow = flow(
        [
            loop("lp", 5, break_conditions=[until], loop_variables=[variable("n", 0)]),
            adds("add", ["lp", "n"], 1, "lp"),
            node("in", "slow-echo", "lp", reads=[["lp", "n"]]),
        ],
        "start>lp lp-start>add add>in lp>end",
        {"out": ["lp", "loop_round"]},
    )  # fmt: skip
    state, _ = await drive(workflow)
    assert state.outputs == {"out": rounds}


# ------------------------------------------------------------------------- what a loop leaves behind it, and its rounds


def until(name: str, operator: str, value: str) -> dict[str, Any]:
    return {"variable_selector": ["lp", name], "comparison_operator": operator, "value": value}


async def test_a_loop_that_does_not_go_round_leaves_its_variables():
    workflow = flow(
        [loop("lp", 5, break_conditions=[until("n", "≥", "3")], loop_variables=[variable("n", 9)]),
         node("in", inside="lp"), node("after", reads=[["lp", "n"], ["lp", "loop_round"]])],
        "start>lp lp-start>in lp>after after>end",
        {"n": ["lp", "n"], "after": ["after", "r"], "rounds": ["lp", "loop_round"]},
    )  # fmt: skip
    state, _ = await drive(workflow)
    assert state.outputs == {"n": 9, "after": "after:9:None", "rounds": None}


async def test_nor_does_one_inside_an_iteration_lose_them():
    first = {"label": "n", "var_type": "number", "value_type": "variable", "value": ["it", "item"]}
    workflow = flow(
        [iteration("it", ["start", "items"], ["lp", "n"], is_parallel=True),
         loop("lp", 9, "it", break_conditions=[until("n", "≥", "3")], loop_variables=[first]),
         adds("add", ["lp", "n"], 1, "lp")],
        "start>it it-start>lp lp-start>add it>end",
        {"out": ["it", "output"]},
    )  # fmt: skip
    state, _ = await drive(workflow, items=[1, 9, 3])
    assert state.outputs == {"out": [3, 9, 3]}


async def test_what_a_loop_s_last_round_made_is_there_after_it():
    workflow = flow(
        [loop("lp", 3, loop_variables=[variable("n", 0)]), adds("add", ["lp", "n"], 1, "lp"),
         node("in", "slow-echo", "lp", reads=[["lp", "n"]]), node("after", reads=[["in", "r"]])],
        "start>lp lp-start>add add>in lp>after after>end",
        {"last": ["in", "r"], "after": ["after", "r"]},
    )  # fmt: skip
    state, _ = await drive(workflow)
    assert state.outputs == {"last": "in:3", "after": "after:in:3"}


async def test_a_round_sees_nothing_of_what_the_round_before_it_made():
    """A node that a round skips has no value, though it had one in the round before."""
    case = {"case_id": "odd", "logical_operator": "and", "conditions": [until("n", "=", "1")]}
    workflow = flow(
        [loop("lp", 2, loop_variables=[variable("n", 0)]), adds("add", ["lp", "n"], 1, "lp"),
         node("if", "if-else", "lp", cases=[case]), node("in", inside="lp"),
         node("seen", inside="lp", reads=[["in", "r"]])],
        "start>lp lp-start>add add>if if:odd>in in>seen if:false>seen lp>end",
        {"in": ["in", "r"], "seen": ["seen", "r"]},
    )  # fmt: skip
    state, _ = await drive(workflow)
    assert state.outputs == {"in": None, "seen": "seen:None"}


async def test_loops_in_loops_leave_what_they_made_to_the_outer_one():
    workflow = flow(
        [loop("out", 2, loop_variables=[variable("n", 0)]), adds("add", ["out", "n"], 1, "out"),
         loop("lp", 2, "out"), node("in", inside="lp", reads=[["out", "n"]])],
        "start>out out-start>add add>lp lp-start>in out>end",
        {"in": ["in", "r"]},
    )  # fmt: skip
    state, _ = await drive(workflow)
    assert state.outputs == {"in": "in:2"}


async def test_what_an_iteration_s_rounds_made_is_not_there_after_it():
    workflow = flow(
        [iteration("it", ["start", "items"], ["in", "r"]), node("in", inside="it")],
        "start>it it-start>in it>end",
        {"in": ["in", "r"], "item": ["it", "item"]},
    )
    state, _ = await drive(workflow, items=["a"])
    assert state.outputs == {"in": None, "item": None}
