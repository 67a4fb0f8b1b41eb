"""Served apps as models, called by OpenAI's own Python client."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import openai
import pytest
from openai import AsyncOpenAI

from headrace.node import Context, Result
from headrace.ports import Annotation
from headrace.ports.services import Usage
from tests.api.chats import chatflow, say
from tests.api.serving import Client, Gate, Scripted, Serving, serving, workflow

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


@asynccontextmanager
async def sdk(app: Client, **more: Any) -> AsyncGenerator[AsyncOpenAI]:
    """OpenAI's client with the key of an app; it does not try again what was refused."""
    options = {"api_key": app.key, "max_retries": 0, **more}
    async with AsyncOpenAI(base_url=f"{app.url}/v1/openai", **options) as client:
        yield client


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def assistant(content: str) -> Any:
    return {"role": "assistant", "content": content}


def field(name: str, kind: str = "text-input", **more: Any) -> dict[str, Any]:
    return {"variable": name, "label": name, "type": kind, **more}


async def test_the_app_is_the_model_there_is(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow(name="tea/assistant ☕"))
    async with sdk(app) as client:
        (model,) = (await client.models.list()).data
        assert (model.id, model.object, model.owned_by) == ("tea/assistant ☕", "model", "headrace")
        assert (await client.models.retrieve("tea/assistant ☕")).id == model.id
        assert (await client.models.retrieve(app.release.app.id)).id == model.id
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.models.retrieve("gpt-4o")
    assert unknown.value.code == "model_not_found"


async def test_a_chat_answers(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow())
    async with sdk(app) as client:
        answer = await client.chat.completions.create(model="chat", messages=[user("hello")], temperature=0.1, seed=7)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "You said: hello",
        "stop",
    )
    assert (answer.object, answer.model) == ("chat.completion", "chat")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0
    exchange = await server.store.conversations.find_message(answer.id.removeprefix("chatcmpl-"))
    assert exchange is not None
    assert exchange.answer == "You said: hello"


