"""The running nodes of a run: when each started, its predecessor and its rounds.

A node is forgotten when it ends, so that the memory for following a run does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.frozen import new_dict, new_list
from headrace.kernel.events import (
    FormExpired,
    FormRequested,
    FormSubmitted,
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    StepEnded,
    StepStarted,
)
from headrace.kernel.forms import FormState
from headrace.kernel.graph import Graph, NodeId, Path, attempt_key, is_top_level, rounds
from headrace.kernel.steps import Step, Steps, apply_step, fail_steps
from headrace.values import Value


@dataclass(slots=True)
class RoundTrace:
    """A round of a container. `ended_at`: when the last node in it ended."""

    started_at: float
    ended_at: float
    failed: bool = False


@dataclass(slots=True)
class NodeTrace:
    """A running node. `index` counts the nodes of the run from 1 in the order of their start, `leaf_index` those that
    are not containers; `predecessor`: the node before it; `retries`: its NodeRetried records; `steps`: those of the
    attempt, `failed_steps` those that its failure cut short; `inputs` and `rounds` are those of a container.
    `has_started` is False for a container that failed because its inputs were not valid. `form`: what it asks of
    people."""

    path: Path
    index: int
    leaf_index: int
    started_at: float
    predecessor: NodeId | None = None
    inputs: Mapping[str, Value] = field(default_factory=new_dict)
    retries: list[Record] = field(default_factory=new_list)
    rounds: dict[int, RoundTrace] = field(default_factory=new_dict)
    has_started: bool = True
    steps: Steps = field(default_factory=new_dict)
    failed_steps: list[Step] = field(default_factory=new_list)
    form: FormState | None = None


class RunTrace:
    """Folds a run's records, from the first, into the nodes that are running. Without a graph, nodes have no
    predecessor, and containers count as leaves."""

    def __init__(self, graph: Graph | None = None) -> None:
        self.running: dict[Path, NodeTrace] = {}
        self._graph = graph
        self._predecessors: dict[Path, NodeId] = {}  # of nodes that have not started yet
        self._nodes = 0
        self._leaves = 0

    def apply(self, record: Record) -> NodeTrace | None:
        """Applies the next record of the run; returns the node that it is about, if there is one."""
        match record.event:
            case NodeStarted(path, inputs):
                return self._start(path, record.at, inputs)
            case NodeSucceeded() | NodeFailed() as event:
                return self._end(event, record.at)
            case NodeRetried(path, error=error):
                node = self.running[path]
                node.retries.append(record)
                node.failed_steps = fail_steps(node.steps, error, record.at)
                node.steps = {}
                return node
            case StepStarted(path) | StepEnded(path) as event:
                node = self.running[path]
                apply_step(node.steps, attempt_key(record.run, path, len(node.retries)), event, record.at)
                return node
            case FormRequested(path) as event:
                node = self.running[path]
                node.form = FormState(event, record.at)
                return node
            case FormSubmitted(path) | FormExpired(path) as event:
                node = self.running[path]
                if node.form is not None:
                    node.form.outcome = event
                return node
            case RoundStarted(path, index):
                node = self.running[path]
                node.rounds[index] = RoundTrace(record.at, record.at)
                return node
            case _:
                return None

    def stop(self, at: float) -> list[NodeTrace]:
        """The nodes that were running when the run ended, those inside containers first."""
        stopped_nodes = sorted(self.running.values(), key=lambda node: len(node.path), reverse=True)
        for node in stopped_nodes:
            self._extend_rounds(node.path, at)
        self.running.clear()
        return stopped_nodes

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
        if isinstance(event, NodeFailed):
            node.failed_steps = fail_steps(node.steps, event.error, at)
        fatal = isinstance(event, NodeFailed) and event.strategy is None
        if not is_top_level(path):
            self._extend_rounds(path, at, failed=fatal)
        if self._graph is not None and not fatal:
            graph, id_ = self._graph.resolve(path)
            round_ = path[: len(path) - len(id_)]
            for edge in graph.edges_taken(id_, event.handle)[0]:
                self._predecessors[round_ + edge.target] = id_
        return node

    def _extend_rounds(self, path: Path, at: float, *, failed: bool = False) -> None:
        """A node has ended: the rounds around it last at least until then, and after a failure that no strategy handled
        the innermost one has failed."""
        round_ = None
        for container, index in rounds(path):
            if (outer := self.running.get(container)) and (round_ := outer.rounds.get(index)):
                round_.ended_at = max(round_.ended_at, at)
        if round_ is not None:
            round_.failed = round_.failed or failed
