"""Asking a language model: what every node that does so has in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from pydantic import Field, field_validator

from headrace.errors import NodeError
from headrace.node import Config, Context
from headrace.nodes._prompt import resolved, saved
from headrace.nodes._reasoning import SeparatedReasoning, TaggedReasoning
from headrace.ports.services import ChatRequest, FunctionTool, Message, Resources, ToolCall, Usage
from headrace.values import Value

COMPLETION = "completion"


class ModelConfig(Config):
    provider: str
    name: str
    mode: str = "chat"
    completion_params: Mapping[str, Any] = Field(default_factory=dict[str, Any])

    @field_validator("mode", mode="before")
    @classmethod
    def _plain_mode(cls, value: Any) -> Any:
        return value or "chat"

    @field_validator("completion_params", mode="before")
    @classmethod
    def _no_parameters(cls, value: Any) -> Any:
        return value or {}

    @property
    def completes(self) -> bool:
        """It goes on with a text; any other model holds a conversation."""
        return self.mode == COMPLETION

    def missing(self, resources: Resources) -> Iterable[str]:
        """What lacks before this model can be asked, in words."""
        told = resources.models.missing(self.provider)
        return (told,) if told else ()


def request_of(
    ctx: Context,
    model: ModelConfig,
    messages: Sequence[Message],
    *,
    schema: Mapping[str, Value] | None = None,
    tools: Sequence[FunctionTool] = (),
) -> ChatRequest:
    """The request, its completion parameters with the variables that they read."""
    parameters = resolved(ctx, model.completion_params)
    return ChatRequest(
        provider=model.provider,
        model=model.name,
        messages=messages,
        parameters={name: value for name, value in parameters.items() if name != "stop"},
        stop=_stop_words(parameters.get("stop")),
        schema=schema,
        user=ctx.user or None,
        mode=model.mode,
        tools=tools,
    )


def _stop_words(value: Value) -> list[str]:
    words = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [word for word in words if isinstance(word, str) and word]


def process_of(request: ChatRequest, heard: ModelAnswer) -> dict[str, Value]:
    """Process data of an answered request, as Dify has it."""
    return {
        "model_mode": request.mode,
        "prompts": saved(request.messages, request.mode),
        "usage": heard.usage.wire(),
        "finish_reason": heard.finish_reason,
        "model_provider": request.provider,
        "model_name": request.model,
    }


@contextmanager
def showing(inputs: Mapping[str, Value]) -> Generator[None, None, None]:
    """A failure inside shows what the node's inputs were, as far as they are known by then."""
    try:
        yield
    except NodeError as error:
        if not inputs or error.inputs:
            raise
        raise NodeError(str(error), error.kind, inputs=inputs, process=error.process, outputs=error.outputs) from error


def _silent(text: str) -> None:
    """Nobody listens."""


class ModelAnswer:
    """An answer, heard to its end. Its text, and its thinking where that is separated, are told piece by piece."""

    def __init__(
        self, tell: Callable[[str], None], reasoning_format: str, think: Callable[[str], None] = _silent
    ) -> None:
        self._tell = tell
        self._think = think
        self._separated = SeparatedReasoning() if reasoning_format == "separated" else None
        self._split = self._separated or TaggedReasoning()
        self._told: list[str] = []
        self.finish_reason: str | None = None
        self.usage = Usage()
        self.tool_calls: Sequence[ToolCall] = ()

    def take(self, text: str, reasoning: str) -> None:
        self._hear(self._split.feed(text, reasoning))

    def end(self) -> None:
        self._hear(self._split.end())

    def _hear(self, text: str) -> None:
        if self._separated and (thought := self._separated.thought()):
            self._think(thought)
        if text:
            self._told.append(text)
            self._tell(text)

    @property
    def text(self) -> str:
        return self._separated.text if self._separated else "".join(self._told)

    @property
    def reasoning(self) -> str:
        return self._separated.reasoning if self._separated else ""


async def complete(
    ctx: Context,
    request: ChatRequest,
    *,
    tell: Callable[[str], None] = _silent,
    think: Callable[[str], None] = _silent,
    reasoning_format: str = "tagged",
    kind: str = "LLMNodeError",
) -> ModelAnswer:
    """Asks, and hears the answer to its end. NodeError where the call fails, or, with this kind, where the answer is
    longer than a text may be."""
    heard = ModelAnswer(tell, reasoning_format, think)
    size = 0
    chunks = ctx.resources.models.chat(request)
    try:
        async for chunk in chunks:
            if chunk.text or chunk.reasoning:
                size += len(chunk.text) + len(chunk.reasoning)
                if size > ctx.limits.max_text:
                    raise NodeError(f"The model's answer is longer than {ctx.limits.max_text} characters.", kind)
                heard.take(chunk.text, chunk.reasoning)
            if chunk.usage is not None:
                heard.usage = chunk.usage
            if chunk.finish_reason is not None:
                heard.finish_reason = chunk.finish_reason
            if chunk.tool_calls:
                heard.tool_calls = chunk.tool_calls
    finally:
        if isinstance(chunks, AsyncGenerator):  # closes the connection now, not when the garbage is collected
            await chunks.aclose()
    heard.end()
    return heard
