"""What every store of conversations promises of feedbacks and annotations."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from headrace.ports import Annotation, App, Feedback, Storage

from .talking import CONVERSATION, ids, talk, variable

FEEDBACK = Feedback("f1", "a1", "m1", "like", "well said", "end-ada", 20.0, 20.0)
ANNOTATION = Annotation("n1", "a1", "What is Headrace?", "A channel.", 0, 30.0)


# ------------------------------------------------------------------------------------------------------- feedbacks


async def test_an_end_user_has_one_opinion_of_a_message(store: Storage) -> None:
    assert await store.conversations.feedback_of(["m1"], "end-ada") == {}
    await store.conversations.save_feedback(FEEDBACK)
    other = replace(FEEDBACK, id="f2", end_user="end-eve", rating="dislike", content=None)
    await store.conversations.save_feedback(other)
    second = replace(FEEDBACK, id="f3", message="m2")
    await store.conversations.save_feedback(second)
    changed = replace(FEEDBACK, rating="dislike", content="商 no", updated_at=25.0)
    await store.conversations.save_feedback(changed)
    assert await store.conversations.feedback_of(["m1", "m2", "m3", "m1"], "end-ada") == {"m1": changed, "m2": second}
    assert await store.conversations.feedback_of(["m1"], "end-eve") == {"m1": other}
    await store.conversations.remove_feedback("m1", "end-ada")
    await store.conversations.remove_feedback("m1", "end-ada")
    await store.conversations.remove_feedback("no such", "end-ada")
    assert await store.conversations.feedback_of(["m1", "m2"], "end-ada") == {"m2": second}
    assert await store.conversations.feedback_of(["m1", "m2"], "end-eve") == {"m1": other}
    assert (
        await store.conversations.feedback_of([], "end-ada")
        == await store.conversations.feedback_of(["m2"], "\ud800")
        == {}
    )


async def test_feedback_of_many_messages_is_found_at_once(store: Storage) -> None:
    await asyncio.gather(
        *(store.conversations.save_feedback(replace(FEEDBACK, id=f"f{n}", message=f"m{n}")) for n in range(1200))
    )
    assert len(await store.conversations.feedback_of([f"m{n}" for n in range(2000)], "end-ada")) == 1200


async def test_feedbacks_are_listed_newest_first(store: Storage) -> None:
    for n in range(5):
        await store.conversations.save_feedback(
            replace(FEEDBACK, id=f"f{n}", message=f"m{n}", created_at=20.0 + n // 2)
        )
    await store.conversations.save_feedback(replace(FEEDBACK, id="other", message="other", app="a2"))

    async def listed(*which: Any) -> list[str]:
        return [feedback.id for feedback in await store.conversations.feedbacks(*which)]

    assert await listed("a1") == ["f4", "f3", "f2", "f1", "f0"]
    assert await listed("a1", 2, 2) == ["f2", "f1"]
    assert await listed("a1", 4, 2) == await listed("a1", 10**30, 100) == await listed("a1", 1, 0) == []
    assert await listed("a1", -1, 2) == ["f4", "f3"]
    assert await listed("nobody's") == []
    assert await store.conversations.feedbacks("a2") == [replace(FEEDBACK, id="other", message="other", app="a2")]


# ----------------------------------------------------------------------------------------------------- annotations


async def test_an_annotation_is_kept_changed_and_removed(store: Storage) -> None:
    assert await store.conversations.find_annotation("n1") is None
    await store.conversations.save_annotation(ANNOTATION)
    assert await store.conversations.find_annotation("n1") == ANNOTATION
    hit = replace(ANNOTATION, answer="A channel that leads water.", hits=7)
    await store.conversations.save_annotation(hit)
    assert await store.conversations.find_annotation("n1") == hit
    assert await store.conversations.annotations("a1") == (1, [hit])
    assert await store.conversations.remove_annotation("n1") is True
    assert (
        await store.conversations.remove_annotation("n1")
        is await store.conversations.remove_annotation("\ud800")
        is False
    )
    assert await store.conversations.annotations("a1") == (0, [])


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        ("", ["n3", "n2", "n1"]),
        ("HEADRACE", ["n1"]),
        ("channel", ["n2", "n1"]),
        ("礁溪", ["n3"]),
        ("%", ["n2"]),
        ("_", []),
        ("\\", ["n3"]),
        ("no such", []),
        ("\ud83d\0", []),
    ],
)
async def test_annotations_are_found_by_keyword(store: Storage, keyword: str, expected: list[str]) -> None:
    await store.conversations.save_annotation(ANNOTATION)
    await store.conversations.save_annotation(
        replace(ANNOTATION, id="n2", question="100% sure?", answer="Channel", created_at=31.0)
    )
    await store.conversations.save_annotation(
        replace(ANNOTATION, id="n3", question="礁溪\\", answer="Hot.", created_at=32.0)
    )
    await store.conversations.save_annotation(replace(ANNOTATION, id="n4", app="a2"))
    total, page = await store.conversations.annotations("a1", keyword)
    assert (total, [annotation.id for annotation in page]) == (len(expected), expected)


async def test_annotations_are_listed_in_pages(store: Storage) -> None:
    for n in range(7):
        await store.conversations.save_annotation(replace(ANNOTATION, id=f"n{n}", created_at=30.0 + n // 3))
    total, page = await store.conversations.annotations("a1", "", 2, 3)
    assert (total, [annotation.id for annotation in page]) == (7, ["n3", "n2", "n1"])
    for number, limit in ((4, 3), (10**30, 100), (1, 0)):
        assert await store.conversations.annotations("a1", "", number, limit) == (7, [])


async def test_the_setting_of_annotation_reply_is_kept_for_each_app(store: Storage) -> None:
    assert await store.conversations.annotation_reply("a1") is None
    setting = {"score_threshold": 0.9, "embedding_provider_name": "openai", "odd": [math.inf]}
    await store.conversations.save_annotation_reply("a1", {"score_threshold": 0.1, "gone": True})
    await store.conversations.save_annotation_reply("a1", setting)
    await store.conversations.save_annotation_reply("a2", {})
    assert await store.conversations.annotation_reply("a1") == setting
    assert await store.conversations.annotation_reply("a2") == {}
    await store.conversations.save_annotation_reply("a1", None)
    await store.conversations.save_annotation_reply("a1", None)
    assert await store.conversations.annotation_reply("a1") is None
    assert await store.conversations.annotation_reply("a2") == {}


async def test_a_removed_app_takes_its_annotations_along_but_not_what_was_said(store: Storage) -> None:
    for app in ("a1", "a2"):
        await store.catalog.save_app(App(app, app, "advanced-chat", app, "v1"))
        await store.conversations.save_annotation(replace(ANNOTATION, id=f"n-{app}", app=app))
        await store.conversations.save_annotation_reply(app, {"score_threshold": 0.9})
    await store.conversations.add_conversation(CONVERSATION, [variable("mood", "calm")])
    await talk(store, 2)
    await store.conversations.save_feedback(FEEDBACK)
    await store.catalog.remove_app("a1")
    assert await store.conversations.annotations("a1") == (0, [])
    assert await store.conversations.annotation_reply("a1") is None
    assert ids(await store.conversations.conversations("a1", "end-ada")) == (["c1"], False)
    assert ids(await store.conversations.messages("c1")) == (["m2", "m1"], False)
    assert (
        len(await store.conversations.conversation_variables("c1"))
        == len(await store.conversations.feedbacks("a1"))
        == 1
    )
    assert (await store.conversations.annotations("a2"))[0] == 1
    assert await store.conversations.annotation_reply("a2") is not None
