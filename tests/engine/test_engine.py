"""Driving a run: parallel branches, streamed text, stops, limits, and what an outsider writes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest

from headrace.brokers import LocalBus
from headrace.engine import Driver, EngineEnvironment
from headrace.errors import NodeError
from headrace.kernel.events import (
    Delta,
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunPaused,
    RunResumed,
    StopRequested,
)
from headrace.kernel.graph import Retry
from headrace.node import Context, Flow, Pause, Result
from headrace.ports.services import Limits
from headrace.stores.memory import MemoryJournal
from headrace.values import Value
from tests.engine.worlds import Failing, Instant, Scripted, drive, flow, queued, world


async def begin(flow: Flow, where: EngineEnvironment) -> tuple[Driver, asyncio.Task[object]]:
    await where.journal.append([queued()])
    driver = Driver("run", flow, where)
    return driver, asyncio.create_task(driver.drive())


async def test_parallel_branches_run_at_the_same_time():
    meeting = asyncio.Barrier(3)

    async def meet(ctx: Context) -> Result:
        await meeting.wait()
        return Result({})

    nodes = {"s": Instant(), "a": Scripted(meet), "b": Scripted(meet), "c": Scripted(meet), "e": Instant()}
    done = await asyncio.wait_for(drive(flow(nodes, ["s>a", "s>b", "s>c", "a>e", "b>e", "c>e"])), 60)
    assert done.ended == RunEnded("succeeded", {}, None, 0, 5, 0)


async def test_nodes_read_what_came_before_them():
    async def read(ctx: Context) -> Result:
        values = [ctx.variables.get(s) for s in (("s", "text"), ("sys", "user_id"), ("env", "E"))]
        return Result({"seen": [*values, ctx.inputs["q"]], "text": ctx.variables.render("{{#s.text#}}/{{#no.such#}}")})

    where = world()
    await where.journal.append([queued(inputs={"q": "Q"})])
    graph = flow({"s": Instant({"text": "T"}), "r": Scripted(read)}, ["s>r"], {"r": []}, environment={"E": "env"})
    done = await Driver("run", graph, where).drive()
    assert done.outputs == {"seen": ["T", "user", "env", "Q"], "text": "T/no.such"}


async def test_an_attempt_that_fails_is_followed_by_another_and_each_has_its_key():
    keys: list[str] = []

    async def third_time(ctx: Context) -> Result:
        keys.append(ctx.key)
        if len(keys) < 3:
            raise NodeError("not yet", "Early", inputs={"n": len(keys)})
        return Result({})

    where = world()
    graph = flow({"s": Instant(), "f": Scripted(third_time)}, ["s>f"], specs={"f": {"retry": Retry(3, 0)}})
    done = await drive(graph, where)
    assert keys == ["run/f/0", "run/f/1", "run/f/2"]
    assert done.ended == RunEnded("partial-succeeded", {}, None, 0, 4, 2)
    retried = [r.event for r in await where.journal.read("run") if isinstance(r.event, NodeRetried)]
    assert retried == [
        NodeRetried("f", 1, "not yet", "Early", {"n": 1}),
        NodeRetried("f", 2, "not yet", "Early", {"n": 2}),
    ]


async def test_a_defect_of_a_node_fails_the_run_and_not_the_service(caplog: pytest.LogCaptureFixture):
    async def broken(ctx: Context) -> Result:
        return Result({"x": {}["missing"]})

    done = await drive(flow({"s": Scripted(broken)}, []))
    assert done.ended is not None
    assert (done.ended.status, done.ended.error) == ("failed", "KeyError: 'missing'")
    assert "node s failed unexpectedly" in caplog.text


async def test_an_instant_node_that_waits_is_told_so():
    class Waits(Instant):
        async def run(self, ctx: Context) -> Result | Pause:
            await asyncio.sleep(0)
            return Result({})

    done = await drive(flow({"s": Waits()}, []))
    assert done.ended is not None
    assert "Instant" in (done.ended.error or "")


async def test_default_values_and_the_error_are_what_later_nodes_read():
    specs = {"f": {"strategy": "default-value", "defaults": {"r": "D"}}}
    done = await drive(flow({"s": Instant(), "f": Failing(9)}, ["s>f"], specs=specs))
    assert done.variables["f"] == {"r": "D", "error_message": "boom", "error_type": "Boom"}


# ----------------------------------------------------------------------------------------------------- streamed text


async def streamed(journal: MemoryJournal | None = None, **options: object) -> tuple[list[Record], list[Record]]:
    """What followers hear of a run whose node streams "Hel", "lo", and what the journal keeps."""
    gate = asyncio.Event()

    async def talk(ctx: Context) -> Result:
        for piece in ("Hel", "lo"):
            ctx.emit("text", piece)
            ctx.emit("private", "nobody tells this")
            await asyncio.sleep(0)
        if options.get("wait"):
            await gate.wait()
        return Result({"text": "Hello"})

    bus = LocalBus()
    where = world(journal, bus)
    async with bus.subscribe("run") as live:
        _, task = await begin(flow({"s": Instant(), "t": Scripted(talk)}, ["s>t"], {"t": [("t", "text")]}), where)
        live_records: list[Record] = []
        async for records in live:
            live_records += records
            if any(isinstance(record.event, Delta) and record.seq is not None for record in records):
                gate.set()
            if isinstance(records[-1].event, RunEnded):
                break
        await task
    return live_records, await where.journal.read("run")


async def test_text_is_told_at_once_and_journaled_before_its_node_ends():
    live_records, journal = await streamed()
    numbered_events = [(r.seq, r.event) for r in live_records if isinstance(r.event, Delta | NodeSucceeded)]
    assert numbered_events[1:] == [
        (None, Delta("t", "text", 0, "Hel")),
        (None, Delta("t", "text", 3, "lo")),
        (6, Delta("t", "text", 0, "Hello")),
        (7, NodeSucceeded("t", {"text": "Hello"})),
    ]
    assert [r.seq for r in journal] == list(range(1, len(journal) + 1))
    assert [r.seq for r in live_records if r.seq] == list(range(2, len(journal) + 1))


async def test_text_of_a_long_node_is_journaled_while_it_runs():
    live_records, _ = await asyncio.wait_for(streamed(wait=True), 60)
    names = [type(r.event).__name__ for r in live_records if r.seq]
    assert names[-3:] == ["Delta", "NodeSucceeded", "RunEnded"]


async def test_a_secret_in_streamed_text_is_masked_even_across_pieces():
    async def leak(ctx: Context) -> Result:
        for piece in ("the key is sk-", "12", "34", "! and sk-"):
            ctx.emit("text", piece)
        return Result({"text": ""})

    where = world()
    graph = flow({"s": Scripted(leak)}, [], {"s": [("s", "text")]}, secrets=frozenset({"sk-1234"}))
    await drive(graph, where)
    text = "".join(r.event.text for r in await where.journal.read("run") if isinstance(r.event, Delta))
    assert text == "the key is ********************! and sk-"


# ------------------------------------------------------------------------------------------------- stops and limits


async def test_a_stop_cancels_the_node_that_is_running():
    cancelled = asyncio.Event()
    running = asyncio.Event()

    async def long(ctx: Context) -> Result:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    driver, task = await begin(flow({"s": Instant(), "l": Scripted(long)}, ["s>l"]), world())
    await running.wait()
    driver.stop("somebody")
    driver.stop("somebody else")
    await asyncio.wait_for(task, 60)
    assert cancelled.is_set()
    assert driver.state.ended == RunEnded("stopped", {}, "Stopped by user.", 0, 2, 0)


async def test_a_node_whose_start_is_on_its_way_to_the_disk_when_the_run_is_stopped_never_runs():
    on_its_way, gate = asyncio.Event(), asyncio.Event()
    complaints: list[object] = []

    class SlowDisk(MemoryJournal):
        """The start is on the disk once the run's end is being written."""

        def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
            done = super().append(records)
            if isinstance(records[-1].event, NodeStarted):
                on_its_way.set()
                return asyncio.ensure_future(self.starting())
            return asyncio.ensure_future(self.ending()) if isinstance(records[-1].event, RunEnded) else done

        async def starting(self) -> None:
            await gate.wait()

        async def ending(self) -> None:
            gate.set()
            for _ in range(5):
                await asyncio.sleep(0)

    async def never(ctx: Context) -> Result:
        raise AssertionError("it ran")

    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    driver, task = await begin(flow({"n": Scripted(never)}, []), world(SlowDisk()))
    await on_its_way.wait()
    driver.stop("somebody")
    await asyncio.wait_for(task, 60)
    assert driver.state.ended is not None
    assert driver.state.ended.status == "stopped"
    del driver, task
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_a_stop_written_by_another_process_is_obeyed():
    running = asyncio.Event()
    gate = asyncio.Event()

    async def long(ctx: Context) -> Result:
        running.set()
        await gate.wait()
        return Result({})

    where = world()
    _, task = await begin(flow({"s": Instant(), "l": Scripted(long), "e": Instant()}, ["s>l", "l>e"]), where)
    await running.wait()
    known = await where.journal.read("run")
    await where.journal.append([Record("run", len(known) + 1, 0.0, StopRequested("another"))])
    gate.set()  # its end cannot be written any more: a conflict
    await asyncio.wait_for(task, 60)
    last = (await where.journal.read("run"))[-1].event
    assert isinstance(last, RunEnded)
    assert last.status == "stopped"


