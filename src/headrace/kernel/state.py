"""A run's state: what its events so far add up to, and what they leave ready to be done.

How a graph is walked (facts of Dify 1.12, from its recorded runs and its engine):

- A node waits for all its incoming edges. When its source ends, an edge is taken or skipped. Once none waits,
  the node is ready if any was taken, else it is to be skipped; a skipped node skips all its edges.
- A node that ended by a handle takes the edges of that handle and skips the others, if it branches; else it takes all.
- The first failure that no strategy handles ends the run as failed, once the nodes already running have ended; none
  starts after it. Inside a container it ends the round in the same way, and the container says what that means.
- Steps count every start and every retry; exceptions count every failed attempt, handled or not. Nodes inside
  containers count in neither, but their tokens do.

The frontier (`ready`, `skips`, `running`, `due`) is kept up to date by `apply`, so that planning costs what has changed
and not what there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.kernel.containers import ContainerRun, GraphInstance
from headrace.kernel.events import (
    Delta,
    NodeFailed,
    NodeLogged,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.kernel.graph import Graph, NodeId, NodeSpec, Path, split
from headrace.kernel.response import RunOutputs
from headrace.kernel.summary import RunSummary
from headrace.values import Value


@dataclass(slots=True)
class Running:
    """A node under way: how many of its attempts have failed."""

    failures: int = 0


class State(RunSummary):
    """A run as its events have left it: its summary, and what can be done next. Only `apply` changes it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.stop: StopRequested | None = None
        self.run_outputs = RunOutputs(graph)
        self.ready: dict[Path, None] = {}
        self.to_skip: dict[Path, None] = {}
        self.running: dict[Path, Running] = {}
        self.restarting: dict[Path, None] = {}
        self.open_containers: dict[Path, ContainerRun] = {}  # containers under way
        self.due_containers: dict[Path, None] = {}  # those about which there is something to be done
        self._root = GraphInstance(graph)
        self._instances: dict[Path, GraphInstance] = {"": self._root}
        self.variables = self._root.scopes

    @property
    def outputs(self) -> dict[str, Value]:
        """What the run has put out so far."""
        return self.run_outputs.current()

    def node_at(self, path: Path) -> tuple[GraphInstance, NodeId]:
        """The level that a path is in, and the id of its node there."""
        round_, node = split(path)
        return self._instances[round_], node

    def spec(self, path: Path) -> NodeSpec:
        level, node = self.node_at(path)
        return level.graph.nodes[node]

    def apply(self, record: Record) -> None:
        """Takes one more event of the run in. Records without a number change nothing."""
        if record.seq is None:
            return
        super().apply(record)
        if self.run_outputs.response_stream is not None:
            self.run_outputs.apply(record)
        match record.event:
            case NodeStarted(path, inputs):
                self._start_node(path, inputs)
            case NodeSucceeded() as event:
                self._on_success(event)
            case NodeFailed() as event:
                self._on_failure(event)
            case NodeRetried(path):
                self.running[path].failures += 1
            case NodeSkipped(path):
                del self.to_skip[path]
                level, node = self.node_at(path)
                for edge in level.graph.edges_from.get(node, ()):
                    self._decide_edge(level, edge.target, taken=False)
                self._finish_node(level)
            case RoundStarted(path, index, seen):
                self._start_round(self.open_containers[path], index, seen)
            case RunQueued() as event:
                self.variables["sys"] = event.system
                self.run_outputs.start(self._root.scopes)
            case RunStarted(conversation):
                self.variables["conversation"] = conversation
                self._make_ready(self._root, self.graph.root)
            case RunResumed():
                self.restarting = dict.fromkeys(self.running)
            case StopRequested() as event:
                self.stop = self.stop or event
            case RunEnded():
                for frontier in (
                    self.ready,
                    self.to_skip,
                    self.running,
                    self.restarting,
                    self.open_containers,
                    self.due_containers,
                ):
                    frontier.clear()
            case RunPaused() | Delta() | NodeLogged():
                pass

    # ------------------------------------------------------------------------------------------------------- nodes

    def _start_node(self, path: Path, inputs: Mapping[str, Value]) -> None:
        self.ready.pop(path, None)
        level, node = self.node_at(path)
        body = level.graph.bodies.get(node)
        if body is None:
            self.running[path] = Running()
            return
        opened = self.open_containers[path] = ContainerRun(path, node, level, body, inputs)
        if scope := body.container.shared_variables(inputs):
            level.scopes[node] = scope
        opened.is_done = body.container.is_done(level.variables)
        self._update_container(opened)

    def _on_success(self, event: NodeSucceeded) -> None:
        level, node = self._remove(event.path)
        level.graph.store_outputs(level.scopes, node, event.outputs)
        if event.assigned:
            self._assign(level, event.assigned)
        if event.usage and node not in level.graph.bodies:  # a container's is the sum of what is counted already
            self._add_usage(level, event.usage)
        if node in level.graph.responses:
            self.run_outputs.add(event.path, event.outputs)
        if level.container_run is not None and level.graph.nodes[node].traits.ends_loop:
            self._end_loop(level)
        self._take_edges(level, node, event.handle)

    def _on_failure(self, event: NodeFailed) -> None:
        if event.path in self.ready:  # a container that had nothing to begin with
            del self.ready[event.path]
        level, node = self._remove(event.path)
        if event.strategy is not None:
            level.graph.store_outputs(level.scopes, node, event.outputs)
            self._take_edges(level, node, event.handle)
        elif level is not self._root:
            level.failure = level.failure or event
            self._cancel(level)
            self._finish_node(level)

    def _remove(self, path: Path) -> tuple[GraphInstance, NodeId]:
        self.running.pop(path, None)
        self.restarting.pop(path, None)
        if self.open_containers.pop(path, None):
            self.due_containers.pop(path, None)
        return self.node_at(path)

    def _add_usage(self, level: GraphInstance, usage: Mapping[str, Value]) -> None:
        opened = level.container_run
        while opened is not None:
            opened.usage.add(usage)
            opened = opened.parent.container_run

    def _assign(self, level: GraphInstance, assigned: Mapping[str, Mapping[str, Value]]) -> None:
        for scope, values in assigned.items():
            home = self._instance_of_scope(level, scope)
            home.scopes[scope] = {**home.scopes.get(scope, {}), **values}

    def _instance_of_scope(self, level: GraphInstance, scope: str) -> GraphInstance:
        """The level that a scope belongs to: a loop's own for its variables, else the top one."""
        opened = level.container_run
        while opened is not None:
            if opened.node == scope:
                return opened.parent
            opened = opened.parent.container_run
        return self._root

    def _take_edges(self, level: GraphInstance, node: NodeId, handle: str) -> None:
        if self.run_outputs.handles is not None and level is self._root:
            self.run_outputs.handles[node] = handle
        taken, skipped = level.graph.edges_taken(node, handle)
        for edge in taken:
            self._decide_edge(level, edge.target, taken=True)
        for edge in skipped:
            self._decide_edge(level, edge.target, taken=False)
        self._finish_node(level)

    def _decide_edge(self, level: GraphInstance, target: NodeId, *, taken: bool) -> None:
        """An edge is taken or skipped; once none is waited for, its target is ready or is to be skipped."""
        waiting = level.undecided_edges.get(target, level.graph.in_degree[target]) - 1
        level.undecided_edges[target] = waiting
        if taken:
            level.reached_nodes.add(target)
        if waiting == 0 and not level.cancelled:
            if target in level.reached_nodes:
                self._make_ready(level, target)
            else:
                self.to_skip[level.prefix + target] = None
                level.open_nodes += 1

    def _make_ready(self, level: GraphInstance, node: NodeId) -> None:
        self.ready[level.prefix + node] = None
        level.open_nodes += 1

    def _finish_node(self, level: GraphInstance) -> None:
        """One node of a level is done with."""
        level.open_nodes -= 1
        if level.open_nodes <= 0 and level.container_run is not None:
            self._end_round(level, level.container_run)

    # ------------------------------------------------------------------------------------------------------ rounds

    def _start_round(self, opened: ContainerRun, index: int, seen: Mapping[str, Value]) -> None:
        opened.rounds_started = index + 1
        level = opened.active_rounds[index] = GraphInstance(opened.body.graph, opened, index, seen)
        self._instances[level.prefix] = level
        self._make_ready(level, level.graph.root)
        root = level.graph.nodes[level.graph.root]
        if root.traits.starts_body:  # it only marks the place
            del self.ready[level.prefix + root.id]
            self._take_edges(level, root.id, "source")
        self._update_container(opened)

    def _end_round(self, level: GraphInstance, opened: ContainerRun) -> None:
        """A round is over."""
        del self._instances[level.prefix], opened.active_rounds[level.index]
        container = opened.body.container
        if level.failure is None and not level.cancelled:
            opened.results[level.index] = container.round_result(opened, level.variables)
            opened.is_done = opened.is_done or opened.loop_ended or container.is_done(level.variables)
        else:
            opened.failed_rounds.add(level.index)
            if level.failure is not None and not container.continue_on_error and opened.failure is None:
                opened.failure = (level.index, level.failure)
                for other in list(opened.active_rounds.values()):
                    self._cancel(other)
                    self._end_if_empty(other)
        self._update_container(opened)

    def _update_container(self, opened: ContainerRun) -> None:
        """Sees what there is to do about a container."""
        if opened.path not in self.open_containers:
            return
        if opened.parent.cancelled:
            if not opened.active_rounds:  # it ends with the round that it is in, unheard
                self._remove(opened.path)
                self._finish_node(opened.parent)
        elif opened.is_due:
            self.due_containers[opened.path] = None
        else:
            self.due_containers.pop(opened.path, None)

    def _cancel(self, level: GraphInstance) -> None:
        """Nothing more is to start in a level, nor inside it. What runs already is let to its end."""
        level.cancelled = True
        for node in level.graph.nodes:
            path = level.prefix + node
            for frontier in (self.ready, self.to_skip):
                if path in frontier:
                    del frontier[path]
                    level.open_nodes -= 1
        for node in level.graph.bodies:
            opened = self.open_containers.get(level.prefix + node)
            if opened is None:
                continue
            self.due_containers.pop(opened.path, None)
            for each in list(opened.active_rounds.values()):
                self._cancel(each)
                self._end_if_empty(each)
            self._update_container(opened)

    def _end_if_empty(self, level: GraphInstance) -> None:
        """Ends a level in which nothing is left."""
        if (
            level.open_nodes <= 0
            and level.container_run is not None
            and level.index in level.container_run.active_rounds
        ):
            self._end_round(level, level.container_run)

    def _end_loop(self, level: GraphInstance) -> None:
        """A loop's end was reached: the innermost loop around it opens no further round."""
        opened = level.container_run
        while opened is not None and not opened.parent.graph.nodes[opened.node].traits.loop:
            opened = opened.parent.container_run
        if opened is not None:
            opened.loop_ended = True
