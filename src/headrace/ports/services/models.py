"""Language models, and speech."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import field
from decimal import Decimal
from typing import Literal, Protocol

from headrace.frozen import frozen
from headrace.values import File, Value

MOST_TOKENS = 2**31 - 1
"""Higher token counts are clamped to this, so that they fit every client's integer."""


@frozen
class ToolCall:
    """A model's request to call a tool. `arguments` is JSON text as the model wrote it, so it may be invalid.

    `extra_content` is what some providers send with a call and expect back with it, such as signed reasoning.
    """

    id: str
    name: str
    arguments: str
    extra_content: Mapping[str, Value] | None = None


@frozen
class FunctionTool:
    """A function that a model may call; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Value]


@frozen
class Message:
    """One message of a prompt. `files` are sent with `detail` (low, high) to models that accept them.

    A message of the assistant may have `tool_calls`; `tool_call` is the id of the call that a tool's message answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    files: Sequence[File] = ()
    detail: str = "high"
    tool_calls: Sequence[ToolCall] = ()
    tool_call: str | None = None


@frozen
class ChatRequest:
    """A call of a model.

    `provider` is written as in the workflow (`openai`, `langgenius/openai/openai`, ...): its last part names the
    provider. `parameters` are completion parameters (temperature, max_tokens, response_format ...); `schema` is a
    JSON schema for the answer; `mode` is chat or completion; `tools` are those that the model may call. `run`, if there
    is one, makes the call: runs take turns where calls have to wait.
    """

    provider: str
    model: str
    messages: Sequence[Message]
    parameters: Mapping[str, Value] = field(default_factory=dict[str, Value])
    stop: Sequence[str] = ()
    schema: Mapping[str, Value] | None = None
    user: str | None = None
    mode: str = "chat"
    tools: Sequence[FunctionTool] = ()
    run: str = ""


@frozen
class Usage:
    """Tokens and price of one answer. Unit prices are for `price_unit` (0.001: a thousand tokens); times in seconds."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_unit_price: Decimal = Decimal(0)
    completion_unit_price: Decimal = Decimal(0)
    price_unit: Decimal = Decimal("0.001")
    currency: str = "USD"
    latency: float = 0.0
    time_to_first_token: float | None = None
    time_to_generate: float | None = None

    def wire(self) -> dict[str, Value]:
        """Dify's `usage` object: prices are strings, with seven decimals at most."""
        prompt = _price(self.prompt_tokens, self.prompt_unit_price, self.price_unit)
        completion = _price(self.completion_tokens, self.completion_unit_price, self.price_unit)
        return {
            "prompt_tokens": self.prompt_tokens,
            "prompt_unit_price": str(self.prompt_unit_price),
            "prompt_price_unit": str(self.price_unit),
            "prompt_price": str(prompt),
            "completion_tokens": self.completion_tokens,
            "completion_unit_price": str(self.completion_unit_price),
            "completion_price_unit": str(self.price_unit),
            "completion_price": str(completion),
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "total_price": str(prompt + completion),
            "currency": self.currency,
            "latency": round(self.latency, 3),
            "time_to_first_token": _rounded(self.time_to_first_token),
            "time_to_generate": _rounded(self.time_to_generate),
        }


def _price(tokens: int, unit_price: Decimal, price_unit: Decimal) -> Decimal:
    return (unit_price * tokens * price_unit).quantize(Decimal("0.0000001"))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


_WIDE = 0x2E80  # from here on (mostly CJK) a character is about a token


def estimate_tokens(text: str) -> int:
    """An estimate of a text's tokens: one for each CJK character, one for every four others."""
    if text.isascii():
        return (len(text) + 3) // 4
    wide = sum(1 for character in text if ord(character) >= _WIDE)
    return wide + (len(text) - wide + 3) // 4


@frozen
class ChatChunk:
    """A piece of an answer: text or reasoning; in the last one the finish reason, usage and tool calls."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    tool_calls: Sequence[ToolCall] = ()


class Models(Protocol):
    """Language models of every provider."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk]:
        """Streams the answer; the last chunk has `usage`. NodeError: no credentials (`ProviderTokenNotInitError`),
        a refused or failed call (`InvokeBadRequestError`, `InvokeRateLimitError`, `InvokeServerUnavailableError`,
        `InvokeConnectionError`, `InvokeAuthorizationError`)."""
        ...

    def missing(self, provider: str) -> str | None:
        """A message that says which setting is missing to call this provider; None if none is."""
        ...


class Speech(Protocol):
    """Speech of every provider. If `provider` or `model` is empty, the default one is used."""

    def missing(self, provider: str = "") -> str | None:
        """A message that says which setting of a provider is missing; None if none is."""
        ...

    async def transcribe(
        self, audio: bytes, *, filename: str, mime_type: str, provider: str = "", model: str = ""
    ) -> str:
        """The words spoken. NodeError as for `Models.chat`."""
        ...

    async def speak(self, text: str, *, voice: str = "", provider: str = "", model: str = "") -> tuple[bytes, str]:
        """(audio, its MIME type). NodeError as for `Models.chat`."""
        ...
