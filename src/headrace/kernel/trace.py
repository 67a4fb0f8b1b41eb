"""What the nodes of a run do while they are under way: since when, led to by which node, in which rounds.

A finished node is forgotten, so that following a run needs no more memory the longer it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.kernel.events import (
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
)
from headrace.kernel.graph import Graph, NodeId, Path, is_top_level, rounds
from headrace.values import Value


@dataclass(slots=True)
class RoundTrace:
    """A round of a container. `ended_at`: when the last node that has ended in it did."""

    started_at: float
    ended_at: float
    failed: bool = False


@dataclass(slots=True)
class NodeTrace:
    """A node under way. `index` counts the run's nodes from 1 in the order of their start, `leaf_index` those that are
    not containers; `predecessor`: the node that led to it; `retries`: its NodeRetried records; `inputs` and `rounds`
    are a container's. One that could not begin is not `begun`: it fails without having started."""

    path: Path
    index: int
    leaf_index: int
    started_at: float
    predecessor: NodeId | None = None
    inputs: Mapping[str, Value] = field(default_factory=dict[str, Value])
    retries: list[Record] = field(default_factory=list[Record])
    rounds: dict[int, RoundTrace] = field(default_factory=dict[int, RoundTrace])
    has_started: bool = True


class RunTrace:
    """Folds a run's records, from its first, into the nodes that are under way (`running`). Without a graph, nodes have
    no predecessor and containers count as leaves."""

    def __init__(self, graph: Graph | None = None) -> None:
        self.running: dict[Path, NodeTrace] = {}
        self._graph = graph
        self._predecessors: dict[Path, NodeId] = {}  # of nodes that have not started yet
        self._nodes = 0
        self._leaves = 0

    def apply(self, record: Record) -> NodeTrace | None:
        """Adds the run's next record; returns the node that it starts, retries or ends, or whose round it starts."""
        match record.event:
            case NodeStarted(path, inputs):
                return self._start(path, record.at, inputs)
            case NodeSucceeded() | NodeFailed() as event:
                return self._end(event, record.at)
            case NodeRetried(path):
                node = self.running[path]
                node.retries.append(record)
                return node
            case RoundStarted(path, index):
                node = self.running[path]
                node.rounds[index] = RoundTrace(record.at, record.at)
                return node
            case _:
                return None

    def stop(self, at: float) -> list[NodeTrace]:
        """The nodes that were under way when the run ended, those inside containers first."""
        stopped = sorted(self.running.values(), key=lambda node: len(node.path), reverse=True)
        for node in stopped:
            self._extend_rounds(node.path, at)
        self.running.clear()
        return stopped

    def _start(self, path: Path, at: float, inputs: Mapping[str, Value]) -> NodeTrace:
        self._nodes += 1
        if self._graph is None or not self._graph.is_container(path):
            self._leaves += 1
        predecessor = self._predecessors.pop(path, None)
        node = self.running[path] = NodeTrace(path, self._nodes, self._leaves, at, predecessor, inputs)
        return node

    def _end(self, event: NodeSucceeded | NodeFailed, at: float) -> NodeTrace:
        path = event.path
        node = self.running.pop(path, None)
        if node is None:
            node = self._start(path, at, event.inputs)
            node.has_started = False
            del self.running[path]
        fatal = isinstance(event, NodeFailed) and event.strategy is None
        self._extend_rounds(path, at, failed=fatal)
        if self._graph is not None and not fatal:
            graph, id_ = self._graph.resolve(path)
            round_ = path[: len(path) - len(id_)]
            for edge in graph.edges_taken(id_, event.handle)[0]:
                self._predecessors[round_ + edge.target] = id_
        return node

    def _extend_rounds(self, path: Path, at: float, *, failed: bool = False) -> None:
        """A node has ended: the rounds that it is in last at least until then, and with a failure that no strategy
        handled the innermost has failed."""
        if is_top_level(path):
            return
        round_ = None
        for container, index in rounds(path):
            if (outer := self.running.get(container)) and (round_ := outer.rounds.get(index)):
                round_.ended_at = max(round_.ended_at, at)
        if round_ is not None:
            round_.failed = round_.failed or failed
