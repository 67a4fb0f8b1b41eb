"""agent: a model that calls tools until it has an answer, as the strategies of Dify's plugins do.

Outputs `text`, `usage`, `files` and `json`: an entry for each step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

from pydantic import Field, ValidationError

from headrace.errors import NodeError
from headrace.kernel.graph import Traits
from headrace.kernel.steps import Step, is_hidden
from headrace.node import Config, Context, Node, OutputType, Read, Result, null_means_default
from headrace.nodes._memory import MemoryConfig, Window, messages_from, recall
from headrace.nodes._model_call import ModelConfig, reporting
from headrace.nodes._tool_messages import cited
from headrace.nodes.agent import plugin_strategy, prompts
from headrace.nodes.agent.config import AgentInput, AgentTool, parse_tools
from headrace.nodes.agent.log import log_data
from headrace.nodes.agent.loop import NODE, Loop
from headrace.nodes.agent.mcp_servers import servers_in
from headrace.nodes.agent.strategies import FunctionCalling, Prompt, React, Strategy
from headrace.nodes.agent.toolbox import Toolbox, ToolFunction
from headrace.nodes.step_log import log_entry
from headrace.ports.services import Message, Resources, ToolReference
from headrace.values import File, Value, to_json

ERROR = NODE.error
_ITERATIONS = 3
# The strategies that this loop stands for, by plugin provider: those of Dify, and those that differ by MCP parameters.
_FUNCTION_CALLING = frozenset({"function_calling", "mcp_sse_function_calling"})
_REACT = frozenset({"react", "mcp_sse_react"})
STRATEGY_PROVIDERS = ("langgenius/agent/agent", "hjlarry/agent/mcp_agent", "junjiem/mcp_see_agent/mcp_see_agent")


class AgentConfig(Config):
    agent_strategy_provider_name: str = ""
    agent_strategy_name: str = ""
    plugin_unique_identifier: str = ""
    agent_parameters: Mapping[str, AgentInput] = Field(default_factory=dict[str, AgentInput])
    memory: MemoryConfig | None = None

    _null = null_means_default(
        "agent_strategy_provider_name", "agent_strategy_name", "plugin_unique_identifier", "agent_parameters"
    )

    @property
    def plugin_strategy(self) -> ToolReference | None:
        """The strategy of a plugin; None if it is one that our own loop stands for."""
        provider, name = self.agent_strategy_provider_name, self.agent_strategy_name
        if provider in STRATEGY_PROVIDERS and name.lower() in _FUNCTION_CALLING | _REACT:
            return None
        return plugin_strategy.reference_of(provider, name, self.plugin_unique_identifier)

    @property
    def model(self) -> ModelConfig:
        """NodeError if no model is chosen."""
        value: Any = self.agent_parameters["model"].value if "model" in self.agent_parameters else None
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        try:
            return ModelConfig.model_validate({**fields, "name": fields.get("model") or fields.get("name")})
        except ValidationError as error:
            raise NodeError("The agent has no model: choose one.", ERROR) from error

    @property
    def tools(self) -> list[AgentTool]:
        """The tools that are enabled, as written. NodeError if they are malformed."""
        return parse_tools(self.agent_parameters["tools"].value) if "tools" in self.agent_parameters else []

    @property
    def servers(self) -> list[ToolReference]:
        """The MCP servers whose tools are all offered, as far as they are named without variables. NodeError if they
        are malformed."""
        parameters = (self.agent_parameters.get(name) for name in ("mcp_server", "mcp_servers_config"))
        return servers_in(
            *(parameter.value if parameter and not any(parameter.reads(())) else None for parameter in parameters)
        )


class Agent(Node[AgentConfig]):
    type = "agent"
    traits: ClassVar[Traits] = Traits(calls_model=True, calls_service=True, generates=True)
    partial: ClassVar[bool] = True
    notes: ClassVar[str] = (
        "the strategies of `langgenius/agent`, and of plugins that only add MCP servers to them; others in their plugin"
    )

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        strategy = self.config.plugin_strategy
        if strategy and (missing := resources.tools.missing(strategy)):
            return (missing,)
        try:
            model, references = self.config.model, [tool.reference for tool in self.config.tools]
            references += self.config.servers if not strategy else ()
        except NodeError as error:
            return (str(error),)
        missing_tools = (resources.tools.missing(reference) for reference in references)
        return (*model.missing(resources), *dict.fromkeys(message for message in missing_tools if message))

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {
            "text": OutputType("string"),
            "usage": OutputType("object"),
            "files": OutputType("array[file]"),
            "json": OutputType("array[object]"),
        }

    def reads(self) -> Iterable[Read]:
        for name, parameter in self.config.agent_parameters.items():
            yield from parameter.reads(("agent_parameters", name))

    def metadata(self) -> Mapping[str, Value]:
        return {"tool_info": {"agent_strategy": self.config.agent_strategy_name, "icon": None}}

    def step_log(self, step: Step) -> tuple[Mapping[str, Value], Mapping[str, Value]]:
        return plugin_strategy.log_data(step) if self.config.plugin_strategy else log_data(step, react=self._reacts)

    async def run(self, ctx: Context) -> Result:
        if strategy := self.config.plugin_strategy:
            return await self._run_plugin(ctx, strategy)
        parameters = {name: self._text(ctx, name) for name in ("query", "instruction")}
        limit = _limit(self.config.agent_parameters.get("maximum_iterations"), ctx)
        model = self.config.model
        trace_inputs: dict[str, Value] = {
            **parameters,
            "model": {"provider": model.provider, "model": model.name, "mode": model.mode},
            "tools": [tool.tool_name for tool in self.config.tools],
            "maximum_iterations": limit,
        }
        with reporting(trace_inputs):
            strategy = await self._strategy(ctx, model, **parameters)
            outcome = await Loop(ctx, model, strategy, NODE, limit).run()
        outputs: dict[str, Value] = {
            "text": outcome.text,
            "usage": outcome.usage,
            "files": outcome.files,
            "json": [*self._entries(ctx), {"data": []}],  # the JSON of the strategy itself, which sends none
        }
        return Result(outputs, trace_inputs, usage=outcome.usage)

    async def _run_plugin(self, ctx: Context, reference: ToolReference) -> Result:
        strategy = await plugin_strategy.find(ctx, reference)
        inputs = self.config.agent_parameters
        trace_inputs = {name: None if name in ("model", "tools") else inputs[name].resolve(ctx) for name in inputs}
        if "model" in inputs:
            trace_inputs["model"] = {"provider": self.config.model.provider, "model": self.config.model.name}
        trace_inputs["tools"] = [tool.tool_name for tool in self.config.tools]
        with reporting(to_json(trace_inputs)):
            parameters = await plugin_strategy.parameters_of(ctx, strategy.spec, inputs, self._memory())
            outputs = await plugin_strategy.run(ctx, strategy, parameters)
        process = cited(cast("Sequence[Mapping[str, Value]]", outputs.pop("sources")))
        outputs["json"] = [*self._entries(ctx), *cast("list[Value]", outputs["json"])]
        return Result(outputs, trace_inputs, process, usage=cast("Mapping[str, Value]", outputs["usage"]))

    def _entries(self, ctx: Context) -> list[Value]:
        """The steps in the output `json`."""
        steps = (step for step in ctx.steps.values() if not is_hidden(step.name))
        return [{**log_entry(cast("Node[Config]", self), step), "node_id": ctx.spec.id} for step in steps]

    def _text(self, ctx: Context, name: str) -> str:
        value = self.config.agent_parameters[name].resolve(ctx) if name in self.config.agent_parameters else None
        return value if isinstance(value, str) else "" if value is None else str(to_json(value))

    async def _strategy(self, ctx: Context, model: ModelConfig, query: str, instruction: str) -> Strategy:
        functions = [await ToolFunction.find(ctx, tool, NODE.json_text) for tool in self._allowed(ctx)]
        parameters = (self.config.agent_parameters.get(name) for name in ("mcp_server", "mcp_servers_config"))
        for server in servers_in(*(parameter and parameter.resolve(ctx) for parameter in parameters)):
            for tool in await ctx.resources.tools.of_server(server):
                config = AgentTool(type="mcp", provider_name=server.provider_name, tool_name=tool.spec.name)
                functions.append(ToolFunction(tool, config, {}, NODE.json_text))
        toolbox = Toolbox(functions)
        if context := self._context(ctx):
            instruction = f"{instruction}\n\n{prompts.CONTEXT.format(context=context)}".lstrip()
        images = [file for file in self._files(ctx) if file.type == "image"]
        turns = await recall(ctx, self._memory(), model, instruction + query)
        history = messages_from(turns, vision=False, detail="low")
        prompt = Prompt(instruction, history, Message("user", query, images, "low"), keeps_images=False)
        if self._reacts:
            return React(prompt, toolbox, NODE.react)
        return FunctionCalling(prompt, toolbox)

    @property
    def _reacts(self) -> bool:
        return self.config.agent_strategy_name.lower() in _REACT

    def _memory(self) -> MemoryConfig | None:
        """The window counts whether it is enabled or not, as in Dify."""
        memory = self.config.memory
        return memory and memory.model_copy(update={"window": Window(enabled=True, size=memory.window.size)})

    def _allowed(self, ctx: Context) -> list[AgentTool]:
        """The tools that the model is offered: all, or those that `allowed_tools` names."""
        names = {name for item in self._value(ctx, "allowed_tools") for name in _names(item)}
        return [tool for tool in self.config.tools if not names or tool.tool_name in names]

    def _files(self, ctx: Context) -> list[File]:
        return [item for item in self._value(ctx, "files") if isinstance(item, File)]

    def _context(self, ctx: Context) -> str:
        items = (cast("Mapping[str, Value]", item) for item in self._value(ctx, "context") if isinstance(item, Mapping))
        return "\n".join(str(item["content"]) for item in items if item.get("content"))

    def _value(self, ctx: Context, name: str) -> Sequence[Value]:
        """A parameter that is a list; a single value is a list of it."""
        value = self.config.agent_parameters[name].resolve(ctx) if name in self.config.agent_parameters else None
        return cast("list[Value]", value) if isinstance(value, list) else [value] if value else []


def _names(value: Value) -> Sequence[str]:
    """The names of tools that a text contains: one, or a JSON list."""
    if not isinstance(value, str):
        return ()
    try:
        names: Any = json.loads(value)
    except (ValueError, RecursionError):
        names = None
    texts = cast("list[Any]", names) if isinstance(names, list) else [value]
    return [name for text in texts if isinstance(text, str) and (name := text.strip())]


def _limit(parameter: AgentInput | None, ctx: Context) -> int:
    value = parameter.resolve(ctx) if parameter else None
    try:
        return max(1, int(float(value))) if value not in (None, "") else _ITERATIONS
    except (TypeError, ValueError, OverflowError):
        raise NodeError(f"maximum_iterations is {value!r}, which is not a number.", ERROR) from None
