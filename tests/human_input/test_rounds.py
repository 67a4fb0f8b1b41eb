"""Forms inside of containers: each round asks for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from headrace.engine import Driver
from headrace.kernel.events import (
    Event,
    FormExpired,
    FormRequested,
    FormSubmitted,
    NodeFailed,
    Record,
    RunEnded,
    RunPaused,
    RunResumed,
)
from headrace.kernel.state import State
from headrace.node import Flow
from headrace.stores.memory import MemoryJournal
from tests.engine.nests import flow, iteration, loop, node, queued_record
from tests.engine.worlds import world

from .flows import human_input

ITEM = ["it", "item"]


def review(inside: str, **fields: Any) -> Any:
    data = human_input(form_content="{{#it.item#}}", **fields)
    return node("ask", data.pop("type"), inside, **data)


def iteration_with_form(parallel: int = 1, **data: Any) -> Flow:
    return flow(
        [
            iteration("it", ["start", "items"], ["ask", "comment"], is_parallel=parallel > 1, parallel_nums=parallel),
            review("it"),
            node("check", "slow-echo", "it", reads=[ITEM], **data),
        ],
        "start>it it-start>ask it-start>check it>end",
        {"out": ["it", "output"]},
    )


class Rounds:
    """A run of a flow, driven until it pauses or ends, and again after each answer."""

    def __init__(self, workflow: Flow, **inputs: Any) -> None:
        self.flow, self.inputs = workflow, inputs
        self.where = world(MemoryJournal())
        self.seq = 0

    async def begin(self) -> State:
        await self.where.journal.append([queued_record(**self.inputs)])
        return await self.drive()

    async def drive(self) -> State:
        state = await Driver("run", self.flow, self.where).drive()
        self.seq = state.seq
        return state

    async def events(self) -> Sequence[Event]:
        return [record.event for record in await self.where.journal.read("run")]

    async def requests(self) -> list[FormRequested]:
        return [event for event in await self.events() if isinstance(event, FormRequested)]

    async def answer(self, request: FormRequested, comment: str) -> State:
        outcome = FormSubmitted(request.path, request.form, "approve", {"comment": comment})
        events = (RunResumed(), outcome)
        records = [Record("run", seq, 0.0, event) for seq, event in enumerate(events, self.seq + 1)]
        await self.where.journal.append(records)
        return await self.drive()


async def test_rounds_ask_one_after_the_other() -> None:
    run = Rounds(iteration_with_form(), items=["a", "b"])
    state = await run.begin()
    assert state.paused is not None
    assert [(item.path, item.content) for item in await run.requests()] == [("it[0]/ask", "a")]
    await run.answer((await run.requests())[0], "first")
    state = await run.answer((await run.requests())[1], "second")
    assert state.ended is not None
    assert state.ended.outputs == {"out": ["first", "second"]}


async def test_parallel_rounds_ask_together() -> None:
    run = Rounds(iteration_with_form(3), items=["a", "b", "c"])
    state = await run.begin()
    assert state.paused is not None
    assert [reason["form_content"] for reason in state.paused.reasons] == ["a", "b", "c"]
    assert {reason["node_id"] for reason in state.paused.reasons} == {"ask"}
    for index in (2, 0, 1):
        state = await run.answer((await run.requests())[index], f"answer {index}")
    assert state.ended is not None
    assert state.ended.outputs == {"out": ["answer 0", "answer 1", "answer 2"]}


async def test_forms_of_cancelled_rounds_expire() -> None:
    run = Rounds(iteration_with_form(2, fails_on=["b"]), items=["a", "b"])
    state = await run.begin()
    assert state.ended is not None
    assert state.ended.status == "failed"
    events = await run.events()
    expired = [event for event in events if isinstance(event, FormExpired)]
    assert {event.status for event in expired} == {"expired"}
    assert {event.form for event in expired} == {request.form for request in await run.requests()}
    assert not any(isinstance(event, RunPaused) for event in events)
    assert isinstance(
        next(event for event in events if isinstance(event, NodeFailed) and event.path == "it"), NodeFailed
    )
    assert isinstance(events[-1], RunEnded)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_loop_asks_in_each_round(count: int) -> None:
    workflow = flow(
        [loop("it", count), review("it"), node("after", "echo", "it", reads=[["ask", "comment"]])],
        "start>it it-start>ask ask:approve>after it>end",
        {"out": ["after", "r"]},
    )
    run = Rounds(workflow)
    await run.begin()
    for index in range(count):
        state = await run.answer((await run.requests())[index], f"round {index}")
    assert state.ended is not None
    assert state.ended.outputs == {"out": f"after:round {count - 1}"}
