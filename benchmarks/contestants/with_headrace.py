"""Headrace: its engine, with the journal in memory (`memory`) or in SQLite (`sqlite FOLDER`, or `full-sync FOLDER`,
which waits for the disk at each commit).

A run is timed from its submission until its end is in the journal: with SQLite, until the transaction that holds it is
committed. `waiting` nodes give way to the event loop once, so that each is a task of its own, as a node that calls out.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, cast

from contest import Run, compete

from headrace import __version__
from headrace.brokers import LocalBus
from headrace.engine import Driver, EngineEnvironment
from headrace.kernel.containers import ContainerBody
from headrace.kernel.events import Record, RunQueued
from headrace.kernel.graph import Edge, Graph, NodeSpec
from headrace.node import Config, Context, Flow, Node, Result
from headrace.nodes.iteration import Iteration, IterationConfig, IterationStart
from headrace.ports import Journal
from headrace.ports.services import Limits, Resources
from headrace.stores.memory import MemoryJournal
from headrace.stores.sql import SqlStorage


class Trivial(Node[Config]):
    type = "trivial"
    instant: ClassVar[bool] = True

    async def run(self, ctx: Context) -> Result:
        return Result({"text": "x"})


class Waiting(Trivial):
    instant: ClassVar[bool] = False

    async def run(self, ctx: Context) -> Result:
        await asyncio.sleep(0)
        return Result({"text": "x"})


class Items(Trivial):
    """What there is to iterate over."""

    def __init__(self, count: int) -> None:
        super().__init__(Config())
        self.items = list(range(count))

    async def run(self, ctx: Context) -> Result:
        return Result({"items": self.items})


def rounds(kind: type[Trivial], items: int) -> Flow:
    """A parallel iteration over so many items, of two nodes."""
    config = IterationConfig(iterator_selector=["items", "items"], output_selector=["b", "text"], is_parallel=True)
    inside = Graph(
        [
            NodeSpec("begin", "iteration-start", traits=IterationStart.traits),
            NodeSpec("a", kind.type),
            NodeSpec("b", kind.type),
        ],
        [Edge("begin", "a"), Edge("a", "b")],
        "begin",
    )
    iteration = Iteration(config)
    by_id: dict[str, Node[Config]] = {"items": Items(items), "a": kind(Config()), "b": kind(Config())}
    by_id["it"] = cast("Node[Config]", iteration)
    top = [NodeSpec("items", "trivial"), NodeSpec("it", "iteration")]
    graph = Graph(
        top, [Edge("items", "it")], "items", {"it": [("it", "output")]}, {"it": ContainerBody(inside, iteration)}
    )
    return Flow(graph, by_id, "benchmark", "workflow")


def flow(shape: str, nodes: int) -> Flow:
    """A chain, a fan-out, or rounds of two nodes each; "waiting_..." has all nodes but the outermost wait."""
    if shape.endswith("rounds"):
        return rounds(Waiting if shape.startswith("waiting") else Trivial, nodes // 2)
    names = [f"n{i}" for i in range(nodes)]
    kind = Waiting if shape.startswith("waiting") else Trivial
    by_id: dict[str, Node[Config]] = {name: kind(Config()) for name in names}
    if shape == "chain":
        edges = [Edge(before, after) for before, after in pairwise(names)]
    else:
        by_id = {"start": Trivial(Config()), **by_id, "join": Trivial(Config())}
        edges = [Edge("start", name) for name in names] + [Edge(name, "join") for name in names]
    graph = Graph([NodeSpec(name, node.type, name) for name, node in by_id.items()], edges, next(iter(by_id)))
    return Flow(graph, by_id, "benchmark", "workflow")


def build_with(journal: Journal, loop: asyncio.AbstractEventLoop) -> Callable[[str, int], Callable[[], Run]]:
    nothing = cast("Resources", None)  # trivial nodes use no resources
    world = EngineEnvironment(journal, LocalBus(), nothing, Limits(max_steps=1_000_000))

    def build(shape: str, nodes: int) -> Callable[[], Run]:
        workflow = flow(shape, nodes)

        async def once() -> int:
            run = str(uuid.uuid4())
            record = Record(run, 1, world.clock(), RunQueued("app", "version", str(uuid.uuid4()), "user", {}, {}))
            append = journal.append([record])  # not waited for: the run's end is written after it
            state = await Driver(run, workflow, world).drive([record])
            await append
            if state.ended is None or state.ended.status != "succeeded":
                return -1
            inside = 2 * len(state.ended.outputs.get("output", ()))  # which is not among a run's steps
            return state.steps + inside

        return lambda: lambda: loop.run_until_complete(once())

    return build


def main() -> None:
    loop = asyncio.new_event_loop() if sys.platform == "win32" else _uvloop()
    asyncio.set_event_loop(loop)
    if sys.argv[1] == "memory":
        compete("Headrace", __version__, build_with(MemoryJournal(), loop))
        return
    url = f"sqlite:///{Path(sys.argv[2]).absolute() / 'headrace.db'}"
    store = loop.run_until_complete(SqlStorage.open(url, full_sync=sys.argv[1] == "full-sync"))
    try:
        compete("Headrace, SQLite", __version__, build_with(store.journal, loop))
    finally:
        loop.run_until_complete(store.aclose())


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


if __name__ == "__main__":
    main()