async def test_a_driver_that_is_displaced_leaves_the_run_alone():
    running, gate = asyncio.Event(), asyncio.Event()

    async def long(ctx: Context) -> Result:
        running.set()
        await gate.wait()
        return Result({})

    where = world()
    _, task = await begin(flow({"s": Instant(), "l": Scripted(long)}, ["s>l"]), where)
    await running.wait()
    known = await where.journal.read("run")
    await where.journal.append([Record("run", len(known) + 1, 0.0, RunResumed(recovered=True))])
    gate.set()
    await asyncio.wait_for(task, 60)
    after = await where.journal.read("run")
    assert len(after) == len(known) + 1


async def test_too_many_steps_end_the_run():
    nodes = {f"n{i}": Instant() for i in range(5)}
    done = await drive(flow(nodes, [f"n{i}>n{i + 1}" for i in range(4)]), world(limits=Limits(max_steps=3)))
    assert done.ended is not None
    assert (done.ended.status, done.ended.steps) == ("failed", 3)
    assert done.ended.error == "Maximum execution steps exceeded: 4 > 3"


async def test_too_much_time_ends_the_run_and_cancels_its_nodes():
    async def forever(ctx: Context) -> Result:
        await asyncio.Event().wait()
        raise AssertionError

    where = EngineEnvironment(MemoryJournal(), LocalBus(), world().resources, Limits(max_seconds=0.01))
    done = await asyncio.wait_for(drive(flow({"s": Scripted(forever)}, []), where), 60)
    assert done.ended is not None
    assert (done.ended.status, done.ended.error) == ("failed", "Maximum execution time exceeded: 0.01 seconds")


