"""parameter-extractor: a model finds the values of declared parameters in a text.

It is asked by a tool that it is to call, or by a prompt for a JSON object. What it answers is checked and made to fit:
the outputs have every parameter, whatever came back; `__is_success` (1 or 0) and `__reason` tell how it went, `__usage`
what it took.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from headrace import values
from headrace.errors import NodeError
from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, OutputType, Result, SelectorField, null_means_default
from headrace.nodes._memory import MemoryConfig, recall, text_from
from headrace.nodes._model_call import ModelAnswer, ModelConfig, complete, request_of
from headrace.nodes._parameter_prompts import (
    TOOL,
    Parameter,
    asked_by_prompt,
    asked_by_tool,
    checked,
    empty,
    fitted,
    schema_of,
)
from headrace.nodes._prompt import VisionConfig, call_of, files_of, saved, show
from headrace.nodes._structured import object_in
from headrace.ports.services import ChatRequest, FunctionTool, Resources, ToolCall
from headrace.values import File, Value

ERROR = "ParameterExtractorNodeError"
_NOTHING = "Failed to extract result from function call or text response, using empty result."
_TOOLS = re.compile(r"\btools?\b|function.?call", re.IGNORECASE)


class ParameterExtractorConfig(Config):
    model: ModelConfig
    query: SelectorField = ()
    parameters: Sequence[Parameter] = ()
    instruction: str | None = None
    memory: MemoryConfig | None = None
    reasoning_mode: Literal["function_call", "prompt"] = "function_call"
    vision: VisionConfig = Field(default_factory=VisionConfig)

    _null = null_means_default("query", "parameters", "vision")

    @field_validator("reasoning_mode", mode="before")
    @classmethod
    def _plain_mode(cls, value: Any) -> Any:
        return value or "function_call"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a run asks about."""

    query: str
    instruction: str
    histories: str
    files: Sequence[File]
    inputs: Mapping[str, Value]


class ParameterExtractor(Node[ParameterExtractorConfig]):
    type = "parameter-extractor"
    traits: ClassVar[Traits] = Traits(calls_model=True)
    notes: ClassVar[str] = "by a tool call or by a prompt"

    def __init__(self, config: ParameterExtractorConfig) -> None:
        super().__init__(config)
        self._schema = schema_of(config.parameters)

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        return self.config.model.missing(resources)

    def outputs_schema(self) -> Mapping[str, OutputType]:
        outputs = {each.name: OutputType(each.type) for each in self.config.parameters}
        return outputs | {
            "__is_success": OutputType("integer"),
            "__reason": OutputType("string", nullable=True),
            "__usage": OutputType("object"),
        }

    async def run(self, ctx: Context) -> Result:
        config = self.config
        query = values.text(ctx.variables.get(config.query))
        files = files_of(ctx, config.vision.configs.variable_selector) if config.vision.enabled else []
        instruction = ctx.variables.render(config.instruction or "")
        turns = await recall(ctx, config.memory, config.model, f"{query}{instruction}{self._schema}")
        inputs: dict[str, Value] = {
            "query": query,
            "files": files,
            "parameters": [each.model_dump() for each in config.parameters],
            "instruction": config.instruction,
        }
        asked = _Asked(query, instruction, text_from(turns), files, inputs)
        calling = config.reasoning_mode == "function_call" and not config.model.completes
        return await self._extracted(ctx, asked, calling=calling)

    async def _extracted(self, ctx: Context, asked: _Asked, *, calling: bool) -> Result:
        request = self._request(ctx, asked, calling=calling)
        process = _process(request)
        try:
            heard = await complete(ctx, request, kind=ERROR)
        except NodeError as error:
            # whether a model can call tools is known to whoever serves it, and told only by refusing them
            if calling and error.kind == "InvokeBadRequestError" and _TOOLS.search(str(error)):
                return await self._extracted(ctx, asked, calling=False)
            outputs = {"__is_success": 0, "__reason": "Failed to invoke model", "__error": str(error)}
            raise NodeError(str(error), error.kind, inputs=asked.inputs, process=process, outputs=outputs) from error
        call = next((each for each in heard.tool_calls if each.name == TOOL), next(iter(heard.tool_calls), None))
        usage = heard.usage.wire()
        process |= {"usage": usage, "tool_call": call and call_of(call), "llm_text": heard.text}
        found, reason = await self._checked(heard, call)
        outputs: dict[str, Value] = {"__is_success": 0 if reason else 1, "__reason": reason, "__usage": usage}
        outputs |= {each.name: fitted(each, found.get(each.name)) for each in self.config.parameters}
        return Result(outputs, asked.inputs, process, usage=usage)

    def _request(self, ctx: Context, asked: _Asked, *, calling: bool) -> ChatRequest:
        model = self.config.model
        if calling:
            messages = asked_by_tool(asked.query, self._schema, asked.instruction, asked.histories)
        else:
            messages = asked_by_prompt(
                asked.query, self._schema, asked.instruction, asked.histories, completes=model.completes
            )
        show(messages, asked.files, self.config.vision.configs.detail)
        description = "Hands over the parameters that were found in the text."
        tools = [FunctionTool(TOOL, description, self._schema)] if calling else []
        return request_of(ctx, model, messages, tools=tools)

    async def _checked(self, heard: ModelAnswer, call: ToolCall | None) -> tuple[Mapping[str, Value], str | None]:
        """(what was found, why it is not what was asked for)."""
        parameters = self.config.parameters
        found = await _object(call.arguments if call else heard.text)
        reason = checked(parameters, found or {})
        if call is None and not found and (found is None or reason):
            found = empty(parameters)
            return found, checked(parameters, found) or _NOTHING
        return found or {}, _NOTHING if found is None and reason is None else reason


async def _object(text: str) -> Mapping[str, Value] | None:
    """The JSON object in a text; None where there is none."""
    try:
        return await object_in(text)
    except NodeError:
        return None


def _process(request: ChatRequest) -> dict[str, Value]:
    tool = request.tools[0] if request.tools else None
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters} if tool else {}
    return {
        "model_mode": request.mode,
        "prompts": saved(request.messages, request.mode),
        "usage": None,
        "function": function,
        "tool_call": None,
        "model_provider": request.provider,
        "model_name": request.model,
    }
