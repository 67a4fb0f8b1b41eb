"""What every store of conversations promises of them and their variables."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from headrace.errors import SequenceConflict
from headrace.kernel.events import NodeSucceeded, RunEnded, RunStarted
from headrace.ports import Storage
from headrace.values import Variable

from .examples import PICTURE, numbered, queued
from .talking import CONVERSATION, answered, assigning, ids, said, talk, variable

# --------------------------------------------------------------------------------------------------- conversations


async def test_a_conversation_comes_back_as_it_went_in(store: Storage) -> None:
    assert await store.conversations.find_conversation("c1") is None
    await store.conversations.add_conversation(CONVERSATION, [])
    assert await store.conversations.find_conversation("c1") == CONVERSATION
    assert (
        await store.conversations.find_conversation("")
        is await store.conversations.find_conversation("\ud800' OR 1=1 --\0")
        is None
    )
    assert await store.conversations.conversation_variables("c1") == []


async def test_a_conversation_added_again_stays_as_it_is(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [variable("mood", "calm")])
    await store.conversations.add_conversation(
        replace(CONVERSATION, name="other", end_user="eve"), [variable("mood", "wild")]
    )
    assert await store.conversations.find_conversation("c1") == CONVERSATION
    assert [stored.value for stored in await store.conversations.conversation_variables("c1")] == ["calm"]
    assert await store.conversations.conversations("a1", "eve") == ([], False)


async def test_saving_a_conversation_replaces_it(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [])
    renamed = replace(CONVERSATION, name="Renamed", updated_at=11.5, inputs={})
    assert await store.conversations.save_conversation(renamed)
    assert await store.conversations.find_conversation("c1") == renamed
    assert not await store.conversations.save_conversation(replace(CONVERSATION, id="never added"))
    assert await store.conversations.find_conversation("never added") is None
    assert await store.conversations.conversations("a1", "end-ada") == ([renamed], False)


async def test_a_deleted_conversation_is_found_but_not_listed(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [])
    await store.conversations.add_conversation(replace(CONVERSATION, id="c2"), [])
    await talk(store, 1)
    deleted = replace(CONVERSATION, deleted=True, updated_at=500.0)
    await store.conversations.save_conversation(deleted)
    assert await store.conversations.find_conversation("c1") == deleted
    assert ids(await store.conversations.conversations("a1", "end-ada")) == (["c2"], False)
    assert ids(await store.conversations.messages("c1")) == (["m1"], False), "its runs stay"
    assert not await store.conversations.save_conversation(replace(CONVERSATION, name="Renamed"))
    assert not await store.conversations.save_conversation(deleted)
    assert await store.conversations.find_conversation("c1") == deleted, "who has read it before does not bring it back"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("-updated_at", ["c1", "c3", "c2", "c0"]),
        ("updated_at", ["c0", "c2", "c3", "c1"]),
        ("-created_at", ["c3", "c2", "c1", "c0"]),
        ("created_at", ["c0", "c1", "c2", "c3"]),
    ],
)
async def test_conversations_are_listed_in_pages_in_either_order(
    store: Storage, order: str, expected: list[str]
) -> None:
    for n, updated in enumerate([10.0, 40.0, 20.0, 20.0]):
        await store.conversations.add_conversation(
            replace(CONVERSATION, id=f"c{n}", created_at=5.0 + n // 2, updated_at=updated), []
        )
    await store.conversations.add_conversation(replace(CONVERSATION, id="of another app", app="a2"), [])
    await store.conversations.add_conversation(replace(CONVERSATION, id="of another user", end_user="end-eve"), [])
    assert ids(await store.conversations.conversations("a1", "end-ada", order=order)) == (expected, False)
    assert ids(await store.conversations.conversations("a1", "end-ada", order=order, limit=4)) == (expected, False)
    seen: list[str] = []
    more = True
    while more:
        page, more = await store.conversations.conversations(
            "a1", "end-ada", after=seen[-1] if seen else None, limit=1, order=order
        )
        seen += [listed.id for listed in page]
    assert seen == expected
    assert ids(await store.conversations.conversations("a1", "end-ada", after=expected[0], limit=2, order=order)) == (
        expected[1:3],
        True,
    )


async def test_odd_questions_for_conversations_are_answered_with_none(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [])
    await store.conversations.add_conversation(replace(CONVERSATION, id="c2", end_user="end-eve"), [])
    for after in ("no such", "", "c2", "\ud800"):
        assert await store.conversations.conversations("a1", "end-ada", after=after) == ([], False)
    assert (
        await store.conversations.conversations("a1", "nobody")
        == await store.conversations.conversations("a9", "end-ada")
        == ([], False)
    )
    assert await store.conversations.conversations("a1", "end-ada", limit=0) == ([], True)
    assert ids(await store.conversations.conversations("a1", "end-ada", limit=10**30)) == (["c1"], False)
    with pytest.raises(ValueError, match="not by '-name'"):
        await store.conversations.conversations("a1", "end-ada", order="-name")


# ------------------------------------------------------------------------------------------------------- variables


async def test_variables_come_in_the_order_in_which_they_were_made(store: Storage) -> None:
    first = [variable(name, name) for name in ("zebra", "apple", "mango")]
    await store.conversations.add_conversation(CONVERSATION, first)
    await store.conversations.add_conversation(replace(CONVERSATION, id="c2"), [variable("apple", 1, "c2")])
    later = [variable("late", 1, at=12.0), variable("early", 2, at=9.0), variable("as late", 3, at=12.0)]
    for changed in later:
        await store.conversations.save_conversation_variable(changed)
    changed = replace(first[0], value={"list": [1, None]}, updated_at=15.0)
    await store.conversations.save_conversation_variable(changed)
    assert await store.conversations.conversation_variables("c1") == [later[1], changed, *first[1:], later[0], later[2]]
    assert await store.conversations.conversation_variables("c2") == [variable("apple", 1, "c2")]
    assert await store.conversations.conversation_variables("no such") == []


async def test_values_that_json_lacks_survive_in_variables(store: Storage) -> None:
    odd = [PICTURE, 2**70, math.inf, "\ud83d", "a\0b", {"$": "file"}, {1: None}, Variable(1, ("n", "x"), "id"), None]
    variables = [variable(f"v{n}", value) for n, value in enumerate(odd)]
    await store.conversations.add_conversation(CONVERSATION, variables)
    assert await store.conversations.conversation_variables("c1") == variables
    await store.conversations.save_conversation_variable(replace(variables[0], value=[math.nan]))
    [number] = (await store.conversations.conversation_variables("c1"))[0].value
    assert math.isnan(number)


async def test_what_a_run_assigns_is_the_value_from_then_on(store: Storage) -> None:
    await store.conversations.add_conversation(
        CONVERSATION, [variable("mood", "calm"), variable("seen", []), variable("kept", 1)]
    )
    await store.conversations.add_conversation(replace(CONVERSATION, id="c2"), [variable("mood", "calm", "c2")])
    await store.journal.append(numbered("m1", [said("m1"), RunStarted()]))
    mood = NodeSucceeded("set", {}, assigned={"conversation": {"mood": "glad", "ghost": 1}, "loop": {"kept": 2}})
    seen = NodeSucceeded("note", {}, assigned={"conversation": {"seen": [PICTURE, math.inf], "mood": "merry"}})
    await store.journal.append(numbered("m1", [mood], after=2))
    by_name = {stored.name: stored for stored in await store.conversations.conversation_variables("c1")}
    assert by_name["mood"] == replace(variable("mood", "glad"), updated_at=1001.5)
    await store.journal.append(numbered("m1", [seen, NodeSucceeded("end", {})], after=3))
    assert await store.conversations.conversation_variables("c1") == [
        replace(variable("mood", "merry"), updated_at=1002.0),
        replace(variable("seen", [PICTURE, math.inf]), updated_at=1002.0),
        variable("kept", 1),
    ]
    assert await store.conversations.conversation_variables("c2") == [variable("mood", "calm", "c2")]


async def test_a_value_put_by_hand_after_a_run_assigned_one_stays(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [variable("mood", "calm")])
    await store.journal.append(numbered("m1", [said("m1"), RunStarted()]))
    for n in range(2, 30):
        assigned = assigning(mood=n)
        written = store.journal.append(numbered("m1", [assigned], after=n))
        await asyncio.gather(store.conversations.save_conversation_variable(variable("mood", -n)), written)
        assert [stored.value for stored in await store.conversations.conversation_variables("c1")] == [-n]


async def test_runs_of_no_conversation_assign_nothing(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [variable("mood", "calm")])
    events = [queued("r1"), RunStarted(), assigning(mood="glad")]
    await store.journal.append(numbered("r1", events))
    await store.journal.append(numbered("r2", events[1:]))
    assert await store.conversations.conversation_variables("c1") == [variable("mood", "calm")]


async def test_an_append_that_is_refused_changes_nothing(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [variable("mood", "calm")])
    await store.journal.append(numbered("m1", [said("m1"), RunStarted()]))
    before = await store.conversations.find_conversation("c1")
    wrong = [assigning(mood="glad"), answered("wrong")]
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("m1", wrong, after=1))
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("m1", [said("m1", 9, "another"), answered("wrong")], at=5000.0))
    assert await store.conversations.conversation_variables("c1") == [variable("mood", "calm")]
    assert await store.conversations.find_conversation("c1") == before
    [exchange], _ = await store.conversations.messages("c1")
    assert (exchange.number, exchange.query, exchange.status, exchange.answer) == (1, "question 1", "running", "")


async def test_what_a_retry_takes_over_is_not_assigned_again(store: Storage) -> None:
    await store.conversations.add_conversation(CONVERSATION, [variable("mood", "calm")])
    copied = assigning(mood="old")
    await store.journal.append(numbered("m1", [said("m1"), RunStarted(), copied, RunEnded("failed", {}, "boom")]))
    await store.conversations.save_conversation_variable(variable("mood", "newer"))
    again = replace(said("m2"), retry_of="m1")
    await store.journal.append(numbered("m2", [again, RunStarted(), copied], at=2000.0))
    assert [stored.value for stored in await store.conversations.conversation_variables("c1")] == ["newer"]
    fresh = replace(copied, assigned={"conversation": {"mood": "fresh"}})
    await store.journal.append(numbered("m2", [fresh], after=3, at=2000.0))
    assert [stored.value for stored in await store.conversations.conversation_variables("c1")] == ["fresh"]
