"""The executions of a run's nodes, folded from its records."""

from __future__ import annotations

from uuid import UUID, uuid5

from headrace.api.dify.container_events import round_metadata
from headrace.api.http.responses import Inputs
from headrace.api.native.schemas.runs import NodeAttempt, NodeExecution
from headrace.kernel.events import (
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
)
from headrace.kernel.graph import Graph, Path
from headrace.kernel.summary import RUNNING, STOPPED, RunSummary, UsageTotal, duration, node_status
from headrace.kernel.trace import NodeTrace, RunTrace
from headrace.runs.reader import RunView
from headrace.times import milliseconds, whole_seconds


def executions(view: RunView) -> list[NodeExecution]:
    """The nodes of a run that have started, in order of their start; those inside containers once a round, with the
    innermost iteration and loop they are in and the index of its round.

    One that was running when the run ended is `stopped`; `exception` is a failure that the node's error strategy
    handled. `reused`: copied from the run that this one is a retry of.
    """
    builder = _Executions(view.served.flow.graph, UUID(view.records[0].run))
    for record in view.records:
        builder.apply(record)
    return list(builder.executions.values())


class _Executions:
    """Folds a run's records into the executions of its nodes, by path."""

    def __init__(self, graph: Graph, run: UUID) -> None:
        self.executions: dict[Path, NodeExecution] = {}
        self._graph = graph
        self._run = run
        self._summary = RunSummary(graph)
        self._trace = RunTrace(graph)

    def apply(self, record: Record) -> None:
        self._summary.apply(record)
        node = self._trace.apply(record)
        match record.event:
            case NodeStarted():
                assert node is not None
                self._start(node)
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
                assert node is not None
                self._end(node, event, record.at)
            case RunEnded():
                for node in self._trace.stop(record.at):
                    self._finish(node, STOPPED, record.at)
            case _:
                pass

    def _start(self, node: NodeTrace) -> NodeExecution:
        spec, rounds = self._graph.spec_of(node.path), round_metadata(self._graph, node.path)
        execution: NodeExecution = {
            "id": str(uuid5(self._run, node.path)),
            "node_id": spec.id,
            "node_type": spec.type,
            "title": spec.title,
            "index": node.index,
            "predecessor_node_id": node.predecessor,
            "iteration_id": rounds.get("iteration_id"),
            "iteration_index": rounds.get("iteration_index"),
            "loop_id": rounds.get("loop_id"),
            "loop_index": rounds.get("loop_index"),
            "status": RUNNING,
            "inputs": None,
            "process_data": None,
            "outputs": None,
            "error": None,
            "error_type": None,
            "attempts": [],
            "reused": self._summary.request.retry_of is not None and node.started_at < self._summary.queued_at,
            "usage": None,
            "started_at": whole_seconds(node.started_at),
            "finished_at": None,
            "elapsed_time": None,
            "started_at_ms": milliseconds(node.started_at),
            "finished_at_ms": None,
        }
        self.executions[node.path] = execution
        return execution

    def _finish(self, node: NodeTrace, status: str, at: float) -> None:
        execution = self.executions[node.path]
        execution["status"] = status
        execution["finished_at"], execution["finished_at_ms"] = whole_seconds(at), milliseconds(at)
        execution["elapsed_time"] = duration(node.started_at, at)

    def _end(self, node: NodeTrace, event: NodeSucceeded | NodeFailed, at: float) -> None:
        # a container that cannot begin fails before it starts
        execution = self.executions.get(node.path) or self._start(node)
        execution["inputs"] = Inputs(event.inputs)
        execution["process_data"], execution["outputs"] = event.process, event.outputs
        self._finish(node, node_status(event), at)
        if isinstance(event, NodeFailed):
            execution["error"], execution["error_type"] = event.error, event.kind
        elif event.usage:
            total = UsageTotal()
            total.add(event.usage)
            execution["usage"] = total.body()
