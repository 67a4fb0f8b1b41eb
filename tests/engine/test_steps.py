"""Steps: named parts of a node's work that are not repeated after a crash."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from headrace.api.native.execution_filter import ExecutionFilter
from headrace.api.native.node_executions import executions
from headrace.engine import Driver, EngineEnvironment
from headrace.errors import NodeError
from headrace.kernel.events import (
    Event,
    NodeFailed,
    NodeRetried,
    NodeSucceeded,
    Record,
    RunEnded,
    RunResumed,
    StepEnded,
    StepStarted,
)
from headrace.kernel.graph import Retry
from headrace.kernel.response import ResponseStream
from headrace.kernel.secrets import SecretMask
from headrace.kernel.state import State
from headrace.kernel.summary import RunSummary
from headrace.node import Context, Flow, Result
from headrace.runs.reader import RunView
from headrace.stores.encoding import pack, unpack
from headrace.values import DEEPEST_OUTPUT, Value
from tests.engine.test_crash import killed_before
from tests.engine.worlds import Instant, Scripted, drive, flow, queued, world


class Work:
    """A node of three rounds, each of which has two calls. It counts how often each is made."""

    def __init__(self) -> None:
        self.calls = Counter[str]()

    async def run(self, ctx: Context) -> Result:
        letters: list[Value] = []
        for number in range(3):

            async def round_(number: int = number) -> Value:
                letters = [await self.call(ctx, f"round[{number}]/call[{place}]") for place in range(2)]
                ctx.emit("text", "".join(letters))
                return letters

            step = await ctx.step(f"round[{number}]", round_, label=f"ROUND {number}", metadata={"n": number})
            letters += step.result
        return Result({"text": "".join(letters), "names": list(ctx.steps)})

    async def call(self, ctx: Context, name: str) -> Value:
        async def function() -> Value:
            self.calls[name] += 1
            await asyncio.sleep(0)
            return name[6] + name[-2]

        return (await ctx.step(name, function)).result

    def flow(self) -> Flow:
        return flow({"a": Instant(), "w": Scripted(self.run)}, ["a>w"], {"w": [("w", "text")]})


NAMES = [f"round[{number}]{part}" for number in range(3) for part in ("", "/call[0]", "/call[1]")]


TEXT = "000110112021"


async def events(where: EngineEnvironment) -> list[Event]:
    return [record.event for record in await where.journal.read("run")]


async def test_the_results_of_steps_are_recorded():
    work, where = Work(), world()
    state = await drive(work.flow(), where)
    assert state.outputs["text"] == TEXT
    steps = [event for event in await events(where) if isinstance(event, StepStarted | StepEnded)]
    assert [(type(event), event.name) for event in steps[:6]] == [
        (StepStarted, "round[0]"),
        (StepStarted, "round[0]/call[0]"),
        (StepEnded, "round[0]/call[0]"),
        (StepStarted, "round[0]/call[1]"),
        (StepEnded, "round[0]/call[1]"),
        (StepEnded, "round[0]"),
    ]
    assert steps[0] == StepStarted("w", "round[0]", "ROUND 0", {"n": 0})
    assert steps[1] == StepStarted("w", "round[0]/call[0]", "round[0]/call[0]")  # a step without a label shows its name
    assert steps[5] == StepEnded("w", "round[0]", ["00", "01"])


async def test_a_crash_repeats_one_call_at_most():
    for survives in range(100):
        work = Work()
        died, journal = await killed_before(work.flow(), queued(), survives)
        records = await journal.read("run")
        ended = records[-1].event
        assert isinstance(ended, RunEnded)
        assert ended.outputs["text"] == TEXT
        assert sum(work.calls.values()) - len(work.calls) <= 1
        assert [*work.calls] == [name for name in NAMES if "/" in name]
        for kind in (StepStarted, StepEnded):
            names = [record.event.name for record in records if isinstance(record.event, kind)]
            assert sorted(names) == sorted(NAMES), "no step starts or ends twice"
        answer = ResponseStream(work.flow().graph)
        said = "".join(text for record in records for text, *_ in answer.apply(record))
        assert said == TEXT, "the text of a step that has ended is not said again"
        done = next(
            record.event for record in records if isinstance(record.event, NodeSucceeded) and record.event.path == "w"
        )
        assert done.outputs["names"] == NAMES
        if not died:
            return
    raise AssertionError("the run never ended")


async def test_text_is_not_kept_at_a_step_beside_the_other_work():
    """A plugin that is called again streams all of its text again."""

    async def script(ctx: Context) -> Result:
        async def back() -> Value:
            return "answer"

        ctx.emit("text", "a")
        await ctx.step(".back[llm-1-1]", back)
        ctx.emit("text", "b")
        await ctx.step("log[0]", back)
        ctx.emit("text", "c")
        return Result({"text": "abc"})

    plan = flow({"a": Instant(), "w": Scripted(script)}, ["a>w"], {"w": [("w", "text")]})
    for survives in range(100):
        died, journal = await killed_before(plan, queued(), survives)
        answer, said = ResponseStream(plan.graph), ""
        for record in await journal.read("run"):
            text = "".join(text for text, *_ in answer.apply(record))
            said = text if isinstance(record.event, RunResumed) else said + text
        assert said == "abc"
        if not died:
            return
    raise AssertionError("the run never ended")


async def test_hidden_steps_are_not_in_the_log_of_an_execution():
    async def script(ctx: Context) -> Result:
        async def back() -> Value:
            return "answer"

        await ctx.step(".strategy", back)
        await ctx.step(".strategy/.back[llm-1-1]", back)
        await ctx.step(".strategy/log[0]", back, label="thought")
        return Result({})

    where, plan, run = world(), flow({"a": Instant(), "w": Scripted(script)}, ["a>w"]), str(UUID(int=1))
    await drive(plan, where, run)
    release = cast("Any", SimpleNamespace(flow=plan))
    view = RunView(RunSummary(plan.graph), release, await where.journal.read(run))
    _, execution = executions(view, ExecutionFilter(frozenset({"agent_log"})))
    assert [entry["label"] for entry in execution["agent_log"]] == ["thought"]


async def test_a_call_waits_until_the_step_before_it_is_in_the_journal():
    where = world()
    steps_in_journal: list[list[str]] = []

    async def script(ctx: Context) -> Result:
        async def look() -> Value:
            recorded = await events(where)
            steps_in_journal.append([event.name for event in recorded if isinstance(event, StepEnded)])
            return None

        await ctx.step("a", look)
        await ctx.step("b", look)
        return Result({})

    await drive(flow({"n": Scripted(script)}, []), where)
    assert steps_in_journal == [[], ["a"]]


async def test_a_retry_begins_anew():
    calls: list[str] = []

    async def script(ctx: Context) -> Result:
        async def call() -> Value:
            calls.append(ctx.key)
            return len(calls)

        first = await ctx.step("a", call)
        if len(calls) == 1:
            raise NodeError("not yet", "Early")
        return Result({"text": first.result, "keys": [step.key for step in ctx.steps.values()]})

    where = world()
    state = await drive(flow({"n": Scripted(script)}, [], {"n": [("n", "keys")]}, {"n": {"retry": Retry(1, 0)}}), where)
    assert calls == ["run/n/0", "run/n/1"]
    assert any(isinstance(event, NodeRetried) for event in await events(where))
    assert state.outputs["keys"] == ["run/n/1/a"]


async def test_what_a_step_raises_is_not_recorded():
    async def script(ctx: Context) -> Result:
        async def call() -> Value:
            raise NodeError("no", "No")

        await ctx.step("a", call)
        return Result({})

    where = world()
    await drive(flow({"n": Scripted(script)}, []), where)
    recorded = await events(where)
    assert not any(isinstance(event, StepEnded) for event in recorded)
    [failed] = [event for event in recorded if isinstance(event, NodeFailed)]
    assert (failed.error, failed.kind) == ("no", "No")


@pytest.mark.parametrize("where_deep", ["result", "metadata"])
async def test_data_that_is_nested_too_deep_fails_the_node(where_deep: str):
    deep: Value = []
    for _ in range(DEEPEST_OUTPUT + 1):
        deep = [deep]

    async def script(ctx: Context) -> Result:
        async def call() -> Value:
            return deep if where_deep == "result" else None

        await ctx.step("a", call, metadata={"deep": deep} if where_deep == "metadata" else {})
        return Result({})

    where = world()
    await drive(flow({"n": Scripted(script)}, []), where)
    [failed] = [event for event in await events(where) if isinstance(event, NodeFailed)]
    assert failed.kind == "DepthLimitError"


async def test_a_run_that_is_stopped_during_a_step_records_nothing_more():
    where = world()
    started, ended = asyncio.Event(), asyncio.Event()

    async def script(ctx: Context) -> Result:
        async def call() -> Value:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        await ctx.step("a", call)
        return Result({})

    await where.journal.append([queued()])
    driver = Driver("run", flow({"n": Scripted(script)}, []), where)
    driving = asyncio.create_task(driver.drive())
    await started.wait()
    driver.stop("me")
    state = await driving
    assert ended.is_set()
    assert state.ended is not None
    assert state.ended.status == "stopped"
    assert isinstance((await events(where))[-1], RunEnded)
    assert not any(isinstance(event, StepEnded) for event in await events(where))


async def test_the_state_keeps_steps_of_running_nodes_only():
    work, where = Work(), world()
    await drive(work.flow(), where)
    state = State(work.flow().graph)
    step_counts: list[int] = []
    for record in await where.journal.read("run"):
        state.apply(record)
        step_counts.append(sum(len(running.steps) for running in state.running.values()))
    assert max(step_counts) == 9
    assert step_counts[-1] == 0


async def test_steps_that_ended_count_as_progress_after_a_crash():
    """A run that is resumed again and again is given up only if nothing in it comes to its end."""
    work, where = Work(), world()
    await drive(work.flow(), where)
    recorded = await where.journal.read("run")
    end = next(index for index, record in enumerate(recorded) if isinstance(record.event, StepEnded))
    crashed = world()
    history = [record.event for record in recorded[: end + 1]]
    resumed: list[Event] = [RunResumed(recovered=True)] * 9
    for number, event in enumerate([*history[:end], *resumed, history[end]], 1):
        await crashed.journal.append([recorded[0]._replace(seq=number, event=event)])
    again = Work()
    state = await Driver("run", again.flow(), crashed).drive()
    assert state.ended is not None
    assert state.ended.status == "succeeded"
    assert "round[0]/call[0]" not in again.calls


@pytest.mark.parametrize(
    "event",
    [StepStarted("n", "a", "secret-word", {"x": "secret-word"}), StepEnded("n", "a", ["a secret-word b"])],
)
def test_secrets_are_masked(event: StepStarted | StepEnded):
    assert "secret-word" not in str(SecretMask(["secret-word"]).event(event))
    (row,) = pack([Record("run", 1, 0.0, event)])
    assert [record.event for record in unpack(row)] == [event]
