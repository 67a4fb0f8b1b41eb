"""What rounds of an iteration see, what is collected of them, and what a failure in one means."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from headrace.kernel.events import NodeFailed, NodeStarted, NodeSucceeded, RoundStarted
from headrace.node import Context, Result
from tests.engine.driving import INDEX, ITEM, drive, each_item
from tests.engine.nests import Echo, flow, iteration, node


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

    workflow = flow(
        [
            iteration("it", ["start", "items"], ["in", "r"], is_parallel=True, parallel_nums=4),
            node("in", "crowd", "it", reads=[ITEM]),
        ],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
        crowd=Crowd,
    )
    state, _ = await drive(workflow, items=list(range(20)))
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
    workflow = each_item(error_handle_mode=mode, is_parallel=parallel, parallel_nums=2, fails_on=["c"])
    state, records = await drive(workflow, items=list("abcd"))
    assert state.ended is not None
    assert (state.ended.status, state.ended.outputs.get("out"), state.ended.error) == (status, out, error)
    assert state.ended.exceptions == (status == "failed")
    if status == "failed":
        failed = [record.event for record in records if isinstance(record.event, NodeFailed)]
        assert [event.path for event in failed] == ["it[2]/in", "it"]
        assert failed[1].outputs == {"output": ["in:a", "in:b"]}


async def test_nothing_starts_in_other_rounds_once_one_has_ended_the_iteration():
    workflow = flow(
        [
            iteration("it", ["start", "items"], ["b", "r"], is_parallel=True, parallel_nums=10),
            node("a", "slow-echo", "it", reads=[ITEM], fails_on=["x"]),
            node("b", "slow-echo", "it", reads=[["a", "r"]]),
        ],
        "start>it it-start>a a>b it>end",
        {"out": ["it", "output"]},
    )
    state, records = await drive(workflow, items=["x", *"abcdefgh"])
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
    workflow = flow(
        [iteration("it", ["start", "items"], ["it", "item"], flatten_output=flatten), node("in", inside="it")],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(workflow, items=outputs)
    assert state.ended is not None
    assert state.ended.outputs == {"out": out}


async def test_items_of_any_kind():
    items: list[Any] = [None, {"a": [1]}, [1], "", 0, False]
    workflow = flow(
        [
            iteration("it", ["start", "items"], ITEM, is_parallel=True, flatten_output=False),
            node("in", "slow-echo", "it"),
        ],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(workflow, items=items)
    assert state.outputs == {"out": items}


@pytest.mark.parametrize("output", [["in", "nothing"], ["nobody", "r"], []])
async def test_rounds_that_do_not_put_out_what_is_wanted(output: list[str]):
    workflow = flow(
        [iteration("it", ["start", "items"], output), node("in", inside="it")],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(workflow, items=[1, 2])
    assert state.outputs == {"out": [None, None]}


@pytest.mark.parametrize("tolerant", [False, True])
async def test_a_node_inside_that_nobody_knows(tolerant: bool):
    mode = "continue-on-error" if tolerant else "terminated"
    workflow = flow(
        [iteration("it", ["start", "items"], ["in", "r"], error_handle_mode=mode), node("in", "magic", "it")],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(workflow, items=[1, 2])
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
    workflow = each_item(fails_on=["b"], error_strategy="default-value", default_value=default)
    state, _ = await drive(workflow, items=list("abc"))
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
    workflow = flow(
        [iteration("it", ["start", "items"], ["in", "r"]), inner],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(workflow, items=list("abc"))
    assert state.ended is not None
    assert state.ended.outputs == {"out": ["in:a", "none", "in:c"]}
    assert (state.ended.status, state.ended.steps, state.ended.exceptions) == ("succeeded", 3, 0)


async def test_branches_inside():
    case = {
        "case_id": "big",
        "logical_operator": "and",
        "conditions": [{"variable_selector": ITEM, "comparison_operator": ">", "value": "2"}],
    }
    workflow = flow(
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
    state, _ = await drive(workflow, items=[1, 2, 3, 4])
    assert state.ended is not None
    assert state.ended.outputs == {"out": ["no:0", "no:1", "yes:2", "yes:3"]}
