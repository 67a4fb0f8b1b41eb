"""Annotations: answers that people write, and the questions that get them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from headrace.conversations.annotations import Annotations, normalized
from headrace.ports import Annotation
from headrace.stores.memory import MemoryConversations
from tests.api.chats import chatflow, refused, say, saying
from tests.api.serving import Client, Serving, workflow

NOBODY = str(uuid4())
PATH = "/v1/apps/annotations"
SETTING = {"score_threshold": 0.9, "embedding_provider_name": "openai", "embedding_model_name": "ada"}
UNKNOWN = (404, "not_found", "Annotation not found")


@pytest.fixture
async def app(server: Serving) -> Client:
    return await server.add("chat.yml", chatflow())


async def add(app: Client, question: str = "Who are you?", answer: str = "A bot.") -> Any:
    status, body = await app.call("POST", PATH, json={"question": question, "answer": answer})
    assert status == 201, body
    return body


async def listed(app: Client, query: str = "") -> Any:
    status, body = await app.call("GET", f"{PATH}?{query}")
    assert status == 200, body
    return body


async def switch(app: Client, action: str = "enable") -> Any:
    status, body = await app.call("POST", f"/v1/apps/annotation-reply/{action}", json=SETTING)
    assert status == 200, body
    return body


async def remove(app: Client, annotation: str) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {app.key}"}
    async with app.session.delete(f"{app.url}{PATH}/{annotation}", headers=headers) as answer:
        return answer.status, await answer.read()


# ------------------------------------------------------------------------------------------------------ annotations


async def test_an_annotation_is_added_changed_and_removed(app: Client) -> None:
    created = await add(app, "Who are you?", "A bot. 漢")
    assert list(created) == ["id", "question", "answer", "hit_count", "created_at"]
    assert (created["question"], created["answer"], created["hit_count"]) == ("Who are you?", "A bot. 漢", 0)
    assert (await listed(app))["data"] == [created]
    new = {"question": "Who?", "answer": "Me."}
    status, changed = await app.call("PUT", f"{PATH}/{created['id']}", json=new)
    assert (status, changed) == (200, created | new)
    assert (await listed(app))["data"] == [changed]
    assert await remove(app, created["id"]) == (204, b"")
    assert (await listed(app))["data"] == []
    assert (await remove(app, created["id"]))[0] == 404


async def test_annotations_come_page_by_page(app: Client) -> None:
    for number in range(5):
        await add(app, f"question {number}", "THE ANSWER" if number % 2 else "none")
    page = await listed(app, "limit=2")
    assert [item["question"] for item in page.pop("data")] == ["question 4", "question 3"]
    assert page == {"has_more": True, "limit": 2, "total": 5, "page": 1}
    page = await listed(app, "limit=2&page=3")
    assert ([item["question"] for item in page["data"]], page["has_more"]) == (["question 0"], False)
    page = await listed(app, "keyword=answer")
    assert ([item["question"] for item in page["data"]], page["total"]) == (["question 3", "question 1"], 2)
    assert (await listed(app, "keyword=question+4"))["total"] == 1
    assert (await listed(app, "limit=1000"))["limit"] == 100  # as many as Dify gives


async def test_annotations_that_make_no_sense(app: Client) -> None:
    for fields in (
        {},
        {"question": "q"},
        {"answer": "a"},
        {"question": 1, "answer": "a"},
        {"question": "q", "answer": []},
    ):
        assert (await refused(app, "POST", PATH, json=fields))[:2] == (400, "invalid_param")
        assert (await refused(app, "PUT", f"{PATH}/{NOBODY}", json=fields))[:2] == (400, "invalid_param")
    for query in ("page=0", "page=x", "limit=0", "limit=-5"):
        assert (await refused(app, "GET", f"{PATH}?{query}"))[:2] == (400, "invalid_param")
    assert (await refused(app, "POST", PATH, data=b"x"))[0] == 415
    assert (await listed(app))["total"] == 0


async def test_an_app_sees_only_its_own(server: Serving, app: Client) -> None:
    mine = (await add(app))["id"]
    other = await server.add("other.yml", chatflow(name="other"))
    assert (await listed(other))["total"] == 0
    new = {"question": "q", "answer": "a"}
    for caller, annotation in ((other, mine), (app, NOBODY), (app, "nope")):
        assert await refused(caller, "PUT", f"{PATH}/{annotation}", json=new) == UNKNOWN
        assert (await remove(caller, annotation))[0] == 404
    await switch(other)
    assert (await say(other, "Who are you?"))[1]["answer"] == "You said: Who are you?"
    assert (await listed(app))["data"][0]["question"] == "Who are you?"


# ------------------------------------------------------------------------------------------------- annotation reply


async def test_a_question_that_was_answered_gets_that_answer(app: Client) -> None:
    created = await add(app)
    assert (await say(app, "Who are you?"))[1]["answer"] == "You said: Who are you?"  # it is off
    await switch(app)
    for query in ("Who are you?", "who   ARE you", " Who are you?! "):
        status, body = await say(app, query)
        assert (status, body["answer"]) == (200, "A bot.")
        assert body["metadata"]["annotation_reply"]["id"] == created["id"]
    assert (await say(app, "Who are they?"))[1]["answer"] == "You said: Who are they?"
    assert (await listed(app))["data"][0]["hit_count"] == 3
    async with saying(app, "who are you") as stream:
        events = await stream.rest()
    assert [(event.name, event.body.get("answer")) for event in events] == [
        ("message", "A bot."),
        ("message_end", None),
    ]
    conversation = events[0].body["conversation_id"]
    _, body = await app.call("GET", f"/v1/messages?user=u1&conversation_id={conversation}")
    assert [(item["query"], item["answer"], item["status"]) for item in body["data"]] == [
        ("who are you", "A bot.", "normal")
    ]
    await switch(app, "disable")
    assert (await say(app, "Who are you?"))[1]["answer"] == "You said: Who are you?"


async def test_the_newest_annotation_that_fits_answers(app: Client) -> None:
    await switch(app)
    older, newer = await add(app, "why?", "Because."), await add(app, "WHY", "Why not.")
    assert (await say(app, "why"))[1]["answer"] == "Why not."
    await remove(app, newer["id"])
    assert (await say(app, "why"))[1]["answer"] == "Because."
    assert {item["id"]: item["hit_count"] for item in (await listed(app))["data"]} == {older["id"]: 1}


async def test_no_hit_and_no_change_is_lost(app: Client) -> None:
    await switch(app)
    created = await add(app, "why?", "Because.")
    asking = [say(app, "why?", user=f"u{number}") for number in range(20)]
    changing = [
        app.call("PUT", f"{PATH}/{created['id']}", json={"question": "why?", "answer": f"{number}"})
        for number in range(5)
    ]
    await asyncio.gather(*asking, *changing)
    (annotation,) = (await listed(app))["data"]
    assert annotation["hit_count"] == 20
    assert annotation["answer"] in {"0", "1", "2", "3", "4"}


class Slow(MemoryConversations):
    """Lets others in between reading and writing, as a database does."""

    async def find_annotation(self, annotation: str) -> Annotation | None:
        result = await super().find_annotation(annotation)
        await asyncio.sleep(0)
        return result


async def test_hits_are_counted_however_slow_the_store_is() -> None:
    store = Slow()
    annotations = Annotations(store)
    await store.save_annotation_reply("app", {})
    await store.save_annotation(Annotation("id", "app", "why?", "Because.", 0, 1.0))
    hits = [annotations.answer("app", "Why") for _ in range(10)]
    await asyncio.gather(*hits, annotations.change("app", "id", "why?", "Just so."))
    result = await annotations.find("app", "id")
    assert result is not None
    assert (result.hits, result.answer) == (10, "Just so.")


class Counting(MemoryConversations):
    """Counts how often all annotations are read."""

    read = 0

    async def annotations(
        self, app: str, keyword: str = "", page: int = 1, limit: int = 20
    ) -> tuple[int, list[Annotation]]:
        self.read += 1
        await asyncio.sleep(0)
        return await super().annotations(app, keyword, page, limit)


async def test_many_messages_at_once_are_answered_from_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = Counting(), 1000.0
    monkeypatch.setattr("headrace.conversations.annotations.time", SimpleNamespace(monotonic=lambda: now))
    annotations = Annotations(store)
    await store.save_annotation_reply("app", {})
    await annotations.add(Annotation("old", "app", "why?", "Because.", 0, 1.0))
    result = await asyncio.gather(*(annotations.answer("app", query) for query in ("why", "what") * 50))
    assert [item.answer if item else None for item in result] == ["Because.", None] * 50
    assert store.read == 1

    # what is written here is known at once, what another process writes within a second
    await annotations.change("app", "old", "what?", "That.")
    assert await annotations.answer("app", "why") is None
    await annotations.add(Annotation("new", "app", "why?", "So.", 0, 2.0))
    assert (result := await annotations.answer("app", "why"))
    assert result.answer == "So."
    await store.save_annotation(Annotation("theirs", "app", "how?", "Thus.", 0, 3.0))
    await store.remove_annotation("new")
    assert await annotations.answer("app", "why") is None
    now += 1
    assert (result := await annotations.answer("app", "how"))
    assert result.answer == "Thus."


async def test_one_is_found_among_very_many(server: Serving, app: Client) -> None:
    await switch(app)
    await add(app, "the needle", "found")
    for number in range(1001):
        await add_directly(server, app, number)
    assert (await say(app, "the needle"))[1]["answer"] == "found"


async def add_directly(server: Serving, app: Client, number: int) -> None:
    annotation = Annotation(str(uuid4()), app.release.app.id, f"hay {number}", "hay", 0, 2e9 + number)
    await server.store.conversations.save_annotation(annotation)


async def test_switching_is_done_at_once(server: Serving, app: Client) -> None:
    for action, on in (("enable", True), ("disable", False)):
        job = await switch(app, action)
        assert list(job) == ["job_id", "job_status"]
        assert job["job_status"] == "waiting"
        path = f"/v1/apps/annotation-reply/{action}/status/{job['job_id']}"
        done = {"job_id": job["job_id"], "job_status": "completed", "error_msg": ""}
        assert await app.call("GET", path) == (200, done)
        assert (await app.call("GET", "/v1/parameters"))[1]["annotation_reply"] == {"enabled": on}
        setting = await server.store.conversations.annotation_reply(app.release.app.id)
        assert setting == (SETTING if on else None)


async def test_the_files_word_on_annotation_reply_does_not_count(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow(features={"annotation_reply": {"enabled": True}}))
    assert (await app.call("GET", "/v1/parameters"))[1]["annotation_reply"] == {"enabled": False}


async def test_a_job_that_does_not_exist(server: Serving, app: Client) -> None:
    job = (await switch(app))["job_id"]
    other = await server.add("other.yml", chatflow(name="other"))
    gone = (400, "invalid_param", "The job does not exist.")
    for caller, action, id_ in ((app, "disable", job), (app, "enable", NOBODY), (other, "enable", job)):
        assert await refused(caller, "GET", f"/v1/apps/annotation-reply/{action}/status/{id_}") == gone
    assert (await refused(app, "GET", "/v1/apps/annotation-reply/enable/status/nope"))[0] == 404
    assert (await refused(app, "GET", f"/v1/apps/annotation-reply/toggle/status/{job}"))[0] == 400


@pytest.mark.parametrize(
    ("action", "more", "field"),
    [
        ("toggle", {}, "action"),
        ("enable", {"score_threshold": "high"}, "score_threshold"),
        ("enable", {"score_threshold": None}, "score_threshold"),
        ("enable", {"score_threshold": True}, "score_threshold"),
        ("enable", {"score_threshold": [0.5]}, "score_threshold"),
        ("enable", {"score_threshold": "nan"}, "score_threshold"),
        ("enable", {"embedding_provider_name": 1}, "embedding_provider_name"),
        ("disable", {"embedding_model_name": None}, "embedding_model_name"),
    ],
)
async def test_a_setting_that_makes_no_sense(app: Client, action: str, more: dict[str, Any], field: str) -> None:
    status, code, message = await refused(app, "POST", f"/v1/apps/annotation-reply/{action}", json=SETTING | more)
    assert (status, code) == (400, "invalid_param")
    assert message.startswith(f"{field}: ")


async def test_a_setting_is_needed_to_switch_it_off_too(app: Client) -> None:
    for action in ("enable", "disable"):
        error = await refused(app, "POST", f"/v1/apps/annotation-reply/{action}", json={})
        assert error == (400, "invalid_param", "score_threshold: Field required")


async def test_workflow_apps_may_have_some_and_never_need_them(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    await add(app)
    await switch(app)
    assert (await app.run())[1]["data"]["status"] == "succeeded"
    assert (await listed(app))["data"][0]["hit_count"] == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What's up?", "what’s  UP"),
        ("hello,world", "Hello, world!"),
        ("你好，世界！", "你好 世界"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ？", "full width"),
        ("follow-up", "follow up"),
        ("STRASSE", "straße"),
        ("???", " ??? "),
    ],
)
def test_questions_that_say_the_same(one: str, other: str) -> None:
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is C#?", "What is C?"),
        ("What is C++?", "What is C?"),
        ("what is -5", "what is 5"),
        ("50%", "50"),
        ("good bye", "goodbye"),
        ("???", "!!!"),
        ("???", ""),
        ("résumé", "resume"),
    ],
)
def test_questions_that_do_not(one: str, other: str) -> None:
    assert normalized(one) != normalized(other)