async def test_a_long_chain_of_instant_nodes_lets_others_have_a_turn():
    nodes = {f"n{i}": Instant() for i in range(1000)}
    where = world(limits=Limits(max_steps=2000))
    _, task = await begin(flow(nodes, [f"n{i}>n{i + 1}" for i in range(999)]), where)
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 4


# ------------------------------------------------------------------------------------------------------------ pauses


async def test_a_node_may_pause_the_run_and_runs_again_once_it_is_resumed():
    attempt_keys: list[str] = []

    async def ask(ctx: Context) -> Result | Pause:
        attempt_keys.append(ctx.key)
        return Pause({"form": "approve?"}) if len(attempt_keys) == 1 else Result({"answer": "yes"})

    where = world()
    graph = flow({"s": Instant(), "ask": Scripted(ask), "e": Instant()}, ["s>ask", "ask>e"])
    waiting = await drive(graph, where)
    assert waiting.paused == RunPaused(({"form": "approve?"},), steps=2)
    assert waiting.ended is None
    await where.journal.append([Record("run", waiting.seq + 1, 0.0, RunResumed())])
    done = await Driver("run", graph, where).drive()
    assert done.ended == RunEnded("succeeded", {}, None, 0, 3, 0)
    assert attempt_keys == ["run/ask/0", "run/ask/0"]


async def test_an_ended_run_is_left_as_it_is():
    where = world()
    graph = flow({"s": Instant()}, [])
    await drive(graph, where)
    before = await where.journal.read("run")
    await Driver("run", graph, where).drive()
    assert await where.journal.read("run") == before


async def test_starts_are_written_before_the_node_touches_the_world():
    where = world()
    written: list[Value] = []

    async def look(ctx: Context) -> Result:
        written.extend(type(r.event) for r in await where.journal.read("run"))
        return Result({})

    await drive(flow({"s": Instant(), "l": Scripted(look)}, ["s>l"]), where)
    assert written[-1] is NodeStarted
    assert NodeFailed not in written
