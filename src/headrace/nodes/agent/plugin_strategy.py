"""Agent strategies that only a plugin has. It runs in the plugin, which calls models and tools back.

The call is one step, so a crash repeats it from the start; what it calls back for is answered from the journal then.
What it logs becomes steps as it comes. When it is called again, a log that has the label of the one at its place is the
same log.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.errors import NodeError
from headrace.kernel.steps import LOG, Step
from headrace.node import Context
from headrace.nodes._memory import MemoryConfig, messages_from, recall
from headrace.nodes._model_call import ModelConfig
from headrace.nodes._tool_messages import ToolOutputs, tool_context
from headrace.nodes.agent.config import AgentInput, AgentTool, parse_tools
from headrace.ports.services import (
    STRATEGY,
    LogMessage,
    Tool,
    ToolParameter,
    ToolReference,
    ToolSpec,
    Usage,
)
from headrace.ports.services.tool_parameters import cast_value
from headrace.values import Value

ERROR = "AgentNodeError"
CALL = ".strategy"
_FEATURES = ("agent-thought", "tool-call", "multi-tool-call", "stream-tool-call", "vision")


def reference_of(provider: str, name: str, plugin: str) -> ToolReference:
    return ToolReference(STRATEGY, provider, provider, name, plugin)


async def find(ctx: Context, reference: ToolReference) -> Tool:
    try:
        return await ctx.resources.tools.find(reference)
    except NodeError as error:
        raise NodeError(f"Failed to get agent strategy: {error}", ERROR) from error


async def parameters_of(
    ctx: Context, spec: ToolSpec, settings: Mapping[str, AgentInput], memory: MemoryConfig | None
) -> dict[str, Value]:
    """The parameters of a strategy, as Dify passes them. Those that it does not declare are null."""
    parameters: dict[str, Value] = dict.fromkeys(settings)
    for parameter in spec.parameters:
        value = settings[parameter.name].resolve(ctx) if parameter.name in settings else None
        match parameter.type:
            case "array[tools]":
                parameters[parameter.name] = [await _tool(ctx, tool) for tool in parse_tools(value)]
            case "model-selector" if isinstance(value, dict):
                parameters[parameter.name] = await _model(ctx, cast("dict[str, Value]", value), memory)
            case _:
                parameters[parameter.name] = _value(parameter, value)
    return parameters


def _value(parameter: ToolParameter, value: Value) -> Value:
    if value is None:
        value = parameter.default
    if value is None:
        if parameter.required:
            raise NodeError(f"Failed to invoke agent: the parameter {parameter.name} is not set.", ERROR)
        return None
    return cast_value(parameter.type, value, parameter.name)


async def _model(ctx: Context, value: Mapping[str, Value], memory: MemoryConfig | None) -> dict[str, Value]:
    """The model with what is known of it, and the history of the conversation. Its context size is left out: with it,
    the SDK counts tokens, for which it downloads a tokenizer's data."""
    model = ModelConfig.model_validate({**value, "name": value.get("model") or value.get("name")})
    turns = await recall(ctx, memory, model, "")
    history = messages_from(turns, vision=False, detail="low")
    entity: dict[str, Value] = {
        "model": model.name,
        "label": {"en_US": model.name},
        "model_type": "llm",
        "features": list(_FEATURES),
        "fetch_from": "customizable-model",
        "model_properties": {"mode": model.mode},
        "parameter_rules": [],
    }
    return {
        **value,
        "model": model.name,
        "model_type": "llm",
        "completion_params": dict(model.completion_params),
        "entity": entity,
        "history_prompt_messages": [{"role": message.role, "content": message.text} for message in history],
    }


