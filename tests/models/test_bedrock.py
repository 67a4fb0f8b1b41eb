"""Amazon Bedrock: the Converse protocol with its binary stream, credentials, and names of models."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from headrace.adapters.models import ModelClient
from headrace.ports.services import FunctionTool, Message
from headrace.values import File
from tests.models.server import ModelServer, ReceivedRequest, ask, failure, good, hear, text_of
from tests.models.test_request import Stored

CLAUDE: dict[str, Any] = {
    "provider": "langgenius/bedrock/bedrock",
    "model": "anthropic claude",
    "parameters": {"model_name": "Claude 4.5 Sonnet", "cross-region": "geographic", "max_tokens": 50},
}
ID = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ENCODED = "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"
WEATHER = FunctionTool("weather", "The weather.", {"type": "object", "properties": {}})


def environ_of(server: ModelServer, **more: str) -> dict[str, str]:
    return {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": server.url} | more


@pytest.fixture
async def client(server: ModelServer) -> AsyncIterator[ModelClient]:
    environ = environ_of(server, AWS_BEARER_TOKEN_BEDROCK="bedrock-secret")
    client = ModelClient(environ, Stored(), backoff=0.001, idle=1.0)
    yield client
    await client.aclose()


def frame(kind: str, data: dict[str, Any], message_type: str = "event") -> bytes:
    """A frame of AWS's event stream encoding."""
    name = ":exception-type" if message_type == "exception" else ":event-type"
    headers = b"".join(
        struct.pack("!B", len(key)) + key.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for key, value in ((name, kind), (":content-type", "application/json"), (":message-type", message_type))
    )
    payload = json.dumps(data).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def delta(index: int, content: dict[str, Any]) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": index, "delta": content})


def tool(index: int, call_id: str, *parts: str) -> bytes:
    begin = {"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": call_id, "name": "weather"}}}
    deltas = b"".join(delta(index, {"toolUse": {"input": part}}) for part in parts)
    return frame("contentBlockStart", begin) + deltas + frame("contentBlockStop", {"contentBlockIndex": index})


def end(reason: str = "end_turn", **usage: int) -> bytes:
    counts = {"inputTokens": 10, "outputTokens": 20, "totalTokens": 30} | usage
    metadata = {"usage": counts, "metrics": {"latencyMs": 5}}
    return frame("messageStop", {"stopReason": reason}) + frame("metadata", metadata)


START = frame("messageStart", {"role": "assistant"})
HELLO = START + delta(0, {"text": "Hel"}) + delta(0, {"text": "lo"}) + end()


async def send(request: ReceivedRequest, data: bytes, size: int = 100_000) -> None:
    await request.head(Content_Type="application/vnd.amazon.eventstream")
    for start in range(0, len(data), size):
        await request.chunk(data[start : start + size])
    await request.chunk(b"")


def say(server: ModelServer, data: bytes, size: int = 100_000) -> None:
    server.answer(lambda request: send(request, data, size))


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_request_and_its_streamed_answer(server: ModelServer, client: ModelClient, size: int):
    say(server, HELLO, size)
    messages = [
        Message("system", "Be brief."),
        Message("user", "What?", files=[File("image", "local_file", mime_type="image/png")]),
    ]
    parameters = CLAUDE["parameters"] | {"temperature": 0.5, "top_k": 0, "latest_two_messages_cache_checkpoint": True}
    chunks = await hear(client, ask(**CLAUDE | {"parameters": parameters}, messages=messages, stop=["END"]))
    assert text_of(chunks) == "Hello"
    assert chunks[-1].finish_reason == "end_turn"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (10, 20)
    assert usage.wire()["total_price"] == "0.0003300"  # 3 $ and 15 $ per million
    request = server.requests[0]
    assert request.path == f"/model/{ENCODED}/converse-stream"
    assert request.headers["authorization"] == "Bearer bedrock-secret"
    assert request.body == {
        "system": [{"text": "Be brief."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"image": {"format": "png", "source": {"bytes": "iVBORyBkYXRh"}}},
                    {"text": "What?"},
                    {"cachePoint": {"type": "default"}},
                ],
            }
        ],
        "inferenceConfig": {"maxTokens": 50, "temperature": 0.5, "stopSequences": ["END"]},
    }


async def test_cached_tokens_count_at_their_price(server: ModelServer, client: ModelClient):
    say(server, START + delta(0, {"text": "x"}) + end(cacheReadInputTokens=1000, cacheWriteInputTokens=100))
    usage = (await hear(client, ask(**CLAUDE)))[-1].usage
    assert usage is not None
    assert usage.prompt_tokens == 10 + 125 + 100


