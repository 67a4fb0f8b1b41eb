"""Messages of chat and completion apps, as a caller sends them and reads the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from headrace.errors import NodeError
from headrace.node import Context, Result
from headrace.ports import Annotation
from headrace.ports.services import Usage
from tests.api.chats import CHAT, chatflow, say, saying
from tests.api.serving import Gate, Scripted, Serving, serving, workflow

ENVELOPE = ["event", "conversation_id", "message_id", "created_at", "task_id"]
NOBODY = str(uuid4())


async def test_a_message_is_answered(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow())
    status, body = await say(app, "hey")
    assert status == 200
    assert list(body) == [
        "event",
        "task_id",
        "id",
        "message_id",
        "conversation_id",
        "mode",
        "answer",
        "metadata",
        "created_at",
    ]
    assert (body["event"], body["mode"], body["answer"]) == ("message", "advanced-chat", "You said: hey")
    assert body["id"] == body["message_id"]
    usage = body["metadata"].pop("usage")
    assert body["metadata"] == {"annotation_reply": None, "retriever_resources": []}
    assert (usage["total_tokens"], usage["total_price"], usage["currency"]) == (0, "0.0", "USD")
    assert usage["time_to_first_token"] >= 0


async def test_a_message_is_streamed(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("A: {{#sys.query#}}!"))
    async with saying(app, "hey") as stream:
        events = await stream.rest()
    assert [item.name for item in events if item.name != "message"] == [
        "workflow_started",
        "node_started",
        "node_finished",
        "node_started",
        "node_finished",
        "workflow_finished",
        "message_end",
    ]
    for item in events:
        sent = list(item.body)
        assert sent[:5] == ENVELOPE
        if item.name == "message":
            assert sent[5:] == ["id", "answer", "from_variable_selector"]
        elif item.name == "message_end":
            assert sent[5:] == ["id", "metadata", "files"]
        else:
            assert sent[5:] == ["workflow_run_id", "data"]
    assert len({tuple(item.body[name] for name in ENVELOPE[1:]) for item in events}) == 1
    said = [item.body for item in events if item.name == "message"]
    messages = [(item["answer"], item["from_variable_selector"]) for item in said]
    assert messages == [("A: ", ["answer", "answer"]), ("hey", ["sys", "query"]), ("!", ["answer", "answer"])]
    inputs = events[0].data["inputs"]
    assert (inputs["sys.query"], inputs["sys.dialogue_count"]) == ("hey", 1)
    assert events[-2].data["outputs"] == {"answer": "A: hey!", "files": []}


async def test_a_conversation_goes_on(server: Serving) -> None:
    async def count(ctx: Context) -> Result:
        number = ctx.variables.get(("conversation", "count")) + 1
        return Result({"text": str(number)}, assigned={"conversation": {"count": number}})

    Scripted.scripts["count"] = count
    text = "{{#count.text#}} {{#sys.dialogue_count#}} {{#sys.conversation_id#}}"
    app = await server.add("chat.yml", chatflow(text, ["count"], conversation={"count": 0}))
    first = (await say(app, "one"))[1]
    conversation = first["conversation_id"]
    assert first["answer"] == f"1 1 {conversation}"
    assert (await say(app, "two", conversation))[1]["answer"] == f"2 2 {conversation}"
    async with saying(app, "three", conversation_id=conversation) as stream:
        events = await stream.rest()
    assert "".join(item.body["answer"] for item in events if item.name == "message") == f"3 3 {conversation}"
    other = (await say(app, "one"))[1]
    assert other["conversation_id"] != conversation
    assert other["answer"].startswith("1 1 ")


async def test_a_conversation_knows_the_variables_of_a_newer_version(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow())
    conversation = (await say(app))[1]["conversation_id"]
    app = await server.add("chat.yml", chatflow("{{#conversation.mood#}}", conversation={"mood": "calm"}))
    assert (await say(app, "two", conversation))[1]["answer"] == "calm"
    (variable,) = await server.store.conversations.conversation_variables(conversation)
    assert (variable.name, variable.value, variable.type) == ("mood", "calm", "string")


async def test_two_messages_at_once_are_answered_in_order(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate(["done"])
    app = await server.add("chat.yml", chatflow("{{#sys.query#}} {{#sys.dialogue_count#}}", ["wait"]))
    gate.let(2)
    conversation = (await say(app, "zero"))[1]["conversation_id"]
    gate.reached.clear()
    async with saying(app, "one", conversation_id=conversation) as one:
        await gate.reached.wait()
        async with saying(app, "two", conversation_id=conversation) as two:
            waiting = await two.next()
            assert waiting is not None
            assert waiting.name == "workflow_started"
            assert waiting.data["inputs"]["sys.dialogue_count"] == 3
            elsewhere = asyncio.create_task(say(app, "elsewhere"))
            gate.let(6)
            first, second = await asyncio.gather(one.rest(), two.rest())
            assert (await elsewhere)[1]["answer"] == "elsewhere 1"

    def said(events: list[Any]) -> str:
        return "".join(item.body["answer"] for item in events if item.name == "message")

    assert (said(first), said(second)) == ("one 2", "two 3")
    ended = next(item for item in first if item.name == "workflow_finished").data["finished_at"]
    assert next(item for item in second if item.name == "node_started").data["created_at"] >= ended


async def test_a_failure_is_told(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("before {{#boom.text#}}", ["boom"]))
    status, body = await say(app)
    assert (status, body) == (400, {"code": "invalid_param", "message": "Run failed: it went boom", "status": 400})
    async with saying(app) as stream:
        events = await stream.rest()
    assert [item.name for item in events][-2:] == ["workflow_finished", "error"]
    assert events[-2].data["status"] == "failed"
    error = dict(events[-1].body)
    assert list(error) == ["event", "conversation_id", "message_id", "created_at", "code", "status", "message"]
    assert (error["code"], error["message"]) == ("invalid_param", "Run failed: it went boom")
    detail = (await app.call("GET", f"/v1/workflows/run/{error['message_id']}"))[1]
    assert detail["error"] == "it went boom"


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_can_be_stopped(server: Serving, streamed: bool) -> None:
    gate = Scripted.scripts["wait"] = Gate(["half ", "whole"])
    app = await server.add("chat.yml", chatflow("{{#wait.text#}}", ["wait"]))
    gate.let()
    if streamed:
        async with saying(app) as stream:
            sent = (await stream.until("message"))[-1].body
            stopped = await app.call("POST", f"{CHAT}/{sent['task_id']}/stop", json={"user": "u1"})
            assert stopped == (200, {"result": "success"})
            names = [item.name for item in await stream.rest()]
        assert names[-2:] == ["workflow_finished", "message_end"]
    else:
        waiting = asyncio.create_task(say(app))
        await gate.reached.wait()
        (_, logged) = await app.call("GET", "/v1/workflows/logs")
        run = logged["data"][0]["workflow_run"]["id"]
        async with app.stream(f"/v1/workflow/{run}/events?user=u1&include_state_snapshot=true") as stream:
            await stream.until("message")
            await server.run_service.stop(run, "u1")
        status, body = await waiting
        assert (status, body["answer"]) == (200, "half ")
    assert gate.cancelled.is_set()


@pytest.mark.parametrize("mode", ["chat", "completion"])
async def test_only_who_asked_stops_an_app_without_a_workflow(server: Serving, mode: str) -> None:
    gate = Scripted.scripts["wait"] = Gate(["half ", "whole"])
    app = await server.add("chat.yml", chatflow("{{#wait.text#}}", ["wait"], mode=mode))
    gate.let()
    path = f"/v1/{mode}-messages"
    async with saying(app, path=path) as stream:
        stop = f"{path}/{(await stream.until('message'))[-1].body['task_id']}/stop"
        assert await app.call("POST", stop, json={"user": "u2"}) == (200, {"result": "success"})
        gate.let()
        assert (await stream.until("message"))[-1].body["answer"] == "whole"
        await app.call("POST", stop, json={"user": "u1"})
        await stream.rest()
    assert gate.cancelled.is_set()


async def test_a_paused_answer_says_so(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#ask.text#}}", ["ask"]))
    status, body = await say(app)
    assert (status, body["event"], body["data"]["status"]) == (200, "workflow_paused", "paused")
    assert body["data"]["paused_nodes"] == ["ask"]
    async with saying(app) as stream:
        events = await stream.rest()
    assert events[-1].name == "workflow_paused"
    run = events[-1].body["message_id"]
    path = f"/v1/workflow/{run}/events?user=u1"
    async with app.stream(path, {"Last-Event-ID": str(events[-1].id)}) as stream:
        await server.run_service.resume(run)
        rest = await stream.rest()
    assert rest[0].data["reason"] == "resumption"
    assert [item.name for item in rest][-2:] == ["workflow_finished", "message_end"]
    assert "answered" in [item.body.get("answer") for item in rest]


async def test_a_stream_goes_on_from_wherever_it_was_cut_off(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate(["one ", "two"])
    app = await server.add("chat.yml", chatflow("<{{#wait.text#}}> {{#sys.query#}}", ["wait"]))
    gate.let(3)
    async with saying(app) as stream:
        events = await stream.rest()
    run = events[0].body["message_id"]

    def facts(sent: list[Any]) -> list[tuple[str, str]]:
        return [(item.name, json.dumps({**item.body, "answer": ""})) for item in sent if item.name != "message"] + [
            ("text", "".join(item.body["answer"] for item in sent if item.name == "message"))
        ]

    for at, event in enumerate(events):
        async with app.stream(f"/v1/workflow/{run}/events?user=u1", {"Last-Event-ID": str(event.id)}) as again:
            assert facts(await again.rest()) == facts(events[at + 1 :]), event
    async with app.stream(f"/v1/workflow/{run}/events?user=u1") as again:
        assert [item.name for item in await again.rest()] == ["workflow_finished", "message_end"]


async def test_a_failure_is_told_to_whoever_comes_back_for_it(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#boom.text#}}", ["boom"]))
    async with saying(app) as stream:
        events = await stream.rest()
    run, last = events[0].body["message_id"], str(events[-2].id)
    async with app.stream(f"/v1/workflow/{run}/events?user=u1", {"Last-Event-ID": last}) as again:
        rest = await again.rest()
    assert [dict(item.body) for item in rest] == [dict(events[-1].body)]


async def test_usage_is_summed_over_the_models(server: Serving) -> None:
    async def ask(ctx: Context) -> Result:
        usage = Usage(6, 4, latency=0.5, time_to_first_token=0.1, time_to_generate=0.2).wire()
        prices = {"prompt_price": "0.0000060", "completion_price": "0.0000080", "total_price": "0.0000140"}
        return Result({"text": ctx.spec.id}, usage=usage | prices)

    Scripted.scripts.update(a=ask, b=ask)
    app = await server.add("chat.yml", chatflow("{{#a.text#}}{{#b.text#}}", ["a", "b"]))
    usage = (await say(app))[1]["metadata"]["usage"]
    tokens = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
    assert tokens == (12, 8, 20)
    assert (usage["total_price"], usage["latency"]) == ("0.0000280", 1.0)


# ------------------------------------------------------------------------------------------ apps without a workflow


@pytest.mark.parametrize(("mode", "name"), [("chat", "message"), ("agent-chat", "agent_message")])
async def test_an_app_without_a_workflow_tells_its_answer_only(server: Serving, mode: str, name: str) -> None:
    app = await server.add("chat.yml", chatflow(mode=mode))
    async with saying(app, "hey") as stream:
        events = await stream.rest()
    assert [item.name for item in events] == [name, name, "message_end"]
    sent = [list(item.body) for item in events]
    assert sent[0][:7] == [*ENVELOPE, "id", "answer"]
    assert sent[-1] == [*ENVELOPE, "id", "metadata", "files"]
    assert events[0].body.get("from_variable_selector") is None
    status, body = await say(app, "again", events[0].body["conversation_id"])
    assert (status, body["mode"], body["answer"]) == (200, mode, "You said: again")


@pytest.mark.parametrize("mode", ["chat", "completion"])
async def test_an_app_without_a_workflow_is_taken_up_again_too(server: Serving, mode: str) -> None:
    gate = Scripted.scripts["wait"] = Gate(["one ", "two"])
    app = await server.add("chat.yml", chatflow("{{#wait.text#}}!", ["wait"], mode=mode))
    gate.let(3)
    async with saying(app, path=f"/v1/{mode}-messages") as stream:
        events = await stream.rest()
    path = f"/v1/workflow/{events[0].body['message_id']}/events?user=u1"
    for at, event in enumerate(events):
        async with app.stream(path, {"Last-Event-ID": str(event.id)}) as again:
            rest = await again.rest()
        assert [item.name for item in rest][-1:] == [item.name for item in events[at + 1 :]][-1:]
        sent = "".join(item.body.get("answer", "") for item in (*events[: at + 1], *rest))
        assert sent == "one two!"


async def test_a_completion_app_holds_no_conversation(server: Serving) -> None:
    query = {"variable": "topic", "label": "topic", "type": "paragraph", "required": True}
    app = await server.add("c.yml", chatflow("On {{#start.topic#}}", mode="completion", variables=[query]))
    path = "/v1/completion-messages"
    status, body = await app.call("POST", path, json={"inputs": {"topic": "tea"}, "user": "u1"})
    assert (status, body["answer"], body["mode"]) == (200, "On tea", "completion")
    assert "conversation_id" not in body
    async with saying(app, path=path, inputs={"topic": "tea"}) as stream:
        events = await stream.rest()
    assert [item.name for item in events] == ["message", "message", "message_end"]
    assert "conversation_id" not in events[0].body
    assert events[-1].body["files"] is None
    stopped = await app.call("POST", f"{path}/{body['task_id']}/stop", json={"user": "u1"})
    assert stopped == (200, {"result": "success"})
    assert (await app.call("POST", path, json={"inputs": {}, "user": "u1"}))[1]["message"] == (
        "topic is required in input form"
    )


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ProviderTokenNotInitError", "provider_not_initialize"),
        ("InvokeRateLimitError", "completion_request_error"),
        ("CodeExecutionError", "invalid_param"),
    ],
)
async def test_an_app_without_a_workflow_tells_its_models_error(server: Serving, kind: str, code: str) -> None:
    async def fail(_: Context) -> Result:
        raise NodeError("no answer", kind)

    Scripted.scripts["fail"] = fail
    app = await server.add("chat.yml", chatflow("{{#fail.text#}}", ["fail"], mode="chat"))
    assert await say(app) == (400, {"code": code, "message": "no answer", "status": 400})
    async with saying(app) as stream:
        events = await stream.rest()
    assert [(item.name, item.body.get("code")) for item in events] == [("error", code)]


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user": "u", "query": "x"}, "inputs: Field required"),
        ({"user": "u", "query": "x", "inputs": []}, "inputs: Input should be a valid dictionary"),
        ({"user": "u", "inputs": {}}, "query: Field required"),
        ({"user": "u", "inputs": {}, "query": ""}, "query is required"),
        ({"user": "u", "inputs": {}, "query": "\0"}, "query is required"),
        ({"user": "u", "inputs": {}, "query": ["x"]}, "query: Input should be a valid string"),
        ({"inputs": {}, "query": "x"}, "Arg user must be provided."),
        (
            {"user": "u", "inputs": {}, "query": "x", "response_mode": "slow"},
            "response_mode: Input should be 'blocking' or 'streaming'",
        ),
        (
            {"user": "u", "inputs": {}, "query": "x", "conversation_id": "nope"},
            "conversation_id: Value error, conversation_id must be a valid UUID",
        ),
        (
            {"user": "u", "inputs": {}, "query": "x", "conversation_id": 7},
            "conversation_id: Value error, conversation_id must be a valid UUID",
        ),
        (
            {"user": "u", "inputs": {}, "query": "x", "auto_generate_name": "maybe"},
            "auto_generate_name: Input should be a valid boolean",
        ),
        ({"user": "u", "inputs": {}, "query": "x", "files": {}}, "files: Input should be a valid list"),
        ({"user": "u", "inputs": {}, "query": "x", "workflow_id": 1}, "workflow_id: Input should be a valid string"),
    ],
)
async def test_a_message_of_the_wrong_form_is_refused(server: Serving, fields: Mapping[str, Any], message: str) -> None:
    app = await server.add("chat.yml", chatflow())
    status, body = await app.call("POST", CHAT, json=dict(fields))
    assert (status, body["code"], body["message"]) == (400, "invalid_param", message)
    assert vars(server.store.conversations)["_conversations"] == {}


async def test_a_message_that_the_form_refuses_begins_no_conversation(server: Serving) -> None:
    needed = {"variable": "lang", "label": "lang", "type": "text-input", "required": True}
    app = await server.add("chat.yml", chatflow(variables=[needed]))
    assert (await say(app))[1]["message"] == "lang is required in input form"
    assert vars(server.store.conversations)["_conversations"] == {}
    assert (await say(app, inputs={"lang": "en"}))[0] == 200


async def test_conversations_of_others_do_not_exist(server: Serving) -> None:
    app, other = await server.add("chat.yml", chatflow()), await server.add("other.yml", chatflow())
    conversation = (await say(app))[1]["conversation_id"]
    unknown = (404, {"code": "not_found", "message": "Conversation Not Exists.", "status": 404})
    assert await say(app, "x", NOBODY) == unknown
    assert await say(app, "x", conversation, user="u2") == unknown
    assert await say(other, "x", conversation) == unknown
    assert (await say(app, "x", f" {conversation.upper()} "))[0] == 200
    known = await server.store.conversations.find_conversation(conversation)
    assert known is not None
    await server.store.conversations.save_conversation(replace(known, deleted=True))
    assert await say(app, "x", conversation) == unknown


async def test_apps_of_other_modes_are_refused(server: Serving) -> None:
    flow, chat = await server.add("w.yml", workflow()), await server.add("chat.yml", chatflow())
    message = {"inputs": {}, "query": "x", "user": "u"}
    for path in (CHAT, f"{CHAT}/task/stop"):
        assert (await flow.call("POST", path, json=message))[1]["code"] == "not_chat_app"
    for path in ("/v1/completion-messages", "/v1/completion-messages/task/stop"):
        assert (await chat.call("POST", path, json=message))[1]["code"] == "app_unavailable"
    assert (await chat.run())[1]["code"] == "not_workflow_app"


async def test_a_version_can_be_named(server: Serving) -> None:
    old = await server.add("chat.yml", chatflow("old"))
    new = await server.add("chat.yml", chatflow("new"))
    assert (await say(new))[1]["answer"] == "new"
    assert (await say(new, workflow_id=old.release.version.id))[1]["answer"] == "old"
    assert (await say(new, workflow_id=""))[1]["answer"] == "new"
    assert (await say(new, workflow_id=NOBODY))[0] == 404
    status, body = await say(new, workflow_id="nope")
    assert (status, body["code"], body["message"]) == (400, "bad_request", "Invalid workflow_id format: 'nope'. ")


async def test_an_app_takes_as_many_callers_as_it_may(tmp_path: Any) -> None:
    async with serving(tmp_path, max_active=1) as server:
        gate = Scripted.scripts["wait"] = Gate([])
        app = await server.add("chat.yml", chatflow("x", ["wait"]))
        async with saying(app) as stream:
            await gate.reached.wait()
            status, body = await say(app)
            assert (status, body["code"]) == (429, "too_many_requests")
            gate.let()
            assert (await stream.rest())[-1].name == "message_end"


# ------------------------------------------------------------------------------------------------------------- files

PICTURE = {"type": "image", "transfer_method": "remote_url", "url": "https://example.com/a.png"}


def uploads(**more: Any) -> dict[str, Any]:
    return {"file_upload": {"enabled": True, "allowed_file_types": ["image"], "number_limits": 2, **more}}


async def test_files_go_with_a_message_where_the_app_takes_them(server: Serving) -> None:
    text = "{{#sys.files#}}"
    on = await server.add("on.yml", chatflow(text, features=uploads()))
    off = await server.add("off.yml", chatflow(text))
    status, body = await say(on, files=[PICTURE])
    assert (status, body["answer"]) == (200, "![a.png](https://example.com/a.png)")
    assert (await say(off, files=[PICTURE]))[1]["answer"] == ""
    status, body = await say(on, files=[PICTURE] * 3)
    assert (status, body["message"]) == (400, "Number of image files exceeds the maximum limit 2")
    status, body = await say(on, files=[PICTURE, PICTURE, {**PICTURE, "type": "document"}])
    assert (status, body["message"]) == (400, "Number of files exceeds the maximum limit 2")
    only = await server.add("only.yml", chatflow(text, features=uploads(allowed_file_upload_methods=["local_file"])))
    status, body = await say(only, files=[PICTURE])
    assert (status, body["message"]) == (400, "File validation failed for file: a.png")
    texts = await server.add("texts.yml", chatflow(text, features=uploads(allowed_file_types=["document"])))
    assert (await say(texts, files=[PICTURE]))[0] == 400


async def test_an_old_file_tells_of_images_only(server: Serving) -> None:
    image = {"enabled": True, "number_limits": 1, "transfer_methods": ["remote_url"]}
    app = await server.add("old.yml", chatflow("{{#sys.files#}}", features={"file_upload": {"image": image}}))
    assert (await say(app, files=[PICTURE]))[1]["answer"] == "![a.png](https://example.com/a.png)"
    status, body = await say(app, files=[PICTURE] * 2)
    assert (status, body["message"]) == (400, "Number of image files exceeds the maximum limit 1")
    assert (await say(app, files=[{**PICTURE, "type": "document"}]))[0] == 400


# ----------------------------------------------------------------------------------------------------- conversations


async def test_every_message_has_inputs_of_its_own(server: Serving) -> None:
    """As Dify since 1.0: they are checked each time, and the conversation keeps those that it began with."""
    tone = {"label": "tone", "variable": "tone", "type": "text-input", "required": True}
    mood = {"label": "mood", "variable": "mood", "type": "text-input", "required": False, "default": "calm"}
    app = await server.add("chat.yml", chatflow("{{#start.tone#}}, {{#start.mood#}}", variables=[tone, mood]))
    first = (await say(app, inputs={"tone": "kind", "mood": "merry"}))[1]
    conversation = first["conversation_id"]
    second = (await say(app, "again", conversation, inputs={"tone": "stern"}))[1]
    assert (first["answer"], second["answer"]) == ("kind, merry", "stern, calm")
    status, body = await say(app, "again", conversation)
    assert (status, body["message"]) == (400, "tone is required in input form")
    (listed,) = (await app.call("GET", "/v1/conversations?user=u1"))[1]["data"]
    assert listed["inputs"] == {"tone": "kind", "mood": "merry"}
    messages = (await app.call("GET", f"/v1/messages?user=u1&conversation_id={conversation}"))[1]["data"]
    assert [item["inputs"]["tone"] for item in messages] == ["kind", "stern"]


async def test_a_conversation_is_called_after_its_first_query(server: Serving) -> None:
    opening = {"opening_statement": "Hello {{name}}, {{nobody}}!"}
    form = [{"variable": "name", "label": "name", "type": "text-input"}]
    app = await server.add("chat.yml", chatflow(features=opening, variables=form))

    async def begun(query: str, **more: Any) -> Any:
        conversation = (await say(app, query, inputs={"name": "Ada"}, **more))[1]["conversation_id"]
        return await server.store.conversations.find_conversation(conversation)

    created = await begun("What\nis   it?")
    assert (created.name, created.introduction, created.inputs) == (
        "What is it?",
        "Hello Ada, {nobody}!",
        {"name": "Ada"},
    )
    assert (await begun("é" * 51)).name == "é" * 47 + "..."
    assert (await begun("x", auto_generate_name=False)).name == "New conversation"


async def test_an_annotation_answers_in_the_apps_place(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    app = await server.add("chat.yml", chatflow("never", ["wait"]))
    setting = {"score_threshold": 0.9, "embedding_provider_name": "p", "embedding_model_name": "m"}
    await server.store.conversations.save_annotation_reply(app.release.app.id, setting)
    await server.store.conversations.save_annotation(
        Annotation(NOBODY, app.release.app.id, "What is tea?", "Leaves.", 0, 0.0)
    )
    status, body = await say(app, " what is TEA ")
    assert (status, body["answer"]) == (200, "Leaves.")
    assert body["metadata"]["annotation_reply"]["id"] == NOBODY
    async with saying(app, "What is tea", conversation_id=body["conversation_id"]) as stream:
        events = await stream.rest()
    assert [item.name for item in events] == ["message", "message_end"]
    assert events[0].body["answer"] == "Leaves."
    path = f"/v1/workflow/{events[0].body['message_id']}/events?user=u1"
    async with app.stream(path, {"Last-Event-ID": str(events[0].id)}) as again:
        assert [item.name for item in await again.rest()] == ["message_end"]
    assert not gate.reached.is_set()
    exchanges, _ = await server.store.conversations.messages(body["conversation_id"])
    assert [(item.number, item.answer, item.status) for item in exchanges] == [
        (2, "Leaves.", "succeeded"),
        (1, "Leaves.", "succeeded"),
    ]


async def test_an_answer_comes_about_although_nobody_waits_for_it(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate(["whole"])
    app = await server.add("chat.yml", chatflow("{{#wait.text#}}", ["wait"]))
    async with saying(app) as stream:
        started = await stream.next()
        assert started is not None
        await gate.reached.wait()
    gate.let(2)
    async with app.stream(f"/v1/workflow/{started.body['message_id']}/events?user=u1", {"Last-Event-ID": "1"}) as again:
        events = await again.rest()
    assert events[-1].name == "message_end"
    exchange = await server.store.conversations.find_message(started.body["message_id"])
    assert exchange is not None
    assert exchange.answer == "whole"


async def test_many_conversations_at_once(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#sys.query#}} {{#sys.dialogue_count#}}"))

    async def talk(who: int) -> list[str]:
        answers, conversation = list[str](), ""
        for turn in range(4):
            body = (await say(app, f"{who}.{turn}", conversation, user=f"u{who}"))[1]
            conversation = body["conversation_id"]
            answers.append(body["answer"])
        return answers

    sent = await asyncio.gather(*(talk(who) for who in range(8)))
    assert sent == [[f"{who}.{turn} {turn + 1}" for turn in range(4)] for who in range(8)]


async def test_ten_messages_of_one_conversation_at_once(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#sys.dialogue_count#}}"))
    conversation = (await say(app))[1]["conversation_id"]
    answers = await asyncio.gather(*(say(app, str(number), conversation) for number in range(10)))
    assert sorted(int(body["answer"]) for _, body in answers) == list(range(2, 12))
