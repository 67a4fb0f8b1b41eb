"""The statuses of a run, and of its nodes once they have ended, and how events change them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from headrace.kernel.events import (
    Event,
    NodeFailed,
    NodeSucceeded,
    Record,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)

QUEUED: Final = "queued"
RUNNING: Final = "running"
PAUSED: Final = "paused"
SUCCEEDED: Final = "succeeded"
PARTIAL_SUCCEEDED: Final = "partial-succeeded"
FAILED: Final = "failed"
STOPPED: Final = "stopped"
ENDED_WELL = (SUCCEEDED, PARTIAL_SUCCEEDED)
FINAL = (*ENDED_WELL, FAILED, STOPPED)
STATUSES = (QUEUED, RUNNING, PAUSED, *FINAL)

EXCEPTION: Final = "exception"
"""The status of a node whose failure its error strategy has handled."""


def status_after(status: str, event: Event) -> str:
    """The status of a run after an event. The events of nodes do not change it."""
    match event:
        case RunEnded():
            return event.status
        case RunStarted():
            return RUNNING
        case RunPaused():
            return PAUSED
        case RunResumed() | StopRequested() if status == PAUSED:  # a worker continues the run, or ends it
            return RUNNING
        case RunQueued():
            return QUEUED
        case _:
            return status


def status_of(records: Iterable[Record], status: str = QUEUED) -> str:
    """The status of a run after its records, or after some more of them where its status before is given."""
    for record in records:
        status = status_after(status, record.event)
    return status


def node_status(event: NodeSucceeded | NodeFailed) -> Literal["succeeded", "failed", "exception"]:
    """The status of a node after the event that ended it. One that has none is `stopped` with its run."""
    if isinstance(event, NodeSucceeded):
        return SUCCEEDED
    return FAILED if event.strategy is None else EXCEPTION
