"""The response: the events of a provider's stream as pieces of an answer, and its usage."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.adapters.models.failures import in_stream
from headrace.adapters.models.prices import Price
from headrace.adapters.models.tool_calls import Calls
from headrace.content.surrogates import Mending
from headrace.ports.services import MOST_TOKENS, ChatChunk, ChatRequest, Usage, estimate_tokens


class Answer:
    """One answer as it arrives. `finished`: there is a finish reason; `started`: some of it has arrived; `passed_on`:
    some text was passed on, so the call cannot be retried."""

    __slots__ = (
        "_calls",
        "_first",
        "_price",
        "_reasoning",
        "_request",
        "_since",
        "_text",
        "_texts",
        "_usage",
        "finish_reason",
    )

    def __init__(self, request: ChatRequest, price: Price) -> None:
        self._since = time.perf_counter()
        self._request = request
        self._price = price
        self._first: float | None = None
        self._usage: Mapping[str, Any] | None = None
        self._texts: list[str] = []
        self._calls = Calls()
        self._text, self._reasoning = Mending(), Mending()
        self.finish_reason: str | None = None

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def started(self) -> bool:
        return self._first is not None

    @property
    def passed_on(self) -> bool:
        return bool(self._texts)

    def restart(self) -> None:
        """The call is retried: parts of tool calls are dropped."""
        self._calls = Calls()
        self._text, self._reasoning = Mending(), Mending()
        self._first = None

    def add(self, payload: Mapping[str, Any]) -> ChatChunk | None:
        """Adds an event of the stream, or a whole response. Failure if it is an error."""
        choices = payload.get("choices")
        if isinstance(usage := payload.get("usage"), dict):
            self._usage = cast("dict[str, Any]", usage)
        if not choices:
            if failure := in_stream(payload):
                raise failure
            return None
        choice: Mapping[str, Any] = choices[0]
        if choice.get("index"):
            return None  # of several answers (`n`), only the first is used
        delta: Mapping[str, Any] | None = choice.get("delta") or choice.get("message")
        if delta is None:
            text, reasoning = choice.get("text") or "", ""
        else:
            if "tool_calls" in delta or "function_call" in delta:
                self._call(delta, whole="delta" not in choice)
            text, reasoning = delta.get("content") or "", delta.get("reasoning_content") or delta.get("reasoning") or ""
            if text.__class__ is not str or reasoning.__class__ is not str:
                text, reasoning = _texts_of(text, reasoning)
            if not text and not reasoning:
                text = str(delta.get("refusal") or "")
        text, reasoning = self._text.feed(text), self._reasoning.feed(reasoning)
        if reason := choice.get("finish_reason"):
            self.finish_reason = str(reason)
        if not text and not reasoning:
            if failure := in_stream(payload):
                raise failure
            return None
        self._start()
        self._texts.append(text)
        if reasoning:
            self._texts.append(reasoning)
        return ChatChunk(text, reasoning)

    def _start(self) -> None:
        if self._first is None:
            self._first = time.perf_counter()

    def _call(self, delta: Mapping[str, Any], *, whole: bool) -> None:
        self._calls.add(delta, whole=whole)
        if self._calls:
            self._start()

    def last(self) -> ChatChunk:
        """The last piece: finish reason, tool calls, and usage as reported or else estimated."""
        end = time.perf_counter()
        usage_fields = self._usage or {}
        prompt, completion = _count(usage_fields, "prompt_tokens"), _count(usage_fields, "completion_tokens")
        calls = self._calls.calls()
        if prompt is None:
            prompt = sum(estimate_tokens(message.text) for message in self._request.messages)
            prompt += sum(estimate_tokens(f"{tool.description}{tool.parameters}") for tool in self._request.tools)
        if completion is None:
            completion = estimate_tokens("".join(self._texts))
            completion += sum(estimate_tokens(call.name + call.arguments) for call in calls)
        usage = Usage(
            prompt,
            completion,
            self._price.input,
            self._price.output,
            currency=self._price.currency,
            latency=end - self._since,
            time_to_first_token=None if self._first is None else self._first - self._since,
            time_to_generate=None if self._first is None else end - self._first,
        )
        rest = self._text.end(), self._reasoning.end()
        return ChatChunk(*rest, finish_reason=self.finish_reason, usage=usage, tool_calls=calls)


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    """A reported count, clamped to what clients' and databases' integers hold; None if it is not a valid count:
    negative, text, NaN."""
    value = usage.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return int(min(value, MOST_TOKENS))


def _texts_of(content: Any, reasoning: Any) -> tuple[str, str]:
    """(text, reasoning) of content in parts: text, and thinking, which again has parts."""
    if not isinstance(content, list):
        return _joined(content), _joined(reasoning)
    text, reasoning_text = "", _joined(reasoning)
    for part in cast("list[Any]", content):
        if isinstance(part, dict) and "thinking" in part:
            reasoning_text += _joined(cast("dict[str, Any]", part)["thinking"])
        else:
            text += _joined(part)
    return text, reasoning_text


def _joined(value: Any) -> str:
    match value:
        case str():
            return value
        case list():
            return "".join(_joined(item) for item in cast("Sequence[Any]", value))
        case dict():
            return _joined(cast("dict[str, Any]", value).get("text"))
        case _:
            return ""
