"""Messages of one conversation: their order, the variables they hand on, and what happens to those that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.apps import Apps, Served
from headrace.brokers.local import LocalBus, LocalQueue
from headrace.engine import World
from headrace.kernel.events import NodeStarted, Record, RunEnded, RunId
from headrace.node import Registry
from headrace.nodes.answer import Answer
from headrace.nodes.assigner import Assigner
from headrace.nodes.start import Start
from headrace.ports import Conversation, ConversationVariable
from headrace.runtime import Runtime
from headrace.stores.memory import MemoryStore
from headrace.stores.sql import SqlStore
from headrace.submission import Submission
from tests.engine.worlds import NOTHING
from tests.runtime.service import SECRET, Gate, working

REGISTRY: Registry = {"start": Start, "answer": Answer, "assigner": Assigner, "gate": Gate}  # pyright: ignore[reportAssignmentType]
TALK = """
app: {mode: advanced-chat, name: talk}
kind: app
version: 0.5.0
workflow:
  conversation_variables:
  - {id: v1, name: count, value_type: number, value: 0, description: how often}
  - {id: v2, name: said, value_type: 'array[string]', value: []}
  features: {}
  graph:
    nodes:
    - {id: s, data: {type: start, title: Start, variables: []}}
    - {id: g, data: {type: gate, title: Gate}}
    - id: a
      data:
        type: assigner
        title: Assign
        version: '2'
        items:
        - {variable_selector: [conversation, count], input_type: constant, operation: +=, value: 1}
        - {variable_selector: [conversation, said], input_type: variable, operation: append, value: [sys, query]}
    - {id: w, data: {type: answer, title: Answer, answer: '{{#conversation.count#}}/{{#sys.dialogue_count#}}'}}
    edges:
    - {id: s-g, source: s, sourceHandle: source, target: g}
    - {id: g-a, source: g, sourceHandle: source, target: a}
    - {id: a-w, source: a, sourceHandle: source, target: w}
"""


@pytest.fixture(autouse=True)
async def gate() -> None:
    Gate.reset()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryStore | SqlStore]:
    opened = MemoryStore() if request.param == "memory" else await SqlStore.open(f"sqlite:///{tmp_path}/talk.db")
    yield opened
    await opened.aclose()


def runtime(store: MemoryStore | SqlStore) -> Runtime:
    return Runtime(Apps(store, REGISTRY, SECRET), World(store, LocalBus(), NOTHING), LocalQueue(), store, store)


async def talk(where: Runtime, conversation: str = "c") -> Submission:
    """A conversation, and a message of it to be sent."""
    served: Served = await where.apps.publish("talk.yml", TALK)
    made = Conversation(conversation, served.app.id, "eu", "New conversation", {}, "", 1.0, 1.0)
    variables = [
        ConversationVariable(
            f"{conversation}-{each.name}", conversation, each.name, each.type, "", each.value, 1.0, 1.0
        )
        for each in served.flow.conversation
    ]
    await where.conversations.add_conversation(made, variables)
    return Submission(served, "somebody", {}, query="hello", conversation=conversation)


async def heard(where: Runtime, run: RunId) -> list[Record]:
    return [record async for record in where.follow(run)]


async def answer(where: Runtime, run: RunId) -> str:
    last = (await heard(where, run))[-1].event
    assert isinstance(last, RunEnded)
    return str(last.outputs.get("answer"))


async def values(where: Runtime, conversation: str = "c") -> dict[str, object]:
    return {each.name: each.value for each in await where.conversations.conversation_variables(conversation)}


async def test_messages_at_once_are_answered_one_after_the_other(store: MemoryStore | SqlStore):
    async with working(runtime(store)) as where:
        message = await talk(where)
        sent = await asyncio.gather(*(where.submit(replace(message, query=f"m{n}")) for n in range(5)))
        await Gate.begun.wait()
        Gate.opened.set()
        answers = [await answer(where, each.run) for each in sent]
        assert sorted(answers) == ["1/1", "2/2", "3/3", "4/4", "5/5"]
        known = await values(where)
        assert known["count"] == 5
        by_number = sorted(zip(answers, [f"m{n}" for n in range(5)], strict=True))
        assert known["said"] == [query for _, query in by_number]


async def test_the_second_message_does_not_begin_before_the_first_has_ended(store: MemoryStore | SqlStore):
    async with working(runtime(store)) as where:
        message = await talk(where)
        first = await where.submit(message)
        second = await where.submit(message)
        other = await where.submit(await talk(where, "d"))
        async for record in where.follow(other.run):
            if record.event == NodeStarted("g"):  # another conversation has not waited
                break
        Gate.opened.set()
        await heard(where, second.run)
        ended = (await store.read(first.run))[-1].at
        started = (await store.read(second.run))[1].at
        assert started >= ended
        assert [await answer(where, each.run) for each in (first, second, other)] == ["1/1", "2/2", "1/1"]


async def test_one_that_waits_can_be_stopped_at_once(store: MemoryStore | SqlStore):
    async with working(runtime(store)) as where:
        message = await talk(where)
        first = await where.submit(message)
        second = await where.submit(message)
        third = await where.submit(message)
        await Gate.begun.wait()
        await where.stop(second.run, "somebody")
        last = (await heard(where, second.run))[-1].event
        assert isinstance(last, RunEnded)
        assert last.status == "stopped"
        Gate.opened.set()
        assert [await answer(where, first.run), await answer(where, third.run)] == ["1/1", "2/3"]


async def test_after_a_restart_they_go_on_in_order(store: MemoryStore | SqlStore):
    before = runtime(store)
    async with working(before):
        message = await talk(before)
        sent = [await before.submit(message) for _ in range(3)]
        await Gate.begun.wait()
    Gate.opened.set()
    async with working(runtime(store)) as where:  # its worker finds what is unfinished
        assert [await answer(where, each.run) for each in sent] == ["1/1", "2/2", "3/3"]
