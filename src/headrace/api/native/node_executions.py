"""What each node of a run did, folded from its records."""

from __future__ import annotations

from uuid import UUID, uuid5

from headrace.api.dify.container_events import ContainerEvents
from headrace.api.dify.run_responses import seconds
from headrace.api.http.json import Inputs
from headrace.api.native.run_watch import UsageTotal
from headrace.api.native.schemas.runs import NodeAttempt, NodeExecution
from headrace.kernel.events import (
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunQueued,
)
from headrace.kernel.graph import Graph
from headrace.kernel.path import NodeId, Path
from headrace.runs.service import RunView
from headrace.times import milliseconds, whole_seconds


def executions(view: RunView) -> list[NodeExecution]:
    """The nodes of a run that have started, in order of their start; those inside containers once a round, with the
    innermost iteration and loop they are in and the index of its round.

    A node under way is `running`; one that was running when the run ended was `stopped` with it; `exception` is a
    failure that the node's error strategy handled. `reused`: taken over from the run that this one is a retry of.
    """
    builder = _Executions(view.served.flow.graph, UUID(view.records[0].run))
    for record in view.records:
        builder.apply(record)
    return list(builder.executions.values())


class _Executions:
    """Folds a run's records into what each of its nodes did; `executions` is by path."""

    def __init__(self, graph: Graph, run: UUID) -> None:
        self.executions: dict[Path, NodeExecution] = {}
        self._graph = graph
        self._containers = ContainerEvents(graph)
        self._run = run
        self._started_at: dict[Path, float] = {}
        self._predecessors: dict[Path, NodeId] = {}
        self._queued_at = 0.0
        self._retry = False

    def apply(self, record: Record) -> None:
        match record.event:
            case RunQueued() as event:
                self._queued_at, self._retry = record.at, event.retry_of is not None
            case NodeStarted(path):
                self._start(path, record.at)
            case NodeRetried() as event:
                attempt: NodeAttempt = {
                    "attempt": event.attempt,
                    "error": event.error,
                    "error_type": event.kind,
                    "inputs": Inputs(event.inputs),
                    "process_data": event.process,
                    "finished_at": whole_seconds(record.at),
                    "finished_at_ms": milliseconds(record.at),
                }
                self.executions[event.path]["attempts"].append(attempt)
            case NodeSucceeded() | NodeFailed() as event:
                self._end(event, record.at)
            case RunEnded():
                for path, execution in self.executions.items():
                    if execution["status"] == "running":
                        execution["status"] = "stopped"
                        self._finish(path, record.at)
            case _:
                pass

    def _start(self, path: Path, at: float) -> NodeExecution:
        spec, rounds = self._containers.spec(path), self._containers.metadata(path)
        self._started_at[path] = at
        execution: NodeExecution = {
            "id": str(uuid5(self._run, path)),
            "node_id": spec.id,
            "node_type": spec.type,
            "title": spec.title,
            "index": len(self.executions) + 1,
            "predecessor_node_id": self._predecessors.get(path),
            "iteration_id": rounds.get("iteration_id"),
            "iteration_index": rounds.get("iteration_index"),
            "loop_id": rounds.get("loop_id"),
            "loop_index": rounds.get("loop_index"),
            "status": "running",
            "inputs": None,
            "process_data": None,
            "outputs": None,
            "error": None,
            "error_type": None,
            "attempts": [],
            "reused": self._retry and at < self._queued_at,
            "usage": None,
            "started_at": whole_seconds(at),
            "finished_at": None,
            "elapsed_time": None,
            "started_at_ms": milliseconds(at),
            "finished_at_ms": None,
        }
        self.executions[path] = execution
        return execution

    def _finish(self, path: Path, at: float) -> None:
        execution = self.executions[path]
        execution["finished_at"], execution["finished_at_ms"] = whole_seconds(at), milliseconds(at)
        execution["elapsed_time"] = seconds(self._started_at[path], at)

    def _end(self, event: NodeSucceeded | NodeFailed, at: float) -> None:
        # a container that has nothing to begin with fails before it starts
        execution = self.executions.get(event.path) or self._start(event.path, at)
        execution["inputs"] = Inputs(event.inputs)
        execution["process_data"], execution["outputs"] = event.process, event.outputs
        self._finish(event.path, at)
        if isinstance(event, NodeFailed):
            execution["status"] = "failed" if event.strategy is None else "exception"
            execution["error"], execution["error_type"] = event.error, event.kind
        else:
            execution["status"] = "succeeded"
            if event.usage:
                total = UsageTotal()
                total.add(event.usage)
                execution["usage"] = total.body()
        if isinstance(event, NodeSucceeded) or event.strategy is not None:
            graph, node = self._graph.resolve(event.path)
            prefix = event.path[: len(event.path) - len(node)]
            for edge in graph.leaves(node, event.handle)[0]:
                self._predecessors[prefix + edge.target] = node
