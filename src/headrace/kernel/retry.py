"""The retry of a run that failed or was stopped: a new run that begins with the finished nodes of the old one."""

from __future__ import annotations

from collections.abc import Sequence
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
from headrace.kernel.graph import Path, containers


def fork(records: Sequence[Record], run: RunId, at: float, queued: RunQueued) -> list[Record]:
    """The first records of the new run: `queued`, and those of the nodes that the old run finished.

    A node is finished if it succeeded, was skipped, or failed with a strategy that handled it. The others start again,
    as if they never had; so does an unfinished container with everything inside it. Copied records keep their times,
    but not their usage, which is counted in the old run."""
    finished: set[Path] = {
        record.event.path
        for record in records
        if isinstance(record.event, NodeSucceeded | NodeSkipped)
        or (isinstance(record.event, NodeFailed) and record.event.strategy is not None)
    }

    def is_kept(path: Path) -> bool:
        """Nodes inside a container are kept only if the container has finished."""
        return next(iter(containers(path)), path) in finished

    copied = [Record(run, 1, at, queued)]
    for record in records:
        match record.event:
            case RunStarted():
                copied.append(Record(run, len(copied) + 1, at, record.event))
            case NodeSucceeded(path) as event if is_kept(path):
                copied.append(Record(run, len(copied) + 1, record.at, replace(event, usage=None)))
            case NodeStarted(path) | NodeRetried(path) | NodeFailed(path) | NodeSkipped(path) | RoundStarted(path):
                if is_kept(path):
                    copied.append(Record(run, len(copied) + 1, record.at, record.event))
            case _:
                pass
    return copied
