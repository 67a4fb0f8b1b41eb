"""What each node of a run did, folded from its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from headrace.api.dify.container_events import ContainerEvents
from headrace.api.dify.run_responses import seconds
from headrace.api.http.json import Inputs
from headrace.api.native.run_watch import Bill
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
from headrace.times import times
from headrace.values import Value

_OUTSIDE: Mapping[str, Value] = {"iteration_id": None, "iteration_index": None, "loop_id": None, "loop_index": None}


def executions(view: RunView) -> list[dict[str, Value]]:
    """The nodes of a run that have started, in order of their start; those inside containers once a round, with the
    innermost iteration and loop they are in and the index of its round.

    A node under way is `running`; one that was running when the run ended was `stopped` with it; `exception` is a
    failure that the node's error strategy handled. `reused`: taken over from the run that this one is a retry of.
    """
    found = _Executions(view.served.flow.graph, UUID(view.records[0].run))
    for record in view.records:
        found.take(record)
    return [_wire(told) for told in found.told.values()]


def _wire(told: dict[str, Any]) -> dict[str, Value]:
    attempts = [{**each, **times(finished_at=each["finished_at"])} for each in told["attempts"]]
    return {
        **told,
        "attempts": attempts,
        **times(started_at=told["started_at"], finished_at=told["finished_at"]),
    }


class _Executions:
    """Folds a run's records into what each of its nodes did; `told` is by path."""

    def __init__(self, graph: Graph, run: UUID) -> None:
        self.told: dict[Path, dict[str, Any]] = {}
        self._graph = graph
        self._containers = ContainerEvents(graph)
        self._run = run
        self._led: dict[Path, NodeId] = {}
        self._queued_at = 0.0
        self._retry = False

    def take(self, record: Record) -> None:
        match record.event:
            case RunQueued() as event:
                self._queued_at, self._retry = record.at, event.retry_of is not None
            case NodeStarted(path):
                self._started(path, record.at)
            case NodeRetried() as event:
                attempt = {
                    "attempt": event.attempt,
                    "error": event.error,
                    "error_type": event.kind,
                    "inputs": Inputs(event.inputs),
                    "process_data": event.process,
                    "finished_at": record.at,
                }
                self.told[event.path]["attempts"].append(attempt)
            case NodeSucceeded() | NodeFailed() as event:
                self._ended(event, record.at)
            case RunEnded():
                for told in self.told.values():
                    if told["status"] == "running":
                        told |= {"status": "stopped"} | _lasted(told, record.at)
            case _:
                pass

    def _started(self, path: Path, at: float) -> dict[str, Any]:
        spec = self._containers.spec(path)
        told = self.told[path] = {
            "id": str(uuid5(self._run, path)),
            "node_id": spec.id,
            "node_type": spec.type,
            "title": spec.title,
            "index": len(self.told) + 1,
            "predecessor_node_id": self._led.get(path),
            **_OUTSIDE,
            **self._containers.metadata(path),
            "status": "running",
            "inputs": None,
            "process_data": None,
            "outputs": None,
            "error": None,
            "error_type": None,
            "attempts": [],
            "reused": self._retry and at < self._queued_at,
            "usage": None,
            "started_at": at,
            "finished_at": None,
            "elapsed_time": None,
        }
        return told

    def _ended(self, event: NodeSucceeded | NodeFailed, at: float) -> None:
        # a container that has nothing to begin with fails before it starts
        told = self.told.get(event.path) or self._started(event.path, at)
        told |= {"inputs": Inputs(event.inputs), "process_data": event.process, "outputs": event.outputs}
        told |= _lasted(told, at) | _outcome(event)
        if isinstance(event, NodeSucceeded) or event.strategy is not None:
            graph, node = self._graph.resolve(event.path)
            prefix = event.path[: len(event.path) - len(node)]
            for edge in graph.leaves(node, event.handle)[0]:
                self._led[prefix + edge.target] = node


def _lasted(told: Mapping[str, Any], until: float) -> dict[str, Value]:
    return {"finished_at": until, "elapsed_time": seconds(told["started_at"], until)}


def _outcome(event: NodeSucceeded | NodeFailed) -> dict[str, Value]:
    if isinstance(event, NodeFailed):
        status = "failed" if event.strategy is None else "exception"
        return {"status": status, "error": event.error, "error_type": event.kind}
    if not event.usage:
        return {"status": "succeeded"}
    bill = Bill()
    bill.add(event.usage)
    return {"status": "succeeded", "usage": bill.wire()}
