"""Containers in containers, and what many rounds at once must not do to a run or to others."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from headrace.engine import Driver
from headrace.errors import NodeError
from headrace.kernel.events import NodeStarted, NodeSucceeded, Record, RunEnded
from headrace.kernel.plan import plan
from headrace.kernel.state import State
from headrace.node import Context, Flow, Result
from headrace.stores.memory import MemoryJournal
from headrace.values import nests_deeper
from tests.engine.driving import INDEX, ITEM, drive, each_item
from tests.engine.nests import Echo, adds, flow, iteration, loop, node, queued_record, variable
from tests.engine.worlds import world

# ------------------------------------------------------------------------------------------------------------- nested


async def test_an_iteration_in_an_iteration():
    workflow = flow(
        [
            iteration("it", ["start", "items"], ["sub", "output"], is_parallel=True, parallel_nums=2),
            iteration("sub", ITEM, ["in", "r"], "it"),
            node("in", "slow-echo", "sub", reads=[["sub", "item"], INDEX, ["sub", "index"]]),
        ],
        "start>it it-start>sub sub-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, records = await drive(workflow, items=[["a", "b"], [], ["c"]])
    assert state.ended is not None
    assert state.ended.outputs == {"out": ["in:a:0:0", "in:b:0:1", "in:c:2:0"]}
    paths = [record.event.path for record in records if isinstance(record.event, NodeStarted)]
    assert {"it[0]/sub[1]/in", "it[2]/sub[0]/in", "it[1]/sub"} <= set(paths)


@pytest.mark.parametrize("parallel", [False, True])
async def test_ten_iterations_in_one_another(parallel: bool):
    depth = 10
    names = [*(f"it{level}" for level in range(depth)), "in"]
    outputs = [[name, "output"] for name in names[1:-1]] + [["in", "r"]]
    workflow = flow(
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
    state, _ = await drive(workflow, items=[0, 1])
    assert state.outputs["out"] == [f"in:{':'.join(f'{number:010b}')}" for number in range(2**depth)]


async def test_a_loop_in_an_iteration_in_a_loop():
    workflow = flow(
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
    state, _ = await drive(workflow, items=[0, 0])
    assert state.ended is not None
    assert state.ended.outputs == {"all": 2 * 2 * 3, "rounds": 2}


async def test_the_end_of_a_loop_inside_an_iteration_ends_the_loop():
    workflow = flow(
        [
            loop("lp", 9, loop_variables=[variable("n", 0)]),
            adds("add", ["lp", "n"], 1, "lp"),
            iteration("it", ["start", "items"], ["le", "x"], "lp"),
            node("le", "loop-end", "it"),
        ],
        "start>lp lp-start>add add>it it-start>le lp>end",
        {"n": ["lp", "n"]},
    )
    state, _ = await drive(workflow, items=[1, 2])
    assert state.ended is not None
    assert state.ended.outputs == {"n": 1}


async def test_a_failure_deep_inside_ends_only_what_does_not_tolerate_it():
    workflow = flow(
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
    state, _ = await drive(workflow, items=[["a"], ["b", "x", "c"], ["d", "e"]])
    assert state.ended is not None
    assert state.ended.outputs == {"out": [["in:a"], None, ["in:d", "in:e"]]}
    assert (state.open_containers, state.running, state.ready) == ({}, {}, {})


async def test_a_container_beside_a_failure_ends_unheard():
    """A round fails while a container in it is between two rounds, or in the middle of one."""
    workflow = flow(
        [
            iteration("it", ["start", "items"], ["sub", "output"], error_handle_mode="remove-abnormal-output"),
            node("bad", "slow-echo", "it", reads=[ITEM], fails_on=["x"]),
            iteration("sub", ["start", "items"], ["in", "r"], "it"),
            node("in", "slow-echo", "sub", reads=[["sub", "item"]]),
        ],
        "start>it it-start>bad it-start>sub sub-start>in it>end",
        {"out": ["it", "output"]},
    )
    state, _ = await drive(workflow, items=["x", "y"])
    assert state.ended is not None
    assert (state.ended.status, state.ended.outputs) == ("succeeded", {"out": ["in:x", "in:y"]})


# ------------------------------------------------------------------------------------------------------ stop and size


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

    workflow = flow(
        [iteration("it", ["start", "items"], ["in", "r"], is_parallel=True), node("in", "stuck", "it")],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
        stuck=Stuck,
    )
    where = world(MemoryJournal())
    await where.journal.append([queued_record(items=[1, 2, 3])])
    driver = Driver("run", workflow, where)
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
            levels.append(len(state_of[0].open_containers["it"].active_rounds))
            return await super().run(ctx)

    workflow = flow(
        [iteration("it", ["start", "items"], ["in", "r"], is_parallel=True), node("in", "watch", "it", reads=[ITEM])],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
        watch=Watch,
    )
    where = world(MemoryJournal())
    await where.journal.append([queued_record(items=list(range(1000)))])
    driver = Driver("run", workflow, where)
    state_of.append(driver.state)
    state = await driver.drive()
    assert isinstance(state.ended, RunEnded)
    assert (len(state.ended.outputs["out"]), max(levels)) == (1000, 10)


def test_paths_lead_to_where_they_say():
    workflow = each_item()
    graph, name = workflow.graph.resolve("it[12]/in")
    assert (name, graph is workflow.graph.bodies["it"].graph) == ("in", True)


def kinds(records: Sequence[Record]) -> list[str]:
    return [type(record.event).__name__ for record in records]


async def test_the_order_of_events():
    _, records = await drive(each_item("echo"), items=["a", "b"])
    assert kinds(records)[4:] == [
        "NodeStarted",
        *["RoundStarted", "NodeStarted", "NodeSucceeded"] * 2,
        *["NodeSucceeded", "NodeStarted", "NodeSucceeded", "RunEnded"],
    ]


# --------------------------------------------------------------------------------------------- what would hurt others


@pytest.mark.parametrize(
    "workflow",
    [
        flow([loop("lo", 2_000)], "start>lo lo>end", {"out": ["lo", "loop_round"]}),
        flow([iteration("it", ["start", "items"], ITEM)], "start>it it>end", {"out": ["it", "output"]}),
    ],
    ids=["loop", "iteration"],
)
async def test_rounds_with_nothing_in_them_let_others_have_a_turn(workflow: Flow):
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    state, _ = await drive(workflow, items=list(range(2_000)))
    task.cancel()
    assert state.ended is not None
    assert state.ended.status == "succeeded"
    assert turns > 5


async def test_a_loop_without_end_and_without_nodes_can_be_stopped():
    where = world(MemoryJournal())
    await where.journal.append([queued_record()])
    workflow = flow([loop("lo", 10**9)], "start>lo lo>end", {"out": ["lo", "loop_round"]})
    driver = Driver("run", workflow, where)
    driving = asyncio.create_task(driver.drive())
    for _ in range(3):
        await asyncio.sleep(0)
    driver.stop("somebody")
    state = await asyncio.wait_for(driving, 60)
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
    workflow = each_item("slow-echo", is_parallel=True, parallel_nums=10**9)
    state, records = await drive(workflow, items=list(range(2_000)))
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
    workflow = flow(
        [iteration("it", ["start", "items"], ["in", "r"]), inner], "start>it it-start>in it>end", {}, fails=Fails
    )
    where = world(SlowDisk())
    await where.journal.append([queued_record(items=[1])])
    driver = Driver("run", workflow, where)
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
    node_at = State.node_at

    def counted(state: State, path: str) -> Any:
        nonlocal looked
        looked += 1
        return node_at(state, path)

    monkeypatch.setattr(State, "node_at", counted)
    costs: list[float] = []
    for size in (20, 400):
        looked = 0
        workflow = each_item(
            "echo", is_parallel=True, parallel_nums=size, error_handle_mode="continue-on-error", fails_on=[1]
        )
        state, _ = await drive(workflow, items=[1] * size)
        assert state.outputs == {"out": [None] * size}
        costs.append(looked / size)
    assert costs[1] < costs[0] * 1.5


@pytest.mark.parametrize("value", [1, "abc"])
async def test_a_loop_variable_may_have_any_name(value: Any):
    kind = "string" if isinstance(value, str) else "number"
    workflow = flow(
        [loop("lo", 3, loop_variables=[variable("loop_count", value, kind)]), node("in", "echo", "lo")],
        "start>lo lo-start>in lo>end",
        {"out": ["lo", "loop_count"], "rounds": ["lo", "loop_round"]},
    )
    state, _ = await drive(workflow)
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

    workflow = flow(
        [node("in", "deep"), node("by", "stuck")],
        "start>in start>by in>end by>end",
        {"out": ["in", "r"]},
        deep=Deep,
        stuck=Stuck,
    )
    journal = Strict()
    await journal.append([queued_record()])
    state = await asyncio.wait_for(Driver("run", workflow, world(journal)).drive(), 60)
    assert state.ended is not None
    assert (state.ended.status, state.ended.error) == ("failed", "A value is nested too deep to be kept.")
    records = await journal.read("run")
    assert isinstance(records[-1].event, RunEnded)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
