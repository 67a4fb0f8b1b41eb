"""The state of a run: the result of its events so far, and the steps that are ready.

How a graph is traversed (facts of Dify 1.12, from its recorded runs and its engine):

- A node waits for all its incoming edges. When its source ends, an edge is taken or skipped. Once all are decided, the
  node is ready if any was taken, else it is skipped; a skipped node skips all its edges.
- A branching node takes the edges of its handle and skips the others; other nodes take all edges.
- The first failure that no strategy handles ends the run as failed, once the nodes already running have ended; no node
  starts after it. Inside a container it ends the round in the same way, and the container decides what follows.
- Every start and every retry is a step; every failed attempt is an exception, handled or not. Nodes inside containers
  count in neither, but their tokens are counted.

`apply` keeps the frontier (`ready`, `to_skip`, `running`, `due_containers`) up to date, so that the cost of planning
depends on what has changed, not on the size of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.frozen import new_dict
from headrace.kernel.containers import ContainerRun, GraphInstance
from headrace.kernel.events import (
    Delta,
    FormExpired,
    FormRequested,
    FormSubmitted,
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
    StepEnded,
    StepStarted,
    StopRequested,
)
from headrace.kernel.forms import EXPIRED, FormOutcome, FormState
from headrace.kernel.graph import Graph, NodeId, NodeSpec, Path, attempt_key, split
from headrace.kernel.response import RunOutputs
from headrace.kernel.steps import Steps, apply_step, keeps_text
from headrace.kernel.summary import RunSummary
from headrace.kernel.variables import Variables
from headrace.values import Value


@dataclass(slots=True)
class Running:
    """A running node: how many of its attempts have failed, and the steps of the current one. `texts`: how long the
    outputs are that it streams; `kept`: the same when its last step ended, after which it continues after a crash."""

    failures: int = 0
    steps: Steps = field(default_factory=new_dict)
    texts: dict[str, int] = field(default_factory=new_dict)
    kept: dict[str, int] = field(default_factory=new_dict)


class State(RunSummary):
    """The state of a run: its summary, and the steps that can be taken next. Only `apply` changes it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.stop: StopRequested | None = None
        self.run_outputs = RunOutputs(graph)
        self.ready: dict[Path, None] = {}
        self.to_skip: dict[Path, None] = {}
        self.running: dict[Path, Running] = {}
        self.restarting: dict[Path, None] = {}
        self.forms: dict[Path, FormState] = {}  # of nodes that have not ended
        self.abandoned: dict[Path, None] = {}  # forms of rounds that were cancelled
        self.expired: FormExpired | None = None  # the form that ends the run
        self.open_containers: dict[Path, ContainerRun] = {}
        self.due_containers: dict[Path, None] = {}  # those that have a step to take
        self.variables: dict[str, Mapping[str, Value]] = {}  # of the top level, by scope
        self._start = graph.root
        self._root = GraphInstance(graph, self.variables, Variables(self.variables))
        self._instances: dict[Path, GraphInstance] = {"": self._root}

    @property
    def outputs(self) -> dict[str, Value]:
        """The outputs of the run so far."""
        return self.run_outputs.current()

    def node_at(self, path: Path) -> tuple[GraphInstance, NodeId]:
        """The graph instance that a path is in, and the id of its node there."""
        if path in self.graph.nodes:
            return self._root, path
        round_, node = split(path)
        return self._instances[round_], node

    def spec(self, path: Path) -> NodeSpec:
        instance, node = self.node_at(path)
        return instance.graph.nodes[node]

    def apply(self, record: Record) -> None:
        """Applies the next record of the run. Records without a number change nothing."""
        if record.seq is None:
            return
        RunSummary.apply(self, record)
        if self.run_outputs.response_stream is not None:
            self.run_outputs.apply(record)
        match record.event:
            case NodeStarted() as event:
                self._start_node(event.path, event.inputs)
            case NodeSucceeded() as event:
                self._on_success(event)
            case NodeFailed() as event:
                self._on_failure(event)
            case NodeRetried(path):
                running = self.running[path]
                running.failures += 1
                running.steps, running.texts, running.kept = {}, {}, {}
            case StepStarted(path) | StepEnded(path) as event:
                running = self.running[path]
                apply_step(running.steps, attempt_key(self.run, path, running.failures), event, record.at)
                if isinstance(event, StepEnded) and keeps_text(event.name):
                    running.kept = dict(running.texts)
            case Delta(path, name, at, text):
                self.running[path].texts[name] = at + len(text)
            case NodeSkipped(path):
                del self.to_skip[path]
                instance, node = self.node_at(path)
                for edge in instance.graph.edges_from.get(node, ()):
                    self._decide_edge(instance, edge.target, taken=False)
                self._finish_node(instance)
            case RoundStarted(path, index, variables):
                self._start_round(self.open_containers[path], index, variables)
            case RunQueued() as event:
                self.variables["sys"] = event.system
                self._start = event.start or self.graph.root
                if self.graph.has_answer:
                    self.run_outputs.start(self.variables)
            case RunStarted(conversation):
                self.variables["conversation"] = conversation
                for node in self.graph.starts:
                    if node == self._start:
                        self._make_ready(self._root, node)
                    else:
                        self._skip(self._root, node)
            case RunResumed():
                self.restarting = dict.fromkeys(self.running)
                for running in self.running.values():
                    running.texts = dict(running.kept)
            case StopRequested() as event:
                self.stop = self.stop or event
            case FormRequested(path) as event:
                del self.running[path]
                self.restarting.pop(path, None)
                self.forms[path] = FormState(event, record.at)
                if self.node_at(path)[0].cancelled:
                    self.abandoned[path] = None
            case FormSubmitted() | FormExpired() as event:
                self._settle(event)
            case RunEnded():
                for frontier in (
                    self.ready,
                    self.to_skip,
                    self.running,
                    self.restarting,
                    self.forms,
                    self.abandoned,
                    self.open_containers,
                    self.due_containers,
                ):
                    frontier.clear()
            case RunPaused() | NodeLogged():
                pass

    # ------------------------------------------------------------------------------------------------------- nodes

    def _start_node(self, path: Path, inputs: Mapping[str, Value]) -> None:
        self.ready.pop(path, None)
        instance, node = self.node_at(path)
        body = instance.graph.bodies.get(node)
        if body is None:
            self.running[path] = Running()
            return
        run = self.open_containers[path] = ContainerRun(
            path, node, instance, body, inputs, body.container.max_rounds(inputs)
        )
        if scope := body.container.shared_variables(inputs):
            instance.scopes[node] = scope
        run.is_done = body.container.is_done(instance.variables)
        self._update_container(run)

    def _on_success(self, event: NodeSucceeded) -> None:
        instance, node = self._remove(event.path)
        instance.graph.store_outputs(instance.scopes, node, event.outputs)
        if event.assigned:
            self._assign(instance, event.assigned)
        if instance.container_run is not None and event.usage and node not in instance.graph.bodies:
            self._add_usage(instance, event.usage)
        if node in instance.graph.responses:
            self.run_outputs.add(event.path, event.outputs)
        if instance.container_run is not None and instance.graph.nodes[node].traits.ends_loop:
            self._end_loop(instance)
        self._take_edges(instance, node, event.handle)

    def _on_failure(self, event: NodeFailed) -> None:
        if event.path in self.ready:  # a container whose inputs are not valid
            del self.ready[event.path]
        instance, node = self._remove(event.path)
        if event.strategy is not None:
            instance.graph.store_outputs(instance.scopes, node, event.outputs)
            self._take_edges(instance, node, event.handle)
        elif instance is not self._root:
            instance.failure = instance.failure or event
            self._cancel(instance)
            self._finish_node(instance)

    def _remove(self, path: Path) -> tuple[GraphInstance, NodeId]:
        self.running.pop(path, None)
        self.restarting.pop(path, None)
        self.forms.pop(path, None)
        if self.open_containers.pop(path, None):
            self.due_containers.pop(path, None)
        return self.node_at(path)

    def _settle(self, outcome: FormOutcome) -> None:
        """The node of a form runs again with its outcome, unless nothing continues from it."""
        path = outcome.path
        self.abandoned.pop(path, None)
        if not isinstance(outcome, FormExpired) or outcome.status != EXPIRED:
            self.forms[path].outcome = outcome
            self.running[path] = Running()
            self.restarting[path] = None
            return
        del self.forms[path]
        instance, _ = self.node_at(path)
        if instance.cancelled:
            self._finish_node(instance)
        else:
            self.expired = outcome

    def _add_usage(self, instance: GraphInstance, usage: Mapping[str, Value]) -> None:
        """Adds the usage of a node to the containers around it."""
        run = instance.container_run
        while run is not None:
            run.usage.add(usage)
            run = run.parent.container_run

    def _assign(self, instance: GraphInstance, assignments: Mapping[str, Mapping[str, Value]]) -> None:
        for scope, values in assignments.items():
            owner = self._instance_of_scope(instance, scope)
            owner.scopes[scope] = {**owner.scopes.get(scope, {}), **values}

    def _instance_of_scope(self, instance: GraphInstance, scope: str) -> GraphInstance:
        """The instance that has a scope: for the variables of a loop the one around it, else the top-level one."""
        run = instance.container_run
        while run is not None:
            if run.node == scope:
                return run.parent
            run = run.parent.container_run
        return self._root

    def _take_edges(self, instance: GraphInstance, node: NodeId, handle: str) -> None:
        if self.run_outputs.handles is not None and instance is self._root:
            self.run_outputs.handles[node] = handle
        taken_edges, skipped_edges = instance.graph.edges_taken(node, handle)
        for edge in taken_edges:
            self._decide_edge(instance, edge.target, taken=True)
        for edge in skipped_edges:
            self._decide_edge(instance, edge.target, taken=False)
        self._finish_node(instance)

    def _decide_edge(self, instance: GraphInstance, target: NodeId, *, taken: bool) -> None:
        """An edge is taken or skipped; once all edges of its target are decided, the target is ready or to be
        skipped."""
        edges_left = instance.undecided_edges.get(target, instance.graph.in_degree[target]) - 1
        instance.undecided_edges[target] = edges_left
        if taken:
            instance.reached_nodes.add(target)
        if edges_left == 0 and not instance.cancelled:
            if target in instance.reached_nodes:
                self._make_ready(instance, target)
            else:
                self._skip(instance, target)

    def _skip(self, instance: GraphInstance, node: NodeId) -> None:
        self.to_skip[instance.prefix + node] = None
        instance.open_nodes += 1

    def _make_ready(self, instance: GraphInstance, node: NodeId) -> None:
        self.ready[instance.prefix + node] = None
        instance.open_nodes += 1

    def _finish_node(self, instance: GraphInstance) -> None:
        """A node of an instance has ended or was skipped."""
        instance.open_nodes -= 1
        if instance.open_nodes <= 0 and instance.container_run is not None:
            self._end_round(instance, instance.container_run)

    # ------------------------------------------------------------------------------------------------------ rounds

    def _start_round(self, run: ContainerRun, index: int, variables: Mapping[str, Value]) -> None:
        run.rounds_started = index + 1
        instance = run.active_rounds[index] = GraphInstance.of_round(run, index, variables)
        self._instances[instance.prefix] = instance
        self._make_ready(instance, instance.graph.root)
        root = instance.graph.nodes[instance.graph.root]
        if root.traits.starts_body:  # it only marks the entry
            del self.ready[instance.prefix + root.id]
            self._take_edges(instance, root.id, "source")
        self._update_container(run)

    def _end_round(self, instance: GraphInstance, run: ContainerRun) -> None:
        """A round has ended."""
        del self._instances[instance.prefix], run.active_rounds[instance.index]
        container = run.body.container
        if instance.failure is None and not instance.cancelled:
            run.results[instance.index] = container.round_result(run, instance.variables)
            run.is_done = run.is_done or run.loop_ended or container.is_done(instance.variables)
        else:
            run.failed_rounds.add(instance.index)
            if instance.failure is not None and not container.continue_on_error and run.failure is None:
                run.failure = (instance.index, instance.failure)
                for other in list(run.active_rounds.values()):
                    self._cancel(other)
                    self._end_if_empty(other)
        self._update_container(run)

    def _update_container(self, run: ContainerRun) -> None:
        """Updates whether a container has a step to take."""
        if run.path not in self.open_containers:
            return
        if run.parent.cancelled:
            if not run.active_rounds:  # it ends with the round that it is in, without an event
                self._remove(run.path)
                self._finish_node(run.parent)
        elif run.is_due:
            self.due_containers[run.path] = None
        else:
            self.due_containers.pop(run.path, None)

    def _cancel(self, instance: GraphInstance) -> None:
        """Nothing more may start in an instance or inside it. Nodes that are running continue to their end."""
        instance.cancelled = True
        for node in instance.graph.nodes:
            path = instance.prefix + node
            for frontier in (self.ready, self.to_skip):
                if path in frontier:
                    del frontier[path]
                    instance.open_nodes -= 1
            if (form := self.forms.get(path)) is not None and form.outcome is None:
                self.abandoned[path] = None
        for node in instance.graph.bodies:
            run = self.open_containers.get(instance.prefix + node)
            if run is None:
                continue
            self.due_containers.pop(run.path, None)
            for round_ in list(run.active_rounds.values()):
                self._cancel(round_)
                self._end_if_empty(round_)
            self._update_container(run)

    def _end_if_empty(self, instance: GraphInstance) -> None:
        """Ends the round of an instance that has no open nodes."""
        run = instance.container_run
        if instance.open_nodes <= 0 and run is not None and instance.index in run.active_rounds:
            self._end_round(instance, run)

    def _end_loop(self, instance: GraphInstance) -> None:
        """A loop-end node was reached: the innermost loop around it starts no further round."""
        run = instance.container_run
        while run is not None and not run.parent.graph.nodes[run.node].traits.loop:
            run = run.parent.container_run
        if run is not None:
            run.loop_ended = True