async def test_parallel_tool_calls_with_reasoning_that_is_sent_back(server: ModelServer, client: ModelClient):
    reasoning = [{"text": "Two "}, {"text": "cities."}, {"signature": "c2ln"}, {"redactedContent": "eA=="}]
    thought = b"".join(delta(0, {"reasoningContent": part}) for part in reasoning)
    say(server, START + thought + tool(1, "t1", '{"city": ', '"Lyon"}') + tool(2, "t2") + end("tool_use"))
    chunks = await hear(client, ask(**CLAUDE, tools=[WEATHER]))
    assert "".join(chunk.reasoning for chunk in chunks) == "Two cities."
    calls = chunks[-1].tool_calls
    assert [(call.id, call.name, call.arguments) for call in calls] == [
        ("t1", "weather", '{"city": "Lyon"}'),
        ("t2", "weather", "{}"),
    ]
    spec = {"name": "weather", "description": "The weather."}
    schema = {"json": {"type": "object", "properties": {}}}
    assert server.requests[0].body["toolConfig"] == {"tools": [{"toolSpec": spec | {"inputSchema": schema}}]}

    messages = [
        Message("user", "Rain?"),
        Message("assistant", "", tool_calls=calls),
        Message("tool", "wet", tool_call="t1"),
        Message("tool", "dry", tool_call="t2"),
    ]
    await hear(client, ask(**CLAUDE, messages=messages))
    body = server.requests[1].body
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Two cities.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "eA=="}},
                {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Lyon"}}},
                {"toolUse": {"toolUseId": "t2", "name": "weather", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "t1", "content": [{"text": "wet"}]}},
                {"toolResult": {"toolUseId": "t2", "content": [{"text": "dry"}]}},
            ],
        },
    ]
    assert body["toolConfig"]["tools"][0]["toolSpec"]["name"] == "weather"


@pytest.mark.parametrize(
    ("model", "parameters", "path"),
    [
        ("anthropic claude", {"model_name": "Claude 3 Haiku"}, "anthropic.claude-3-haiku-20240307-v1%3A0"),
        ("amazon nova", {"model_name": "Nova Pro V1", "cross-region": "global"}, "global.amazon.nova-pro-v1%3A0"),
        ("anthropic.claude-3-haiku-20240307-v1:0", {}, "anthropic.claude-3-haiku-20240307-v1%3A0"),
        ("arn:aws:bedrock:x:1:inference-profile/p", {}, "arn%3Aaws%3Abedrock%3Ax%3A1%3Ainference-profile%2Fp"),
    ],
)
async def test_the_model_of_a_file(
    server: ModelServer, client: ModelClient, model: str, parameters: dict[str, str], path: str
):
    say(server, HELLO)
    await hear(client, ask(**CLAUDE | {"model": model, "parameters": parameters}))
    assert server.requests[0].path == f"/model/{path}/converse-stream"


async def test_an_unknown_model_is_named(client: ModelClient):
    raised = await failure(client, **CLAUDE | {"parameters": {"model_name": "Claude 99"}})
    assert "'Claude 99' of 'anthropic claude' is not known" in str(raised)


@pytest.mark.parametrize("reasoning", [True, "enabled"])
async def test_thinking_of_claude(server: ModelServer, client: ModelClient, reasoning: bool | str):
    say(server, HELLO)
    parameters = CLAUDE["parameters"] | {"max_tokens": 4000, "reasoning_type": reasoning, "reasoning_budget": 2000}
    await hear(client, ask(**CLAUDE | {"parameters": parameters | {"temperature": 0.2}}))
    body = server.requests[0].body
    assert body["inferenceConfig"] == {"maxTokens": 4000}
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 2000}}


# ------------------------------------------------------------------------------------------------------- credentials


def signature_of(request: ReceivedRequest, secret: str) -> str:
    """AWS's signature, version 4, of a request as the server received it."""
    fields = dict(part.split("=", 1) for part in request.headers["authorization"].split(" ", 1)[1].split(", "))
    names, scope = fields["SignedHeaders"].split(";"), fields["Credential"].split("/", 1)[1]
    headers = "".join(f"{name}:{request.headers[name]}\n" for name in names)
    digest = hashlib.sha256(json.dumps(request.body, separators=(",", ":")).encode()).hexdigest()
    canonical = "\n".join(["POST", quote(request.path, safe="/~"), "", headers, fields["SignedHeaders"], digest])
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hashed])
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return f"{fields['Signature']} {hmac.digest(key, text.encode(), 'sha256').hex()}"


async def test_requests_are_signed_with_an_access_key(server: ModelServer):
    say(server, HELLO)
    environ = environ_of(server, AWS_ACCESS_KEY_ID="AKID", AWS_SECRET_ACCESS_KEY="aws-secret", AWS_SESSION_TOKEN="tok")
    client = ModelClient(environ)
    assert text_of(await hear(client, ask(**CLAUDE))) == "Hello"
    await client.aclose()
    sent, expected = signature_of(server.requests[0], "aws-secret").split()
    assert sent == expected
    assert server.requests[0].headers["x-amz-security-token"] == "tok"


