"""agent-app: what an app of mode agent-chat with tools does. `dsl/basic_apps` makes its configuration of the app's.

Outputs `text`, `usage`, `files` and `sources`, the passages that knowledge bases found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from headrace.kernel.graph import Traits
from headrace.kernel.steps import Step
from headrace.node import Config, Context, Node, OutputType, Result, null_means_default
from headrace.nodes._model_call import ModelConfig, reporting
from headrace.nodes._prompt import VisionConfig, files_of
from headrace.nodes.agent.config import AgentTool
from headrace.nodes.agent.history import remember
from headrace.nodes.agent.log import log_data
from headrace.nodes.agent.loop import CHAT, Loop
from headrace.nodes.agent.strategies import FunctionCalling, Prompt, React, Strategy
from headrace.nodes.agent.toolbox import Function, KnowledgeFunction, Toolbox, ToolFunction
from headrace.nodes.knowledge_retrieval import KnowledgeRetrieval, KnowledgeRetrievalConfig
from headrace.ports.services import Message, Resources
from headrace.values import Value

# Models that are known to call tools, by the beginning of their names. Dify uses function calling for these whatever
# the file says.
_CALLS_TOOLS = re.compile(
    r"gpt-|chatgpt|o[1-9]|claude|gemini|deepseek|qwen|glm-|mistral|mixtral|kimi|moonshot|doubao|grok|command-|llama-?[34]"
)


class AgentChatConfig(Config):
    """`react_prompt` is the app's own ReAct prompt, with places for `{instruction}`, `{tools}` and `{names}`. Each of
    `knowledge` has one knowledge base."""

    model: ModelConfig
    instruction: str = ""
    strategy: Literal["function_call", "react"] = "function_call"
    max_iteration: int = 10
    react_prompt: str = ""
    tools: tuple[AgentTool, ...] = ()
    knowledge: tuple[KnowledgeRetrievalConfig, ...] = ()
    vision: VisionConfig = Field(default_factory=VisionConfig)

    _null = null_means_default("instruction", "max_iteration", "react_prompt")


class AgentChat(Node[AgentChatConfig]):
    type = "agent-app"
    traits: ClassVar[Traits] = Traits(calls_model=True, calls_service=True, generates=True, cites=True)
    notes: ClassVar[str] = "not a node of Dify: what an app of mode `agent-chat` with tools does"

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        config = self.config
        tools = [resources.tools.missing(tool.reference) for tool in config.tools]
        bases = [resources.knowledge.missing(dataset) for base in config.knowledge for dataset in base.dataset_ids]
        yield from config.model.missing(resources)
        yield from dict.fromkeys(message for message in (*tools, *bases) if message)

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {
            "text": OutputType("string"),
            "usage": OutputType("object"),
            "files": OutputType("array[file]"),
            "sources": OutputType("array[object]"),
        }

    def step_log(self, step: Step) -> tuple[Mapping[str, Value], Mapping[str, Value]]:
        return log_data(step)

    async def run(self, ctx: Context) -> Result:
        config = self.config
        query = ctx.variables.render("{{#sys.query#}}")
        inputs: dict[str, Value] = {"query": query, "tools": [tool.tool_name for tool in config.tools]}
        with reporting(inputs):
            strategy = await self._strategy(ctx, query)
            outcome = await Loop(ctx, config.model, strategy, CHAT, config.max_iteration).run()
        outputs: dict[str, Value] = {
            "text": outcome.text,
            "usage": outcome.usage,
            "files": outcome.files,
            "sources": outcome.sources,
        }
        return Result(outputs, inputs, usage=outcome.usage)

    async def _strategy(self, ctx: Context, query: str) -> Strategy:
        config, vision = self.config, self.config.vision
        toolbox = Toolbox(await self._functions(ctx))
        instruction = ctx.variables.render(config.instruction)
        detail = vision.configs.detail
        files = files_of(ctx, vision.configs.variable_selector) if vision.enabled else []
        react = self._uses_react
        history = await remember(
            ctx,
            config.model,
            instruction + query,
            React if react else FunctionCalling,
            vision=vision.enabled,
            detail=detail,
        )
        prompt = Prompt(instruction, history, Message("user", query, files, detail), keeps_images=react)
        if react:
            return React(prompt, toolbox, config.react_prompt or CHAT.react)
        return FunctionCalling(prompt, toolbox)

    async def _functions(self, ctx: Context) -> Sequence[Function]:
        functions: list[Function] = [await ToolFunction.find(ctx, tool, CHAT.json_text) for tool in self.config.tools]
        functions += [
            KnowledgeFunction(base.dataset_ids[0], KnowledgeRetrieval(base)) for base in self.config.knowledge
        ]
        return functions

    @property
    def _uses_react(self) -> bool:
        model = self.config.model
        if model.is_completion:
            return True
        name = model.name.rpartition("/")[2].lower()
        return self.config.strategy == "react" and not _CALLS_TOOLS.match(name)
