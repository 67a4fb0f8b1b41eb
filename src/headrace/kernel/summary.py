"""The summary of a run: its status and times, its counts and usage, and why it failed.

Every view of a run (response, detail, list, stream, callback, span) is composed of these, so that all agree. The folds
are incremental: the cost of a record does not depend on how many came before it.

Usage is as `ports.services.Usage.wire` has it. Since node types of third parties may report anything, it is limited to
what a database and a client can store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final, Literal, cast

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
from headrace.kernel.graph import Graph, NodeSpec, Path, is_top_level
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
    """The status of a run after its records, or after more of them if its status before is given."""
    for record in records:
        status = status_after(status, record.event)
    return status


def node_status(event: NodeSucceeded | NodeFailed) -> Literal["succeeded", "failed", "exception"]:
    """The status of a node after the event that ended it. A node without one is `stopped` with its run."""
    if isinstance(event, NodeSucceeded):
        return SUCCEEDED
    return FAILED if event.strategy is None else EXCEPTION


_MAX_COUNT = 2**53 - 1  # the largest integer that every JSON parser reads exactly
_MAX_PRICE = Decimal(10) ** 12


def count_of(usage: Mapping[str, Value], name: str) -> int:
    """A number of tokens; 0 if it is missing or not valid."""
    value = usage.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return int(min(value, _MAX_COUNT))


def price_of(usage: Mapping[str, Value], name: str = "total_price") -> Decimal:
    """A price, by default the total one; 0 if it is missing or not valid."""
    try:
        price = Decimal(str(usage.get(name) or 0))
    except (InvalidOperation, ValueError):
        return Decimal(0)
    return max(-_MAX_PRICE, min(price, _MAX_PRICE)) if price.is_finite() else Decimal(0)


class RunUsage(TypedDict):
    """Tokens and price. There is no price if currencies are mixed."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    total_price: str | None
    currency: str | None


@dataclass(slots=True)
class UsageTotal:
    """The sums of tokens, prices and times. `last` is the last usage, and `currency` its currency; `mixed`: there was
    another one before."""

    tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    price: Decimal = Decimal(0)
    prompt_price: Decimal = Decimal(0)
    completion_price: Decimal = Decimal(0)
    latency: float = 0.0
    currency: str | None = None
    mixed: bool = False
    last: Mapping[str, Value] = field(default_factory=dict[str, Value])

    def add(self, usage: Mapping[str, Value]) -> None:
        self.tokens = min(self.tokens + count_of(usage, "total_tokens"), _MAX_COUNT)
        self.prompt_tokens = min(self.prompt_tokens + count_of(usage, "prompt_tokens"), _MAX_COUNT)
        self.completion_tokens = min(self.completion_tokens + count_of(usage, "completion_tokens"), _MAX_COUNT)
        self.price += price_of(usage)
        self.prompt_price += price_of(usage, "prompt_price")
        self.completion_price += price_of(usage, "completion_price")
        latency = usage.get("latency")
        if isinstance(latency, int | float) and 0 < latency < _MAX_COUNT:
            self.latency += latency
        self.last = usage
        if currency := usage.get("currency"):
            self.mixed = self.mixed or self.currency not in (None, str(currency))
            self.currency = str(currency)

    def wire(self) -> dict[str, Value]:
        """The sum in the form of `Usage.wire`, as far as it is known; without prices if currencies are mixed. Prices of
        a unit are the last ones."""
        prices = (self.price, self.prompt_price, self.completion_price)
        total, prompt, completion = ("0" if self.mixed else format(price, "f") for price in prices)
        return {
            **self.last,
            **self.body(),
            "total_price": total,
            "prompt_price": prompt,
            "completion_price": completion,
            "currency": "USD" if self.mixed else self.currency or "USD",
            "latency": round(self.latency, 3),
        }

    def body(self) -> RunUsage:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.tokens,
            "total_price": None if self.mixed else format(self.price, "f"),
            "currency": None if self.mixed else self.currency or "USD",
        }