async def test_a_chat_is_streamed(server: Serving) -> None:
    async def ask(ctx: Context) -> Result:
        for word in ("one ", "two"):
            ctx.emit("text", word)
        return Result({"text": "one two"}, usage=Usage(6, 4).wire())

    Scripted.scripts["ask"] = ask
    app = await server.add("chat.yml", chatflow("{{#ask.text#}}!", ["ask"]))
    async with sdk(app) as client:
        stream = await client.chat.completions.create(
            model="chat", messages=[user("hello")], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "one two!"
    assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (6, 4)
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_a_stream_without_usage_and_in_silence(tmp_path: Any) -> None:
    async with serving(tmp_path, ping_seconds=0.02) as server:
        gate = Scripted.scripts["wait"] = Gate(["late"])
        app = await server.add("chat.yml", chatflow("{{#wait.text#}}", ["wait"]))
        async with sdk(app) as client:
            stream = await client.chat.completions.create(model="chat", messages=[user("hello")], stream=True)
            await gate.reached.wait()
            await asyncio.sleep(0.1)  # what a client is sent meanwhile is no chunk
            gate.let(2)
            chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "late"


async def test_what_was_said_before_is_told_to_the_run(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#sys.query#}} | {{#sys.dialogue_count#}} | {{#sys.history#}}"))
    said = [
        {"role": "system", "content": "Be brief."},
        user("My name is Ada."),
        assistant("Hello Ada."),
        user("And now:"),
        user([{"type": "text", "text": "who am I?"}]),
    ]
    async with sdk(app) as client:
        answer = await client.chat.completions.create(model="chat", messages=said)
    query, count, history = (answer.choices[0].message.content or "").split(" | ")
    assert (query, count) == ("And now:\n\nwho am I?", "2")
    for item in ("Be brief.", "My name is Ada.", "Hello Ada."):
        assert item in history
    assert "who am I" not in history


async def test_a_conversation_that_is_kept_here_goes_on(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#sys.dialogue_count#}} {{#sys.query#}}"))
    async with sdk(app) as client:
        first = await client.chat.completions.create(model="chat", messages=[user("one")], user="u1")
        assert first.model_extra is not None
        conversation = first.model_extra["conversation_id"]
        more = [user("one"), assistant("1 one"), user("two")]
        second = await client.chat.completions.create(
            model="chat", messages=more, user="u1", extra_body={"conversation_id": conversation}
        )
        assert second.choices[0].message.content == "2 two"
        third = await client.chat.completions.create(
            model="chat", messages=[user("three")], user="u1", metadata={"conversation_id": conversation}
        )
        assert third.choices[0].message.content == "3 three"
        with pytest.raises(openai.NotFoundError, match=r"Conversation Not Exists\."):
            await client.chat.completions.create(
                model="chat", messages=more, user="u2", extra_body={"conversation_id": conversation}
            )
    assert (await say(app, "four", conversation))[1]["answer"] == "4 four"


@pytest.mark.parametrize(
    ("form", "filled"),
    [
        ([field("topic"), field("query", "paragraph")], "query"),
        ([field("topic"), field("text", required=True), field("input")], "text"),
        ([field("count", "number"), field("topic"), field("needed", required=True)], "needed"),
        ([field("topic"), field("more")], "topic"),
    ],
)
async def test_a_workflow_takes_the_last_message_in_its_form(server: Serving, form: Any, filled: str) -> None:
    app = await server.add("w.yml", workflow(variables=form, outputs={"said": ["start", filled]}))
    async with sdk(app) as client:
        answer = await client.chat.completions.create(model="tiny", messages=[assistant("before"), user("hello")])
    assert answer.choices[0].message.content == "hello"
    assert "conversation_id" not in (answer.model_extra or {})


async def test_the_other_inputs_come_beside_the_messages(server: Serving) -> None:
    form = [field("query"), field("lang", required=True), field("count", "number"), field("json", "json_object")]
    outputs = {name: ["start", name] for name in ("query", "lang", "count", "json")}
    app = await server.add("w.yml", workflow(variables=form, outputs=outputs))
    async with sdk(app) as client:
        answer = await client.chat.completions.create(
            model="tiny",
            messages=[user("hello")],
            metadata={"lang": "en", "count": "7", "unknown": "x"},
            extra_body={"inputs": {"json": {"a": 1}}},
        )
        assert answer.choices[0].message.content == 'hello\nen\n7\n{\n  "a": 1\n}'
        with pytest.raises(openai.BadRequestError, match="lang is required in input form"):
            await client.chat.completions.create(model="tiny", messages=[user("hello")])
        completion = await client.chat.completions.create(
            model="tiny", messages=[user("hello")], extra_body={"inputs": {"query": "mine", "lang": "en"}}
        )
        assert (completion.choices[0].message.content or "").startswith("mine\nen")


async def test_a_workflow_is_streamed(server: Serving) -> None:
    app = await server.add("w.yml", workflow(variables=[field("query")], outputs={"said": ["start", "query"]}))
    async with sdk(app) as client, client.chat.completions.stream(model="tiny", messages=[user("hello")]) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "hello"


async def test_a_completion_app_takes_the_message_as_query_and_in_its_form(server: Serving) -> None:
    text = "{{#start.topic#}} {{#sys.query#}}"
    app = await server.add("c.yml", chatflow(text, mode="completion", variables=[field("topic")]))
    async with sdk(app) as client:
        answer = await client.chat.completions.create(model="chat", messages=[user("tea")])
    assert answer.choices[0].message.content == "tea tea"


# ---------------------------------------------------------------------------------------------------------- pictures


def picture(url: str) -> Any:
    return user([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}])


async def test_pictures_of_the_last_message_are_files(server: Serving) -> None:
    on = {"file_upload": {"enabled": True, "allowed_file_types": ["image"]}}
    app = await server.add("chat.yml", chatflow("{{#sys.files#}}", features=on))
    async with sdk(app) as client:
        answer = await client.chat.completions.create(model="chat", messages=[picture("https://example.com/a.png")])
        assert answer.choices[0].message.content == "![a.png](https://example.com/a.png)"
        answer = await client.chat.completions.create(model="chat", messages=[picture(DATA_URL)])
    content = answer.choices[0].message.content or ""
    assert content.startswith("![image.png](http://127.0.0.1")
    async with server.session.get(content.partition("(")[2].rstrip(")")) as stored:
        assert await stored.read() == PNG


async def test_a_picture_goes_into_the_form_of_a_workflow(server: Serving) -> None:
    form = [
        field("query"),
        field("paper", "file", allowed_file_types=["document"]),
        field("shot", "file", allowed_file_types=["image"]),
        field("others", "file-list", allowed_file_types=["image"]),
    ]
    outputs = {"shot": ["start", "shot"], "others": ["start", "others"]}
    app = await server.add("w.yml", workflow(variables=form, outputs=outputs))
    parts = [{"type": "image_url", "image_url": {"url": f"https://example.com/{name}.png"}} for name in "abc"]
    async with sdk(app) as client:
        answer = await client.chat.completions.create(model="tiny", messages=[user(parts)])
    assert (answer.choices[0].message.content or "").split("\n") == [
        f"![{name}.png](https://example.com/{name}.png)" for name in "abc"
    ]


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ([{"type": "image_url", "image_url": {}}], "messages[0].content[0]"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,???"}}], "messages[0].content[0]"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,é"}}], "messages[0].content[0]"),
        ([{"type": "image_url", "image_url": {"url": "data:text/html,x"}}], "messages[0].content[0]"),
        ([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}], "messages[0].content[0]"),
        (["text"], "messages[0].content[0]"),
        (7, "messages[0].content"),
        (None, "messages[0].content"),
        ("", "messages"),
        ([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": DATA_URL}], "messages"),
    ],
)
async def test_content_that_an_app_cannot_take_is_refused(server: Serving, content: Any, param: str) -> None:
    app = await server.add("chat.yml", chatflow())
    async with sdk(app) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="chat", messages=[user(content)])
    assert refused.value.param == param


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [assistant("x")]}, "messages"),
        ({"messages": [user("x"), assistant("x")]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [7]}, "messages[0].role"),
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"user": "x" * 300}, "user"),
        ({"user": 7}, "user"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"inputs": "x"}, "inputs"),
        ({"conversation_id": "nope"}, "conversation_id"),
    ],
)
async def test_what_is_not_done_here_is_refused_by_name(server: Serving, more: Any, param: str) -> None:
    app = await server.add("chat.yml", chatflow())
    body = {"model": "chat", "messages": [user("hello")], **more}
    status, response = await app.call("POST", "/v1/openai/chat/completions", json=body)
    assert status == 400
    assert set(response["error"]) == {"message", "type", "param", "code"}
    assert (response["error"]["param"], response["error"]["type"]) == (param, "invalid_request_error")


