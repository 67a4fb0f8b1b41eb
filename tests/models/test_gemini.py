"""Gemini's own protocol: what is sent, and how its stream of events is read."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.ports.services import FunctionTool, Message, ToolCall
from headrace.values import File
from tests.models.server import ModelServer, ReceivedRequest, ask, failure, good, hear, sse, text_of
from tests.models.test_request import Stored

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = FunctionTool("weather", "The weather.", CITY)
GEMINI: dict[str, Any] = {"provider": "langgenius/gemini/google", "model": "gemini-2.5-flash"}
GEMINI_3: dict[str, Any] = GEMINI | {"model": "gemini-3-pro-preview"}


@pytest.fixture
async def client(server: ModelServer) -> AsyncIterator[ModelClient]:
    environ = {"GOOGLE_BASE_URL": server.url, "GEMINI_API_KEY": "AIza-secret"}
    client = ModelClient(environ, Stored(), backoff=0.001, idle=1.0)
    yield client
    await client.aclose()


def event(*parts: dict[str, Any], finish: str | None = None, **usage: int) -> dict[str, Any]:
    """One event of streamGenerateContent."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    counts = {"promptTokenCount": 10, "totalTokenCount": 10} | usage
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "gemini-2.5-flash", "responseId": "r1"}


HELLO = (event({"text": "Hel"}), event({"text": "lo"}, finish="STOP", candidatesTokenCount=7, thoughtsTokenCount=13))


async def send(request: ReceivedRequest, *events: dict[str, Any]) -> None:
    await request.stream(*events, done=False)  # the end of the stream has no mark of its own


def say(server: ModelServer, *events: dict[str, Any]) -> None:
    server.answer(lambda request: send(request, *events))


async def test_a_request_and_its_streamed_answer(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello. "),
        Message("user", "Again"),
        Message("user", "please"),
    ]
    parameters = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "max_output_tokens": 99}
    chunks = await hear(client, ask(**GEMINI, messages=messages, parameters=parameters, stop=["END", "\n"], user="u"))
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    assert chunks[-1].finish_reason == "STOP"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (10, 20)
    assert usage.wire()["total_price"] == "0.0000530"  # 0.3 $ and 2.5 $ per million
    request = server.requests[0]
    assert request.path == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert request.headers["x-goog-api-key"] == "AIza-secret"
    assert "authorization" not in request.headers
    assert request.body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Hello."}]},
            {"role": "user", "parts": [{"text": "Again"}, {"text": "please"}]},
        ],
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 3,
            "maxOutputTokens": 99,
            "stopSequences": ["END", "\n"],
        },
    }


async def test_thoughts_are_reasoning(server: ModelServer, client: ModelClient):
    say(server, event({"text": "Hm.", "thought": True}), event({"text": "Yes", "thought": False}, finish="STOP"))
    chunks = await hear(client, ask(**GEMINI, parameters={"include_thoughts": True, "thinking_budget": 512}))
    assert [(chunk.text, chunk.reasoning) for chunk in chunks] == [("", "Hm."), ("Yes", ""), ("", "")]
    assert server.requests[0].body["generationConfig"] == {
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 512}
    }