def duration(since: float, until: float) -> float:
    """Seconds between two moments, to the microsecond; never negative, though clocks may be set back."""
    return round(max(0.0, until - since), 6)


RUN_EVENTS = frozenset({RunQueued, RunStarted, RunPaused, RunResumed, StopRequested, RunEnded})


@dataclass(eq=False)
class RunLifecycle:
    """The status of a run and its times, in seconds since the epoch."""

    run: RunId = ""
    seq: int = 0
    status: str = QUEUED
    queued: RunQueued | None = None
    queued_at: float = 0.0
    started_at: float | None = None
    paused: RunPaused | None = None
    paused_at: float | None = None  # of the last pause
    ended: RunEnded | None = None
    ended_at: float | None = None

    def apply(self, record: Record) -> None:
        """Applies the next record of the run. Records without a number change nothing."""
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
                self.paused, self.paused_at = event, record.at
            case RunResumed():
                self.paused = None
            case RunEnded():
                self.ended, self.ended_at = event, record.at
            case _:
                pass

    @property
    def request(self) -> RunQueued:
        """The first event of the run."""
        assert self.queued is not None
        return self.queued

    def elapsed_at(self, at: float) -> float:
        """Seconds since the run started, or since it was queued if it never started."""
        return duration(self.queued_at if self.started_at is None else self.started_at, at)

    @property
    def elapsed(self) -> float | None:
        """The seconds that the run took; None before its end."""
        return None if self.ended_at is None else self.elapsed_at(self.ended_at)

    @property
    def elapsed_so_far(self) -> float | None:
        """The seconds until the end of the run, or until it paused; None while it runs."""
        at = self.paused_at if self.status == PAUSED else self.ended_at
        return None if at is None else self.elapsed_at(at)


ModelKey = tuple[str, str, str]
"""The provider and the name of a model, and the currency of its price."""


def model_of(spec: NodeSpec, event: NodeSucceeded) -> tuple[str, str]:
    """The provider and the name of the model that a node has called; those in the file where the node does not say."""
    model_config = spec.config.get("model")
    model = cast("dict[str, Value]", model_config) if isinstance(model_config, dict) else {}
    provider = event.process.get("model_provider") or model.get("provider") or ""
    return str(provider), str(event.process.get("model_name") or model.get("name") or "")


class ModelCost(TypedDict):
    """What a model has used and cost."""

    provider: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    total_price: str
    currency: str


def model_cost(provider: str, model: str, currency: str, total: UsageTotal) -> ModelCost:
    return {
        "provider": provider,
        "model": model,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "total_tokens": total.tokens,
        "total_price": format(total.price, "f"),
        "currency": currency,
    }


class RunSummary(RunLifecycle):
    """The lifecycle of a run with its counts and usage, and the `failure` that ended it.

    Steps are starts and retries; exceptions are failed attempts, whether handled or not. Nodes inside containers count
    in neither, but their usage does; a container's own usage is the sum of it and is not added again.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.steps = 0
        self.exceptions = 0
        self.usage = UsageTotal()
        self.costs: dict[ModelKey, UsageTotal] = {}
        self.failure: NodeFailed | None = None  # the first that no strategy handled
        self._running_nodes: set[Path] = set()  # running top-level nodes

    def apply(self, record: Record) -> None:
        RunLifecycle.apply(self, record)  # called for every event of every run: `super()` takes twice as long
        match record.event:
            case NodeStarted() as event:
                if is_top_level(event.path):
                    self._running_nodes.add(event.path)
                    self.steps += 1
            case NodeSucceeded() as event:
                self._running_nodes.discard(event.path)
                if event.usage and not self.graph.is_container(event.path):
                    self.usage.add(event.usage)
                    key = (*model_of(self.graph.spec_of(event.path), event), str(event.usage.get("currency") or "USD"))
                    self.costs.setdefault(key, UsageTotal()).add(event.usage)
            case NodeFailed(path) as event:
                if is_top_level(path):
                    self.exceptions += 1
                    # a container with invalid inputs fails without a start, which is a step all the same
                    self.steps += path not in self._running_nodes
                    self._running_nodes.discard(path)
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
