"""Workflows with containers for engine tests, written down briefly and loaded as any file is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import yaml
from pydantic import Field

from headrace.dsl.load import load
from headrace.errors import NodeError
from headrace.kernel.events import Record, RunQueued
from headrace.node import Config, Context, Flow, Node, Result, SelectorField
from headrace.nodes import registry
from headrace.ports.services import Usage


class EchoConfig(Config):
    text: str = ""
    variable_selector: SelectorField = ()
    reads: list[list[str]] = Field(default_factory=list[list[str]])
    fails_on: list[Any] = Field(default_factory=list[Any])
    fails_first: int = 0
    tokens: int = 0


class Echo(Node[EchoConfig]):
    """Puts out `r`: its id and what it read. Fails where it reads what it is told to fail on."""

    type = "echo"
    instant: ClassVar[bool] = True

    async def run(self, ctx: Context) -> Result:
        values = [ctx.variables.get(selector) for selector in self.config.reads]
        if any(value in self.config.fails_on for value in values):
            raise NodeError(f"boom on {values}", "Boom", inputs={"values": values})
        if int(ctx.key.rsplit("/", 1)[1]) < self.config.fails_first:
            raise NodeError("not yet", "Boom")
        usage = Usage(prompt_tokens=self.config.tokens).wire() if self.config.tokens else None
        return Result({"r": ":".join([ctx.spec.id, *map(str, values)]), "values": values}, usage=usage)


class SlowEcho(Echo):
    """The same, a turn of the event loop later."""

    type = "slow-echo"
    instant: ClassVar[bool] = False

    async def run(self, ctx: Context) -> Result:
        for _ in range(1 + sum(map(ord, ctx.key)) % 3):  # so that parallel rounds overtake one another
            await asyncio.sleep(0)
        return await super().run(ctx)


REGISTRY: dict[str, type[Node[Any]]] = {**registry([]), "echo": Echo, "slow-echo": SlowEcho}


def node(id: str, type: str = "echo", inside: str | None = None, **data: Any) -> dict[str, Any]:
    definition = {"id": id, "type": "custom", "data": {"type": type, "title": id, **data}}
    return definition if inside is None else {**definition, "parentId": inside}


def iteration(id: str, items: Sequence[str], output: Sequence[str], inside: str | None = None, **data: Any) -> Any:
    """An iteration with its start node, `ID-start`."""
    return [
        node(id, "iteration", inside, iterator_selector=list(items), output_selector=list(output), **data),
        node(f"{id}-start", "iteration-start", id),
    ]


def loop(id: str, count: int, inside: str | None = None, **data: Any) -> Any:
    return [node(id, "loop", inside, loop_count=count, **data), node(f"{id}-start", "loop-start", id)]


def variable(label: str, value: Any, type: str = "number") -> dict[str, Any]:
    return {"label": label, "var_type": type, "value_type": "constant", "value": value}


def adds(id: str, selector: Sequence[str], value: Any, inside: str, operation: str = "+=") -> dict[str, Any]:
    """An assigner of one operation with a constant, or with a variable where `value` is a selector."""
    kind = "variable" if isinstance(value, list) else "constant"
    item = {"variable_selector": list(selector), "input_type": kind, "operation": operation, "value": value}
    return node(id, "assigner", inside, version="2", items=[item])


def flow(nodes: Sequence[Any], edges: str, outputs: Mapping[str, Sequence[str]], **more: type[Node[Any]]) -> Flow:
    """A workflow from `start` to `end`; edges as "a>b a:handle>b"."""
    return load(source(nodes, edges, outputs), REGISTRY | more, "nest.yml")


def source(nodes: Sequence[Any], edges: str, outputs: Mapping[str, Sequence[str]]) -> str:
    """The file of such a workflow."""
    flat = [item for some in nodes for item in (some if isinstance(some, list) else [some])]
    end_outputs = [{"variable": name, "value_selector": list(selector)} for name, selector in outputs.items()]
    start = node("start", "start", variables=[{"variable": "items", "type": "json_object", "label": "items"}])
    graph = {"nodes": [start, *flat, node("end", "end", outputs=end_outputs)], "edges": list(map(_edge, edges.split()))}
    file = {"app": {"name": "nest", "mode": "workflow"}, "kind": "app", "workflow": {"graph": graph}}
    return yaml.safe_dump(file, allow_unicode=True)


def _edge(text: str) -> dict[str, str]:
    source, target = text.split(">")
    source, _, handle = source.partition(":")
    return {"source": source, "target": target, "sourceHandle": handle or "source"}


def queued_record(**inputs: Any) -> Record:
    return Record("run", 1, 0.0, RunQueued("app", "version", "task", "user", inputs, {"user_id": "user"}))
