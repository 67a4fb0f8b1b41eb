"""llm: asks a language model, and streams what it says.

Outputs `text`, `reasoning_content`, `usage`, `finish_reason`, and `structured_output` where that is switched on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import AliasChoices, Field, field_validator

from headrace.errors import NodeError
from headrace.node import Config, Context, Node, Result, null_is_default
from headrace.nodes._prompt import (
    HISTORIES,
    ContextConfig,
    Prompt,
    PromptConfig,
    VisionConfig,
    context_of,
    files_of,
    jinja_inputs,
    messages_of,
    rendered,
    require,
    resolved,
    saved,
    show,
)
from headrace.nodes._structured import object_in
from headrace.nodes._thinking import Separated, Tagged
from headrace.resources import ChatRequest, Message, Resources, Usage
from headrace.values import Value

ERROR = "LLMNodeError"
_NO_PROMPT = (
    "No prompt found in the LLM configuration. Please ensure a prompt is properly configured before proceeding."
)


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


class MemoryConfig(Config):
    """The conversation so far; here only the query that follows it."""

    query_prompt_template: str | None = None


class LLMConfig(Config):
    model: ModelConfig
    prompt_template: Sequence[Prompt] | Prompt = ()
    prompt_config: PromptConfig = Field(default_factory=PromptConfig)
    memory: MemoryConfig | None = None
    context: ContextConfig = Field(default_factory=ContextConfig)
    vision: VisionConfig = Field(default_factory=VisionConfig)
    structured_output: Mapping[str, Any] | None = None
    structured_output_enabled: bool = Field(
        default=False, validation_alias=AliasChoices("structured_output_enabled", "structured_output_switch_on")
    )
    reasoning_format: Literal["tagged", "separated"] = "tagged"

    _null = null_is_default("prompt_template", "prompt_config", "context", "vision")

    @field_validator("structured_output_enabled", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return value or False

    @field_validator("reasoning_format", mode="before")
    @classmethod
    def _tagged(cls, value: Any) -> Any:
        return value or "tagged"


class LLM(Node[LLMConfig]):
    type = "llm"
    Config = LLMConfig

    def needs(self, resources: Resources) -> Iterable[str]:
        missing = resources.models.missing(self.config.model.provider)
        return (missing,) if missing else ()

    async def run(self, ctx: Context) -> Result:
        inputs: dict[str, Value] = {}
        try:
            return await self._ask(ctx, inputs)
        except NodeError as error:
            if not inputs or error.inputs:
                raise
            raise NodeError(str(error), error.kind, inputs=inputs, process=error.process) from error

    async def _ask(self, ctx: Context, inputs: dict[str, Value]) -> Result:
        """`inputs` is filled on the way, so that a failure can show what was known."""
        model = self.config.model
        messages = await self._messages(ctx, inputs)
        if not messages:
            raise NodeError(_NO_PROMPT, "NoPromptFoundError")
        parameters = resolved(ctx, model.completion_params)
        request = ChatRequest(
            provider=model.provider,
            model=model.name,
            messages=messages,
            parameters={name: value for name, value in parameters.items() if name != "stop"},
            stop=_stop_words(parameters.get("stop")),
            schema=self._schema(),
            user=ctx.user or None,
            mode=model.mode,
        )
        answer = await _Listener(ctx, self.config.reasoning_format).hear(request)
        usage = answer.usage.wire()
        outputs: dict[str, Value] = {
            "text": answer.text,
            "reasoning_content": answer.reasoning,
            "usage": usage,
            "finish_reason": answer.finish_reason,
        }
        if request.schema is not None:
            outputs["structured_output"] = object_in(answer.text)
        process: dict[str, Value] = {
            "model_mode": model.mode,
            "prompts": saved(messages, model.mode),
            "usage": usage,
            "finish_reason": answer.finish_reason,
            "model_provider": model.provider,
            "model_name": model.name,
        }
        return Result(outputs, inputs=inputs, process=process, usage=usage)

    async def _messages(self, ctx: Context, inputs: dict[str, Value]) -> list[Message]:
        config = self.config
        template = config.prompt_template
        prompts = [template] if isinstance(template, Prompt) else list(template)
        if query := self._query(ctx):
            prompts.append(Prompt(role="user", text=query))
        require(ctx, [prompt.text for prompt in prompts if prompt.edition_type != "jinja2"])
        jinja = jinja_inputs(ctx, config.prompt_config)
        files = files_of(ctx, config.vision.configs.variable_selector) if config.vision.enabled else []
        if files:
            inputs["#files#"] = files
        if context := context_of(ctx, config.context):
            inputs["#context#"] = context
        detail = config.vision.configs.detail
        if isinstance(template, Prompt):
            text = await rendered(ctx, template, context, jinja)
            messages = [Message("user", text.replace(HISTORIES, ""))] if text else []
        else:
            messages = await messages_of(ctx, prompts, context, jinja, detail)
        show(messages, files, detail)
        return messages

    def _query(self, ctx: Context) -> str | None:
        """What a conversation's user just said: with memory, the last message. A workflow has no such thing."""
        if self.config.memory is None or not ctx.variables.find(("sys", "query"))[0]:
            return None
        return self.config.memory.query_prompt_template or "{{#sys.query#}}"

    def _schema(self) -> Mapping[str, Value] | None:
        if not self.config.structured_output_enabled or self.config.structured_output is None:
            return None
        schema = self.config.structured_output.get("schema")
        if not isinstance(schema, Mapping) or not schema:
            raise NodeError("Please provide a valid structured output schema", ERROR)
        return cast("Mapping[str, Value]", schema)


def _stop_words(value: Value) -> list[str]:
    words = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [word for word in words if isinstance(word, str) and word]


class _Listener:
    """Hears an answer to its end, streaming its text on the way."""

    def __init__(self, ctx: Context, reasoning_format: str) -> None:
        self._ctx = ctx
        self._separated = Separated() if reasoning_format == "separated" else None
        self._tagged = Tagged()
        self._told: list[str] = []
        self._size = 0
        self.finish_reason: str | None = None
        self.usage = Usage()

    async def hear(self, request: ChatRequest) -> _Listener:
        chunks = self._ctx.resources.models.chat(request)
        split = self._separated or self._tagged
        try:
            async for chunk in chunks:
                if chunk.text or chunk.reasoning:
                    self._size += len(chunk.text) + len(chunk.reasoning)
                    if self._size > self._ctx.limits.max_text:
                        raise NodeError(
                            f"The model's answer is longer than {self._ctx.limits.max_text} characters.", ERROR
                        )
                    self._tell(split.feed(chunk.text, chunk.reasoning))
                if chunk.usage is not None:
                    self.usage = chunk.usage
                if chunk.finish_reason is not None:
                    self.finish_reason = chunk.finish_reason
        finally:
            if isinstance(chunks, AsyncGenerator):  # closes the connection now, not when the garbage is collected
                await chunks.aclose()
        self._tell(split.end())
        return self

    def _tell(self, text: str) -> None:
        if text:
            self._told.append(text)
            self._ctx.emit("text", text)

    @property
    def text(self) -> str:
        return self._separated.text if self._separated else "".join(self._told)

    @property
    def reasoning(self) -> str:
        return self._separated.reasoning if self._separated else ""
