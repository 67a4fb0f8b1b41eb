"""What each node of a run did, folded from its records."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from headrace.api.bodies import seconds
from headrace.api.encoding import Inputs
from headrace.api.polling.standing import Bill
from headrace.kernel.events import NodeFailed, NodeRetried, NodeStarted, NodeSucceeded, Path, RunEnded, RunQueued
from headrace.runtime import RunView
from headrace.values import Value


def executions(view: RunView) -> list[dict[str, Value]]:
    """The nodes of a run that have started, in order of their start.

    A node under way is `running`; one that was running when the run ended was `stopped` with it; `exception` is a
    failure that the node's error strategy handled. `reused`: taken over from the run that this one is a retry of.
    """
    graph = view.served.flow.graph
    run = UUID(view.records[0].run)
    found: dict[Path, dict[str, Any]] = {}
    led: dict[str, Path] = {}
    queued_at = 0.0
    retry = False
    for record in view.records:
        match record.event:
            case RunQueued() as event:
                queued_at, retry = record.at, event.retry_of is not None
            case NodeStarted(path):
                spec = graph.nodes[path]
                found[path] = {
                    "id": str(uuid5(run, path)),
                    "node_id": spec.id,
                    "node_type": spec.type,
                    "title": spec.title,
                    "index": len(found) + 1,
                    "predecessor_node_id": led.get(path),
                    "status": "running",
                    "inputs": None,
                    "process_data": None,
                    "outputs": None,
                    "error": None,
                    "error_type": None,
                    "attempts": [],
                    "reused": retry and record.at < queued_at,
                    "usage": None,
                    "started_at": record.at,
                    "finished_at": None,
                    "elapsed_time": None,
                }
            case NodeRetried() as event:
                told = found[event.path]
                told["attempts"].append(
                    {
                        "attempt": event.attempt,
                        "error": event.error,
                        "error_type": event.kind,
                        "inputs": Inputs(event.inputs),
                        "process_data": event.process,
                        "finished_at": record.at,
                    }
                )
            case NodeSucceeded() | NodeFailed() as event:
                told = found[event.path]
                told |= {
                    "inputs": Inputs(event.inputs),
                    "process_data": event.process,
                    "outputs": event.outputs,
                    "finished_at": record.at,
                    "elapsed_time": seconds(told["started_at"], record.at),
                }
                told |= _outcome(event)
                if isinstance(event, NodeSucceeded) or event.strategy is not None:
                    for edge in graph.leaves(event.path, event.handle)[0]:
                        led[edge.target] = event.path
            case RunEnded():
                for told in found.values():
                    if told["status"] == "running":
                        told |= {
                            "status": "stopped",
                            "finished_at": record.at,
                            "elapsed_time": seconds(told["started_at"], record.at),
                        }
            case _:
                pass
    return list(found.values())


def _outcome(event: NodeSucceeded | NodeFailed) -> dict[str, Value]:
    if isinstance(event, NodeFailed):
        status = "failed" if event.strategy is None else "exception"
        return {"status": status, "error": event.error, "error_type": event.kind}
    if not event.usage:
        return {"status": "succeeded"}
    bill = Bill()
    bill.add(event.usage)
    return {"status": "succeeded", "usage": bill.wire()}
