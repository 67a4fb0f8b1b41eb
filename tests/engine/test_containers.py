"""Iterations and loops: what their rounds see, what is collected, and what a failure in one means."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from headrace.engine import Driver
from headrace.errors import NodeError
from headrace.kernel.events import NodeFailed, NodeStarted, NodeSucceeded, Record, RoundStarted, RunEnded
from headrace.kernel.plan import plan
from headrace.kernel.state import State
from headrace.node import Context, Flow, Result
from headrace.stores.memory import MemoryJournal
from headrace.values import nests_deeper
from tests.engine.nests import Echo, adds, asked, flow, iteration, loop, node, variable
from tests.engine.worlds import world

ITEM, INDEX = ["it", "item"], ["it", "index"]


async def drive(made: Flow, **inputs: Any) -> tuple[State, list[Record]]:
    where = world(MemoryJournal())
    await where.journal.append([asked(**inputs)])
    return await Driver("run", made, where).drive(), await where.journal.read("run")


def each_item(kind: str = "slow-echo", **data: Any) -> Flow:
    """An iteration of one node that reads the item, over the input `items`."""
    inner = {name: data.pop(name) for name in ("fails_on", "tokens", "fails_first") if name in data}
    return flow(
        [iteration("it", ["start", "items"], ["in", "r"], **data), node("in", kind, "it", reads=[ITEM], **inner)],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )


# -------------------------------------------------------------------------------------------------------- iteration


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("kind", ["echo", "slow-echo"])
async def test_results_keep_the_order_of_the_items(parallel: bool, kind: str):
    state, _ = await drive(each_item(kind, is_parallel=parallel, parallel_nums=3), items=list("abcdefgh"))
    assert state.ended is not None
    assert state.ended.outputs == {"out": [f"in:{letter}" for letter in "abcdefgh"]}
    assert (state.ended.status, state.ended.steps, state.ended.exceptions) == ("succeeded", 3, 0)


async def test_no_more_rounds_at_once_than_allowed():
    together: list[int] = []

    class Crowd(Echo):
        type = "crowd"
        instant: ClassVar[bool] = False
        now = 0

        async def run(self, ctx: Context) -> Result:
            Crowd.now += 1
            together.append(Crowd.now)
            await asyncio.sleep(0)
            Crowd.now -= 1
            return await super().run(ctx)

    made = flow(
        [
            iteration("it", ["start", "items"], ["in", "r"], is_parallel=True, parallel_nums=4),
            node("in", "crowd", "it", reads=[ITEM]),
        ],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
        crowd=Crowd,
    )
    state, _ = await drive(made, items=list(range(20)))
    assert state.ended is not None
    assert state.ended.outputs["out"] == [f"in:{number}" for number in range(20)]
    assert max(together) == 4


@pytest.mark.parametrize(
    ("mode", "parallel", "status", "out", "error"),
    [
        ("terminated", False, "failed", None, "boom on ['c']"),
        ("terminated", True, "failed", None, "Item 2: boom on ['c']"),
        ("continue-on-error", False, "succeeded", ["in:a", "in:b", None, "in:d"], None),
        ("continue-on-error", True, "succeeded", ["in:a", "in:b", None, "in:d"], None),
        ("remove-abnormal-output", False, "succeeded", ["in:a", "in:b", "in:d"], None),
        ("remove-abnormal-output", True, "succeeded", ["in:a", "in:b", "in:d"], None),
    ],
)
async def test_a_round_that_fails(mode: str, parallel: bool, status: str, out: list[Any] | None, error: str | None):
    made = each_item(error_handle_mode=mode, is_parallel=parallel, parallel_nums=2, fails_on=["c"])
    state, records = await drive(made, items=list("abcd"))
    assert state.ended is not None
    assert (state.ended.status, state.ended.outputs.get("out"), state.ended.error) == (status, out, error)
    assert state.ended.exceptions == (status == "failed")
    if status == "failed":
        failed = [record.event for record in records if isinstance(record.event, NodeFailed)]
        assert [event.path for event in failed] == ["it[2]/in", "it"]
        assert failed[1].outputs == {"output": ["in:a", "in:b"]}


async def test_nothing_starts_in_other_rounds_once_one_has_ended_the_iteration():
    made = flow(
        [
            iteration("it", ["start", "items"], ["b", "r"], is_parallel=True, parallel_nums=10),
            node("a", "slow-echo", "it", reads=[ITEM], fails_on=["x"]),
            node("b", "slow-echo", "it", reads=[["a", "r"]]),
        ],
        "start>it it-start>a a>b it>end",
        {"out": ["it", "output"]},
    )
    state, records = await drive(made, items=["x", *"abcdefgh"])
    assert state.ended is not None
    assert state.ended.status == "failed"
    at = next(n for n, record in enumerate(records) if isinstance(record.event, NodeFailed))
    assert not [record for record in records[at:] if isinstance(record.event, NodeStarted | RoundStarted)]


@pytest.mark.parametrize("items", [[], None])
async def test_nothing_to_iterate_over(items: Any):
    state, records = await drive(each_item(), items=items)
    assert state.ended is not None
    assert (state.ended.status, state.ended.outputs, state.ended.steps) == ("succeeded", {"out": []}, 3)
    assert not [record for record in records if isinstance(record.event, RoundStarted)]


@pytest.mark.parametrize(("items", "error"), [("text", "string"), ({"a": 1}, "object"), (7, "integer")])
async def test_what_is_no_list_cannot_be_iterated_over(items: Any, error: str):
    state, _ = await drive(each_item(), items=items)
    assert state.ended is not None
    assert (state.ended.status, state.ended.steps, state.ended.exceptions) == ("failed", 2, 1)
    assert state.ended.error == f"invalid iterator value: {error}, please provide a list."


@pytest.mark.parametrize(
    ("flatten", "outputs", "out"),
    [
        (True, [[1, 2], [3], []], [1, 2, 3]),
        (False, [[1, 2], [3], []], [[1, 2], [3], []]),
        (True, [[1], 2], [[1], 2]),
    ],
)
async def test_lists_of_lists(flatten: bool, outputs: list[Any], out: list[Any]):
    made = flow(
        [iteration("it", ["start", "items"], ["it", "item"], flatten_output=flatten), node("in", inside="it")],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(made, items=outputs)
    assert state.ended is not None
    assert state.ended.outputs == {"out": out}


async def test_items_of_any_kind():
    items: list[Any] = [None, {"a": [1]}, [1], "", 0, False]
    made = flow(
        [
            iteration("it", ["start", "items"], ITEM, is_parallel=True, flatten_output=False),
            node("in", "slow-echo", "it"),
        ],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(made, items=items)
    assert state.outputs == {"out": items}


@pytest.mark.parametrize("output", [["in", "nothing"], ["nobody", "r"], []])
async def test_rounds_that_do_not_put_out_what_is_wanted(output: list[str]):
    made = flow(
        [iteration("it", ["start", "items"], output), node("in", inside="it")],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(made, items=[1, 2])
    assert state.outputs == {"out": [None, None]}


@pytest.mark.parametrize("tolerant", [False, True])
async def test_a_node_inside_that_nobody_knows(tolerant: bool):
    mode = "continue-on-error" if tolerant else "terminated"
    made = flow(
        [iteration("it", ["start", "items"], ["in", "r"], error_handle_mode=mode), node("in", "magic", "it")],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(made, items=[1, 2])
    assert state.ended is not None
    if tolerant:
        assert state.ended.outputs == {"out": [None, None]}
    else:
        assert state.ended.error == "Node 'in' (in) is of type 'magic', which Headrace does not run."


async def test_tokens_inside_count_for_the_run_and_the_iteration():
    state, records = await drive(each_item(tokens=7), items=list("abc"))
    assert state.ended is not None
    assert (state.ended.tokens, state.ended.steps) == (21, 3)
    done = next(r.event for r in records if isinstance(r.event, NodeSucceeded) and r.event.path == "it")
    assert done.usage == {"total_tokens": 21, "total_price": "0.0", "currency": "USD"}


async def test_a_failing_iteration_with_a_strategy_of_its_own():
    default = [{"key": "output", "type": "array[string]", "value": '["none"]'}]
    made = each_item(fails_on=["b"], error_strategy="default-value", default_value=default)
    state, _ = await drive(made, items=list("abc"))
    assert state.ended is not None
    assert (state.ended.status, state.ended.outputs) == ("partial-succeeded", {"out": ["none"]})


async def test_retries_and_handled_failures_inside():
    default = [{"key": "r", "type": "string", "value": "none"}]
    inner = node("in", "slow-echo", "it", reads=[ITEM], fails_on=["b"], fails_first=1)
    inner["data"] |= {
        "error_strategy": "default-value",
        "default_value": default,
        "retry_config": {"retry_enabled": True, "max_retries": 2, "retry_interval": 0},
    }
    made = flow(
        [iteration("it", ["start", "items"], ["in", "r"]), inner],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(made, items=list("abc"))
    assert state.ended is not None
    assert state.ended.outputs == {"out": ["in:a", "none", "in:c"]}
    assert (state.ended.status, state.ended.steps, state.ended.exceptions) == ("succeeded", 3, 0)


async def test_branches_inside():
    case = {
        "case_id": "big",
        "logical_operator": "and",
        "conditions": [{"variable_selector": ITEM, "comparison_operator": ">", "value": "2"}],
    }
    made = flow(
        [
            iteration("it", ["start", "items"], ["pick", "output"]),
            node("if", "if-else", "it", cases=[case]),
            node("yes", inside="it", reads=[INDEX]),
            node("no", "slow-echo", "it", reads=[INDEX]),
            node("pick", "variable-aggregator", "it", variables=[["yes", "r"], ["no", "r"]], output_type="string"),
        ],
        "start>it it-start>if if:big>yes if:false>no yes>pick no>pick it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(made, items=[1, 2, 3, 4])
    assert state.ended is not None
    assert state.ended.outputs == {"out": ["no:0", "no:1", "yes:2", "yes:3"]}


# ------------------------------------------------------------------------------------------------------------- loop


def counting(count: int, until: int | None = None, *inside: Any, edges: str = "") -> Flow:
    """A loop that counts `n` up from 1, until it is so high."""
    conditions = [{"variable_selector": ["lp", "n"], "comparison_operator": "≥", "value": str(until)}]
    data = {"break_conditions": conditions if until is not None else [], "loop_variables": [variable("n", 1)]}
    return flow(
        [loop("lp", count, **data), adds("add", ["lp", "n"], 1, "lp"), *inside],
        f"start>lp lp-start>add lp>end {edges}",
        {"n": ["lp", "n"], "rounds": ["lp", "loop_round"]},
    )


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


# ----------------------------------------------------------------------------------------------------------- nested


async def test_an_iteration_in_an_iteration():
    made = flow(
        [
            iteration("it", ["start", "items"], ["sub", "output"], is_parallel=True, parallel_nums=2),
            iteration("sub", ITEM, ["in", "r"], "it"),
            node("in", "slow-echo", "sub", reads=[["sub", "item"], INDEX, ["sub", "index"]]),
        ],
        "start>it it-start>sub sub-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, records = await drive(made, items=[["a", "b"], [], ["c"]])
    assert state.ended is not None
    assert state.ended.outputs == {"out": ["in:a:0:0", "in:b:0:1", "in:c:2:0"]}
    paths = [record.event.path for record in records if isinstance(record.event, NodeStarted)]
    assert {"it[0]/sub[1]/in", "it[2]/sub[0]/in", "it[1]/sub"} <= set(paths)


@pytest.mark.parametrize("parallel", [False, True])
async def test_ten_iterations_in_one_another(parallel: bool):
    depth = 10
    names = [*(f"it{level}" for level in range(depth)), "in"]
    outputs = [[name, "output"] for name in names[1:-1]] + [["in", "r"]]
    made = flow(
        [
            *(
                iteration(name, ["start", "items"], out, names[level - 1] if level else None, is_parallel=parallel)
                for level, (name, out) in enumerate(zip(names[:-1], outputs, strict=True))
            ),
            node("in", "slow-echo", names[-2], reads=[[name, "item"] for name in names[:-1]]),
        ],
        " ".join(["start>it0", *(f"{name}-start>{inner}" for name, inner in pairwise(names)), "it0>end"]),
        {"out": ["it0", "output"]},
    )
    state, _ = await drive(made, items=[0, 1])
    assert state.outputs["out"] == [f"in:{':'.join(f'{number:010b}')}" for number in range(2**depth)]


async def test_a_loop_in_an_iteration_in_a_loop():
    made = flow(
        [
            loop("out", 2, loop_variables=[variable("all", 0)]),
            iteration("it", ["start", "items"], ["lp", "n"], "out", is_parallel=True, parallel_nums=3),
            loop("lp", 3, "it", loop_variables=[variable("n", 0)]),
            adds("one", ["lp", "n"], 1, "lp"),
            adds("every", ["out", "all"], 1, "lp"),
        ],
        "start>out out-start>it it-start>lp lp-start>one one>every out>end",
        {"all": ["out", "all"], "rounds": ["out", "loop_round"]},
    )
    state, _ = await drive(made, items=[0, 0])
    assert state.ended is not None
    assert state.ended.outputs == {"all": 2 * 2 * 3, "rounds": 2}


async def test_the_end_of_a_loop_inside_an_iteration_ends_the_loop():
    made = flow(
        [
            loop("lp", 9, loop_variables=[variable("n", 0)]),
            adds("add", ["lp", "n"], 1, "lp"),
            iteration("it", ["start", "items"], ["le", "x"], "lp"),
            node("le", "loop-end", "it"),
        ],
        "start>lp lp-start>add add>it it-start>le lp>end",
        {"n": ["lp", "n"]},
    )
    state, _ = await drive(made, items=[1, 2])
    assert state.ended is not None
    assert state.ended.outputs == {"n": 1}


async def test_a_failure_deep_inside_ends_only_what_does_not_tolerate_it():
    made = flow(
        [
            iteration("it", ["start", "items"], ["sub", "output"], error_handle_mode="continue-on-error",
                      flatten_output=False, is_parallel=True),
            iteration("sub", ITEM, ["in", "r"], "it", is_parallel=True),
            node("in", "slow-echo", "sub", reads=[["sub", "item"]], fails_on=["x"]),
            node("beside", "slow-echo", "it", reads=[INDEX]),
        ],
        "start>it it-start>sub it-start>beside sub-start>in it>end",
        {"out": ["it", "output"]},
    )  # fmt: skip
    state, _ = await drive(made, items=[["a"], ["b", "x", "c"], ["d", "e"]])
    assert state.ended is not None
    assert state.ended.outputs == {"out": [["in:a"], None, ["in:d", "in:e"]]}
    assert (state.opened, state.running, state.ready) == ({}, {}, {})


async def test_a_container_beside_a_failure_ends_unheard():
    """A round fails while a container in it is between two rounds, or in the middle of one."""
    made = flow(
        [
            iteration("it", ["start", "items"], ["sub", "output"], error_handle_mode="remove-abnormal-output"),
            node("bad", "slow-echo", "it", reads=[ITEM], fails_on=["x"]),
            iteration("sub", ["start", "items"], ["in", "r"], "it"),
            node("in", "slow-echo", "sub", reads=[["sub", "item"]]),
        ],
        "start>it it-start>bad it-start>sub sub-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(made, items=["x", "y"])
    assert state.ended is not None
    assert (state.ended.status, state.ended.outputs) == ("succeeded", {"out": ["in:x", "in:y"]})


# ---------------------------------------------------------------------------------------------------- stop and size


async def test_a_stop_cancels_what_runs_in_all_rounds():
    began = asyncio.Event()
    cancelled: list[str] = []

    class Stuck(Echo):
        type = "stuck"
        instant: ClassVar[bool] = False

        async def run(self, ctx: Context) -> Result:
            try:
                if ctx.key.startswith("run/it[2]/"):
                    began.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(ctx.key)
                raise
            raise AssertionError

    made = flow(
        [iteration("it", ["start", "items"], ["in", "r"], is_parallel=True), node("in", "stuck", "it")],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
        stuck=Stuck,
    )
    where = world(MemoryJournal())
    await where.journal.append([asked(items=[1, 2, 3])])
    driver = Driver("run", made, where)
    driving = asyncio.create_task(driver.drive())
    await began.wait()
    driver.stop("somebody")
    state = await driving
    assert state.ended is not None
    assert state.ended.status == "stopped"
    assert sorted(cancelled) == ["run/it[0]/in/0", "run/it[1]/in/0", "run/it[2]/in/0"]


async def test_a_thousand_rounds_leave_nothing_behind():
    levels: list[int] = []
    state_of: list[State] = []

    class Watch(Echo):
        type = "watch"

        async def run(self, ctx: Context) -> Result:
            levels.append(len(state_of[0].opened["it"].active))
            return await super().run(ctx)

    made = flow(
        [iteration("it", ["start", "items"], ["in", "r"], is_parallel=True), node("in", "watch", "it", reads=[ITEM])],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
        watch=Watch,
    )
    where = world(MemoryJournal())
    await where.journal.append([asked(items=list(range(1000)))])
    driver = Driver("run", made, where)
    state_of.append(driver.state)
    state = await driver.drive()
    assert isinstance(state.ended, RunEnded)
    assert (len(state.ended.outputs["out"]), max(levels)) == (1000, 10)


def test_paths_lead_to_where_they_say():
    made = each_item()
    graph, name = made.graph.within("it[12]/in")
    assert (name, graph is made.graph.bodies["it"].graph) == ("in", True)


def kinds(records: Sequence[Record]) -> list[str]:
    return [type(record.event).__name__ for record in records]


async def test_the_order_of_events():
    _, records = await drive(each_item("echo"), items=["a", "b"])
    assert kinds(records)[4:] == [
        "NodeStarted",
        *["RoundStarted", "NodeStarted", "NodeSucceeded"] * 2,
        *["NodeSucceeded", "NodeStarted", "NodeSucceeded", "RunEnded"],
    ]


# ----------------------------------------------------------------------------------------- what would hurt others


@pytest.mark.parametrize(
    "made",
    [
        flow([loop("lo", 2_000)], "start>lo lo>end", {"out": ["lo", "loop_round"]}),
        flow([iteration("it", ["start", "items"], ITEM)], "start>it it>end", {"out": ["it", "output"]}),
    ],
    ids=["loop", "iteration"],
)
async def test_rounds_with_nothing_in_them_let_others_have_a_turn(made: Flow):
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    state, _ = await drive(made, items=list(range(2_000)))
    task.cancel()
    assert state.ended is not None
    assert state.ended.status == "succeeded"
    assert turns > 5


async def test_a_loop_without_end_and_without_nodes_can_be_stopped():
    where = world(MemoryJournal())
    await where.journal.append([asked()])
    made = flow([loop("lo", 10**9)], "start>lo lo>end", {"out": ["lo", "loop_round"]})
    driver = Driver("run", made, where)
    driving = asyncio.create_task(driver.drive())
    for _ in range(3):
        await asyncio.sleep(0)
    driver.stop("somebody")
    state = await asyncio.wait_for(driving, 2)
    assert state.ended is not None
    assert state.ended.status == "stopped"


async def test_very_many_rounds_at_once_are_planned_in_pieces(monkeypatch: pytest.MonkeyPatch):
    planned = 0

    def counted(state: State) -> Any:
        nonlocal planned
        steps = plan(state)
        planned += len(steps)
        return steps

    monkeypatch.setattr("headrace.engine.driver.plan", counted)
    made = each_item("slow-echo", is_parallel=True, parallel_nums=10**9)
    state, records = await drive(made, items=list(range(2_000)))
    assert len(state.outputs["out"]) == 2_000
    assert planned < 2 * len(records)


async def test_an_attempt_that_fails_while_its_run_is_being_stopped_is_the_last():
    failing, gate = asyncio.Event(), asyncio.Event()
    attempts: list[str] = []

    class Fails(Echo):
        type = "fails"
        instant: ClassVar[bool] = False

        async def run(self, ctx: Context) -> Result:
            attempts.append(ctx.key)
            failing.set()
            await gate.wait()
            raise NodeError("no", "No")

    class SlowDisk(MemoryJournal):
        """Its last append takes until the node has failed."""

        def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
            done = super().append(records)
            return asyncio.ensure_future(self.later()) if isinstance(records[-1].event, RunEnded) else done

        async def later(self) -> None:
            gate.set()
            for _ in range(5):
                await asyncio.sleep(0)

    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    inner = node("in", "fails", "it", retry_config={"retry_enabled": True, "max_retries": 3, "retry_interval": 0})
    made = flow(
        [iteration("it", ["start", "items"], ["in", "r"]), inner], "start>it it-start>in it>end", {}, fails=Fails
    )
    where = world(SlowDisk())
    await where.journal.append([asked(items=[1])])
    driver = Driver("run", made, where)
    driving = asyncio.create_task(driver.drive())
    await failing.wait()
    driver.stop("somebody")
    state = await driving
    del driver, driving
    gc.collect()
    await asyncio.sleep(0)
    assert state.ended is not None
    assert state.ended.status == "stopped"
    assert (attempts, complaints) == (["run/it[0]/in/0"], [])


async def test_a_failure_costs_the_same_however_many_rounds_are_under_way(monkeypatch: pytest.MonkeyPatch):
    looked = 0
    locate = State.locate

    def counted(state: State, path: str) -> Any:
        nonlocal looked
        looked += 1
        return locate(state, path)

    monkeypatch.setattr(State, "locate", counted)
    costs: list[float] = []
    for size in (20, 400):
        looked = 0
        made = each_item(
            "echo", is_parallel=True, parallel_nums=size, error_handle_mode="continue-on-error", fails_on=[1]
        )
        state, _ = await drive(made, items=[1] * size)
        assert state.outputs == {"out": [None] * size}
        costs.append(looked / size)
    assert costs[1] < costs[0] * 1.5


@pytest.mark.parametrize("value", [1, "abc"])
async def test_a_loop_variable_may_have_any_name(value: Any):
    kind = "string" if isinstance(value, str) else "number"
    made = flow(
        [loop("lo", 3, loop_variables=[variable("loop_count", value, kind)]), node("in", "echo", "lo")],
        "start>lo lo-start>in lo>end",
        {"out": ["lo", "loop_count"], "rounds": ["lo", "loop_round"]},
    )
    state, _ = await drive(made)
    assert state.outputs == {"out": value, "rounds": 3}


async def test_a_value_that_no_journal_takes_ends_the_run():
    class Strict(MemoryJournal):
        """As databases do, refuses what is nested too deep."""

        def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
            for record in records:
                if isinstance(record.event, NodeSucceeded) and nests_deeper(dict(record.event.outputs), 20):
                    raise ValueError("A value is nested too deep to be kept.")
            return super().append(records)

    class Deep(Echo):
        type = "deep"
        instant: ClassVar[bool] = False

        async def run(self, ctx: Context) -> Result:
            value: Any = 1
            for _ in range(30):
                value = [value]
            return Result({"r": value})

    class Stuck(Echo):
        type = "stuck"
        instant: ClassVar[bool] = False

        async def run(self, ctx: Context) -> Result:
            await asyncio.Event().wait()
            return Result({})

    made = flow(
        [node("in", "deep"), node("by", "stuck")],
        "start>in start>by in>end by>end",
        {"out": ["in", "r"]},
        deep=Deep,
        stuck=Stuck,
    )
    journal = Strict()
    await journal.append([asked()])
    state = await asyncio.wait_for(Driver("run", made, world(journal)).drive(), 2)
    assert state.ended is not None
    assert (state.ended.status, state.ended.error) == ("failed", "A value is nested too deep to be kept.")
    records = await journal.read("run")
    assert isinstance(records[-1].event, RunEnded)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
