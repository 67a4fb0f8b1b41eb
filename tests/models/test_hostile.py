"""Answers that break their protocol: all protocols treat them alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.adapters.models.sse import MAX_EVENT
from headrace.ports.services import MOST_TOKENS
from tests.models import test_anthropic, test_bedrock, test_gemini
from tests.models.server import ModelServer, ReceivedRequest, ask, failure, hear, piece, text_of

frame = test_bedrock.frame


def lines(*events: dict[str, Any]) -> bytes:
    """Server-sent events, in UTF-8 where they have no half of a character."""
    return b"".join(b"data: " + _json(event) + b"\n\n" for event in events)


def _json(event: dict[str, Any]) -> bytes:
    try:
        return json.dumps(event, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(event).encode()


@dataclass(frozen=True)
class Protocol:
    """How one protocol says the same: a piece of text, calls by their ids, an error, and the end with token counts."""

    provider: str
    text: Callable[[Any], bytes]
    calls: Callable[[list[Any]], bytes]
    error: Callable[[], bytes]
    end: Callable[[Any], bytes]
    content_type: str = "text/event-stream"


def _counts(count: Any, *names: str) -> Any:
    """The counts of one answer; no object if the count is "odd"."""
    return [1] if count == "odd" else dict.fromkeys(names, count)


def _anthropic_end(count: Any) -> bytes:
    start, (delta, stop) = test_anthropic.start(), test_anthropic.end()
    start["message"]["usage"] = _counts(count, "input_tokens")
    return lines(start, delta | {"usage": _counts(count, "output_tokens")}, stop)


def _anthropic_calls(ids: list[Any]) -> bytes:
    blocks = ({"type": "tool_use", "id": id_, "name": "f", "input": {}} for id_ in ids)
    return lines(*(event for at, block in enumerate(blocks) for event in test_anthropic.block(at, block)))


def _gemini_end(count: Any) -> bytes:
    counts = _counts(count, "promptTokenCount", "candidatesTokenCount")
    return lines(test_gemini.event(finish="STOP") | {"usageMetadata": counts})


def _converse_end(count: Any) -> bytes:
    counts = _counts(count, "inputTokens", "outputTokens")
    return frame("messageStop", {"stopReason": "end_turn"}) + frame("metadata", {"usage": counts})


PROTOCOLS = [
    Protocol(
        "openai",
        lambda text: lines(piece(text)),
        lambda ids: lines(
            *(piece(tool_calls=[{"index": at, "id": id_, "function": {"name": "f"}}]) for at, id_ in enumerate(ids))
        ),
        lambda: lines({"error": {"message": "boom"}}),
        lambda count: lines(
            piece(finish="stop"), {"choices": [], "usage": _counts(count, "prompt_tokens", "completion_tokens")}
        ),
    ),
    Protocol(
        "anthropic",
        lambda text: lines(*test_anthropic.text_block(0, text)),
        _anthropic_calls,
        lambda: lines({"error": {"message": "boom"}}),
        _anthropic_end,
    ),
    Protocol(
        "gemini",
        lambda text: lines(test_gemini.event({"text": text})),
        lambda ids: lines(test_gemini.event(*({"functionCall": {"id": id_, "name": "f"}} for id_ in ids))),
        lambda: lines({"error": {"message": "boom"}}),
        _gemini_end,
    ),
    Protocol(
        "bedrock",
        lambda text: test_bedrock.delta(0, {"text": text}),
        lambda ids: b"".join(
            frame("contentBlockStart", {"start": {"toolUse": {"toolUseId": id_, "name": "f"}}}) for id_ in ids
        ),
        lambda: frame("internalServerException", {"message": "boom"}, "exception"),
        _converse_end,
        "application/vnd.amazon.eventstream",
    ),
]


@pytest.fixture(params=PROTOCOLS, ids=lambda protocol: protocol.provider)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return request.param


@pytest.fixture
async def client(server: ModelServer):
    names = ("OPENAI", "ANTHROPIC", "GEMINI")
    environ = {f"{name}_BASE_URL": f"{server.url}/v1" if name == "OPENAI" else server.url for name in names}
    environ |= {f"{name}_API_KEY": "secret" for name in (*names, "BEDROCK")}
    client = ModelClient(
        environ | {"AWS_REGION": "r", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": server.url}, backoff=0.001, idle=5.0
    )
    yield client
    await client.aclose()


def say(server: ModelServer, protocol: Protocol, data: bytes, size: int = 1 << 16) -> dict[str, Any]:
    """The server sends this in pieces of a size; the request that it answers."""

    async def send(request: ReceivedRequest) -> None:
        await request.head(Content_Type=protocol.content_type)
        for start in range(0, len(data), size):
            await request.chunk(data[start : start + size])
        await request.chunk(b"")

    server.answer(send)
    return {"provider": protocol.provider, "model": "anthropic.claude-3"}


async def test_characters_that_are_split(server: ModelServer, client: ModelClient, protocol: Protocol):
    request = say(server, protocol, protocol.text("é 😀 宜") + protocol.end(3), size=1)
    assert text_of(await hear(client, ask(**request))) == "é 😀 宜"


async def test_halves_of_a_character(server: ModelServer, client: ModelClient, protocol: Protocol):
    texts = (protocol.text(half) for half in ("a\ud83d", "\ude00b", "\ud83d"))
    request = say(server, protocol, b"".join(texts) + protocol.end(3))
    assert text_of(await hear(client, ask(**request))) == "a😀b\ufffd"


@pytest.mark.parametrize("text", [None, 7, {"a": 1}])
async def test_a_text_that_is_none(server: ModelServer, client: ModelClient, protocol: Protocol, text: Any):
    request = say(server, protocol, protocol.text(text) + protocol.text("x") + protocol.end(3))
    assert text_of(await hear(client, ask(**request))) == "x"


@pytest.mark.parametrize(
    ("count", "counted"),
    [(3, 3), ("3", None), (None, None), (-3, None), (True, None), ([3], None), ("odd", None), (10**400, MOST_TOKENS)],
)
async def test_token_counts(
    server: ModelServer, client: ModelClient, protocol: Protocol, count: Any, counted: int | None
):
    request = say(server, protocol, protocol.text("x") + protocol.end(count))
    reported = (await hear(client, ask(**request)))[-1].usage
    assert reported is not None
    estimate = (2, 1)  # of "hello" and "x"
    assert (reported.prompt_tokens, reported.completion_tokens) == (estimate if counted is None else (counted, counted))


@pytest.mark.parametrize(
    ("ids", "expected"), [(["t", "t"], ["t", "t"]), ([None, None], ["call_0", "call_1"]), (["", "t"], ["call_0", "t"])]
)
async def test_ids_of_calls(
    server: ModelServer, client: ModelClient, protocol: Protocol, ids: list[Any], expected: list[str]
):
    request = say(server, protocol, protocol.calls(ids) + protocol.end(3))
    calls = (await hear(client, ask(**request)))[-1].tool_calls
    assert [(call.id, call.name) for call in calls] == [(id_, "f") for id_ in expected]


async def test_an_id_that_is_a_number_fails(server: ModelServer, client: ModelClient, protocol: Protocol):
    request = say(server, protocol, protocol.calls([7]) + protocol.end(3))
    raised = await failure(client, **request)
    assert (raised.kind, len(server.requests)) == ("InvokeConnectionError", 1)


async def test_an_error_in_place_of_an_answer(server: ModelServer, client: ModelClient, protocol: Protocol):
    raised = await failure(client, **say(server, protocol, protocol.error()))
    assert (str(raised), raised.kind, len(server.requests)) == ("boom", "InvokeServerUnavailableError", 3)
    raised = await failure(client, **say(server, protocol, protocol.text("x") + protocol.error()))
    assert (str(raised), raised.kind, len(server.requests)) == ("boom", "InvokeServerUnavailableError", 4)


@pytest.mark.parametrize("data", [b'data: {"a\n\ndata: }\n\n', b"data: " + b"[" * 100_000 + b"\n\n"])
async def test_what_is_not_json(server: ModelServer, client: ModelClient, protocol: Protocol, data: bytes):
    raised = await failure(client, **say(server, protocol, data))
    assert (raised.kind, len(server.requests)) == ("InvokeConnectionError", 1)


async def test_an_event_without_end(server: ModelServer, client: ModelClient, protocol: Protocol):
    raised = await failure(client, **say(server, protocol, b"data: " + b"a" * (MAX_EVENT + 1)))
    assert (raised.kind, len(server.requests)) == ("InvokeConnectionError", 1)


async def test_an_answer_that_is_cut_off(server: ModelServer, client: ModelClient, protocol: Protocol):
    raised = await failure(client, **say(server, protocol, protocol.text("x")))
    assert (raised.kind, len(server.requests)) == ("InvokeConnectionError", 1)
    server.requests.clear()
    raised = await failure(client, **say(server, protocol, b""))
    assert (raised.kind, len(server.requests)) == ("InvokeConnectionError", 3)


@pytest.mark.parametrize(
    ("body", "kind", "calls"),
    [
        ({"error": {"code": 429, "message": "slow"}}, "InvokeRateLimitError", 3),
        ([{"error": {"code": 400}}], "InvokeConnectionError", 1),
        ({}, "InvokeConnectionError", 3),
        (None, "InvokeConnectionError", 1),
        (b"<html>", "InvokeConnectionError", 1),
    ],
)
async def test_a_200_that_is_not_an_answer(
    server: ModelServer, client: ModelClient, protocol: Protocol, body: Any, kind: str, calls: int
):
    request = say(server, protocol, b"")
    server.answer(lambda received: received.refuse(200, body))
    raised = await failure(client, **request)
    assert (raised.kind, len(server.requests)) == (kind, calls)
