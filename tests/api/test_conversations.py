"""Conversations and their variables, as a client lists, renames, changes and deletes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.ports import Conversation
from tests.api.chats import begin, chatflow, refused, say
from tests.api.serving import Client, Serving, workflow

NOBODY = "5d0f5b0e-9a3c-4c0e-8a52-3f1c6a7e4b21"
NO_CONVERSATION = (404, "not_found", "Conversation Not Exists.")


@pytest.fixture
async def app(server: Serving) -> Client:
    return await server.add("chat.yml", chatflow(features={"opening_statement": "Hi!"}))


async def listed(app: Client, query: str = "user=u1") -> Any:
    status, body = await app.call("GET", f"/v1/conversations?{query}")
    assert status == 200, body
    return body


async def names(app: Client, query: str) -> list[str]:
    return [item["name"] for item in (await listed(app, query))["data"]]


# ------------------------------------------------------------------------------------------------------------- list


async def test_an_end_user_sees_the_conversations_it_began(app: Client) -> None:
    one = await begin(app, "hello there")
    await begin(app, "elsewhere", user="u2")
    body = await listed(app)
    assert (body["limit"], body["has_more"]) == (20, False)
    (conversation,) = body["data"]
    assert list(conversation) == ["id", "name", "inputs", "status", "introduction", "created_at", "updated_at"]
    assert (conversation["id"], conversation["name"], conversation["inputs"]) == (one, "hello there", {})
    assert (conversation["status"], conversation["introduction"]) == ("normal", "Hi!")
    assert isinstance(conversation["created_at"], int)
    assert await names(app, "user=u2") == ["elsewhere"]
    assert await names(app, "user=u3") == []
    assert await names(app, "") == []  # who does not say who it is began none


async def test_conversations_come_page_by_page_in_every_order(app: Client) -> None:
    first, _, last = [await begin(app, query) for query in ("a", "b", "c")]
    await say(app, "again", first)  # spoken in last
    assert await names(app, "user=u1") == ["a", "c", "b"]
    assert await names(app, "user=u1&sort_by=updated_at") == ["b", "c", "a"]
    assert await names(app, "user=u1&sort_by=created_at") == ["a", "b", "c"]
    assert await names(app, "user=u1&sort_by=-created_at") == ["c", "b", "a"]
    page = await listed(app, "user=u1&limit=2")
    assert (page["limit"], page["has_more"], len(page["data"])) == (2, True, 2)
    page = await listed(app, f"user=u1&limit=2&last_id={last}")
    assert ([item["name"] for item in page["data"]], page["has_more"]) == (["b"], False)
    assert await names(app, "user=u1&last_id=") == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (f"last_id={NOBODY}", (404, "not_found", "Last Conversation Not Exists.")),
        ("last_id=nope", (400, "invalid_param", "last_id: 'nope' is not a valid uuid")),
        ("limit=0", (400, "invalid_param", "limit: Input should be an integer from 1 to 100, not '0'")),
        ("limit=101", (400, "invalid_param", "limit: Input should be an integer from 1 to 100, not '101'")),
        ("limit=x", (400, "invalid_param", "limit: Input should be an integer from 1 to 100, not 'x'")),
    ],
)
async def test_a_list_that_cannot_be_made(app: Client, query: str, error: tuple[int, str, str]) -> None:
    assert await refused(app, "GET", f"/v1/conversations?user=u1&{query}") == error


async def test_an_order_that_is_none(app: Client) -> None:
    assert (await refused(app, "GET", "/v1/conversations?user=u1&sort_by=name"))[:2] == (400, "invalid_param")


@pytest.mark.parametrize("mode", ["workflow", "completion"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/conversations?user=u1"),
        ("DELETE", f"/conversations/{NOBODY}"),
        ("POST", f"/conversations/{NOBODY}/name"),
        ("GET", f"/conversations/{NOBODY}/variables?user=u1"),
        ("PUT", f"/conversations/{NOBODY}/variables/{NOBODY}"),
        ("GET", f"/messages?user=u1&conversation_id={NOBODY}"),
        ("GET", f"/messages/{NOBODY}/suggested?user=u1"),
    ],
)
async def test_apps_that_are_no_chats_have_none(server: Serving, mode: str, method: str, path: str) -> None:
    app = await server.add("other.yml", workflow() if mode == "workflow" else chatflow(mode=mode))
    more = {} if method == "GET" else {"json": {"user": "u1"}}
    message = "Please check if your app mode matches the right API route."
    assert await refused(app, method, f"/v1{path}", **more) == (400, "not_chat_app", message)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", ""),
        ("POST", "/name"),
        ("GET", "/variables"),
        ("PUT", f"/variables/{NOBODY}"),
    ],
)
async def test_nobody_touches_what_is_not_theirs(server: Serving, app: Client, method: str, path: str) -> None:
    """Not another end user, not another app, and nobody what is not there, or was deleted."""
    theirs, deleted = await begin(app), await begin(app)
    other = await server.add("other.yml", chatflow(name="other"))
    assert (await app.session.delete(f"{app.url}/v1/conversations/{deleted}", **asking(app))).status == 204
    for caller, conversation, user in (
        (app, theirs, "u2"),
        (app, theirs, None),
        (other, theirs, "u1"),
        (app, NOBODY, "u1"),
        (app, deleted, "u1"),
        (app, "nope", "u1"),
    ):
        url = f"/v1/conversations/{conversation}{path}"
        if method == "GET":
            url += f"?user={user}" if user else ""
            assert await refused(caller, method, url) == NO_CONVERSATION
        else:
            fields = {"user": user, "name": "mine", "value": 1}
            assert await refused(caller, method, url, json=fields) == NO_CONVERSATION
    assert await names(app, "user=u1") == ["hi"]


def asking(app: Client, user: str = "u1") -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {app.key}"}, "json": {"user": user}}


# ----------------------------------------------------------------------------------------------------------- delete


async def test_a_deleted_conversation_is_gone_and_its_runs_stay(server: Serving, app: Client) -> None:
    conversation = await begin(app)
    async with app.session.delete(f"{app.url}/v1/conversations/{conversation}", **asking(app)) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    assert (await listed(app))["data"] == []
    assert (await say(app, "again", conversation))[0] == 404
    assert (await refused(app, "GET", f"/v1/messages?user=u1&conversation_id={conversation}")) == NO_CONVERSATION
    _, log = await app.call("GET", "/v1/workflows/logs")
    assert log["total"] == 1


async def test_what_is_deleted_meanwhile_stays_deleted(
    server: Serving, app: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await begin(app)
    save = server.store.conversations.save_conversation

    async def late(changed: Conversation) -> bool:
        await save(replace(changed, deleted=True))
        return await save(changed)

    monkeypatch.setattr(server.store.conversations, "save_conversation", late)
    for method, path in (("POST", f"{conversation}/name"), ("DELETE", conversation)):
        fields = {"user": "u1", "name": "new"}
        assert (await refused(app, method, f"/v1/conversations/{path}", json=fields)) == NO_CONVERSATION
    assert (await listed(app))["data"] == []


async def test_deleting_needs_a_body(app: Client) -> None:
    conversation = await begin(app)
    status, code, _ = await refused(app, "DELETE", f"/v1/conversations/{conversation}?user=u1")
    assert (status, code) == (415, "unsupported_media_type")
    assert await names(app, "user=u1") == ["hi"]


# ----------------------------------------------------------------------------------------------------------- rename


async def rename(app: Client, conversation: str, **fields: Any) -> tuple[int, Any]:
    return await app.call("POST", f"/v1/conversations/{conversation}/name", json={"user": "u1", **fields})


async def test_a_conversation_is_renamed(app: Client) -> None:
    conversation = await begin(app)
    status, body = await rename(app, conversation, name="Über 漢字")
    assert status == 200
    assert (await listed(app))["data"] == [body]
    assert (body["id"], body["name"]) == (conversation, "Über 漢字")


async def test_a_conversation_is_named_after_what_was_said_first(app: Client) -> None:
    conversation = await begin(app, "why is the\n sky blue")
    await say(app, "and the sea?", conversation)
    await rename(app, conversation, name="else")
    for yes in (True, "true", 1):
        status, body = await rename(app, conversation, auto_generate=yes, name="not this")
        assert (status, body["name"]) == (200, "why is the sky blue")


async def test_a_long_first_question_is_shortened(app: Client) -> None:
    conversation = await begin(app, "word " * 100)
    _, body = await rename(app, conversation, auto_generate=True)
    assert body["name"].endswith("...")
    assert len(body["name"]) == 50


async def test_a_conversation_is_named_after_the_first_of_very_many(server: Serving, app: Client) -> None:
    conversation = await begin(app, "the first")
    for number in range(101):
        await say(app, f"number {number}", conversation)
    _, body = await rename(app, conversation, auto_generate=True)
    assert body["name"] == "the first"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "name is required when auto_generate is false"),
        ({"name": ""}, "name is required when auto_generate is false"),
        ({"name": " \n"}, "name is required when auto_generate is false"),
        ({"name": None}, "name is required when auto_generate is false"),
        ({"name": 5}, "name: Input should be a valid string"),
        ({"name": "x" * 256}, "name: String should have at most 255 characters"),
        ({"name": "x", "auto_generate": "maybe"}, "auto_generate: Input should be a valid boolean"),
        ({"name": "x", "auto_generate": []}, "auto_generate: Input should be a valid boolean"),
    ],
)
async def test_a_name_that_is_none(app: Client, fields: dict[str, Any], message: str) -> None:
    conversation = await begin(app)
    status, body = await rename(app, conversation, **fields)
    assert (status, body["code"], body["message"]) == (400, "invalid_param", message)
    assert await names(app, "user=u1") == ["hi"]


# ---------------------------------------------------------------------------------------------------- documentation


async def test_it_is_all_documented(server: Serving) -> None:
    async with server.session.get(f"{server.url}/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    for path, methods in {
        "/v1/conversations": ["get"],
        "/v1/conversations/{conversation_id}": ["delete"],
        "/v1/conversations/{conversation_id}/name": ["post"],
        "/v1/conversations/{conversation_id}/variables": ["get"],
        "/v1/conversations/{conversation_id}/variables/{variable_id}": ["put"],
        "/v1/messages": ["get"],
        "/v1/messages/{message_id}/suggested": ["get"],
        "/v1/messages/{message_id}/feedbacks": ["post"],
        "/v1/app/feedbacks": ["get"],
        "/v1/apps/annotations": ["get", "post"],
        "/v1/apps/annotations/{annotation_id}": ["put", "delete"],
        "/v1/apps/annotation-reply/{action}": ["post"],
        "/v1/apps/annotation-reply/{action}/status/{job_id}": ["get"],
        "/v1/audio-to-text": ["post"],
        "/v1/text-to-audio": ["post"],
    }.items():
        for method in methods:
            operation = paths[path][method]
            assert operation["summary"], path
            assert operation["security"], path
            good = next(answer for status, answer in operation["responses"].items() if status < "300")
            assert all("example" in item for item in good.get("content", {}).values()), path
            named = {item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
