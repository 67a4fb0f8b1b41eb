"""How long the runs of dead workers wait until others continue them, as docs/scaling.md promises it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.kernel.events import Record, RunResumed


@dataclass(frozen=True)
class Loss:
    """A worker that was killed or paused (`how`): when, and the runs that it had."""

    at: float
    runs: set[str]
    how: str = "killed"


def waits(
    losses: Sequence[Loss], records: Mapping[str, Sequence[Record]], outages: Sequence[tuple[float, float]]
) -> list[list[float]]:
    """The seconds that the runs of each loss waited, in order. Nothing is recorded of those between two nodes.

    Time in which the database was away is not counted, since nobody can take a run over then. A run that is lost again
    before its new worker has continued it counts for the second loss only.
    """
    return [
        sorted(
            at - loss.at - sum(max(0.0, min(at, end) - max(loss.at, begin)) for begin, end in outages)
            for run in loss.runs
            if (at := _continued_at(records[run], loss.at)) is not None
            if not any(run in later.runs and loss.at < later.at < at for later in losses)
        )
        for loss in losses
    ]


def _continued_at(records: Sequence[Record], after: float) -> float | None:
    recovered = (r.at for r in records if isinstance(r.event, RunResumed) and r.event.recovered)
    return next((at for at in recovered if at > after), None)