async def test_the_credentials_of_a_profile(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    say(server, HELLO)
    shared = tmp_path / "credentials"
    shared.write_text("[work]\naws_access_key_id = AKID\naws_secret_access_key = from-profile\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_PROFILE", "work")
    client = ModelClient(environ_of(server, AWS_PROFILE="work"))
    await hear(client, ask(**CLAUDE))
    await client.aclose()
    sent, expected = signature_of(server.requests[0], "from-profile").split()
    assert sent == expected


async def test_a_profile_that_does_not_exist_is_named(server: ModelServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    client = ModelClient(environ_of(server, AWS_PROFILE="nowhere"))
    raised = await failure(client, **CLAUDE)
    await client.aclose()
    assert raised.kind == "ProviderTokenNotInitError"
    assert "nowhere" in str(raised)


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, ["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_REGION"]),
        ({"AWS_REGION": "eu-west-1"}, ["AWS_BEARER_TOKEN_BEDROCK"]),
        ({"BEDROCK_API_KEY": "k"}, ["AWS_REGION"]),
    ],
)
def test_a_missing_setting_is_named(environ: dict[str, str], missing: list[str]):
    message = ModelClient(environ).missing("bedrock")
    assert message is not None
    assert [name for name in missing if name not in message] == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    environ = {"BEDROCK_API_KEY": "k", "AWS_DEFAULT_REGION": "eu-west-1"}
    assert ModelClient(environ).missing("bedrock") is None
    monkeypatch.setattr("headrace.adapters.models.aws.find_spec", lambda name: None)
    assert 'pip install "headrace[bedrock]"' in str(ModelClient(environ).missing("bedrock"))


async def test_a_gateway_with_openais_protocol(server: ModelServer):
    server.answer(good)
    client = ModelClient({"BEDROCK_BASE_URL": f"{server.url}/v1"})
    assert text_of(await hear(client, ask(**CLAUDE))) == "Hello"
    await client.aclose()
    assert server.requests[0].path == "/v1/chat/completions"


# ---------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("status", "kind", "calls"),
    [
        (400, "InvokeBadRequestError", 1),
        (403, "InvokeAuthorizationError", 1),
        (429, "InvokeRateLimitError", 3),
        (503, "InvokeServerUnavailableError", 3),
    ],
)
@pytest.mark.parametrize("field", ["message", "Message"])
async def test_a_refusal(server: ModelServer, client: ModelClient, status: int, kind: str, calls: int, field: str):
    server.answer(lambda request: request.refuse(status, {field: "no bedrock-secret"}))
    raised = await failure(client, **CLAUDE)
    assert (str(raised), raised.kind) == ("no ***", kind)
    assert len(server.requests) == calls


@pytest.mark.parametrize(
    ("exception", "kind"),
    [
        ("throttlingException", "InvokeRateLimitError"),
        ("validationException", "InvokeBadRequestError"),
        ("modelStreamErrorException", "InvokeServerUnavailableError"),
        ("internalServerException", "InvokeServerUnavailableError"),
    ],
)
async def test_an_exception_in_the_stream(server: ModelServer, client: ModelClient, exception: str, kind: str):
    say(server, START + delta(0, {"text": "Hel"}) + frame(exception, {"message": "no more"}, "exception"))
    raised = await failure(client, **CLAUDE)
    assert (str(raised), raised.kind) == ("no more", kind)


async def test_an_exception_before_the_first_text_is_retried(server: ModelServer, client: ModelClient):
    exception = frame("serviceUnavailableException", {"message": "busy"}, "exception")
    server.answer(lambda request: send(request, exception), lambda request: send(request, HELLO))
    assert text_of(await hear(client, ask(**CLAUDE))) == "Hello"


async def test_a_connection_lost_in_the_middle_fails(server: ModelServer, client: ModelClient):
    say(server, START + delta(0, {"text": "Hel"}) + end()[:20])
    raised = await failure(client, **CLAUDE)
    assert raised.kind == "InvokeConnectionError"
    assert len(server.requests) == 1


async def test_a_damaged_frame_fails(server: ModelServer):
    damaged = bytearray(START + delta(0, {"text": "Hel"}))
    damaged[-10] ^= 1
    say(server, bytes(damaged))
    client = ModelClient(environ_of(server, BEDROCK_API_KEY="k"), tries=1)
    raised = await failure(client, **CLAUDE)
    await client.aclose()
    assert raised.kind == "InvokeConnectionError"
    assert "malformed event stream" in str(raised)