async def test_what_asks_for_nothing_is_taken(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow())
    nothing = {
        "n": 1,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "logprobs": False,
        "stream": None,
        "user": None,
        "metadata": None,
        "max_tokens": 5,
        "stop": ["x"],
    }
    body = {"model": "chat", "messages": [user("hello")], **nothing}
    assert (await app.call("POST", "/v1/openai/chat/completions", json=body))[0] == 200


async def test_errors_are_openais(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#boom.text#}}", ["boom"]))
    hello = [user("hello")]
    async with sdk(app, api_key="app-nope") as stranger:
        with pytest.raises(openai.AuthenticationError) as no_key:
            await stranger.models.list()
    assert (no_key.value.code, no_key.value.type) == ("unauthorized", "authentication_error")
    async with sdk(app) as client:
        with pytest.raises(openai.NotFoundError, match="This key can access only 'chat'") as no_model:
            await client.chat.completions.create(model="gpt-4o", messages=hello)
        assert no_model.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="Run failed: it went boom") as failed:
            await client.chat.completions.create(model="chat", messages=hello)
        assert failed.value.code == "run_failed"
        stream = await client.chat.completions.create(model="chat", messages=hello, stream=True)
        with pytest.raises(openai.APIError, match="Run failed: it went boom"):
            [chunk async for chunk in stream]
    status, response = await app.call("POST", "/v1/openai/chat/completions", data=b"{", headers={})
    assert (status, response["error"]["code"]) == (415, "unsupported_media_type")
    json = {"Content-Type": "application/json"}
    status, response = await app.call("POST", "/v1/openai/chat/completions", data=b"[1]", headers=json)
    assert (status, response["error"]["code"]) == (400, "bad_request")