@pytest.mark.parametrize(
    ("model", "parameters", "expected"),
    [
        ("gemini-2.5-flash", {"thinking_mode": False, "thinking_budget": 512}, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", {"thinking_mode": True}, {"thinkingBudget": -1}),
        ("gemini-2.5-pro", {"thinking_budget": 0}, {"thinkingBudget": -1}),
        ("gemini-2.5-pro", {"thinking_level": "High"}, None),
        ("gemini-3-pro-preview", {"thinking_level": "Low", "thinking_budget": 9}, {"thinkingLevel": "LOW"}),
        ("gemini-3-pro-preview", {"thinking_level": "Extreme"}, None),
        ("gemini-3.6-flash", {"thinking_budget": 9, "temperature": 1, "top_p": 1, "top_k": 1}, None),
    ],
)
async def test_thinking_as_the_model_accepts_it(
    server: ModelServer, client: ModelClient, model: str, parameters: dict[str, Any], expected: dict[str, Any] | None
):
    say(server, *HELLO)
    await hear(client, ask(**GEMINI | {"model": model}, parameters=parameters))
    config = server.requests[0].body.get("generationConfig", {})
    assert config == ({} if expected is None else {"thinkingConfig": expected})


async def test_files_are_sent_inline(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    types = {
        "image": ["image/png"],
        "audio": ["audio/wav"],
        "video": ["video/mp4"],
        "document": ["application/pdf", "text/csv", "application/msword"],
    }
    files = [File(kind, "local_file", mime_type=mime_type) for kind in types for mime_type in types[kind]]
    parameters = {"media_resolution": "Low"}
    await hear(client, ask(**GEMINI, messages=[Message("user", "What?", files=files)], parameters=parameters))
    data = base64.b64encode(b"\x89PNG data").decode()
    sent = ["image/png", "audio/wav", "video/mp4", "application/pdf", "text/csv"]  # no Office documents, as in Dify
    body = server.requests[0].body
    assert body["contents"][0]["parts"] == [
        *({"inlineData": {"mimeType": mime_type, "data": data}} for mime_type in sent),
        {"text": "What?"},
    ]
    assert body["generationConfig"] == {"mediaResolution": "MEDIA_RESOLUTION_LOW"}


async def test_a_prompt_of_the_system_alone_is_the_turn_of_the_user(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    await hear(client, ask(**GEMINI, messages=[Message("system", "Write a haiku.")]))
    assert server.requests[0].body == {"contents": [{"role": "user", "parts": [{"text": "Write a haiku."}]}]}


async def test_parallel_tool_calls_with_a_signature_that_is_sent_back(server: ModelServer, client: ModelClient):
    lyon = {"functionCall": {"id": "f1", "name": "weather", "args": {"city": "Lyön"}}, "thoughtSignature": "c2ln"}
    none = {"functionCall": {"id": "f2", "name": "weather", "args": {}}}
    say(server, event({"text": "Two.", "thought": True}, lyon), event(none), event({"text": ""}, finish="STOP"))
    chunks = await hear(client, ask(**GEMINI_3, tools=[WEATHER, FunctionTool("now", "The time.", {"type": "object"})]))
    calls = chunks[-1].tool_calls
    assert [(call.id, call.name, call.arguments) for call in calls] == [
        ("f1", "weather", '{"city": "Lyön"}'),
        ("f2", "weather", "{}"),
    ]
    weather = {"name": "weather", "description": "The weather.", "parametersJsonSchema": CITY}
    assert server.requests[0].body["tools"] == [
        {"functionDeclarations": [weather, {"name": "now", "description": "The time."}]}
    ]

    messages = [
        Message("user", "Rain?"),
        Message("assistant", "<think>Two.</think>", tool_calls=calls),
        Message("tool", "wet", tool_call="f1"),
        Message("tool", "dry", tool_call="f2"),
    ]
    await hear(client, ask(**GEMINI_3, messages=messages))
    body = server.requests[1].body
    assert body["contents"][1:] == [
        {"role": "model", "parts": [lyon, none]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "f1", "name": "weather", "response": {"output": "wet"}}},
                {"functionResponse": {"id": "f2", "name": "weather", "response": {"output": "dry"}}},
            ],
        },
    ]
    assert "tools" not in body


async def test_calls_without_ids_are_told_apart(server: ModelServer, client: ModelClient):
    part = {"functionCall": {"name": "weather", "args": {}}}
    say(server, event(part, part, finish="STOP"))
    calls = (await hear(client, ask(**GEMINI, tools=[WEATHER])))[-1].tool_calls
    assert [call.id for call in calls] == ["call_0", "call_1"]
    messages = [Message("user", "x"), Message("assistant", "", tool_calls=calls)]
    results = [Message("tool", text, tool_call=f"call_{place}") for place, text in enumerate(("wet", "dry"))]
    await hear(client, ask(**GEMINI, messages=[*messages, *results]))
    contents = server.requests[1].body["contents"]
    assert contents[1]["parts"] == [part, part]
    assert [part["functionResponse"] for part in contents[2]["parts"]] == [
        {"name": "weather", "response": {"output": "wet"}},
        {"name": "weather", "response": {"output": "dry"}},
    ]


