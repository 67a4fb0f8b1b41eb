"""Calling a language model: what the nodes that do so have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import Field, field_validator

from headrace.errors import NodeError
from headrace.node import Config, Context
from headrace.nodes._prompt import prompts_of, resolved
from headrace.nodes._reasoning import SeparatedReasoning, TaggedReasoning
from headrace.ports.services import ChatRequest, FunctionTool, Message, Resources, ToolCall, Usage
from headrace.values import Value


class ModelConfig(Config):
    provider: str
    name: str
    mode: str = "chat"
    completion_params: Mapping[str, Any] = Field(default_factory=dict[str, Any])

    @field_validator("mode", mode="before")
    @classmethod
    def _default_mode(cls, value: Any) -> Any:
        return value or "chat"

    @field_validator("completion_params", mode="before")
    @classmethod
    def _no_parameters(cls, value: Any) -> Any:
        return value or {}

    @property
    def is_completion(self) -> bool:
        """Whether it continues a text; other models take the messages of a conversation."""
        return self.mode == "completion"

    def missing(self, resources: Resources) -> Iterable[str]:
        """Messages that say what is missing to call this model."""
        message = resources.models.missing(self.provider)
        return (message,) if message else ()


def request_of(
    ctx: Context,
    model: ModelConfig,
    messages: Sequence[Message],
    *,
    schema: Mapping[str, Value] | None = None,
    tools: Sequence[FunctionTool] = (),
) -> ChatRequest:
    """The request, with the variables in its completion parameters resolved."""
    parameters = resolved(ctx, model.completion_params)
    stop = parameters.pop("stop", None)
    words = cast("list[Any]", stop) if isinstance(stop, list) else [stop]
    return ChatRequest(
        provider=model.provider,
        model=model.name,
        messages=messages,
        parameters=parameters,
        stop=[word for word in words if isinstance(word, str) and word],
        schema=schema,
        user=ctx.user or None,
        mode=model.mode,
        tools=tools,
        run=ctx.run,
    )


@contextmanager
def reporting(inputs: Mapping[str, Value]) -> Generator[None, None, None]:
    """A NodeError inside carries the node's inputs, as far as they are known by then."""
    try:
        yield
    except NodeError as error:
        if not inputs or error.inputs:
            raise
        raise NodeError(str(error), error.kind, inputs=inputs, process=error.process, outputs=error.outputs) from error


@dataclass(slots=True)
class ModelAnswer:
    """The whole answer. `reasoning` only if it was separated from the text."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    tool_calls: Sequence[ToolCall] = ()


async def complete(
    ctx: Context,
    request: ChatRequest,
    *,
    on_text: Callable[[str], None] | None = None,
    on_reasoning: Callable[[str], None] | None = None,
    reasoning_format: str = "tagged",
    kind: str = "LLMNodeError",
) -> ModelAnswer:
    """Calls the model, and passes on its text and separated reasoning as they arrive. NodeError if the call fails, or,
    with this kind, if the answer is longer than a text may be."""
    answer = ModelAnswer()
    is_separated = reasoning_format in ("separated", "nested")
    reasoning = SeparatedReasoning(nested=reasoning_format == "nested") if is_separated else None
    texts: list[str] = []
    size = 0

    def emit(text: str, thought: str = "") -> None:
        if thought and on_reasoning:
            on_reasoning(thought)
        if text:
            texts.append(text)
            if on_text:
                on_text(text)

    async with aclosing(ctx.resources.models.chat(request)) as chunks:
        async for chunk in chunks:
            if chunk.text or chunk.reasoning:
                size += len(chunk.text) + len(chunk.reasoning)
                if size > ctx.limits.max_text:
                    raise NodeError(f"The model's answer is longer than {ctx.limits.max_text} characters.", kind)
                if chunk.reasoning and reasoning is None:
                    reasoning = TaggedReasoning()  # many models have none
                if reasoning is not None:
                    emit(*reasoning.feed(chunk.text, chunk.reasoning))
                else:
                    texts.append(chunk.text)
                    if on_text:
                        on_text(chunk.text)
            if chunk.usage is not None:
                answer.usage = chunk.usage
            if chunk.finish_reason is not None:
                answer.finish_reason = chunk.finish_reason
            if chunk.tool_calls:
                answer.tool_calls = chunk.tool_calls
    if reasoning:
        emit(*reasoning.end())
        answer.reasoning = reasoning.reasoning
    answer.text = "".join(texts)
    return answer


def process_of(request: ChatRequest, answer: ModelAnswer) -> dict[str, Value]:
    """The process data of an answered request, as in Dify."""
    return {
        "model_mode": request.mode,
        "prompts": prompts_of(request.messages, request.mode),
        "usage": answer.usage.wire(),
        "finish_reason": answer.finish_reason,
        "model_provider": request.provider,
        "model_name": request.model,
    }
