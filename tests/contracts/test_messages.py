"""What every store of conversations promises of what is said in them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from headrace.errors import SequenceConflict
from headrace.kernel.events import NodeSucceeded, RunEnded, RunPaused, RunResumed, RunStarted, StopRequested
from headrace.ports import Message, Storage
from headrace.ports.services import Turn

from .examples import PICTURE, numbered, queued, whole
from .talking import CONVERSATION, answered, ids, said, talk


async def test_an_exchange_is_told_from_beginning_to_end(store: Storage) -> None:
    assert await store.conversations.find_message("m1") is None
    odd = {"photo": PICTURE, "n": 2**70, "half": "\ud83d"}
    await store.journal.append(numbered("m1", [said("m1", 2, "¿Qué? 商品 \n", **odd)]))
    message = Message("m1", "a1", "c1", "end-ada", odd, "¿Qué? 商品 \n", (PICTURE,), 2, 1000.5)
    assert await store.conversations.find_message("m1") == message
    await store.journal.append(numbered("m1", [RunStarted(), NodeSucceeded("llm", {"answer": "no"})], after=1))
    assert await store.conversations.find_message("m1") == message
    await store.journal.append(numbered("m1", [answered("Nada 😀.", files=[PICTURE, "no file"])], after=3))
    done = replace(message, status="succeeded", answer="Nada 😀.", answer_files=(PICTURE,))
    assert await store.conversations.find_message("m1") == done
    assert await store.conversations.messages("c1") == ([done], False)


async def test_an_exchange_written_at_once_is_told_the_same(store: Storage) -> None:
    await store.journal.append(numbered("m1", [said("m1"), RunStarted(), RunEnded("failed", {}, "boom")]))
    expected = Message("m1", "a1", "c1", "end-ada", {}, "question 1", (), 1, 1000.5, "failed", error="boom")
    assert await store.conversations.find_message("m1") == expected


async def test_completion_apps_have_exchanges_without_a_conversation(store: Storage) -> None:
    event = replace(queued("m1", "a1", city="Oslo"), system={"query": ""})
    await store.journal.append(numbered("m1", [event, answered("Cold.")]))
    expected = Message("m1", "a1", None, "end-ada", {"city": "Oslo"}, "", (), 0, 1000.5, "succeeded", "Cold.")
    assert await store.conversations.find_message("m1") == expected
    assert await store.conversations.messages("") == ([], False)


async def test_runs_of_workflows_are_no_exchanges(store: Storage) -> None:
    await store.journal.append(whole("r1"))
    assert await store.conversations.find_message("r1") is None
    await store.journal.append(numbered("r2", [replace(queued("r2"), conversation="c1", system={"query": None})]))
    assert await store.conversations.find_message("r2") is await store.conversations.next_message("c1") is None


@pytest.mark.parametrize("answer", [None, 5, ["a"], {"a": 1}, PICTURE])
async def test_an_answer_that_is_no_text_is_none(store: Storage, answer: Any) -> None:
    end = RunEnded("succeeded", {"answer": answer, "files": answer})
    await store.journal.append(numbered("m1", [said("m1"), end]))
    exchange = await store.conversations.find_message("m1")
    assert (exchange.status, exchange.answer) == ("succeeded", "")
    assert exchange.answer_files == ((PICTURE,) if answer is PICTURE else ())


async def test_texts_that_databases_lack_hinder_nothing(store: Storage) -> None:
    end = replace(answered("a\0b \ud83d"), error="\0")
    await store.journal.append(numbered("m1", [said("m1", query="\ud83d\0?", odd="\0\ud83d"), end]))
    exchange = await store.conversations.find_message("m1")
    assert (exchange.query, exchange.answer, exchange.error) == ("\\ud83d\\x00?", "a\\x00b \\ud83d", "\\x00")
    assert exchange.inputs == {"odd": "\0\ud83d"}


async def test_the_newest_exchanges_come_first_in_pages(store: Storage) -> None:
    await talk(store, 5)
    await store.journal.append(numbered("elsewhere", [said("elsewhere", 9, conversation="c2")]))
    assert ids(await store.conversations.messages("c1")) == (["m5", "m4", "m3", "m2", "m1"], False)
    assert ids(await store.conversations.messages("c1", limit=5)) == (["m5", "m4", "m3", "m2", "m1"], False)
    assert ids(await store.conversations.messages("c1", limit=2)) == (["m5", "m4"], True)
    assert ids(await store.conversations.messages("c1", before="m4", limit=2)) == (["m3", "m2"], True)
    assert ids(await store.conversations.messages("c1", before="m2", limit=2)) == (["m1"], False)
    assert ids(await store.conversations.messages("c1", before="m1")) == ([], False)
    assert ids(await store.conversations.messages("c1", limit=0)) == ([], True)
    assert ids(await store.conversations.messages("c1", limit=10**30))[1] is False
    for before in ("no such", "elsewhere", "", "\ud800"):
        assert await store.conversations.messages("c1", before=before) == ([], False)
    assert await store.conversations.messages("no such") == ([], False)


async def test_exchanges_are_in_the_order_of_their_numbers_then_of_their_times(store: Storage) -> None:
    begun = [("m2", 2, 50.0), ("m1", 1, 90.0), ("m3", 3, 10.0), ("m0", 0, 99.0)]
    for run, number, at in begun:
        await store.journal.append(numbered(run, [said(run, number)], at=at))
    for run in ("again", "same"):
        await store.journal.append(numbered(run, [replace(said(run, 2), retry_of="m2")], at=60.0))
    order = ["m0", "m1", "m2", "again", "same", "m3"]
    assert ids(await store.conversations.messages("c1")) == (order[::-1], False)
    for run, newer in pairwise(order):
        assert (await store.conversations.messages("c1", before=newer, limit=1))[0][0].id == run
        assert await store.conversations.next_message("c1") == run
        await store.journal.append(numbered(run, [answered("done")], after=1))


async def test_of_a_conversation_the_oldest_that_waits_may_run(store: Storage) -> None:
    assert await store.conversations.next_message("c1") is None
    for n in (1, 2, 3):
        await store.journal.append(numbered(f"m{n}", [said(f"m{n}", n)], at=100.0 * n))
    await store.journal.append(numbered("other", [said("other", 1, conversation="c2")]))
    assert await store.conversations.next_message("c1") == "m1"
    await store.journal.append(numbered("m1", [RunStarted(), RunPaused()], after=1))
    assert await store.conversations.next_message("c1") == "m2"
    await store.journal.append(numbered("m2", [RunEnded("failed", {}, "boom")], after=1))
    assert await store.conversations.next_message("c1") == "m3"
    await store.journal.append(numbered("m1", [RunResumed()], after=3))
    assert await store.conversations.next_message("c1") == "m1"
    await store.journal.append(numbered("m1", [RunPaused(), StopRequested("ada")], after=4))
    assert await store.conversations.next_message("c1") == "m1", "a worker is to end it"
    await store.journal.append(numbered("m1", [RunEnded("stopped")], after=6))
    await store.journal.append(numbered("m3", [answered("done")], after=1))
    assert await store.conversations.next_message("c1") is None
    assert await store.conversations.next_message("c2") == "other"
    assert [message.status for message in (await store.conversations.messages("c1"))[0]] == [
        "succeeded",
        "failed",
        "stopped",
    ]


async def test_of_messages_written_at_once_each_has_its_place(store: Storage) -> None:
    await asyncio.gather(*(store.journal.append(numbered(f"m{n}", [said(f"m{n}", n)], at=50.0)) for n in range(1, 40)))
    waiting = []
    for n in range(1, 40):
        waiting.append(await store.conversations.next_message("c1"))
        await store.journal.append(numbered(f"m{n}", [answered(f"answer {n}")], after=1))
    assert waiting == [f"m{n}" for n in range(1, 40)]


async def test_a_number_is_given_once(store: Storage) -> None:
    sent = [store.journal.append(numbered(f"m{n}", [said(f"m{n}", 1 + n % 5)])) for n in range(20)]
    results = await asyncio.gather(*sent, return_exceptions=True)
    assert [n for n, result in enumerate(results) if result is None] == [0, 1, 2, 3, 4]
    assert {type(result) for result in results[5:]} == {SequenceConflict}
    assert [message.number for message in (await store.conversations.messages("c1"))[0]] == [5, 4, 3, 2, 1]
    for run in ("m5", "m19"):
        assert (
            await store.journal.read(run),
            await store.runs.find_run(run),
            await store.conversations.find_message(run),
        ) == ([], None, None)
    await store.journal.append(numbered("m5", [said("m5", 6), answered("done")]))
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("m6", [said("m6", 6)]))
    assert (await store.conversations.find_message("m5")).number == 6


async def test_those_without_a_number_and_elsewhere_are_in_nobodys_way(store: Storage) -> None:
    await store.journal.append(numbered("m1", [said("m1")]))
    await store.journal.append(numbered("elsewhere", [said("elsewhere", conversation="c2")]))
    for n in range(3):
        await store.journal.append(numbered(f"none{n}", [said(f"none{n}", 0)]))
        await store.journal.append(numbered(f"completion{n}", [said(f"completion{n}", 1, conversation=None)]))
        await store.journal.append(numbered(f"mute{n}", [replace(queued(f"mute{n}"), conversation="c1")]))
    assert sorted(message.number for message in (await store.conversations.messages("c1"))[0]) == [0, 0, 0, 1]


async def test_a_retry_has_the_number_of_what_it_does_again(store: Storage) -> None:
    await store.journal.append(numbered("m1", [said("m1"), RunEnded("failed", {}, "boom")]))
    await store.journal.append(numbered("m2", [said("m2", 2), answered("two")], at=2000.0))
    for run, of in (("again", "m1"), ("third", "again"), ("other", "m1")):
        await store.journal.append(numbered(run, [replace(said(run), retry_of=of), answered("one")], at=3000.0))
    assert [
        (message.id, message.number, message.retry_of) for message in (await store.conversations.messages("c1"))[0]
    ] == [
        ("m2", 2, None),
        ("third", 1, "again"),
        ("other", 1, "m1"),
        ("again", 1, "m1"),
        ("m1", 1, None),
    ]
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("late", [said("late")]))


async def test_turns_are_what_was_answered_before(store: Storage) -> None:
    await talk(store, 4)
    await store.journal.append(numbered("m5", [said("m5", 5), RunEnded("failed", {}, "boom")], at=500.0))
    await store.journal.append(numbered("m6", [said("m6", 6), RunEnded("stopped", {"answer": "half"})], at=600.0))
    await store.journal.append(numbered("m7", [said("m7", 7)], at=700.0))
    await store.journal.append(numbered("m8", [said("m8", 8), answered("later")], at=800.0))
    await store.journal.append(numbered("x1", [said("x1", 1, conversation="c2"), answered("elsewhere")]))
    turns = [Turn(f"question {n}", f"answer {n}", () if n % 2 else (PICTURE,)) for n in range(1, 5)]
    turns.append(Turn("question 6", "half", (PICTURE,)))
    assert await store.conversations.turns("c1", "m7", 100) == turns
    assert await store.conversations.turns("c1", "m7", 2) == turns[-2:]
    assert await store.conversations.turns("c1", "m3", 10**30) == turns[:2]
    assert await store.conversations.turns("c1", "m7", 0) == await store.conversations.turns("c1", "m1", 9) == []
    assert await store.conversations.turns("c1", "no such", 9) == await store.conversations.turns("c1", "x1", 9) == []
    assert await store.conversations.turns("c2", "m7", 9) == []


async def test_a_message_and_its_answer_move_the_conversation_forward(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [])
    await store.conversations.add_conversation(replace(CONVERSATION, id="c2", created_at=11.0, updated_at=20.0), [])

    async def updated() -> float:
        stored = await store.conversations.find_conversation("c1")
        assert replace(stored, updated_at=10.0) == CONVERSATION
        return stored.updated_at

    await store.journal.append(numbered("m1", [said("m1")], at=30.0))
    assert await updated() == 30.5
    assert ids(await store.conversations.conversations("a1", "end-ada"))[0] == ["c1", "c2"]
    await store.journal.append(numbered("m1", [RunStarted(), RunPaused(), RunResumed()], after=1, at=40.0))
    assert await updated() == 30.5
    await store.journal.append(numbered("m1", [answered("done")], after=4, at=50.0))
    assert await updated() == 52.5
    await store.journal.append(numbered("m2", [said("m2", 2)], at=5.0))
    assert await updated() == 52.5, "never back"
    await store.journal.append(numbered("mute", [replace(queued("mute"), conversation="c1")], at=60.0))
    assert await updated() == 60.5
    await store.journal.append(numbered("lost", [said("lost", conversation="never added"), answered("done")]))
    assert await store.conversations.find_conversation("never added") is None
