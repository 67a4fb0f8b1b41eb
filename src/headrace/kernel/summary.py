"""What a run amounts to so far: its status and times, what it counted and used, and why it failed.

Every view of a run (answer, detail, list, stream, callback, span) composes these, so that all agree. The folds are
incremental: a record costs the same however many came before it.
"""

from __future__ import annotations

from headrace.kernel.events import (
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.kernel.graph import Graph
from headrace.kernel.path import Path, is_top_level
from headrace.kernel.status import QUEUED, status_after
from headrace.kernel.usage import UsageTotal
from headrace.times import duration

RUN_EVENTS = frozenset({RunQueued, RunStarted, RunPaused, RunResumed, StopRequested, RunEnded})


class RunLifecycle:
    """How far a run is, and since when. Times are in seconds since the epoch."""

    def __init__(self) -> None:
        self.run: RunId = ""
        self.seq = 0
        self.status = QUEUED
        self.queued: RunQueued | None = None
        self.queued_at = 0.0
        self.started_at: float | None = None
        self.paused: RunPaused | None = None
        self.ended: RunEnded | None = None
        self.ended_at: float | None = None

    def apply(self, record: Record) -> None:
        """Adds the run's next record. A record without a number changes nothing."""
        if record.seq is None:
            return
        self.seq = record.seq
        event = record.event
        if type(event) not in RUN_EVENTS:
            return
        self.status = status_after(self.status, event)
        match event:
            case RunQueued():
                self.run, self.queued, self.queued_at = record.run, event, record.at
            case RunStarted():
                self.started_at = record.at
            case RunPaused():
                self.paused = event
            case RunResumed():
                self.paused = None
            case RunEnded():
                self.ended, self.ended_at = event, record.at
            case _:
                pass

    @property
    def request(self) -> RunQueued:
        """The run's first event: what was asked for."""
        assert self.queued is not None
        return self.queued

    def elapsed_at(self, at: float) -> float:
        """Seconds since the run started, or since it was queued where it never did."""
        return duration(self.queued_at if self.started_at is None else self.started_at, at)

    @property
    def elapsed(self) -> float | None:
        """Seconds that the run took; None before its end."""
        return None if self.ended_at is None else self.elapsed_at(self.ended_at)


class RunSummary(RunLifecycle):
    """The same with what the run counted and used, and `failure`, which ended it.

    Steps are starts and retries; exceptions are failed attempts, whether handled or not. Nodes inside containers count
    in neither, but their usage does; a container's own usage is the sum of it and is not added again.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.steps = 0
        self.exceptions = 0
        self.usage = UsageTotal()
        self.failure: NodeFailed | None = None  # the first that no strategy handled
        self._started: set[Path] = set()  # top-level nodes under way

    def apply(self, record: Record) -> None:
        super().apply(record)
        match record.event:
            case NodeSucceeded(path) as event:
                self._started.discard(path)
                if event.usage and not self.graph.is_container(path):
                    self.usage.add(event.usage)
            case NodeStarted(path):
                if is_top_level(path):
                    self._started.add(path)
                    self.steps += 1
            case NodeFailed(path) as event:
                if is_top_level(path):
                    self.exceptions += 1
                    # a container that cannot begin fails without having started, and that is a step all the same
                    self.steps += path not in self._started
                    self._started.discard(path)
                    if event.strategy is None:
                        self.failure = self.failure or event
            case NodeRetried(path):
                if is_top_level(path):
                    self.steps += 1
                    self.exceptions += 1
            case RunEnded() as event:
                self.steps, self.exceptions = event.steps, event.exceptions
            case _:
                pass

    @property
    def tokens(self) -> int:
        return self.usage.tokens if self.ended is None else self.ended.tokens
