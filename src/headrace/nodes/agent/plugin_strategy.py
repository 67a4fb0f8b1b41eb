"""Agent strategies that only a plugin has. It runs in the plugin, which calls models and tools back.

The call is one step, so a crash repeats it from the start, with the same idempotency keys for the tools that it calls.
What it logs becomes steps when it has ended: what a plugin does in between depends on more than its inputs, so it could
not be continued in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.errors import NodeError
from headrace.kernel.steps import Step
from headrace.node import Context
from headrace.nodes._memory import MemoryConfig, messages_from, recall
from headrace.nodes._model_call import ModelConfig
from headrace.nodes._tool_messages import ToolOutputs
from headrace.nodes.agent.config import AgentInput, AgentTool, parse_tools
from headrace.ports.services import (
    STRATEGY,
    LogMessage,
    Tool,
    ToolContext,
    ToolParameter,
    ToolReference,
    ToolSpec,
    Usage,
)
from headrace.ports.services.tool_parameters import cast_value
from headrace.values import Value

ERROR = "AgentNodeError"
CALL = "strategy"
_FEATURES = ("agent-thought", "tool-call", "multi-tool-call", "stream-tool-call", "vision")

Entries = list[Mapping[str, Value]]


def reference_of(provider: str, name: str, plugin: str) -> ToolReference:
    return ToolReference(STRATEGY, provider, provider, name, plugin)


async def find(ctx: Context, reference: ToolReference) -> Tool:
    try:
        return await ctx.resources.tools.find(reference)
    except NodeError as error:
        raise NodeError(f"Failed to get agent strategy: {error}", ERROR) from error


async def parameters_of(
    ctx: Context, spec: ToolSpec, given: Mapping[str, AgentInput], memory: MemoryConfig | None
) -> dict[str, Value]:
    """The parameters of a strategy, as Dify passes them. Those that it does not declare are null."""
    parameters: dict[str, Value] = dict.fromkeys(given)
    for declared in spec.parameters:
        value = given[declared.name].resolve(ctx) if declared.name in given else None
        match declared.type:
            case "array[tools]":
                parameters[declared.name] = [await _tool(ctx, tool) for tool in parse_tools(value)]
            case "model-selector" if isinstance(value, dict):
                parameters[declared.name] = await _model(ctx, cast("dict[str, Value]", value), memory)
            case _:
                parameters[declared.name] = _value(declared, value)
    return parameters


def _value(declared: ToolParameter, value: Value) -> Value:
    if value is None:
        value = declared.default
    if value is None:
        if declared.required:
            raise NodeError(f"Failed to invoke agent: the parameter {declared.name} is not set.", ERROR)
        return None
    return cast_value(declared.type, value, declared.name)


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
    spec, given = tool.spec, config.given(ctx, tool.spec)
    label = {"en_US": spec.label or spec.name}
    return {
        "identity": {"author": "", "name": spec.name, "label": label, "provider": config.reference.provider_id},
        "parameters": [_parameter(parameter, given) for parameter in spec.parameters],
        "description": {"human": label, "llm": config.extra.description or spec.description},
        "output_schema": spec.output_schema,
        "has_runtime_parameters": False,
        "provider_type": "builtin" if config.type == "plugin" else config.type,
        "credential_id": config.credential_id or None,
        "runtime_parameters": given,
    }


def _parameter(parameter: ToolParameter, given: Mapping[str, Value]) -> dict[str, Value]:
    label = {"en_US": parameter.label or parameter.name}
    return {
        "name": parameter.name,
        "label": label,
        "human_description": label,
        "llm_description": parameter.description,
        "type": "files" if parameter.type == "system-files" else parameter.type,
        "form": "form" if parameter.name in given else parameter.form,
        "required": parameter.required,
        "default": parameter.default,
        "options": [{"value": option, "label": {"en_US": option}} for option in parameter.options] or None,
        "input_schema": parameter.input_schema,
    }


async def run(ctx: Context, strategy: Tool, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """The outputs of the strategy, with the logs in `logs`."""

    async def call() -> Value:
        outputs = ToolOutputs(ctx)
        try:
            await outputs.add_all(strategy.call(parameters, ToolContext(ctx.run, ctx.app, ctx.user, ctx.key)))
        except NodeError as error:
            raise NodeError(f"Failed to invoke agent: {error}", error.kind) from error
        logs: list[Value] = [log.body() for log in _latest(outputs.logs)]
        return {
            **outputs.outputs(),
            "json": _without_metadata(outputs.json),
            "usage": outputs.usage() or Usage().wire(),
            "logs": logs,
        }

    step = await ctx.step(CALL, call, label=strategy.spec.label)
    outputs = dict(cast("Mapping[str, Value]", step.result))
    await _log(ctx, cast("Sequence[dict[str, Any]]", outputs.pop("logs")))
    return outputs


def _latest(logs: Sequence[LogMessage]) -> Sequence[LogMessage]:
    """Each log as it was sent last, in the order of their beginning."""
    return list({log.id: log for log in logs}.values())


def _without_metadata(values: Sequence[Value]) -> list[Value]:
    """The JSON messages without the usage that strategies add to one. The calls back have been counted."""
    kept: list[Value] = []
    for value in values:
        if isinstance(value, dict):
            fields = cast("dict[str, Value]", value)
            value = {name: item for name, item in fields.items() if name != "execution_metadata"}
        if value:
            kept.append(value)
    return kept or [{"data": []}]


async def _log(ctx: Context, logs: Sequence[dict[str, Any]]) -> None:
    """Adds the logs as steps; one inside another is a part of its step."""
    names: dict[str, str] = {}
    for index, log in enumerate(logs):
        parent = names.get(str(log["parent_id"]))
        name = names[log["id"]] = f"{f'{parent}/' if parent else ''}log[{index}]"

        async def logged(log: dict[str, Any] = log) -> Value:
            return log

        await ctx.step(name, logged, label=log["label"])


def log_data(step: Step) -> tuple[dict[str, Value], dict[str, Value]]:
    """(data, metadata) of a step."""
    if step.name == CALL:
        return {}, {}
    log = cast("Mapping[str, Any]", step.result)
    data = {**log["data"], "error": log["error"]} if log["error"] else dict(log["data"])
    return data, dict(log["metadata"])
