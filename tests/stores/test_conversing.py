"""Conversations in a database that is killed, shared, full or large."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import NodeSucceeded, RunEnded, RunPaused, RunResumed, RunStarted
from headrace.ports import Feedback
from headrace.ports.services import Turn
from headrace.stores.encoding import decode_value
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage, journal
from headrace.stores.sql.writer import Call
from tests.contracts.examples import numbered, queued
from tests.contracts.talking import CONVERSATION, answered, assigning, said, variable
from tests.stores.plans import listening, plan_of

MOOD = variable("mood", "calm")


# ---------------------------------------------------------------------------------------------- killed, shared, full

TALKING = """
import asyncio, sys
from itertools import count
from headrace.kernel.events import NodeSucceeded, Record, RunEnded, RunQueued, RunStarted
from headrace.ports import Conversation, ConversationVariable
from headrace.stores.sql import SqlStorage

async def talk(store, name):
    await store.conversations.add_conversation(
        Conversation(name, 'a1', 'ada', '', {}, '', 0.0, 0.0),
        [ConversationVariable('v' + name, name, 'last', 'string', '', None, 0.0, 0.0)],
    )
    for n in count(1):
        run = f'{name}-{n}'
        system = {'query': run, 'dialogue_count': n}
        events = [RunQueued('a1', 'v', 't' + run, 'u', {}, system, conversation=name), RunStarted(),
                  NodeSucceeded('set', {}, assigned={'conversation': {'last': run}}),
                  RunEnded('succeeded', {'answer': run})]
        for seq, event in enumerate(events, 1):
            await store.journal.append([Record(run, seq, 1.0 * n, event)])
        sys.stdout.write(run + '\\n')
        sys.stdout.flush()

async def main():
    store = await SqlStorage.open(sys.argv[1])
    await asyncio.gather(*(talk(store, f'c{n}') for n in range(8)))

