"""What comes back: the events of a provider's stream, folded into pieces of an answer and what they cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.adapters.models.failures import in_stream
from headrace.adapters.models.prices import Price
from headrace.resources import ChatChunk, ChatRequest, Usage

_WIDE = 0x2E80  # from here on (CJK and its neighbours) a character is about a token


def estimate(text: str) -> int:
    """About how many tokens a text is, for providers that do not say: one for each CJK character, one for every four
    of the others."""
    if text.isascii():
        return (len(text) + 3) // 4
    wide = sum(1 for character in text if ord(character) >= _WIDE)
    return wide + (len(text) - wide + 3) // 4


class Answer:
    """One answer as it grows. `finished`: the provider said why it ended."""

    __slots__ = ("_first", "_price", "_prompt", "_since", "_told", "_usage", "finish_reason")

    def __init__(self, request: ChatRequest, price: Price) -> None:
        self._since = time.perf_counter()
        self._prompt = request.messages
        self._price = price
        self._first: float | None = None
        self._usage: Mapping[str, Any] | None = None
        self._told: list[str] = []
        self.finish_reason: str | None = None

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def begun(self) -> bool:
        return self._first is not None

    def take(self, payload: Mapping[str, Any]) -> ChatChunk | None:
        """One event of the stream, or a whole answer. Failure where it tells of an error."""
        choices = payload.get("choices")
        if usage := payload.get("usage"):
            self._usage = usage
        if not choices:
            if failure := in_stream(payload):
                raise failure
            return None
        choice: Mapping[str, Any] = choices[0]
        if choice.get("index"):
            return None  # of several answers (`n`) the first is taken
        if reason := choice.get("finish_reason"):
            self.finish_reason = str(reason)
        delta: Mapping[str, Any] | None = choice.get("delta") or choice.get("message")
        if delta is None:
            text, reasoning = choice.get("text") or "", ""
        else:
            text, reasoning = delta.get("content") or "", delta.get("reasoning_content") or delta.get("reasoning") or ""
            if text.__class__ is not str or reasoning.__class__ is not str:
                text, reasoning = _told(text, reasoning)
            if not text and not reasoning:
                text = str(delta.get("refusal") or "")
        if not text and not reasoning:
            if failure := in_stream(payload):
                raise failure
            return None
        if self._first is None:
            self._first = time.perf_counter()
        self._told.append(text)
        if reasoning:
            self._told.append(reasoning)
        return ChatChunk(text, reasoning)

    def last(self) -> ChatChunk:
        """Why the answer ended and what it used: as the provider counts it, else by estimate."""
        end = time.perf_counter()
        told = self._usage or {}
        prompt, completion = _count(told, "prompt_tokens"), _count(told, "completion_tokens")
        if prompt is None:
            prompt = sum(estimate(message.text) for message in self._prompt)
        if completion is None:
            completion = estimate("".join(self._told))
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
        return ChatChunk(finish_reason=self.finish_reason, usage=usage)


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return int(value) if isinstance(value, int | float) and value >= 0 else None


def _told(content: Any, reasoning: Any) -> tuple[str, str]:
    """(text, reasoning) of content that comes in parts: text, and thinking which again has parts."""
    if not isinstance(content, list):
        return _joined(content), _joined(reasoning)
    text, thought = "", _joined(reasoning)
    for part in cast("list[Any]", content):
        if isinstance(part, dict) and "thinking" in part:
            thought += _joined(cast("dict[str, Any]", part)["thinking"])
        else:
            text += _joined(part)
    return text, thought


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
