"""llm: calls a language model, and streams its answer.

Outputs `text`, `reasoning_content`, `usage`, `finish_reason`, and `structured_output` if that is enabled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast

from pydantic import AliasChoices, Field, field_validator

from headrace.errors import NodeError
from headrace.kernel.events import REASONING
from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, OutputType, Result, null_means_default
from headrace.nodes._memory import MemoryConfig, messages_from, recall, text_from
from headrace.nodes._model_call import ModelConfig, complete, process_of, reporting, request_of
from headrace.nodes._prompt import (
    CONTEXT,
    HISTORIES,
    ContextConfig,
    Prompt,
    PromptConfig,
    VisionConfig,
    attach,
    context_of,
    files_of,
    jinja_inputs,
    messages_of,
    rendered,
    require,
)
from headrace.nodes._structured import object_in
from headrace.ports.services import Message, Resources
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
        "every provider that implements OpenAI's chat protocol, Anthropic, Bedrock, Gemini, Vertex AI; "
        "images in answers are left out"
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
        with reporting(inputs):
            messages = await self._messages(ctx, inputs)
            if not messages:
                raise NodeError(_NO_PROMPT, "NoPromptFoundError")
            schema = self._schema() if self.config.structured_output_enabled else None
            request = request_of(ctx, self.config.model, messages, schema=schema)
            answer = await complete(
                ctx,
                request,
                on_text=partial(ctx.emit, "text"),
                on_reasoning=partial(ctx.emit, REASONING),
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
            if schema is not None:
                outputs["structured_output"] = await object_in(answer.text)
            return Result(outputs, inputs=inputs, process=process_of(request, answer), usage=usage)

    async def _messages(self, ctx: Context, inputs: dict[str, Value]) -> list[Message]:
        config, vision, template = self.config, self.config.vision, self.config.prompt_template
        prompts = [template] if isinstance(template, Prompt) else list(template)
        query = self._query(ctx, config.memory) if config.memory else []
        require(ctx, [prompt.text for prompt in (*prompts, *query) if prompt.edition_type != "jinja2"])
        jinja = jinja_inputs(ctx, config.prompt_config)
        files = files_of(ctx, vision.configs.variable_selector) if vision.enabled else []
        if files:
            inputs["#files#"] = files
        context = context_of(ctx, config.context) if config.context.enabled else ""
        if context:
            inputs["#context#"] = context
        if isinstance(template, Prompt):
            messages = await self._text(ctx, template, query, context, jinja)
        else:
            messages = await messages_of(ctx, prompts, context, jinja, vision.configs.detail)
            if config.memory:
                messages += await self._conversation(ctx, config.memory, messages, query)
        if files:
            attach(messages, files, vision.configs.detail)
        return messages

    async def _conversation(
        self, ctx: Context, memory: MemoryConfig, messages: Sequence[Message], query: Sequence[Prompt]
    ) -> list[Message]:
        """The earlier exchanges, and the user's new question."""
        vision = self.config.vision
        question = await messages_of(ctx, query, "", {}, vision.configs.detail)
        prompt = "".join(message.text for message in (*messages, *question))
        turns = await recall(ctx, memory, self.config.model, prompt)
        return [*messages_from(turns, vision=vision.enabled, detail=vision.configs.detail), *question]

    async def _text(
        self, ctx: Context, template: Prompt, query: Sequence[Prompt], context: str, jinja: Mapping[str, Value]
    ) -> list[Message]:
        """The one text that a model in completion mode continues. Unless the template has places for the history and
        the question, they come before it."""
        memory = self.config.memory
        text = await rendered(ctx, template, {CONTEXT: context, HISTORIES: ""}, jinja)
        question = "".join([await rendered(ctx, prompt, {}, {}) for prompt in query])
        history = text_from(
            await recall(ctx, memory, self.config.model, text + question), memory and memory.role_prefix
        )
        if history and HISTORIES in template.text:
            text = await rendered(ctx, template, {CONTEXT: context, HISTORIES: history}, jinja)
        elif history:
            text = f"{history}\n{text}"
        if question and QUERY not in template.text:
            text = f"{question}\n{text}"
        return [Message("user", text)] if text else []

    def _query(self, ctx: Context, memory: MemoryConfig) -> list[Prompt]:
        """The user's message in a conversation, which follows the prompt; a workflow has none."""
        if not ctx.variables.find(("sys", "query"))[0]:
            return []
        return [Prompt(role="user", text=memory.query_prompt_template or QUERY)]

    def _schema(self) -> Mapping[str, Value] | None:
        if self.config.structured_output is None:
            return None
        schema = self.config.structured_output.get("schema")
        if not isinstance(schema, Mapping) or not schema:
            raise NodeError("Please provide a valid structured output schema", ERROR)
        return cast("Mapping[str, Value]", schema)
