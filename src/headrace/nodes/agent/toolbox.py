"""The tools of one agent: what the model is offered, and what comes of its calls."""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from headrace.errors import NodeError
from headrace.node import Context
from headrace.nodes._tool_messages import sum_of, tool_context, with_files_stored
from headrace.nodes.agent import prompts
from headrace.nodes.agent.config import AgentTool
from headrace.nodes.agent.records import Call, CallResult, parsed
from headrace.nodes.knowledge_retrieval import KnowledgeRetrieval
from headrace.ports.services import (
    FileMessage,
    FunctionTool,
    JsonMessage,
    LinkMessage,
    TextMessage,
    Tool,
    ToolSpec,
    UsageMessage,
)
from headrace.ports.services.tool_parameters import arguments, parameters_schema
from headrace.values import File, Value, json_default

logger = logging.getLogger(__name__)

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]+")  # characters that a function's name must not have
_LONGEST_NAME = 64
_NOT_FOR_AGENTS = frozenset({"file", "files", "system-files"})


@dataclass(slots=True)
class Answer:
    """What a tool answered: texts for the model, and what goes to the user besides."""

    texts: list[str] = field(default_factory=list[str])
    files: list[File] = field(default_factory=list[File])
    sources: Sequence[Mapping[str, Value]] = ()
    usage: Mapping[str, Value] | None = None


class Function(ABC):
    """A function that the model may call. `name` and `description` are what it reads of it; `given` are the arguments
    that are not the model's to fill."""

    name: str
    provider: str
    description: str
    given: Mapping[str, Value] = {}

    @property
    @abstractmethod
    def schema(self) -> Mapping[str, Value]:
        """The JSON Schema of its arguments."""

    @abstractmethod
    async def call(self, inputs: Mapping[str, Value], ctx: Context, step: str) -> Answer:
        """`inputs` are the arguments that the model gives, `step` is the name of the step that calls. A NodeError goes
        back to the model."""

    @property
    def offer(self) -> FunctionTool:
        return FunctionTool(self.name, self.description, self.schema)


class ToolFunction(Function):
    """A tool of the tools service. `json_text` is how the model reads a JSON message."""

    def __init__(self, tool: Tool, config: AgentTool, given: Mapping[str, Value], json_text: str) -> None:
        self.name = config.tool_name
        self.provider = config.provider_name
        self.description = config.extra.description or tool.spec.description
        self._tool = tool
        self._json_text = json_text
        self.given = given
        self._spec = _with_given(tool.spec, given)

    @classmethod
    async def find(cls, ctx: Context, config: AgentTool, json_text: str) -> ToolFunction:
        """The tool that an agent's configuration names. NodeError if it is not there."""
        tool = await ctx.resources.tools.find(config.reference)
        return cls(tool, config, config.given(ctx, tool.spec), json_text)

    @property
    def schema(self) -> Mapping[str, Value]:
        return parameters_schema(self._spec)

    async def call(self, inputs: Mapping[str, Value], ctx: Context, step: str) -> Answer:
        parameters = arguments(self._spec, inputs, self.given)
        answer, text, size = Answer(), list[str](), 0
        usages: list[Mapping[str, Value]] = []
        async with aclosing(with_files_stored(self._tool.call(parameters, tool_context(ctx, step)), ctx)) as messages:
            async for message in messages:
                sentence = ""
                match message:
                    case TextMessage(piece):
                        text.append(piece)  # pieces of one text
                        size += len(piece)
                    case JsonMessage(value, for_model) if for_model and value:
                        excerpt = json.dumps(value, ensure_ascii=False, default=json_default)
                        sentence = self._json_text.format(json=excerpt)
                    case LinkMessage(url):
                        sentence = prompts.LINK.format(url=url)
                    case FileMessage(file):
                        answer.files.append(file)
                        sentence = prompts.IMAGE if file.type == "image" else prompts.FILE.format(name=file.filename)
                    case UsageMessage(usage):
                        usages.append(usage)
                    case _:
                        pass
                if sentence:
                    answer.texts += [*_joined(text), sentence]
                    size += len(sentence)
                if size > ctx.limits.max_text:
                    raise NodeError(f"the answer is longer than {ctx.limits.max_text} characters", "ToolInvokeError")
        answer.texts += _joined(text)
        answer.usage = sum_of(usages)
        return answer


def _joined(pieces: list[str]) -> list[str]:
    """The text that these pieces make up, which are taken from the list."""
    text = "".join(pieces)
    pieces.clear()
    return [text] if text else []


