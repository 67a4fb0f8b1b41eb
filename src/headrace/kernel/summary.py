"""What a run amounts to so far: its status and times, what it counted and used, and why it failed.

Every view of a run (answer, detail, list, stream, callback, span) composes these, so that all agree. The folds are
incremental: a record costs the same however many came before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

from typing_extensions import TypedDict

from headrace.kernel.events import (
    Event,
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
from headrace.kernel.graph import Graph, Path, is_top_level
from headrace.times import duration
from headrace.values import Value

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


_MAX_COUNT = 2**53 - 1  # what every JSON parser reads exactly
_MAX_PRICE = Decimal(10) ** 12


def count_of(usage: Mapping[str, Value], name: str) -> int:
    """A count of tokens; 0 where it is not one."""
    value = usage.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return int(min(value, _MAX_COUNT))


def price_of(usage: Mapping[str, Value]) -> Decimal:
    """The price in all; 0 where it is not a sum of money."""
    try:
        price = Decimal(str(usage.get("total_price") or 0))
    except (InvalidOperation, ValueError):
        return Decimal(0)
    return max(-_MAX_PRICE, min(price, _MAX_PRICE)) if price.is_finite() else Decimal(0)


def add_counts(tokens: int, more: int) -> int:
    """Two counts together."""
    return min(tokens + more, _MAX_COUNT)


class RunUsage(TypedDict):
    """Tokens and money. There is no price where currencies are mixed."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    total_price: str | None
    currency: str | None


class UsageTotal:
    """Tokens and money, summed."""

    __slots__ = ("completion_tokens", "currency", "mixed", "price", "prompt_tokens", "tokens")

    def __init__(self) -> None:
        self.tokens = self.prompt_tokens = self.completion_tokens = 0
        self.price = Decimal(0)
        self.currency: str | None = None  # the last one; None where nothing had a price
        self.mixed = False  # there was another currency before

    def add(self, usage: Mapping[str, Value]) -> None:
        """`usage` is as `Usage.wire` has it; what is missing counts as nothing."""
        self.tokens = add_counts(self.tokens, count_of(usage, "total_tokens"))
        self.prompt_tokens = add_counts(self.prompt_tokens, count_of(usage, "prompt_tokens"))
        self.completion_tokens = add_counts(self.completion_tokens, count_of(usage, "completion_tokens"))
        self.price += price_of(usage)
        if currency := usage.get("currency"):
            self.mixed = self.mixed or self.currency not in (None, str(currency))
            self.currency = str(currency)

    def body(self) -> RunUsage:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.tokens,
            "total_price": None if self.mixed else format(self.price, "f"),
            "currency": None if self.mixed else self.currency or "USD",
        }


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
