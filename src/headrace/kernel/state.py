"""What the events of a run so far add up to.

The rules, in words:

- A node has as many waiting edges as lead to it. When its source ends, an edge is taken or skipped. Once none waits,
  the node is ready if any was taken, else it is to be skipped; a skipped node skips all its edges.
- A node that ended by a handle takes the edges of that handle and skips the others, if it branches; else it takes all.
- The first failure that no strategy handles ends the run as failed, once the nodes already running have ended; none
  starts after it.
- Steps count every start and every retry; exceptions count every failed attempt, handled or not.

The frontier (`ready`, `skips`, `running`) is kept up to date by `apply`, so that planning costs what has changed and
not what there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.kernel.events import (
    Delta,
    NodeFailed,
    NodeLogged,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Path,
    Record,
    RoundStarted,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.kernel.graph import Edge, Graph, NodeId
from headrace.values import Value


@dataclass(slots=True)
class Totals:
    """What a run has used so far."""

    steps: int = 0
    exceptions: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Running:
    """A node under way: since when, and how many of its attempts have failed."""

    since: float
    failures: int = 0


class State:
    """A run as its events have left it. Only `apply` changes it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.seq = 0
        self.queued: RunQueued | None = None
        self.queued_at = 0.0
        self.started_at: float | None = None
        self.paused: RunPaused | None = None
        self.stop: StopRequested | None = None
        self.failure: NodeFailed | None = None
        self.ended: RunEnded | None = None
        self.ended_at: float | None = None
        self.totals = Totals()
        self.outputs: dict[str, Value] = {}
        self.variables: dict[NodeId, Mapping[str, Value]] = {}
        self.ready: dict[Path, None] = {}
        self.skips: dict[Path, None] = {}
        self.running: dict[Path, Running] = {}
        self.interrupted: dict[Path, None] = {}
        self._waiting: dict[NodeId, int] = {}
        self._taken: set[NodeId] = set()

    def apply(self, record: Record) -> None:
        """Takes one more event of the run in. Records without a number change nothing."""
        if record.seq is None:
            return
        self.seq = record.seq
        match record.event:
            case NodeStarted(path):
                self.ready.pop(path, None)
                self.running[path] = Running(record.at)
                self.totals.steps += 1
            case NodeSucceeded() as event:
                self._succeeded(event)
            case NodeFailed() as event:
                self._failed(event)
            case NodeRetried(path):
                self.running[path].failures += 1
                self.totals.steps += 1
                self.totals.exceptions += 1
            case NodeSkipped(path):
                del self.skips[path]
                for edge in self.graph.out.get(path, ()):
                    self._pass(edge, taken=False)
            case RunQueued() as event:
                self.queued = event
                self.queued_at = record.at
                self.variables["sys"] = event.system
            case RunStarted():
                self.started_at = record.at
                self.ready[self.graph.root] = None
            case RunResumed():
                self.paused = None
                self.interrupted = dict.fromkeys(self.running)
            case RunPaused() as event:
                self.paused = event
            case StopRequested() as event:
                self.stop = self.stop or event
            case RunEnded() as event:
                self.ended = event
                self.ended_at = record.at
                self.ready.clear()
                self.skips.clear()
                self.running.clear()
                self.interrupted.clear()
            case RoundStarted() | Delta() | NodeLogged():
                pass

    def _succeeded(self, event: NodeSucceeded) -> None:
        self._end(event.path)
        self.variables[event.path] = event.outputs
        if event.usage:
            self.totals.tokens += event.usage.get("total_tokens") or 0
        if event.path in self.graph.responses:
            self.outputs.update(event.outputs)
        self._leave(event.path, event.handle)

    def _failed(self, event: NodeFailed) -> None:
        self._end(event.path)
        self.totals.exceptions += 1
        if event.strategy is None:
            self.failure = self.failure or event
            return
        self.variables[event.path] = event.outputs
        self._leave(event.path, event.handle)

    def _end(self, path: Path) -> None:
        del self.running[path]
        self.interrupted.pop(path, None)

    def _leave(self, node: NodeId, handle: str) -> None:
        taken, skipped = self.graph.leaves(node, handle)
        for edge in taken:
            self._pass(edge, taken=True)
        for edge in skipped:
            self._pass(edge, taken=False)

    def _pass(self, edge: Edge, *, taken: bool) -> None:
        target = edge.target
        waiting = self._waiting.get(target, self.graph.arity[target]) - 1
        self._waiting[target] = waiting
        if taken:
            self._taken.add(target)
        if waiting == 0:
            (self.ready if target in self._taken else self.skips)[target] = None
