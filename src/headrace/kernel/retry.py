"""The retry of a run that failed or was stopped: a new run that begins with the finished nodes of the old one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from headrace.kernel.events import (
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunId,
    RunQueued,
    RunStarted,
)
from headrace.kernel.graph import Graph, NodeId, Path, containers
from headrace.values import Value


def following(graph: Graph, node: NodeId) -> set[NodeId]:
    """A top-level node and all that may run after it."""
    following, waiting = {node}, [node]
    while waiting:
        targets = {edge.target for edge in graph.edges_from.get(waiting.pop(), ())} - following
        following |= targets
        waiting += targets
    return following


def fork(
    records: Sequence[Record],
    run: RunId,
    at: float,
    request: RunQueued,
    again: Collection[NodeId] = (),
    outputs: Mapping[NodeId, Mapping[str, Value]] | None = None,
) -> list[Record]:
    """The first records of the new run: `request`, and those of the nodes that the old run finished, except the
    top-level nodes that are to run `again`. `outputs` replace some of those of the others.

    A node is finished if it succeeded, was skipped, or failed with a strategy that handled it. The others start again,
    as if they never had; so does an unfinished container with everything inside it. Copied records keep their times,
    but not their usage, which is counted in the old run."""
    finished_paths: set[Path] = {
        record.event.path
        for record in records
        if isinstance(record.event, NodeSucceeded | NodeSkipped)
        or (isinstance(record.event, NodeFailed) and record.event.strategy is not None)
    }

    def is_kept(path: Path) -> bool:
        """Nodes inside a container are kept only if the container has finished."""
        outermost = next(iter(containers(path)), path)
        return outermost in finished_paths and outermost not in again

    new_records = [Record(run, 1, at, request)]
    for record in records:
        match record.event:
            case RunStarted():
                new_records.append(Record(run, len(new_records) + 1, at, record.event))
            case NodeSucceeded(path) as event if is_kept(path):
                new_outputs = {**event.outputs, **(outputs or {}).get(path, {})}
                new_records.append(
                    Record(run, len(new_records) + 1, record.at, replace(event, usage=None, outputs=new_outputs))
                )
            case NodeStarted(path) | NodeRetried(path) | NodeFailed(path) | NodeSkipped(path) | RoundStarted(path):
                if is_kept(path):
                    new_records.append(Record(run, len(new_records) + 1, record.at, record.event))
            case _:
                pass
    return new_records
