"""What engine tests are made of: graphs of scripted nodes, and journals that can be cut off."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar, cast

from headrace.brokers import LocalBus
from headrace.engine import Driver, EngineEnvironment
from headrace.errors import NodeError
from headrace.kernel.events import Record, RunQueued
from headrace.kernel.graph import Edge, Graph, NodeSpec
from headrace.kernel.state import State
from headrace.node import Config, Context, Flow, Node, Pause, Result
from headrace.ports.services import Limits, Resources
from headrace.stores.memory import MemoryJournal
from headrace.values import Value

NOTHING = cast("Resources", None)  # scripted nodes use no resources


class Instant(Node[Config]):
    """Puts out what it was made with."""

    type = "instant"
    instant: ClassVar[bool] = True

    def __init__(self, outputs: Mapping[str, Value] | None = None, handle: str = "source") -> None:
        super().__init__(Config())
        self.outputs = outputs or {"text": "x"}
        self.handle = handle

    async def run(self, ctx: Context) -> Result | Pause:
        return Result(self.outputs, handle=self.handle)


class Scripted(Instant):
    """Does as told, and takes its time: a turn of the event loop at least."""

    type = "scripted"
    instant: ClassVar[bool] = False

    def __init__(self, script: Callable[[Context], Awaitable[Result | Pause]]) -> None:
        super().__init__()
        self.script = script

    async def run(self, ctx: Context) -> Result | Pause:
        await asyncio.sleep(0)
        return await self.script(ctx)


class Failing(Instant):
    """Fails its first attempts; which attempt it is shows in its idempotency key."""

    def __init__(self, times: int, *, instant: bool = False) -> None:
        super().__init__()
        self.times = times
        self.instant = instant  # pyright: ignore[reportAttributeAccessIssue]

    async def run(self, ctx: Context) -> Result | Pause:
        if not self.instant:
            await asyncio.sleep(0)
        if int(ctx.key.rsplit("/", 1)[1]) < self.times:
            raise NodeError("boom", "Boom")
        return Result(self.outputs)


def flow(
    nodes: Mapping[str, Node[Config]],
    edges: Sequence[str],
    responses: Mapping[str, Sequence[object]] | None = None,
    specs: Mapping[str, Mapping[str, object]] | None = None,
    environment: Mapping[str, Value] | None = None,
    secrets: frozenset[str] = frozenset(),
) -> Flow:
    """A flow of nodes by id, the first being the root; an edge is "a>b" or "a:handle>b"."""
    parsed: list[Edge] = []
    for edge in edges:
        source, target = edge.split(">")
        name, _, handle = source.partition(":")
        parsed.append(Edge(name, target, handle or "source"))
    settings = specs or {}
    node_specs = [
        NodeSpec(name, node.type, name, traits=node.traits, **settings.get(name, {}))  # pyright: ignore[reportArgumentType]
        for name, node in nodes.items()
    ]
    graph = Graph(node_specs, parsed, next(iter(nodes)), responses)  # pyright: ignore[reportArgumentType]
    return Flow(graph, nodes, "test", "workflow", environment=environment or {}, secrets=secrets)


def world(
    journal: MemoryJournal | None = None, bus: LocalBus | None = None, limits: Limits | None = None
) -> EngineEnvironment:
    """A world without resources, whose clock ticks a second a look and whose ids count up."""
    ticks, ids = itertools.count(1), itertools.count(1)
    return EngineEnvironment(
        journal or MemoryJournal(),
        bus or LocalBus(),
        NOTHING,
        limits or Limits(),
        clock=lambda: float(next(ticks)),
        new_id=lambda: f"id-{next(ids)}",
    )


def queued(run: str = "run", inputs: Mapping[str, Value] | None = None) -> Record:
    return Record(run, 1, 0.0, RunQueued("app", "version", "task", "user", inputs or {}, {"user_id": "user"}))


async def drive(flow: Flow, where: EngineEnvironment | None = None, run: str = "run") -> State:
    """Queues a run and drives it to its end."""
    where = where or world()
    await where.journal.append([queued(run)])
    return await Driver(run, flow, where).drive()
