"""The demo model: it works offline, always answers a prompt the same, and says that it is not a real model.

With `--demo-model` it replaces providers without credentials, so that a workflow can run before there is any key.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Mapping
from typing import cast

import orjson

from headrace.adapters.models.schema_sample import sample
from headrace.ports.services import ChatChunk, ChatRequest, ToolCall, Usage, estimate_tokens
from headrace.values import Value

_QUOTED = 400  # characters of the prompt that are quoted

_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_HAN = re.compile(f"[{_CJK}]")
_PIECES = re.compile(f"\\s*[{_CJK}]|\\s*[^\\s{_CJK}]+|\\s+")


async def answer(request: ChatRequest, delay: float) -> AsyncGenerator[ChatChunk, None]:
    """Streams an answer word by word (Chinese, Japanese and Korean character by character), `delay` seconds apart. For
    a schema or JSON mode it is the smallest valid object; with tools it calls the first one, with the smallest valid
    arguments."""
    since = time.perf_counter()
    calls = _calls(request)
    pieces = [] if calls else _PIECES.findall(_text(request))
    limit = request.parameters.get("max_tokens")
    cut = isinstance(limit, int) and not isinstance(limit, bool) and 0 < limit < len(pieces)
    if cut:
        pieces = pieces[: cast("int", limit)]
    first: float | None = None
    for piece in pieces:
        await asyncio.sleep(delay)
        first = first or time.perf_counter()
        yield ChatChunk(piece)
    end = time.perf_counter()
    usage = Usage(
        prompt_tokens=sum(estimate_tokens(message.text) for message in request.messages),
        completion_tokens=len(pieces) + sum(estimate_tokens(call.arguments) for call in calls),
        latency=end - since,
        time_to_first_token=None if first is None else first - since,
        time_to_generate=None if first is None else end - first,
    )
    reason = "tool_calls" if calls else "length" if cut else "stop"
    yield ChatChunk(finish_reason=reason, usage=usage, tool_calls=calls)


def _calls(request: ChatRequest) -> tuple[ToolCall, ...]:
    """A call of the first tool; none after a tool's answer, so that the conversation ends."""
    if not request.tools or (request.messages and request.messages[-1].role == "tool"):
        return ()
    tool = request.tools[0]
    return (ToolCall("call_demo", tool.name, json.dumps(sample(tool.parameters), ensure_ascii=False)),)


def _text(request: ChatRequest) -> str:
    schema = request.schema if request.schema is not None else _schema_of(request.parameters)
    if schema is not None:
        return json.dumps(sample(schema), ensure_ascii=False)
    user_texts = [message.text for message in request.messages if message.role == "user" and message.text]
    prompt = (user_texts or [message.text for message in request.messages if message.text] or [""])[-1].strip()
    excerpt = prompt if len(prompt) <= _QUOTED else prompt[:_QUOTED] + "…"
    if _HAN.search(prompt):
        return (
            "【示範模型】這段文字由 Headrace 內建的示範模型離線產生，沒有呼叫任何真正的語言模型。"
            f"收到的提示是：「{excerpt}」"
        )
    return (
        "[Demo model] This text comes from Headrace's built-in demo model: it works offline, and no real language "
        f'model was asked. The prompt was: "{excerpt}"'
    )


def _schema_of(parameters: Mapping[str, Value]) -> Mapping[str, Value] | None:
    """The schema of the completion parameters; an object with an `answer` for JSON mode; None for text."""
    format_type = parameters.get("response_format")
    if isinstance(format_type, Mapping):
        format_type = cast("Mapping[str, Value]", format_type).get("type")
    if not isinstance(format_type, str) or not format_type.lower().startswith("json"):
        return None
    schema = parameters.get("json_schema")
    if format_type == "json_schema" and isinstance(schema, str):
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError:
            schema = None
    if isinstance(schema, Mapping):
        document = cast("Mapping[str, Value]", schema)
        inner = document.get("schema")
        return cast("Mapping[str, Value]", inner) if isinstance(inner, Mapping) else document
    return {"type": "object", "properties": {"answer": {"type": "string"}}}
