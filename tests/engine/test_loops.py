"""How often a loop goes round, and what its variables begin with."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.kernel.events import NodeSucceeded
from headrace.node import Flow
from tests.engine.driving import counting, drive
from tests.engine.nests import adds, flow, loop, node, variable


@pytest.mark.parametrize(
    ("count", "until", "n", "rounds"), [(3, None, 4, 3), (10, 4, 4, 3), (3, 4, 4, 3), (10, 1, None, None)]
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
    made = flow(
        [
            loop("lp", 5, break_conditions=[until], loop_variables=[variable("n", 0)]),
            adds("add", ["lp", "n"], 1, "lp"),
            node("in", "slow-echo", "lp", reads=[["lp", "n"]]),
        ],
        "start>lp lp-start>add add>in lp>end",
        {"out": ["lp", "loop_round"]},
    )  # fmt: skip
    state, _ = await drive(made)
    assert state.outputs == {"out": rounds}