async def test_a_paused_run_is_an_error_that_says_where_to_follow_it(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#ask.text#}}", ["ask"]))
    async with sdk(app) as client:
        with pytest.raises(openai.BadRequestError, match=r"/v1/workflow/\S+/events") as paused:
            await client.chat.completions.create(model="chat", messages=[user("hello")])
        assert paused.value.code == "run_paused"
        stream = await client.chat.completions.create(model="chat", messages=[user("hello")], stream=True)
        with pytest.raises(openai.APIError, match="waits for a person"):
            [chunk async for chunk in stream]


async def test_too_many_callers(tmp_path: Any) -> None:
    async with serving(tmp_path, max_active=1) as server:
        gate = Scripted.scripts["wait"] = Gate([])
        app = await server.add("chat.yml", chatflow("x", ["wait"]))
        async with sdk(app) as client:
            waiting = asyncio.create_task(client.chat.completions.create(model="chat", messages=[user("hello")]))
            await gate.reached.wait()
            with pytest.raises(openai.RateLimitError) as busy:
                await client.chat.completions.create(model="chat", messages=[user("hello")])
            assert busy.value.response.headers["Retry-After"] == "1"
            gate.let()
            assert (await waiting).choices[0].message.content == "x"


async def test_leaving_does_not_end_the_run(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate(["whole"])
    app = await server.add("chat.yml", chatflow("{{#wait.text#}}", ["wait"]))
    async with sdk(app) as client:
        stream = await client.chat.completions.create(model="chat", messages=[user("hello")], stream=True)
        first = await anext(aiter(stream))
        await gate.reached.wait()
        await stream.close()
    run = first.id.removeprefix("chatcmpl-")
    gate.let(2)
    async with app.stream(f"/v1/workflow/{run}/events?user=DEFAULT-USER", {"Last-Event-ID": "1"}) as events:
        assert (await events.rest())[-1].name == "message_end"
    assert not gate.cancelled.is_set()


async def test_a_stopped_run_is_a_short_answer(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate(["half ", "whole"])
    app = await server.add("chat.yml", chatflow("{{#wait.text#}}", ["wait"]))
    async with sdk(app) as client:
        stream = await client.chat.completions.create(model="chat", messages=[user("hello")], stream=True)
        chunks = [await anext(aiter(stream))]
        gate.let()
        chunks.append(await anext(aiter(stream)))
        await server.run_service.stop(chunks[0].id.removeprefix("chatcmpl-"), "somebody")
        chunks += [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "half "
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_an_annotation_answers_here_too(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("never"))
    await server.store.conversations.save_annotation_reply(app.release.app.id, {"score_threshold": 0.9})
    await server.store.conversations.save_annotation(
        Annotation(str(uuid4()), app.release.app.id, "What is tea?", "Leaves.", 0, 0.0)
    )
    async with sdk(app) as client:
        request_body: Any = {"model": "chat", "messages": [user("what is tea")]}
        whole = await client.chat.completions.create(**request_body)
        assert whole.choices[0].message.content == "Leaves."
        stream = await client.chat.completions.create(**request_body, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Leaves."


async def test_another_apps_conversation_is_unknown(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow())
    body = {"model": "chat", "messages": [user("hello")], "conversation_id": str(uuid4())}
    status, response = await app.call("POST", "/v1/openai/chat/completions", json=body)
    assert (status, response["error"]["message"]) == (404, "Conversation Not Exists.")
