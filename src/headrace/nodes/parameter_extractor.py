"""parameter-extractor: a model finds the values of declared parameters in a text.

The model calls a tool with them, or a prompt asks for a JSON object. The values are validated and converted: outputs
are every parameter, whatever the answer was, and `__is_success` (1 or 0), `__reason` and `__usage`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from headrace import values
from headrace.errors import NodeError
from headrace.frozen import frozen
from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, OutputType, Result, SelectorField, null_means_default
from headrace.nodes._memory import MemoryConfig, recall, text_from
from headrace.nodes._model_call import ModelAnswer, ModelConfig, complete, request_of
from headrace.nodes._parameter_prompts import (
    TOOL,
    Parameter,
    converted,
    defaults,
    json_prompt,
    mismatch,
    schema_of,
    tool_prompt,
)
from headrace.nodes._prompt import VisionConfig, attach, call_of, files_of, prompts_of
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


@frozen
class _Task:
    """The values of one run of the node."""

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
        outputs = {parameter.name: OutputType(parameter.type) for parameter in self.config.parameters}
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
            "parameters": [parameter.model_dump() for parameter in config.parameters],
            "instruction": config.instruction,
        }
        task = _Task(query, instruction, text_from(turns), files, inputs)
        by_tool = config.reasoning_mode == "function_call" and not config.model.is_completion
        return await self._extract(ctx, task, by_tool=by_tool)

    async def _extract(self, ctx: Context, task: _Task, *, by_tool: bool) -> Result:
        request = self._request(ctx, task, by_tool=by_tool)
        process = _process(request)
        try:
            answer = await complete(ctx, request, kind=ERROR)
        except NodeError as error:
            # that a model cannot call tools is only known from its refusal
            if by_tool and error.kind == "InvokeBadRequestError" and _TOOLS.search(str(error)):
                return await self._extract(ctx, task, by_tool=False)
            outputs = {"__is_success": 0, "__reason": "Failed to invoke model", "__error": str(error)}
            raise NodeError(str(error), error.kind, inputs=task.inputs, process=process, outputs=outputs) from error
        call = next((call for call in answer.tool_calls if call.name == TOOL), next(iter(answer.tool_calls), None))
        usage = answer.usage.wire()
        process |= {"usage": usage, "tool_call": call and call_of(call), "llm_text": answer.text}
        parameters_found, reason = await self._validated(answer, call)
        outputs: dict[str, Value] = {"__is_success": 0 if reason else 1, "__reason": reason, "__usage": usage}
        for parameter in self.config.parameters:
            outputs[parameter.name] = converted(parameter, parameters_found.get(parameter.name))
        return Result(outputs, task.inputs, process, usage=usage)

    def _request(self, ctx: Context, task: _Task, *, by_tool: bool) -> ChatRequest:
        model = self.config.model
        texts = (task.query, self._schema, task.instruction, task.histories)
        messages = tool_prompt(*texts) if by_tool else json_prompt(*texts, completion=model.is_completion)
        attach(messages, task.files, self.config.vision.configs.detail)
        description = "Hands over the parameters that were found in the text."
        tools = [FunctionTool(TOOL, description, self._schema)] if by_tool else []
        return request_of(ctx, model, messages, tools=tools)

    async def _validated(self, answer: ModelAnswer, call: ToolCall | None) -> tuple[Mapping[str, Value], str | None]:
        """(the values in the answer, why they are not valid)."""
        parameters = self.config.parameters
        values = await _object(call.arguments if call else answer.text)
        reason = mismatch(parameters, values or {})
        if call is None and not values and (values is None or reason):
            values = defaults(parameters)
            return values, mismatch(parameters, values) or _NOTHING
        return values or {}, _NOTHING if values is None and reason is None else reason


async def _object(text: str) -> Mapping[str, Value] | None:
    """The JSON object in a text; None if there is none."""
    try:
        return await object_in(text)
    except NodeError:
        return None


def _process(request: ChatRequest) -> dict[str, Value]:
    tool = request.tools[0] if request.tools else None
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters} if tool else {}
    return {
        "model_mode": request.mode,
        "prompts": prompts_of(request.messages, request.mode),
        "usage": None,
        "function": function,
        "tool_call": None,
        "model_provider": request.provider,
        "model_name": request.model,
    }
