"""OpenAI's responses, called by its own Python client."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from headrace.node import Context, Result
from headrace.ports import RunFilter
from headrace.ports.services import Usage
from tests.api.chats import chatflow
from tests.api.serving import Client, Gate, Scripted, Serving, workflow
from tests.api.test_openai_facade import DATA_URL, field, sdk


async def speak(ctx: Context) -> Result:
    for word in ("one ", "two"):
        ctx.emit("text", word)
    return Result({"text": "one two"}, usage=Usage(6, 4).wire())


@pytest.fixture
async def speaker(server: Serving) -> Client:
    Scripted.scripts["speak"] = speak
    return await server.add("chat.yml", chatflow("{{#speak.text#}}!", ["speak"]))


@pytest.fixture
async def gated(server: Serving) -> Client:
    return await server.add("chat.yml", chatflow("{{#gate.text#}}", ["gate"]))


@pytest.fixture
def gate(gated: Client) -> Gate:
    created = Scripted.scripts["gate"] = Gate(["Hel", "lo"])
    return created


async def collected(stream: Any) -> list[ResponseStreamEvent]:
    return [event async for event in stream]


# ------------------------------------------------------------------------------------------------------------- create


async def test_a_response_has_the_answer_and_its_usage(speaker: Client) -> None:
    async with sdk(speaker) as client:
        response = await client.responses.create(
            model="chat", input="hello", instructions="Be brief.", metadata={"k": "v"}, temperature=0.1, store=False
        )
        assert response.output_text == "one two!"
        assert (response.object, response.status, response.model) == ("response", "completed", "chat")
        assert (response.instructions, response.metadata) == ("Be brief.", {"k": "v"})
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (6, 4, 10)
        again = await client.responses.retrieve(response.id)
    assert again == response


async def test_instructions_and_earlier_items_are_the_history(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#sys.query#}} | {{#sys.history#}}"))
    items: Any = [
        {"role": "user", "content": "My name is Ada."},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello Ada."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "Who am I?"}]},
    ]
    async with sdk(app) as client:
        response = await client.responses.create(model="chat", input=items, instructions="Be brief.")
    query, history = response.output_text.split(" | ")
    assert query == "Who am I?"
    places = [history.index(text) for text in ("Be brief.", "My name is Ada.", "Hello Ada.")]
    assert places == sorted(places)


async def test_a_response_continues_another_or_a_conversation(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#sys.dialogue_count#}} {{#sys.query#}}"))
    async with sdk(app) as client:
        first = await client.responses.create(model="chat", input="one", user="u1")
        second = await client.responses.create(model="chat", input="two", user="u1", previous_response_id=first.id)
        assert (second.output_text, second.previous_response_id) == ("2 two", first.id)
        assert await client.responses.retrieve(second.id) == second
        assert first.conversation is not None
        assert second.conversation == first.conversation
        third = await client.responses.create(
            model="chat", input="three", user="u1", conversation=first.conversation.id
        )
        assert third.output_text == "3 three"
        with pytest.raises(openai.NotFoundError, match=r"Conversation Not Exists\."):
            await client.responses.create(model="chat", input="four", user="u2", previous_response_id=first.id)
        for unknown in ("resp_x", "resp_5ad4cb98-f0c7-4085-b384-88c403be6290"):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(model="chat", input="x", user="u1", previous_response_id=unknown)
            assert (refused.value.param, refused.value.code) == ("previous_response_id", "previous_response_not_found")


async def test_a_workflow_has_no_conversation_to_continue(server: Serving) -> None:
    app = await server.add("w.yml", workflow(variables=[field("query")], outputs={"said": ["start", "query"]}))
    async with sdk(app) as client:
        first = await client.responses.create(model="tiny", input="hello")
        assert (first.output_text, first.conversation) == ("hello", None)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="tiny", input="hello", previous_response_id=first.id)
        assert refused.value.param == "previous_response_id"
        with pytest.raises(openai.BadRequestError, match="has no conversations"):
            await client.responses.create(
                model="tiny", input="hello", conversation="5ad4cb98-f0c7-4085-b384-88c403be6290"
            )


async def test_images_and_files_are_files_of_the_run(server: Serving) -> None:
    form = [
        field("query"),
        field("paper", "file", allowed_file_types=["document"]),
        field("others", "file-list", allowed_file_types=["image", "document"]),
    ]
    app = await server.add(
        "w.yml", workflow(variables=form, outputs={"paper": ["start", "paper"], "others": ["start", "others"]})
    )
    text = base64.b64encode(b"hello").decode()
    parts: Any = [
        {"type": "input_image", "image_url": DATA_URL},
        {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/plain;base64,{text}"},
        {"type": "input_file", "filename": "b.txt", "file_data": text},
        {"type": "input_image", "image_url": "https://example.com/c.png"},
    ]
    async with sdk(app) as client:
        response = await client.responses.create(model="tiny", input=[{"role": "user", "content": parts}])
    names = [line.partition("]")[0].partition("[")[2] for line in response.output_text.split("\n")]
    assert names == ["a.txt", "image.png", "b.txt", "c.png"]


async def test_an_upload_is_named_by_its_id(server: Serving) -> None:
    form = [field("paper", "file", allowed_file_types=["document"])]
    app = await server.add("w.yml", workflow(variables=form, outputs={"paper": ["start", "paper"]}))
    text = base64.b64encode(b"hello").decode()
    async with sdk(app) as client:
        stored = await server.files.save(
            b"hello", filename="a.txt", mime_type="text/plain", transfer_method="local_file", app=app.release.app.id
        )
        item: Any = {"role": "user", "content": [{"type": "input_file", "file_id": stored.related_id}]}
        assert "a.txt" in (await client.responses.create(model="tiny", input=[item])).output_text
        for part in (
            {"type": "input_file", "file_id": "nope"},
            {"type": "input_file"},
            {"type": "input_file", "file_data": "???"},
            {"type": "input_file", "file_data": text, "filename": "x.png"},
        ):
            with pytest.raises(openai.BadRequestError):
                await client.responses.create(model="tiny", input=[{"role": "user", "content": [part]}])  # pyright: ignore


# ------------------------------------------------------------------------------------------------------------- stream


async def test_a_stream_has_openais_events_in_their_order(speaker: Client) -> None:
    async with sdk(speaker) as client:
        events = await collected(await client.responses.create(model="chat", input="hello", stream=True))
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas >= 2
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two!"
    last = events[-1]
    assert last.type == "response.completed"
    assert (last.response.output_text, last.response.status) == ("one two!", "completed")
    assert last.response.usage is not None
    assert last.response.usage.total_tokens == 10


async def test_the_clients_own_stream_is_content_with_it(speaker: Client) -> None:
    async with sdk(speaker) as client, client.responses.stream(model="chat", input="hello") as stream:
        final = await stream.get_final_response()
    assert final.output_text == "one two!"


async def test_a_run_that_fails_is_an_error_or_the_last_event(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#boom.text#}}", ["boom"]))
    async with sdk(app) as client:
        with pytest.raises(openai.BadRequestError, match="it went boom") as failed:
            await client.responses.create(model="chat", input="hello")
        assert failed.value.code == "run_failed"
        last = (await collected(await client.responses.create(model="chat", input="hello", stream=True)))[-1]
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert "it went boom" in last.response.error.message
        retrieved = await client.responses.retrieve(last.response.id)
    assert (retrieved.status, retrieved.error) == ("failed", last.response.error)


async def test_a_run_that_waits_for_a_person_is_incomplete(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#ask.text#}}", ["ask"]))
    async with sdk(app) as client:
        with pytest.raises(openai.BadRequestError, match="waits for a person"):
            await client.responses.create(model="chat", input="hello")
        last = (await collected(await client.responses.create(model="chat", input="hello", stream=True)))[-1]
        assert last.type == "response.incomplete"
        run = last.response.id.removeprefix("resp_")
        await server.run_service.resume(run)
        _ = [record async for record in server.run_service.follow(run, on_pause=True)]
        assert (await client.responses.retrieve(last.response.id)).output_text == "answered"


# ------------------------------------------------------------------------------------- background, retrieve, cancel


async def test_a_response_in_the_background_is_retrieved_when_it_is_ready(
    server: Serving, gated: Client, gate: Gate
) -> None:
    async with sdk(gated) as client:
        response = await client.responses.create(model="chat", input="hello", background=True)
        assert response.status in ("queued", "in_progress")
        assert (response.background, response.output) == (True, [])
        assert (await client.responses.retrieve(response.id)).background
        await gate.reached.wait()
        assert (await client.responses.retrieve(response.id)).status == "in_progress"
        gate.let(3)
        _ = [record async for record in server.run_service.follow(response.id.removeprefix("resp_"))]
        ready = await client.responses.retrieve(response.id)
    assert (ready.status, ready.output_text) == ("completed", "Hello")


async def test_a_stream_in_the_background_outlives_its_client(server: Serving, gated: Client, gate: Gate) -> None:
    async with sdk(gated) as client:
        stream = await client.responses.create(model="chat", input="hello", background=True, stream=True)
        first = await anext(aiter(stream))
        assert first.type == "response.created"
        await stream.close()
        await gate.reached.wait()
        gate.let(3)
        _ = [record async for record in server.run_service.follow(first.response.id.removeprefix("resp_"))]
        assert (await client.responses.retrieve(first.response.id)).output_text == "Hello"


async def test_a_response_is_cancelled(gated: Client, gate: Gate) -> None:
    async with sdk(gated) as client:
        response = await client.responses.create(model="chat", input="hello", background=True)
        await gate.reached.wait()
        assert (await client.responses.cancel(response.id)).status == "cancelled"
        assert (await client.responses.retrieve(response.id)).status == "cancelled"
        assert (await client.responses.cancel(response.id)).status == "cancelled"
    assert gate.cancelled.is_set()


async def test_closing_a_stream_stops_the_run(gated: Client, gate: Gate) -> None:
    async with sdk(gated) as client:
        stream = await client.responses.create(model="chat", input="hello", stream=True)
        await gate.reached.wait()
        await stream.close()
        async with asyncio.timeout(30):
            await gate.cancelled.wait()


async def test_the_same_key_is_one_response(server: Serving, speaker: Client) -> None:
    async with sdk(speaker, default_headers={"Idempotency-Key": "k"}) as client:
        ids = {(await client.responses.create(model="chat", input="hello", background=at > 0)).id for at in (1, 1)}
        assert len(ids) == 1
        assert (await client.responses.create(model="chat", input="hello")).id not in ids, "another body"
    assert len((await server.store.runs.list_runs(RunFilter(speaker.release.app.id)))[1]) == 2


async def test_a_response_of_another_app_is_unknown(server: Serving, speaker: Client) -> None:
    other = await server.add("other.yml", chatflow(name="other"))
    async with sdk(speaker) as client, sdk(other) as stranger:
        response = await client.responses.create(model="chat", input="hello")
        for call in (stranger.responses.retrieve, stranger.responses.cancel):
            with pytest.raises(openai.NotFoundError, match="not found"):
                await call(response.id)
        with pytest.raises(openai.BadRequestError, match="not found"):
            await stranger.responses.create(model="other", input="hello", previous_response_id=response.id)


async def test_a_stream_continues_after_any_of_its_events(speaker: Client) -> None:
    async with sdk(speaker) as client:
        events = await collected(await client.responses.create(model="chat", input="hello", stream=True))
        first = events[0]
        assert first.type == "response.created"
        id_ = first.response.id
        for seen in range(events[-1].sequence_number + 1):
            rest = await collected(await client.responses.retrieve(id_, stream=True, starting_after=seen))
            assert all(event.sequence_number > seen for event in rest)
            assert text_of(rest) == "one two!"[max(0, seen - 3) :]
            assert [event.type for event in rest[-1:]] == ["response.completed"] * (seen < events[-1].sequence_number)
        again = await collected(await client.responses.retrieve(id_, stream=True))
    assert [event.type for event in merged(again)] == [event.type for event in merged(events)]
    assert [event.sequence_number for event in merged(again)] == [event.sequence_number for event in merged(events)]


def text_of(events: list[ResponseStreamEvent]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def merged(events: list[ResponseStreamEvent]) -> list[ResponseStreamEvent]:
    """Without the deltas, whose pieces may be others."""
    return [event for event in events if event.type != "response.output_text.delta"]


async def test_a_response_that_goes_on_is_streamed_to_its_end(gated: Client, gate: Gate) -> None:
    async with sdk(gated) as client:
        response = await client.responses.create(model="chat", input="hello", background=True)
        await gate.reached.wait()
        stream = await client.responses.retrieve(response.id, stream=True, starting_after=1)
        gate.let(3)
        events = await collected(stream)
        assert (text_of(events), events[-1].type) == ("Hello", "response.completed")
        assert not gate.cancelled.is_set()


async def test_disconnecting_from_a_retrieved_stream_stops_no_run(server: Serving, gated: Client, gate: Gate) -> None:
    async with sdk(gated) as client:
        response = await client.responses.create(model="chat", input="hello", background=True)
        stream = await client.responses.retrieve(response.id, stream=True)
        assert (await anext(aiter(stream))).type == "response.created"
        await stream.close()
        await gate.reached.wait()
        gate.let(3)
        _ = [record async for record in server.run_service.follow(response.id.removeprefix("resp_"))]
        assert (await client.responses.retrieve(response.id)).output_text == "Hello"


async def test_json_is_retrieved_as_it_was_asked_for(server: Serving) -> None:
    app = await server.add("w.yml", workflow(variables=[field("query")], outputs={"said": ["start", "query"]}))
    wrong: Any = {"type": "object", "properties": {"said": {"type": "integer"}}}
    async with sdk(app) as client:
        first = await client.responses.create(
            model="tiny", input="hello", text={"format": {"type": "json_object"}}, background=True
        )
        second = await client.responses.create(
            model="tiny",
            input="hello",
            text={"format": {"type": "json_schema", "name": "x", "schema": wrong}},
            background=True,
        )
        for response in (first, second):
            _ = [record async for record in server.run_service.follow(response.id.removeprefix("resp_"))]
        assert (await client.responses.retrieve(first.id)).output_text == '{"said": "hello"}'
        failed = await client.responses.retrieve(second.id)
        assert failed.error is not None
        assert (failed.status, "do not match the schema" in failed.error.message) == ("failed", True)


async def test_the_items_of_the_input(server: Serving, speaker: Client) -> None:
    items: Any = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": [{"type": "input_text", "text": "Who am I?"}]},
    ]
    async with sdk(speaker) as client:
        response = await client.responses.create(model="chat", input=items, instructions="Be\0 brief.")
        listed = [item async for item in client.responses.input_items.list(response.id, order="asc", limit=2)]
        texts = [(item.role, item.content[0].type, item.content[0].text) for item in listed]  # pyright: ignore
        assert texts == [
            ("user", "input_text", "My name is Ada."),
            ("assistant", "output_text", "Hello Ada."),
            ("user", "input_text", "Who am I?"),
        ]
        latest = await client.responses.input_items.list(response.id, limit=1)
        assert (latest.data, latest.has_more) == ([listed[-1]], True)
        with pytest.raises(openai.BadRequestError, match="There is no item 'x'"):
            await client.responses.input_items.list(response.id, after="x")
        with pytest.raises(openai.BadRequestError, match="limit"):
            await client.responses.input_items.list(response.id, limit=101)
    form = [field("query"), field("picture", "file", allowed_file_types=["image"])]
    app = await server.add("w.yml", workflow(variables=form, outputs={"query": ["start", "query"]}))
    picture: Any = {"type": "input_image", "image_url": DATA_URL}
    message: Any = {"role": "user", "content": [picture, {"type": "input_text", "text": "What?"}]}
    async with sdk(app) as client:
        response = await client.responses.create(model="tiny", input=[message])
        assert response.output_text == "What?"
        (item,) = (await client.responses.input_items.list(response.id)).data
        image, text = item.content  # pyright: ignore
        assert (image.type, text.text) == ("input_image", "What?")  # pyright: ignore
        assert image.file_id  # pyright: ignore


# ------------------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "auto"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0].role"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0]"),
        ({"conversation": "nope"}, "conversation"),
        ({"conversation": {"id": "5ad4cb98-f0c7-4085-b384-88c403be6290"}, "previous_response_id": "resp_x"}, None),
        ({"background": "yes"}, "background"),
        ({"model": ""}, "model"),
    ],
)
async def test_what_an_app_cannot_do_is_refused_by_name(speaker: Client, more: Any, param: str | None) -> None:
    body = {"model": "chat", "input": "hello", **more}
    status, response = await speaker.call("POST", "/v1/openai/responses", json=body)
    assert (status, response["error"]["type"]) == (400, "invalid_request_error")
    assert response["error"]["param"] == (param or "previous_response_id")


async def test_tools_that_may_not_be_used_are_no_reason_to_refuse(speaker: Client) -> None:
    async with sdk(speaker) as client:
        response: Response = await client.responses.create(
            model="chat", input="hello", tools=[{"type": "web_search"}], tool_choice="none"
        )
        assert response.output_text == "one two!"
        tool: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
        message: Any = {"role": "user", "content": "hello"}
        answer = await client.chat.completions.create(
            model="chat", messages=[message], tools=[tool], tool_choice="none"
        )
        assert answer.choices[0].message.content == "one two!"


async def test_where_a_stream_starts_is_of_a_stream(speaker: Client) -> None:
    async with sdk(speaker) as client:
        id_ = (await client.responses.create(model="chat", input="hello")).id
    for query, param in (("starting_after=1", "starting_after"), ("stream=true&starting_after=-1", None)):
        status, body = await speaker.call("GET", f"/v1/openai/responses/{id_}?{query}")
        assert (status, body["error"]["type"], body["error"]["param"]) == (400, "invalid_request_error", param)


async def test_a_response_cannot_be_deleted(speaker: Client) -> None:
    async with sdk(speaker) as client:
        response = await client.responses.create(model="chat", input="hello")
        with pytest.raises(openai.APIStatusError, match="does not accept DELETE") as refused:
            await client.responses.delete(response.id)
    assert refused.value.status_code == 405