def _with_given(spec: ToolSpec, settings: Mapping[str, Value]) -> ToolSpec:
    # what is filled by hand may be blank, as in Dify; the settings of the tool itself are checked
    parameters = [
        replace(parameter, form="form", required=False)
        if parameter.name in settings and parameter.form == "llm"
        else parameter
        for parameter in spec.parameters
    ]
    for parameter in parameters:
        if parameter.form == "llm" and parameter.required and parameter.type in _NOT_FOR_AGENTS:
            message = f"The tool {spec.name} needs a file ({parameter.name}), which an agent cannot give."
            raise NodeError(message, "AgentNodeError")
    return replace(spec, parameters=parameters)


class KnowledgeFunction(Function):
    """A knowledge base as a tool, whose only parameter is the query."""

    provider = "dataset"

    def __init__(self, dataset: str, retrieval: KnowledgeRetrieval) -> None:
        self.name = f"dataset_{dataset.replace('-', '_')}"
        self.description = f"Finds passages in the knowledge base {dataset}."
        self._retrieval = retrieval

    @property
    def schema(self) -> Mapping[str, Value]:
        query = {"type": "string", "description": "What to look for in the knowledge base."}
        return {"type": "object", "properties": {"query": query}, "required": ["query"]}

    async def call(self, inputs: Mapping[str, Value], ctx: Context, step: str) -> Answer:
        passages, usage = await self._retrieval.find(ctx, str(inputs.get("query") or ""))
        text = "\n".join(str(passage["content"]) for passage in passages)
        return Answer([text] if text else [], sources=passages, usage=usage)


class Toolbox:
    """The functions of one agent, by names that are unique."""

    def __init__(self, functions: Iterable[Function]) -> None:
        self._functions: dict[str, Function] = {}
        for function in functions:
            function.name = self._unique(function)
            self._functions[function.name] = function

    @property
    def offers(self) -> list[FunctionTool]:
        return [function.offer for function in self._functions.values()]

    def provider(self, name: str) -> str:
        function = self._functions.get(name)
        return "" if function is None else function.provider

    def only_parameter(self, name: str) -> str | None:
        """The name of the parameter of a function that has just one."""
        function = self._functions.get(name)
        properties: Any = function.schema.get("properties") if function else None
        names = [*cast("dict[str, Any]", properties)] if isinstance(properties, dict) else []
        return names[0] if len(names) == 1 else None

    async def call(self, call: Call, ctx: Context, step: str) -> CallResult:
        """Calls a function. Whatever goes wrong is an answer that the model can react to."""
        name = call["name"]
        result: CallResult = {
            "id": call["id"],
            "name": name,
            "input": call["arguments"],
            "text": "",
            "failed": True,
            "files": [],
            "sources": [],
            "usage": None,
        }
        function = self._functions.get(name)
        if function is None:
            return {**result, "text": prompts.UNKNOWN_TOOL.format(name=name)}
        try:
            inputs = parsed(call["arguments"])
        except ValueError as error:
            return {**result, "text": prompts.BAD_ARGUMENTS.format(error=error)}
        result["input"] = {**inputs, **function.given}
        try:
            answer = await function.call(inputs, ctx, step)
        except NodeError as error:
            wording = prompts.BAD_ARGUMENTS if error.kind == "ToolParameterError" else prompts.TOOL_FAILED
            return {**result, "text": wording.format(error=error)}
        except Exception as error:
            # a bug in a tool, or an input that it does not expect: the model has the message, the log the traceback
            logger.exception("run %s: tool %s failed unexpectedly", ctx.run, name)
            return {**result, "text": prompts.TOOL_FAILED.format(error=f"{type(error).__name__}: {error}")}
        return {
            **result,
            "text": "\n".join(dict.fromkeys(answer.texts)),
            "failed": False,
            "files": answer.files,
            "sources": answer.sources,
            "usage": answer.usage,
        }

    def _unique(self, function: Function) -> str:
        """Its name; if that is taken, the name with its provider's in front, or with a number."""
        name = _FOREIGN.sub("_", function.name)[:_LONGEST_NAME]
        if name not in self._functions:
            return name
        name = _FOREIGN.sub("_", f"{function.provider.rpartition('/')[2]}_{name}")[:_LONGEST_NAME]
        number, unique = 2, name
        while unique in self._functions:
            unique, number = f"{name[: _LONGEST_NAME - 4]}_{number}", number + 1
        return unique