asyncio.run(main())
"""


async def test_after_kill_9_conversations_say_what_the_journal_says(url: str) -> None:
    talking = await asyncio.create_subprocess_exec(sys.executable, "-c", TALKING, url, stdout=asyncio.subprocess.PIPE)
    assert talking.stdout
    lines: list[str] = []
    while (line := await talking.stdout.readline()).endswith(b"\n"):
        lines.append(line.decode().strip())
        if len(lines) == 100:
            talking.kill()  # what it wrote before it died is read to the end
    assert await talking.wait() == -9
    database = sqlite3.connect(url.removeprefix("sqlite:///"))

    def journaled(kind: str) -> set[str]:
        return {run for (run,) in database.execute("SELECT run FROM events WHERE type = ?", [kind])}

    rows = dict(database.execute("SELECT id, answer FROM exchanges").fetchall())
    assert set(rows) == journaled("RunQueued")
    assert {run for run, answer in rows.items() if answer == run} == journaled("RunEnded") >= set(lines)
    query = "SELECT conversation, value FROM conversation_variables"
    last = {name: decode_value(value) for name, value in database.execute(query)}
    moved = dict(database.execute("SELECT id, updated_at FROM conversations").fetchall())
    for name in last:
        assigned = [int(run.split("-")[1]) for run in journaled("NodeSucceeded") if run.startswith(f"{name}-")]
        assert last[name] == (f"{name}-{max(assigned)}" if assigned else None)
        assert moved[name] == max([0.0, *(float(run.split("-")[1]) for run in rows if run.startswith(f"{name}-"))])
    database.close()


async def test_a_message_may_go_on_in_another_process(store: SqlStorage, url: str) -> None:
    other = await SqlStorage.open(url)
    await store.conversations.add_conversation(CONVERSATION, [MOOD])
    await store.journal.append(numbered("m1", [said("m1"), RunStarted()], at=20.0))
    assert await other.conversations.next_message("c1") == "m1"
    await other.journal.append(numbered("m1", [assigning(mood="glad"), RunPaused()], after=2, at=20.0))
    assert await store.conversations.next_message("c1") is None
    assert [stored.value for stored in await store.conversations.conversation_variables("c1")] == ["glad"]
    await store.journal.append(numbered("m1", [RunResumed(), assigning(mood="merry")], after=4, at=20.0))
    assert await other.conversations.next_message("c1") == "m1"
    await other.journal.append(numbered("m1", [answered("Hello!")], after=6, at=20.0))
    for reader in (store, other):
        assert [(one.query, one.answer) for one in (await reader.conversations.messages("c1"))[0]] == [
            ("question 1", "Hello!")
        ]
        assert [(one.value, one.updated_at) for one in await reader.conversations.conversation_variables("c1")] == [
            ("merry", 23.0)
        ]
        assert [one.updated_at for one in (await reader.conversations.conversations("a1", "end-ada"))[0]] == [23.5]
    await other.journal.append(numbered("m2", [said("m2", 2)], at=30.0))
    assert await store.conversations.turns("c1", "m2", 9) == [Turn("question 1", "Hello!")]
    await other.aclose()


async def test_two_processes_talk_in_the_same_conversations(store: SqlStorage, url: str) -> None:
    other = await SqlStorage.open(url)
    names = [f"c{n}" for n in range(20)]
    for name in names:
        await store.conversations.add_conversation(
            replace(CONVERSATION, id=name), [replace(MOOD, id=name, conversation=name)]
        )

    async def talk(which: SqlStorage, who: str, order: list[str]) -> None:
        for n, name in enumerate(order):
            run = f"{who}-{name}"
            written = [said(run, n, conversation=name), RunStarted(), assigning(mood=who), answered(run)]
            await asyncio.gather(*(which.journal.append([record]) for record in numbered(run, written)))

    await asyncio.gather(talk(store, "one", names), talk(other, "two", names[::-1]))
    for name in names:
        assert {message.answer for message in (await store.conversations.messages(name))[0]} == {
            f"one-{name}",
            f"two-{name}",
        }
        assert [
            stored.value in ("one", "two") for stored in await store.conversations.conversation_variables(name)
        ] == [True]
    await other.aclose()


async def test_of_two_processes_that_give_one_number_one_comes_second(store: SqlStorage, url: str) -> None:
    other = await SqlStorage.open(url)
    numbers = range(1, 21)
    sent = [
        which.journal.append(numbered(f"{who}{n}", [said(f"{who}{n}", n)]))
        for n in numbers
        for who, which in (("one", store), ("two", other))
    ]
    beside = [store.journal.append(numbered(f"r{n}", [queued(f"r{n}")])) for n in numbers]
    results = await asyncio.gather(*sent, return_exceptions=True)
    await asyncio.gather(*beside)  # what was written with those that came second is written
    for n, (one, two) in enumerate(zip(results[::2], results[1::2], strict=True), 1):
        assert {type(one), type(two)} == {type(None), SequenceConflict}
        won, lost = (f"one{n}", f"two{n}") if one is None else (f"two{n}", f"one{n}")
        assert (
            len(await store.journal.read(won)),
            await store.journal.read(lost),
            await other.runs.find_run(lost),
        ) == (1, [], None)
    messages, _ = await other.conversations.messages("c1")
    assert [message.number for message in messages] == [*reversed(numbers)]
    await other.aclose()


async def test_what_does_not_fit_on_the_disk_changes_nothing(store: SqlStorage) -> None:
    def limit(pages: int) -> asyncio.Future[object]:
        def work(connection: Connection) -> object:
            return connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

        return store.writer.submit(Call(work, "test"))

    await store.conversations.add_conversation(CONVERSATION, [MOOD])
    await store.journal.append(numbered("m1", [said("m1"), RunStarted()], at=20.0))
    await limit(1)  # as many as there are
    written = numbered("m1", [assigning(mood="x" * 10**6), answered("x" * 10**6)], after=2, at=20.0)
    with pytest.raises(StoreError, match="full"):
        await store.journal.append(written)
    assert await store.conversations.conversation_variables("c1") == [MOOD]
    assert await store.conversations.next_message("c1") == "m1"
    assert await store.conversations.find_conversation("c1") == replace(CONVERSATION, updated_at=20.5)
    await limit(10**6)
    await store.journal.append(written)
    assert [len(stored.value) for stored in await store.conversations.conversation_variables("c1")] == [10**6]
    assert await store.conversations.next_message("c1") is None


async def test_a_refused_append_takes_nothing_from_those_written_with_it(store: SqlStorage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [MOOD])
    await store.journal.append(numbered("m0", [said("m0", 0), assigning(mood=0), answered("answer 0")]))
    appends = [
        store.journal.append(
            numbered(f"m{n}", [said(f"m{n}", n), assigning(mood=n), answered(f"answer {n}")], at=2000.0 + n)
        )
        for n in range(1, 100)
    ]
    refused = store.journal.append(
        numbered("m0", [said("m0", 7), assigning(mood="wrong"), answered("wrong")], at=9000.0)
    )
    await asyncio.gather(*appends)
    with pytest.raises(SequenceConflict):
        await refused
    messages, _ = await store.conversations.messages("c1", limit=1000)
    assert [message.answer for message in reversed(messages)] == [f"answer {n}" for n in range(100)]
    assert [stored.value for stored in await store.conversations.conversation_variables("c1")] == [99]
    conversation = await store.conversations.find_conversation("c1")
    assert conversation is not None
    assert conversation.updated_at == 2100.5


# ------------------------------------------------------------------------------------------------------- what it costs


async def test_a_node_of_a_conversation_costs_what_any_node_does(store: SqlStorage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [MOOD])
    await store.journal.append(numbered("m1", [said("m1"), RunStarted()]))
    with listening(store) as statements:
        await store.journal.append(numbered("m1", [NodeSucceeded("llm", {"text": "x"})], after=2))
    assert [statement.split(" (")[0] for statement, _ in statements] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO events",
        "COMMIT",
    ]
    with listening(store) as statements:
        await store.journal.append(numbered("m1", [assigning(mood="glad")], after=3))
    assert [statement.split(" SET")[0].split(" (")[0] for statement, _ in statements] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO events",
        "UPDATE conversation_variables",
        "COMMIT",
    ]


async def test_a_conversation_forgotten_among_many_runs_is_looked_up(
    store: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_ACTIVE", 2)
    await store.conversations.add_conversation(CONVERSATION, [MOOD])
    await store.journal.append(numbered("m1", [said("m1"), RunStarted()]))
    for n in range(5):
        await store.journal.append(numbered(f"r{n}", [queued(f"r{n}"), RunStarted()]))
    await store.journal.append(numbered("m1", [assigning(mood="glad")], after=2))
    assert [stored.value for stored in await store.conversations.conversation_variables("c1")] == ["glad"]
    for n in range(5):
        await store.journal.append(numbered(f"s{n}", [queued(f"s{n}"), RunStarted()]))
    await store.journal.append(numbered("m1", [answered("Hello!")], after=3))
    exchange = await store.conversations.find_message("m1")
    assert exchange is not None
    assert (exchange.query, exchange.answer, exchange.number) == ("question 1", "Hello!", 1)


@pytest.mark.parametrize(
    ("asking", "index"),
    [
        ("by updated_at", "ix_conversations_updated_at (app=? AND end_user=? AND (updated_at,id)<(?,?))"),
        ("by created_at", "ix_conversations_created_at (app=? AND end_user=? AND (created_at,id)>(?,?))"),
        ("exchanges", "ix_exchanges_place (conversation=? AND (number,created_at,id)<(?,?,?))"),
        ("turns", "ix_exchanges_place (conversation=? AND (number,created_at,id)<(?,?,?))"),
        ("next_message", "COVERING INDEX ix_exchanges_running (conversation=? AND status=?)"),
        ("assigned", "ix_conversation_variables_name (conversation=? AND name=?)"),
        ("feedback_of", "(message=? AND end_user=?)"),
        ("feedbacks", "ix_feedbacks_app_created_at (app=?)"),
        ("annotations", "ix_annotations_app_created_at (app=?)"),
    ],
)
async def test_nothing_is_sorted_or_read_through(store: SqlStorage, asking: str, index: str) -> None:
    for n in (1, 2):
        await store.conversations.add_conversation(replace(CONVERSATION, id=f"c{n}"), [replace(MOOD, id=f"v{n}")])
        await store.journal.append(numbered(f"m{n}", [said(f"m{n}", n)]))
    with listening(store) as statements:
        match asking:
            case "by updated_at":
                await store.conversations.conversations("a1", "end-ada", after="c1")
            case "by created_at":
                await store.conversations.conversations("a1", "end-ada", after="c1", order="created_at")
            case "exchanges":
                await store.conversations.messages("c1", before="m1")
            case "turns":
                await store.conversations.turns("c1", "m1", 10)
            case "next_message":
                await store.conversations.next_message("c1")
            case "assigned":
                await store.journal.append(numbered("m1", [assigning(mood=1)], after=1))
            case "feedback_of":
                await store.conversations.feedback_of(["m1", "m2"], "end-ada")
            case "feedbacks":
                await store.conversations.feedbacks("a1")
            case _:
                await store.conversations.annotations("a1")
    selects = [
        entry for entry in statements if entry[0] not in ("BEGIN IMMEDIATE", "COMMIT") and "count(" not in entry[0]
    ]
    [step] = await plan_of(store, *selects[-1])
    assert step.startswith("SEARCH")
    assert index in step


async def test_memory_forgets_old_exchanges_but_no_conversation() -> None:
    store = memory_storage(keep=3)
    await store.conversations.add_conversation(CONVERSATION, [MOOD])
    await store.journal.append(numbered("open", [said("open", 0)], at=1.0))
    for n in range(1, 8):
        name = "c1" if n % 2 else "c2"
        events = [said(f"m{n}", n, conversation=name), assigning(mood=n), answered("done")]
        await store.journal.append(numbered(f"m{n}", events, at=10.0 * n))
        await store.conversations.save_feedback(
            Feedback(f"f{n}", "a1", f"m{n}", "like", None, "end-ada", float(n), float(n))
        )
    assert [message.id for message in (await store.conversations.messages("c1"))[0]] == ["m7", "m5", "open"]
    assert [message.id for message in (await store.conversations.messages("c2"))[0]] == ["m6"]
    assert await store.conversations.find_message("m3") is None
    assert await store.conversations.next_message("c1") == "open"
    assert await store.conversations.next_message("c2") is None
    assert [feedback.message for feedback in await store.conversations.feedbacks("a1")] == ["m7", "m6", "m5"]
    assert await store.conversations.conversation_variables("c1") == [replace(MOOD, value=7, updated_at=71.0)]
    for n in range(3):
        await store.journal.append(numbered(f"r{n}", [queued(f"r{n}"), RunEnded("succeeded")]))
    assert [message.id for message in (await store.conversations.messages("c1"))[0]] == ["open"]
    assert await store.conversations.messages("c2") == ([], False)
    assert await store.conversations.find_conversation("c1") is not None
    await store.journal.append(numbered("again", [said("again", conversation="c2"), answered("done")]))
    assert [message.id for message in (await store.conversations.messages("c2"))[0]] == ["again"]