async def test_a_call_of_another_model_has_the_documented_signature(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    call = ToolCall("t1", "weather", '{"city": ')
    result = Message("tool", "no", tool_call="t1")
    messages = [Message("user", "x"), Message("assistant", "", tool_calls=[call]), result]
    await hear(client, ask(**GEMINI_3, messages=messages, tools=[WEATHER]))
    part = server.requests[0].body["contents"][1]["parts"][0]
    assert part["functionCall"] == {"name": "weather", "args": {"arguments": '{"city": '}}
    assert base64.b64decode(part["thoughtSignature"]) == b"skip_thought_signature_validator"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"grounding": True, "url_context": True, "code_execution": False}, [{"googleSearch": {}}, {"urlContext": {}}]),
        ({"grounding_search": True, "code_execution": True}, [{"googleSearch": {}}, {"codeExecution": {}}]),
    ],
)
async def test_tools_that_google_executes(
    server: ModelServer, client: ModelClient, more: dict[str, Any], expected: list[dict[str, Any]]
):
    code = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
    say(server, event(code, {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}}, finish="STOP"))
    chunks = await hear(client, ask(**GEMINI, parameters=more))
    assert text_of(chunks) == "\n```python\nprint(1)\n```\n\n```\n1\n\n```\n"
    assert server.requests[0].body["tools"] == expected
    await hear(client, ask(**GEMINI, parameters=more, tools=[WEATHER]))
    assert [list(tool) for tool in server.requests[1].body["tools"]] == [["functionDeclarations"]]  # not both, as Dify


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"json_schema": '{"type": "object"}'}, {"responseJsonSchema": {"type": "object"}}),
        ({"response_format": "JSON"}, {}),
        (
            {"response_format": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}},
            {"responseJsonSchema": {"a": 1}},
        ),
    ],
)
async def test_json(server: ModelServer, client: ModelClient, parameters: dict[str, Any], expected: dict[str, Any]):
    say(server, *HELLO)
    await hear(client, ask(**GEMINI, parameters=parameters))
    config = server.requests[0].body["generationConfig"]
    assert config == {"responseMimeType": "application/json"} | expected


async def test_a_schema_that_is_refused_is_in_the_prompt_as_well(server: ModelServer, client: ModelClient):
    error = {"code": 400, "message": "The specified schema produces too many states.", "status": "INVALID_ARGUMENT"}
    server.answer(lambda request: request.refuse(400, {"error": error}), lambda request: send(request, *HELLO))
    schema = {"type": "object", "required": ["a"]}
    assert text_of(await hear(client, ask(**GEMINI, schema=schema))) == "Hello"
    configs = [request.body["generationConfig"] for request in server.requests]
    assert configs == [
        {"responseMimeType": "application/json", "responseJsonSchema": schema},
        {"responseMimeType": "application/json"},
    ]
    assert '"required": ["a"]' in server.requests[0].body["systemInstruction"]["parts"][0]["text"]


async def test_service_tier(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    await hear(client, ask(**GEMINI, parameters={"flex_inference": True}))
    assert server.requests[0].body["serviceTier"] == "flex"


# ---------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("reason", "kind", "calls"),
    [
        ("SAFETY", "InvokeBadRequestError", 1),
        ("PROHIBITED_CONTENT", "InvokeBadRequestError", 1),
        ("RECITATION", "InvokeBadRequestError", 1),
        ("MALFORMED_FUNCTION_CALL", "InvokeServerUnavailableError", 3),
    ],
)
async def test_a_blocked_answer_is_an_error(
    server: ModelServer, client: ModelClient, reason: str, kind: str, calls: int
):
    say(server, event(finish=reason))
    raised = await failure(client, **GEMINI)
    assert (str(raised), raised.kind) == (f"google stopped its answer: {reason}.", kind)
    assert len(server.requests) == calls


async def test_a_blocked_prompt_is_an_error(server: ModelServer, client: ModelClient):
    say(server, {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5}})
    raised = await failure(client, **GEMINI)
    assert (str(raised), raised.kind) == ("google blocked the prompt: SAFETY.", "InvokeBadRequestError")


async def test_an_answer_that_is_cut_at_the_limit_is_not(server: ModelServer, client: ModelClient):
    say(server, event(finish="MAX_TOKENS", thoughtsTokenCount=50))
    chunks = await hear(client, ask(**GEMINI))
    assert (text_of(chunks), chunks[-1].finish_reason) == ("", "MAX_TOKENS")


