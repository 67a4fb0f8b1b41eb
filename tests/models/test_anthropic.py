"""Anthropic's Messages protocol: what is sent, and how its stream of events is read."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.ports.services import FunctionTool, Message, ToolCall
from headrace.values import File
from tests.models.server import ModelServer, ReceivedRequest, ask, failure, good, hear, text_of
from tests.models.test_request import Stored

PNG = b"\x89PNG data"
WEATHER = FunctionTool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
CLAUDE: dict[str, Any] = {"provider": "langgenius/anthropic/anthropic", "model": "claude-sonnet-4-5-20250929"}


@pytest.fixture
async def client(server: ModelServer) -> AsyncIterator[ModelClient]:
    environ = {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "sk-ant-secret"}
    client = ModelClient(environ, Stored(), backoff=0.001, idle=1.0)
    yield client
    await client.aclose()


def start(**usage: int) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude"}
    return {"type": "message_start", "message": message | {"usage": {"input_tokens": 10, "output_tokens": 1} | usage}}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_block(index: int, *texts: str) -> list[dict[str, Any]]:
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    return block(index, {"type": "text", "text": ""}, *deltas)


def end(reason: str = "end_turn", output: int = 7) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": output}}, {"type": "message_stop"}]


def say(server: ModelServer, *events: dict[str, Any]) -> None:
    server.answer(lambda request: send(request, *events))


async def send(request: ReceivedRequest, *events: dict[str, Any]) -> None:
    await request.head()
    for event in events:
        await request.chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    await request.chunk(b"")


HELLO = (start(), {"type": "ping"}, *text_block(0, "Hel", "lo"), *end())


async def test_a_request_and_its_streamed_answer(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello. "),
        Message("user", "Again"),
        Message("user", "please"),
    ]
    parameters = {"temperature": 0.5, "max_tokens": 99, "frequency_penalty": 1}
    chunks = await hear(client, ask(**CLAUDE, messages=messages, parameters=parameters, stop=["END", "\n"], user="u"))
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    assert chunks[-1].finish_reason == "end_turn"
    request = server.requests[0]
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == "sk-ant-secret"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.body == {
        "model": "claude-sonnet-4-5-20250929",
        "stream": True,
        "max_tokens": 99,
        "temperature": 0.5,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
            {"role": "user", "content": [{"type": "text", "text": "Again"}, {"type": "text", "text": "please"}]},
        ],
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
    }


async def test_usage_counts_cached_tokens_at_their_price(server: ModelServer, client: ModelClient):
    cached = start(cache_creation_input_tokens=100, cache_read_input_tokens=1000)
    say(server, cached, *text_block(0, "x"), *end(output=20))
    usage = (await hear(client, ask(**CLAUDE)))[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (10 + 125 + 100, 20)
    assert usage.wire()["total_price"] == str(Decimal("0.0010050"))  # 235 * 3 $ and 20 * 15 $ per million


async def test_a_prompt_of_the_system_alone_is_the_turn_of_the_user(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    await hear(client, ask(**CLAUDE, messages=[Message("system", "Write a haiku.")]))
    body = server.requests[0].body
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Write a haiku."}]}]
    assert "system" not in body


async def test_images_are_sent_and_audio_is_left_out(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    files = [File("image", "local_file", mime_type="image/png"), File("audio", "local_file", mime_type="audio/wav")]
    await hear(client, ask(**CLAUDE, messages=[Message("user", "What?", files=files)]))
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    assert server.requests[0].body["messages"][0]["content"] == [
        {"type": "image", "source": source},
        {"type": "text", "text": "What?"},
    ]


async def test_parallel_tool_calls_with_reasoning_that_is_sent_back(server: ModelServer, client: ModelClient):
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [
        {"type": "thinking_delta", "thinking": "Two "},
        {"type": "thinking_delta", "thinking": "cities."},
        {"type": "signature_delta", "signature": "c2ln"},
    ]
    pieces = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"city": ', '"Lyon"}')]
    say(
        server,
        start(),
        *block(0, thinking, *deltas),
        *block(1, {"type": "redacted_thinking", "data": "eA=="}),
        *text_block(2, "Let me see."),
        *block(3, {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}, *pieces),
        *block(4, {"type": "tool_use", "id": "t2", "name": "weather", "input": {}}),
        *end("tool_use"),
    )
    chunks = await hear(client, ask(**CLAUDE, tools=[WEATHER], parameters={"thinking": True, "max_tokens": 3000}))
    assert "".join(chunk.reasoning for chunk in chunks) == "Two cities."
    calls = chunks[-1].tool_calls
    assert [(call.id, call.name, call.arguments) for call in calls] == [
        ("t1", "weather", '{"city": "Lyon"}'),
        ("t2", "weather", "{}"),
    ]
    body = server.requests[0].body
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    assert body["tools"] == [{"name": "weather", "description": "The weather.", "input_schema": schema}]

    messages = [
        Message("user", "Rain?"),
        Message("assistant", "Let me see.", tool_calls=calls),
        Message("tool", "wet", tool_call="t1"),
        Message("tool", "", tool_call="t2"),
    ]
    await hear(client, ask(**CLAUDE, messages=messages))
    body = server.requests[1].body
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Two cities.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "eA=="},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Lyon"}},
                {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "wet"},
                {"type": "tool_result", "tool_use_id": "t2"},
            ],
        },
    ]
    assert body["tool_choice"] == {"type": "none"}  # the protocol requires the tools of earlier calls to be declared
    assert [tool["name"] for tool in body["tools"]] == ["weather"]


async def test_malformed_arguments_are_sent_back_as_an_object(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    call = ToolCall("t1", "weather", '{"city": ')
    messages = [
        Message("user", "x"),
        Message("assistant", "", tool_calls=[call]),
        Message("tool", "no", tool_call="t1"),
    ]
    await hear(client, ask(**CLAUDE, messages=messages, tools=[WEATHER]))
    assert server.requests[0].body["messages"][1]["content"][0]["input"] == {"arguments": '{"city": '}


@pytest.mark.parametrize(
    ("model", "parameters", "expected"),
    [
        ("claude-opus-4-7", {"thinking": True, "temperature": 1}, {"thinking": {"type": "adaptive"}}),
        (
            "claude-sonnet-5",
            {"thinking": True, "thinking_display": "summarized"},
            {"thinking": {"type": "adaptive", "display": "summarized"}},
        ),
        (
            "claude-opus-5",
            {"thinking": False, "effort": "max"},
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
        ),
        ("claude-sonnet-4-5", {"thinking": False, "top_k": 3}, {"top_k": 3}),
        (
            "claude-sonnet-4-5",
            {"response_format": "json_schema", "json_schema": '{"type": "object"}'},
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        ),
    ],
)
async def test_parameters_as_the_model_accepts_them(
    server: ModelServer, client: ModelClient, model: str, parameters: dict[str, Any], expected: dict[str, Any]
):
    say(server, *HELLO)
    await hear(client, ask(**CLAUDE | {"model": model}, parameters=parameters))
    body = server.requests[0].body
    assert {name: body[name] for name in body.keys() - {"model", "stream", "max_tokens", "messages"}} == expected


async def test_a_schema_is_stated_in_the_prompt(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    await hear(client, ask(**CLAUDE, schema={"type": "object", "required": ["a"]}))
    assert '"required": ["a"]' in server.requests[0].body["system"]


async def test_the_parts_of_the_prompt_to_cache(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    messages = [Message("system", "Now: <cache>a long text</cache>"), Message("user", "Hi")]
    parameters = {"prompt_caching_system_message": True, "prompt_caching_tool_definitions": True}
    await hear(client, ask(**CLAUDE, messages=messages, tools=[WEATHER], parameters=parameters))
    body = server.requests[0].body
    assert body["system"] == [
        {"type": "text", "text": "Now: "},
        {"type": "text", "text": "a long text", "cache_control": {"type": "ephemeral"}},
    ]
    assert body["tools"][-1]["cache_control"] == {"type": "ephemeral"}


# ---------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("status", "error", "kind", "calls"),
    [
        (401, "authentication_error", "InvokeAuthorizationError", 1),
        (403, "permission_error", "InvokeAuthorizationError", 1),
        (429, "rate_limit_error", "InvokeRateLimitError", 3),
        (400, "invalid_request_error", "InvokeBadRequestError", 1),
        (529, "overloaded_error", "InvokeServerUnavailableError", 3),
    ],
)
async def test_a_refusal(server: ModelServer, client: ModelClient, status: int, error: str, kind: str, calls: int):
    body = {"type": "error", "error": {"type": error, "message": "prompt is too long: sk-ant-secret"}}
    server.answer(lambda request: request.refuse(status, body))
    raised = await failure(client, **CLAUDE)
    assert (str(raised), raised.kind) == ("prompt is too long: ***", kind)
    assert len(server.requests) == calls


async def test_an_error_before_the_first_text_is_retried(server: ModelServer, client: ModelClient):
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    server.answer(lambda request: send(request, start(), error), lambda request: send(request, *HELLO))
    assert text_of(await hear(client, ask(**CLAUDE))) == "Hello"


async def test_an_error_after_the_first_text_fails(server: ModelServer, client: ModelClient):
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}}
    say(server, start(), *text_block(0, "Hel"), error)
    raised = await failure(client, **CLAUDE)
    assert (str(raised), raised.kind) == ("Slow down", "InvokeRateLimitError")
    assert len(server.requests) == 1


async def test_a_connection_lost_in_the_middle_fails(server: ModelServer, client: ModelClient):
    async def break_off(request: ReceivedRequest) -> None:
        await request.head()
        for event in (start(), *text_block(0, "Hel")):
            await request.chunk(f"data: {json.dumps(event)}\n\n".encode())
        request.writer.close()

    server.answer(break_off)
    raised = await failure(client, **CLAUDE)
    assert raised.kind == "InvokeConnectionError"
    assert len(server.requests) == 1


async def test_a_stream_that_stalls_fails(server: ModelServer):
    async def stall(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(f"data: {json.dumps(start())}\n\n".encode())
        await request.gone.wait()

    server.answer(stall)
    environ = {"ANTHROPIC_BASE_URL": f"{server.url}/v1", "ANTHROPIC_API_KEY": "k"}
    client = ModelClient(environ, idle=0.1, tries=1)
    raised = await failure(client, **CLAUDE)
    await client.aclose()
    assert raised.kind == "InvokeConnectionError"
    assert server.requests[0].path == "/v1/messages"


async def test_a_malformed_event_fails(server: ModelServer, client: ModelClient):
    say(server, start(), {"type": "content_block_delta", "delta": "text"})
    raised = await failure(client, **CLAUDE)
    assert (str(raised), raised.kind) == (
        "anthropic sent an event that is not part of its protocol.",
        "InvokeConnectionError",
    )


# ------------------------------------------------------------------------------------------------------------ set up


async def test_a_gateway_may_implement_openais_protocol(server: ModelServer):
    server.answer(good)
    environ = {"ANTHROPIC_BASE_URL": f"{server.url}/v1/chat/completions", "ANTHROPIC_API_KEY": "k"}
    client = ModelClient(environ)
    assert text_of(await hear(client, ask(**CLAUDE))) == "Hello"
    await client.aclose()
    assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize("provider", ["anthropic", "langgenius/anthropic/anthropic"])
def test_a_missing_key_is_named(provider: str):
    assert "ANTHROPIC_API_KEY" in str(ModelClient({}).missing(provider))
    assert ModelClient({"ANTHROPIC_API_KEY": "k"}).missing(provider) is None
