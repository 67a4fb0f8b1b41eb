"""llm: asks a language model, and streams what it says.

Outputs `text`, `reasoning_content`, `usage`, `finish_reason`, and `structured_output` where that is switched on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from pydantic import AliasChoices, Field, field_validator

from headrace.errors import NodeError
from headrace.kernel.events import REASONING
from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, OutputType, Result, null_means_default
from headrace.nodes._memory import MemoryConfig, messages_from, recall, text_from
from headrace.nodes._model_call import ModelConfig, complete, process_of, request_of, showing
from headrace.nodes._prompt import (
    CONTEXT,
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
    show,
)
from headrace.nodes._structured import object_in
from headrace.ports.services import Message, Resources, Turn
from headrace.values import Value

ERROR = "LLMNodeError"
QUERY = "{{#sys.query#}}"
_NO_PROMPT = (
    "No prompt found in the LLM configuration. Please ensure a prompt is properly configured before proceeding."
)


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

    _null = null_means_default("prompt_template", "prompt_config", "context", "vision")

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
    traits: ClassVar[Traits] = Traits(calls_model=True, generates=True)
    partial: ClassVar[bool] = True
    notes: ClassVar[str] = (
        "every provider that implements OpenAI's chat protocol; Bedrock and Vertex AI only through a gateway"
    )

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        return self.config.model.missing(resources)

    def outputs_schema(self) -> Mapping[str, OutputType]:
        outputs = {
            "text": OutputType("string"),
            "reasoning_content": OutputType("string"),
            "usage": OutputType("object"),
            "finish_reason": OutputType("string", nullable=True),
        }
        return outputs | ({"structured_output": OutputType("object")} if self.config.structured_output_enabled else {})

    async def run(self, ctx: Context) -> Result:
        inputs: dict[str, Value] = {}  # filled on the way, so that a failure can show what was known
        with showing(inputs):
            return await self._ask(ctx, inputs)

    async def _ask(self, ctx: Context, inputs: dict[str, Value]) -> Result:
        messages = await self._messages(ctx, inputs)
        if not messages:
            raise NodeError(_NO_PROMPT, "NoPromptFoundError")
        request = request_of(ctx, self.config.model, messages, schema=self._schema())
        answer = await complete(
            ctx,
            request,
            tell=lambda text: ctx.emit("text", text),
            think=lambda text: ctx.emit(REASONING, text),
            reasoning_format=self.config.reasoning_format,
            kind=ERROR,
        )
        usage = answer.usage.wire()
        outputs: dict[str, Value] = {
            "text": answer.text,
            "reasoning_content": answer.reasoning,
            "usage": usage,
            "finish_reason": answer.finish_reason,
        }
        if request.schema is not None:
            outputs["structured_output"] = await object_in(answer.text)
        return Result(outputs, inputs=inputs, process=process_of(request, answer), usage=usage)

    async def _messages(self, ctx: Context, inputs: dict[str, Value]) -> list[Message]:
        config = self.config
        template = config.prompt_template
        prompts = [template] if isinstance(template, Prompt) else list(template)
        query = [Prompt(role="user", text=text)] if (text := self._query(ctx)) else []
        require(ctx, [prompt.text for prompt in (*prompts, *query) if prompt.edition_type != "jinja2"])
        jinja = jinja_inputs(ctx, config.prompt_config)
        files = files_of(ctx, config.vision.configs.variable_selector) if config.vision.enabled else []
        if files:
            inputs["#files#"] = files
        if context := context_of(ctx, config.context):
            inputs["#context#"] = context
        detail = config.vision.configs.detail
        if isinstance(template, Prompt):
            messages = await self._text(ctx, template, query, context, jinja)
        else:
            before = await messages_of(ctx, prompts, context, jinja, detail)
            asked = await messages_of(ctx, query, "", {}, detail)
            turns = await self._turns(ctx, "".join(message.text for message in (*before, *asked)))
            messages = [*before, *messages_from(turns, vision=config.vision.enabled, detail=detail), *asked]
        show(messages, files, detail)
        return messages

    async def _text(
        self, ctx: Context, template: Prompt, query: Sequence[Prompt], context: str, jinja: Mapping[str, Value]
    ) -> list[Message]:
        """The one text that a model in completion mode goes on with. What was said before, and the question, come
        before it where it has no place of its own for them."""
        told = await rendered(ctx, template, {CONTEXT: context, HISTORIES: ""}, jinja)
        asked = "".join([await rendered(ctx, each, {}, {}) for each in query])
        turns = await self._turns(ctx, told + asked)
        history = text_from(turns, self.config.memory and self.config.memory.role_prefix)
        if HISTORIES in template.text:
            text = await rendered(ctx, template, {CONTEXT: context, HISTORIES: history}, jinja) if history else told
        else:
            text = f"{history}\n{told}" if history else told
        if asked and QUERY not in template.text:
            text = f"{asked}\n{text}"
        return [Message("user", text)] if text else []

    async def _turns(self, ctx: Context, beside: str) -> Sequence[Turn]:
        return await recall(ctx, self.config.memory, self.config.model, beside)

    def _query(self, ctx: Context) -> str | None:
        """What a conversation's user just said: with memory, the last message. A workflow has no such thing."""
        if self.config.memory is None or not ctx.variables.find(("sys", "query"))[0]:
            return None
        return self.config.memory.query_prompt_template or QUERY

    def _schema(self) -> Mapping[str, Value] | None:
        if not self.config.structured_output_enabled or self.config.structured_output is None:
            return None
        schema = self.config.structured_output.get("schema")
        if not isinstance(schema, Mapping) or not schema:
            raise NodeError("Please provide a valid structured output schema", ERROR)
        return cast("Mapping[str, Value]", schema)
