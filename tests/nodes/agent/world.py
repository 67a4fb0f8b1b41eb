"""Agents with a scripted model behind real HTTP, and tools that are Python functions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from headrace.adapters.models import ModelClient
from headrace.dsl.load import load
from headrace.engine import Driver, EngineEnvironment
from headrace.errors import NodeError
from headrace.kernel.events import NodeFailed, NodeSucceeded, Record, RunQueued
from headrace.node import Flow
from headrace.nodes import registry
from headrace.ports.services import (
    BlobMessage,
    JsonMessage,
    LinkMessage,
    TextMessage,
    Tool,
    ToolContext,
    ToolMessage,
    ToolParameter,
    ToolReference,
    ToolSpec,
)
from headrace.values import File, Value
from tests.engine.worlds import world
from tests.models.server import ReceivedRequest, piece, usage
from tests.resources import only

CITY = ToolParameter("city", required=True, description="Where")
PNG = b"\x89PNG\r\n\x1a\n"

Function = Callable[..., Sequence[ToolMessage]]


def weather(city: str = "", unit: str = "C") -> Sequence[ToolMessage]:
    return [TextMessage(f"{city}: 20 {unit}")]


def broken(**_: Value) -> Sequence[ToolMessage]:
    raise NodeError("the server is away", "ToolInvokeError")


def defective(**_: Value) -> Sequence[ToolMessage]:
    return [][1]


def draw(**_: Value) -> Sequence[ToolMessage]:
    return [TextMessage("Drawn."), BlobMessage(PNG, "image/png", "cat.png")]


def mixed(**_: Value) -> Sequence[ToolMessage]:
    return [TextMessage("a"), TextMessage("b"), JsonMessage({"n": 1}), JsonMessage({"n": 2}, for_model=False), LINK]


LINK = LinkMessage("https://example.com/x")

TOOLS: Mapping[str, tuple[Function, ToolSpec]] = {
    "weather": (
        weather,
        ToolSpec(
            "weather", "Weather", "The weather of a city.", [CITY, ToolParameter("unit", form="form", default="C")]
        ),
    ),
    "broken": (broken, ToolSpec("broken", "Broken", "Never works.")),
    "defective": (defective, ToolSpec("defective", "Defective", "Raises what no tool should raise.")),
    "draw": (draw, ToolSpec("draw", "Draw", "Draws a cat.")),
    "mixed": (mixed, ToolSpec("mixed", "Mixed", "Answers in every way.")),
}


@dataclass
class FunctionTool:
    spec: ToolSpec
    function: Function
    calls: list[tuple[Mapping[str, Value], ToolContext]]

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncIterator[ToolMessage]:
        self.calls.append((parameters, context))
        for message in self.function(**parameters):
            yield message


@dataclass
class ToolShelf:
    """Implements `resources.Tools`. Two providers, `a` and `b`, have the same tools."""

    calls: list[tuple[Mapping[str, Value], ToolContext]] = field(default_factory=list)
    references: list[ToolReference] = field(default_factory=list)

    async def find(self, reference: ToolReference) -> Tool:
        self.references.append(reference)
        if missing := self.missing(reference):
            raise NodeError(missing, "ToolNotFoundError")
        function, spec = TOOLS[reference.tool_name]
        if reference.provider_id == "b":
            spec = replace(spec, description=f"{spec.description} By b.")
        return FunctionTool(spec, function, self.calls)

    async def of_server(self, reference: ToolReference) -> Sequence[Tool]:
        self.references.append(reference)
        return [FunctionTool(spec, function, self.calls) for function, spec in TOOLS.values()]

    def missing(self, reference: ToolReference) -> str | None:
        if reference.provider_type == "mcp":
            return None if "known" in reference.provider_id else f"the server {reference.provider_name} is needed"
        return None if reference.tool_name in TOOLS else f"there is no tool {reference.tool_name}"


class Files:
    async def save(self, data: bytes, *, filename: str, mime_type: str, **_: Any) -> File:
        assert data == PNG
        return File(
            "image",
            "tool_file",
            filename,
            ".png",
            mime_type,
            len(data),
            related_id="4f1c7c58-5c3c-4d52-9df5-0c5a2f1f7a10",
            url="http://files.example/1",
        )

    async def read(self, file: File, max_size: int = 0) -> bytes:
        return PNG


def constant(value: Value) -> dict[str, Value]:
    return {"type": "constant", "value": value}


def tool(name: str, **more: Value) -> dict[str, Value]:
    return {"enabled": True, "type": "builtin", "provider_name": "a", "tool_name": name, "tool_label": name, **more}


MODEL = {"provider": "langgenius/openai/openai", "model": "m", "model_type": "llm", "mode": "chat"}


def agent_data(
    *tools: Mapping[str, Value],
    strategy: str = "function_calling",
    data: Mapping[str, Value] | None = None,
    **more: Value,
) -> dict[str, Value]:
    """The data of an agent node. `more` are parameters of the agent."""
    parameters: dict[str, Value] = {
        "model": constant({**MODEL, "completion_params": {}}),
        "instruction": constant("Be brief."),
        "query": constant("{{#sys.query#}}"),
        "maximum_iterations": constant(5),
        "tools": constant([*tools]),
        **more,
    }
    return {
        "type": "agent",
        "title": "Agent",
        "agent_strategy_provider_name": "langgenius/agent/agent",
        "agent_strategy_name": strategy,
        "agent_parameters": parameters,
        "tool_node_version": "2",
        **(data or {}),
    }


def agent_file(*tools: Mapping[str, Value], workflow: Mapping[str, Value] | None = None, **more: Any) -> str:
    """A chatflow: start, agent, answer. `more` is that of `agent_data`; `workflow` adds to the workflow."""
    nodes = [
        {"id": "start", "data": {"type": "start", "title": "Start", "variables": []}},
        {"id": "agent", "data": agent_data(*tools, **more)},
        {"id": "answer", "data": {"type": "answer", "title": "Answer", "answer": "{{#agent.text#}}"}},
    ]
    edges = [
        {"source": a, "target": b, "sourceHandle": "source", "targetHandle": "target"}
        for a, b in (("start", "agent"), ("agent", "answer"))
    ]
    whole = {"graph": {"nodes": nodes, "edges": edges}, **(workflow or {})}
    app = {"name": "agent", "mode": "advanced-chat"}
    return yaml.safe_dump({"kind": "app", "version": "0.5.0", "app": app, "workflow": whole})


def chat_file(
    *names: str,
    strategy: str = "function_call",
    model: str = "gpt-4o",
    config: Mapping[str, Value] | None = None,
    **agent_mode: Value,
) -> str:
    """An agent-chat app with these tools."""
    tools = [
        {
            "enabled": True,
            "provider_type": "builtin",
            "provider_id": "a",
            "provider_name": "a",
            "tool_name": name,
            "tool_label": name.title(),
            "tool_parameters": {"unit": "F", "city": ""} if name == "weather" else {},
        }
        for name in names
    ]
    mode = {"enabled": True, "strategy": strategy, "max_iteration": 5, "tools": tools, **agent_mode}
    settings = {
        "model": {"provider": "openai", "name": model, "mode": "chat", "completion_params": {}},
        "pre_prompt": "Be brief, {{tone}}.",
        "user_input_form": [{"text-input": {"variable": "tone", "label": "Tone", "required": False}}],
        "agent_mode": mode,
        **(config or {}),
    }
    app = {"name": "helper", "mode": "agent-chat"}
    return yaml.safe_dump({"kind": "app", "version": "0.5.0", "app": app, "model_config": settings})


def loaded(content: str) -> Flow:
    return load(content, registry(()), "agent.yml")


def question(query: str = "Weather in Rome?", run: str = "run", **system: Value) -> Record:
    return Record(run, 1, 0.0, RunQueued("app", "version", "task", "user", {}, {"query": query, **system}))


def agent_world(
    client: ModelClient, shelf: ToolShelf | None = None, journal: Any = None, **more: Any
) -> EngineEnvironment:
    resources = {"models": client, "tools": shelf or ToolShelf(), "files": Files(), **more}
    return replace(world(journal), resources=only(**resources))


@dataclass
class Ran:
    records: list[Record]
    shelf: ToolShelf

    @property
    def result(self) -> NodeSucceeded:
        """Of the agent node, or of the app that is an agent."""
        ended = (record.event for record in self.records if isinstance(record.event, NodeSucceeded))
        return next(event for event in ended if event.path in ("agent", "llm"))

    @property
    def outputs(self) -> Mapping[str, Any]:
        return self.result.outputs

    @property
    def failure(self) -> NodeFailed:
        return next(r.event for r in self.records if isinstance(r.event, NodeFailed))


async def drive(flow: Flow, client: ModelClient, first: Record | None = None, **more: Any) -> Ran:
    shelf = ToolShelf()
    where = agent_world(client, shelf, **more)
    await where.journal.append([first or question()])
    await Driver("run", flow, where).drive()
    return Ran(list(await where.journal.read("run")), shelf)


# ------------------------------------------------------------------------------------------------------- the model


def calls(*named_arguments: tuple[str, object], text: str = "") -> list[Any]:
    """The events of an answer that calls tools: (name, arguments); arguments that are text are sent as they are."""
    tool_calls = [
        {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": value if isinstance(value, str) else json.dumps(value)},
        }
        for index, (name, value) in enumerate(named_arguments)
    ]
    spoken = [piece(text)] if text else []
    return [*spoken, piece(tool_calls=tool_calls), piece(finish="tool_calls"), usage(10, 5)]


def says(*pieces: str) -> list[Any]:
    return [*(piece(text) for text in pieces), piece(finish="stop"), usage(20, 7)]


def by_round(*answers: list[Any]) -> Callable[[ReceivedRequest], Any]:
    """A model whose answer depends only on how many rounds the request has: it may be asked again after a crash."""

    async def answer(request: ReceivedRequest) -> None:
        rounds = sum(message["role"] == "assistant" and "tool_calls" in message for message in request.body["messages"])
        await request.stream(*answers[min(rounds, len(answers) - 1)])

    return answer


def action(name: str, value: object) -> str:
    return f"Thought: I look.\nAction: {json.dumps({'action': name, 'action_input': value})}\n"


def react_by_round(*texts: str) -> Callable[[ReceivedRequest], Any]:
    async def answer(request: ReceivedRequest) -> None:
        rounds = sum(message["content"].count("Observation: ") for message in request.body["messages"][2:])
        text = texts[min(rounds, len(texts) - 1)]
        await request.stream(*says(*(text[start : start + 3] for start in range(0, len(text), 3))))

    return answer