async def _tool(ctx: Context, config: AgentTool) -> dict[str, Value]:
    """A tool as a strategy gets it. Its parameters that are given already are of the form, not the model's to fill."""
    tool = await ctx.resources.tools.find(config.reference)
    spec, settings = tool.spec, config.given(ctx, tool.spec)
    label = {"en_US": spec.label or spec.name}
    return {
        "identity": {"author": "", "name": spec.name, "label": label, "provider": config.reference.provider_id},
        "parameters": [_parameter(parameter, settings) for parameter in spec.parameters],
        "description": {"human": label, "llm": config.extra.description or spec.description},
        "output_schema": spec.output_schema,
        "has_runtime_parameters": False,
        "provider_type": "builtin" if config.type == "plugin" else config.type,
        "credential_id": config.credential_id or None,
        "runtime_parameters": settings,
    }


def _parameter(parameter: ToolParameter, settings: Mapping[str, Value]) -> dict[str, Value]:
    label = {"en_US": parameter.label or parameter.name}
    return {
        "name": parameter.name,
        "label": label,
        "human_description": label,
        "llm_description": parameter.description,
        "type": "files" if parameter.type == "system-files" else parameter.type,
        "form": "form" if parameter.name in settings else parameter.form,
        "required": parameter.required,
        "default": parameter.default,
        "options": [{"value": option, "label": {"en_US": option}} for option in parameter.options] or None,
        "input_schema": parameter.input_schema,
    }


async def run(ctx: Context, strategy: Tool, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """The outputs of the strategy, with the sources that it cites in `sources`."""

    async def call() -> Value:
        logs = Logs(ctx)
        outputs = ToolOutputs(ctx, on_log=logs.add)
        try:
            await outputs.add_all(strategy.call(parameters, tool_context(ctx, CALL)))
        except NodeError as error:
            raise NodeError(f"Failed to invoke agent: {error}", error.kind) from error
        finally:
            await logs.end()
        return {
            **outputs.outputs(),
            "json": _without_metadata(outputs.json),
            "usage": outputs.usage() or Usage().wire(),
            "sources": outputs.sources,
        }

    step = await ctx.step(CALL, call)
    return dict(cast("Mapping[str, Value]", step.result))


class Logs:
    """Makes the logs of a strategy steps: one that is inside another is a part of its step."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._names: dict[str, str] = {}  # by the id of the log
        self._next = Counter[str]()  # the numbers that come next, by the name of the parent
        self._ends: dict[str, asyncio.Future[LogMessage]] = {}
        self._tasks: list[asyncio.Future[Step]] = []

    def add(self, log: LogMessage) -> None:
        """A log has started or ended."""
        if log.id not in self._names:
            name = self._names[log.id] = self._name(log)
            end = self._ends[log.id] = asyncio.get_running_loop().create_future()

            async def result() -> Value:
                return (await end).body()

            step = self._ctx.step(name, result, label=log.label, metadata=log.metadata)
            self._tasks.append(asyncio.ensure_future(step))
        if log.status != "start" and not self._ends[log.id].done():
            self._ends[log.id].set_result(log)

    async def end(self) -> None:
        """Nothing more is logged: waits until what has ended is recorded. Logs without an end remain as they are."""
        for end in self._ends.values():
            end.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def _name(self, log: LogMessage) -> str:
        prefix = f"{self._names[log.parent]}/" if log.parent in self._names else ""
        while True:
            name = f"{prefix}{LOG}{self._next[prefix]}]"
            self._next[prefix] += 1
            step = self._ctx.steps.get(name)
            if step is None or step.label == log.label:
                return name


def _without_metadata(values: Sequence[Value]) -> list[Value]:
    """The JSON messages without the usage that strategies add to one. The calls back have been counted."""
    results: list[Value] = []
    for value in values:
        if isinstance(value, dict):
            fields = cast("dict[str, Value]", value)
            value = {name: item for name, item in fields.items() if name != "execution_metadata"}
        if value:
            results.append(value)
    return results or [{"data": []}]


def log_data(step: Step) -> tuple[dict[str, Value], dict[str, Value]]:
    """(data, metadata) of a step."""
    log = cast("Mapping[str, Any]", step.result)
    data = {**log["data"], "error": log["error"]} if log["error"] else dict(log["data"])
    return data, dict(log["metadata"])
