"""Messages of one conversation: their order, the variables they hand on, and what happens to those that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from headrace import dispatch
from headrace.apps.catalog import Apps, Release
from headrace.brokers import LocalBus, LocalWire
from headrace.engine import EngineEnvironment
from headrace.errors import TooManyRequests
from headrace.kernel.events import NodeStarted, Record, RunEnded, RunId, RunStarted
from headrace.node import Registry
from headrace.nodes.answer import Answer
from headrace.nodes.assigner import Assigner
from headrace.nodes.start import Start
from headrace.ports import Conversation, ConversationVariable, Message, Storage
from headrace.runs import conversation_queue, reader
from headrace.runs.forks import retry
from headrace.runs.service import MAX_NUMBER_CONFLICTS, RunService, Submission
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage
from tests.engine.worlds import NOTHING
from tests.runs.service import SECRET, Gate, dispatch_of, working

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
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    storage = memory_storage() if request.param == "memory" else await SqlStorage.open(f"sqlite:///{tmp_path}/talk.db")
    yield storage
    await storage.aclose()


def run_service(store: Storage, wire: LocalWire | None = None) -> RunService:
    return RunService(
        Apps(store.catalog, REGISTRY, SECRET),
        EngineEnvironment(store.journal, LocalBus(wire=wire), NOTHING),
        dispatch_of(store),
        store,
    )


async def talk(where: RunService, conversation: str = "c") -> Submission:
    """A conversation, and a message of it to be sent."""
    release: Release = await where.apps.publish("talk.yml", TALK)
    new_conversation = Conversation(conversation, release.app.id, "eu", "New conversation", {}, "", 1.0, 1.0)
    variables = [
        ConversationVariable(
            f"{conversation}-{item.name}", conversation, item.name, item.type, "", item.value, 1.0, 1.0
        )
        for item in release.flow.conversation
    ]
    await where.conversations.add_conversation(new_conversation, variables)
    return Submission(release, "somebody", {}, query="hello", conversation=conversation)


async def follow(where: RunService, run: RunId) -> list[Record]:
    return [record async for record in where.follow(run)]


async def answer(where: RunService, run: RunId) -> str:
    last = (await follow(where, run))[-1].event
    assert isinstance(last, RunEnded)
    return str(last.outputs.get("answer"))


async def values(where: RunService, conversation: str = "c") -> dict[str, object]:
    return {
        variable.name: variable.value for variable in await where.conversations.conversation_variables(conversation)
    }


async def test_messages_at_once_are_answered_one_after_the_other(store: Storage):
    async with working(run_service(store)) as where:
        message = await talk(where)
        sent = await asyncio.gather(*(where.submit(replace(message, query=f"m{n}")) for n in range(5)))
        await Gate.begun.wait()
        Gate.release.set()
        answers = [await answer(where, item.run) for item in sent]
        assert sorted(answers) == ["1/1", "2/2", "3/3", "4/4", "5/5"]
        known = await values(where)
        assert known["count"] == 5
        by_number = sorted(zip(answers, [f"m{n}" for n in range(5)], strict=True))
        assert known["said"] == [query for _, query in by_number]


async def test_the_second_message_does_not_begin_before_the_first_has_ended(store: Storage):
    async with working(run_service(store)) as where:
        message = await talk(where)
        first = await where.submit(message)
        second = await where.submit(message)
        other = await where.submit(await talk(where, "d"))
        async for record in where.follow(other.run):
            if record.event == NodeStarted("g"):  # another conversation has not waited
                break
        Gate.release.set()
        await follow(where, second.run)
        ended = (await store.journal.read(first.run))[-1].at
        started = (await store.journal.read(second.run))[1].at
        assert started >= ended
        assert [await answer(where, item.run) for item in (first, second, other)] == ["1/1", "2/2", "1/1"]


async def test_one_that_waits_can_be_stopped_at_once(store: Storage):
    async with working(run_service(store)) as where:
        message = await talk(where)
        first = await where.submit(message)
        second = await where.submit(message)
        third = await where.submit(message)
        await Gate.begun.wait()
        await where.stop(second.run, "somebody")
        last = (await follow(where, second.run))[-1].event
        assert isinstance(last, RunEnded)
        assert last.status == "stopped"
        Gate.release.set()
        assert [await answer(where, first.run), await answer(where, third.run)] == ["1/1", "2/3"]


async def test_after_a_restart_they_go_on_in_order(store: Storage):
    before = run_service(store)
    async with working(before):
        message = await talk(before)
        sent = [await before.submit(message) for _ in range(3)]
        await Gate.begun.wait()
    Gate.release.set()
    async with working(run_service(store)) as where:  # its worker finds what is unfinished
        assert [await answer(where, item.run) for item in sent] == ["1/1", "2/2", "3/3"]


# --------------------------------------------------------------------------------------------- more than one process


@pytest.fixture
async def beside(store: Storage, tmp_path: Path) -> AsyncIterator[Storage]:
    """The store as another process has it."""
    if isinstance(store, Storage):
        yield store
        return
    storage = await SqlStorage.open(f"sqlite:///{tmp_path}/talk.db")
    yield storage
    await storage.aclose()


async def test_of_two_processes_none_gives_a_number_twice(store: Storage, beside: Storage):
    mine, other = run_service(store), run_service(beside)
    message = await talk(mine)
    sent = await asyncio.gather(*(which.submit(message) for _ in range(20) for which in (mine, other)))
    assert len({item.run for item in sent}) == 40
    messages, _ = await store.conversations.messages("c", limit=100)
    assert [item.number for item in reversed(messages)] == [*range(1, 41)]
    assert {item.id for item in messages} == {item.run for item in sent}


async def test_the_same_message_sent_to_two_processes_at_once_is_one(store: Storage, beside: Storage):
    mine, other = run_service(store), run_service(beside)
    message = await talk(mine)
    names = [f"m{n}" for n in range(10)]
    started = await asyncio.gather(*(which.submit(message, name) for name in names for which in (mine, other)))
    assert [item.run for item in started] == [name for name in names for _ in range(2)]
    assert len({item.task for item in started}) == 10
    messages, _ = await store.conversations.messages("c", limit=100)
    assert sorted(item.number for item in messages) == [*range(1, 11)]


async def test_a_message_that_others_are_always_faster_than_is_refused(store: Storage, monkeypatch: pytest.MonkeyPatch):
    where = run_service(store)
    message = await talk(where)
    await where.submit(message)
    conversations: list[str] = []

    async def messages(conversation: str, **_: object) -> tuple[list[Message], bool]:
        conversations.append(conversation)
        return [], False  # as if the one that is there had been written just now

    monkeypatch.setattr(store.conversations, "messages", messages)
    with pytest.raises(TooManyRequests, match="at once"):
        await where.submit(message, "late")
    assert conversations == ["c"] * MAX_NUMBER_CONFLICTS
    assert await store.journal.read("late") == []


async def test_a_retry_of_a_message_has_its_number(store: Storage):
    async with working(run_service(store)) as where:
        message = await talk(where)
        first = (await where.submit(message)).run
        await Gate.begun.wait()
        await where.stop(first, "somebody")
        await follow(where, first)
        Gate.release.set()
        again = (await retry(where, first, "again")).run
        assert (await retry(where, first, "again")).run == again, "asked for twice"
        assert [await answer(where, again), await answer(where, (await where.submit(message)).run)] == ["1/1", "2/2"]
        assert [(item.number, item.retry_of) for item in (await store.conversations.messages("c"))[0]] == [
            (2, None),
            (1, first),
            (1, None),
        ]


@pytest.mark.parametrize("wired", [False, True], ids=["by polling", "by a wire"])
async def test_two_processes_answer_in_order_each_what_it_took_in(
    wired: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(conversation_queue, "POLL_SECONDS", 3600 if wired else 0.02)
    group: list[LocalWire] | None = [] if wired else None
    # nothing makes up for what is not heard live, or not called
    monkeypatch.setattr(reader, "POLL_SECONDS", 60)
    monkeypatch.setattr(dispatch, "RECONCILE_SECONDS", 60)
    stores = [await SqlStorage.open(f"sqlite:///{tmp_path}/talk.db") for _ in range(2)]
    for item in stores:
        await item.leases.heartbeat()
    Gate.release.set()
    one, two = (run_service(store, LocalWire(group)) for store in stores)
    async with working(one) as mine, working(two) as other, asyncio.timeout(60):
        message = await talk(mine)

        async def send(which: RunService) -> list[Record]:
            return await follow(which, (await which.submit(message)).run)

        record_lists = await asyncio.gather(*(send(which) for _ in range(10) for which in (mine, other)))
    assert all(isinstance(item[-1].event, RunEnded) for item in record_lists)
    messages, _ = await stores[0].conversations.messages("c", limit=100)
    assert [item.answer for item in reversed(messages)] == [f"{n}/{n}" for n in range(1, 21)]
    runs = [await stores[0].journal.read(item.id) for item in reversed(messages)]
    for before, after in pairwise(runs):
        assert isinstance(before[-1].event, RunEnded)
        assert isinstance(after[1].event, RunStarted)
        assert before[-1].at <= after[1].at
    for item in stores:
        await item.aclose()