@pytest.mark.parametrize(
    ("status", "error", "kind", "calls"),
    [
        (400, {"status": "INVALID_ARGUMENT"}, "InvokeBadRequestError", 1),
        (400, {"details": [{"reason": "API_KEY_INVALID"}]}, "InvokeAuthorizationError", 1),
        (403, {"status": "PERMISSION_DENIED"}, "InvokeAuthorizationError", 1),
        (404, {"status": "NOT_FOUND"}, "InvokeBadRequestError", 1),
        (429, {"details": [{"@type": "RetryInfo", "retryDelay": "0.001s"}]}, "InvokeRateLimitError", 3),
        (503, {"status": "UNAVAILABLE"}, "InvokeServerUnavailableError", 3),
    ],
)
async def test_a_refusal(
    server: ModelServer, client: ModelClient, status: int, error: dict[str, Any], kind: str, calls: int
):
    body = {"error": {"code": status, "message": "no AIza-secret"} | error}
    server.answer(lambda request: request.refuse(status, body))
    raised = await failure(client, **GEMINI)
    assert (str(raised), raised.kind) == ("no ***", kind)
    assert len(server.requests) == calls


async def test_an_error_before_the_first_text_is_retried(server: ModelServer, client: ModelClient):
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    server.answer(lambda request: send(request, error), lambda request: send(request, *HELLO))
    assert text_of(await hear(client, ask(**GEMINI))) == "Hello"


async def test_an_error_after_the_first_text_fails(server: ModelServer, client: ModelClient):
    say(server, HELLO[0], {"error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED"}})
    raised = await failure(client, **GEMINI)
    assert (str(raised), raised.kind) == ("Slow down", "InvokeRateLimitError")
    assert len(server.requests) == 1


async def test_a_stream_that_is_cut_off_fails(server: ModelServer, client: ModelClient):
    async def break_off(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(sse(HELLO[0]) + sse(HELLO[1])[:40])
        request.writer.close()

    server.answer(break_off)
    raised = await failure(client, **GEMINI)
    assert raised.kind == "InvokeConnectionError"
    assert len(server.requests) == 1


async def test_a_stream_that_ends_without_a_reason_is_retried(server: ModelServer, client: ModelClient):
    server.answer(lambda request: send(request, event()), lambda request: send(request, *HELLO))
    assert text_of(await hear(client, ask(**GEMINI))) == "Hello"


# ------------------------------------------------------------------------------------------------------------ set up


@pytest.mark.parametrize(
    ("path", "requested"),
    [
        ("", "/v1beta/models/a%2Fb:streamGenerateContent?alt=sse"),
        ("/v1alpha", "/v1alpha/models/a%2Fb:streamGenerateContent?alt=sse"),
        ("/gateway/google/", "/gateway/google/v1beta/models/a%2Fb:streamGenerateContent?alt=sse"),
    ],
)
async def test_where_gemini_is(server: ModelServer, path: str, requested: str):
    say(server, *HELLO)
    client = ModelClient({"GEMINI_BASE_URL": server.url + path, "GOOGLE_API_KEY": "k"})
    await hear(client, ask(provider="gemini", model="models/a/b"))
    await client.aclose()
    assert server.requests[0].path == requested


@pytest.mark.parametrize("path", ["/v1", "/v1beta/openai", "/v1beta/openai/", "/v1/chat/completions"])
async def test_a_gateway_may_implement_openais_protocol(server: ModelServer, path: str):
    server.answer(good)
    client = ModelClient({"GEMINI_BASE_URL": server.url + path, "GEMINI_API_KEY": "k"})
    assert text_of(await hear(client, ask(**GEMINI))) == "Hello"
    await client.aclose()
    assert server.requests[0].path.endswith("/chat/completions")
    assert server.requests[0].headers["authorization"] == "Bearer k"


async def test_a_call_that_openais_protocol_brought_goes_back(server: ModelServer, client: ModelClient):
    say(server, *HELLO)
    call = ToolCall("c1", "weather", "{}", {"google": {"thought_signature": "c2ln"}})
    await hear(client, ask(**GEMINI, messages=[Message("user", "x"), Message("assistant", "", tool_calls=[call])]))
    assert server.requests[0].body["contents"][1]["parts"] == [
        {"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "c2ln"}
    ]


@pytest.mark.parametrize("provider", ["gemini", "google", "langgenius/gemini/google"])
def test_a_missing_key_is_named(provider: str):
    assert "_API_KEY" in str(ModelClient({}).missing(provider))
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        assert ModelClient({name: "k"}).missing(provider) is None
