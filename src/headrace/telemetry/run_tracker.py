"""Follows the runs that this process drives, by their records, and tells what became of runs and nodes.

A run is remembered as long as it is driven, and no longer: of its nodes only those that are under way, and of the
rounds those whose container is. What happened before this process took it up comes from its records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from headrace.kernel.events import (
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunId,
    RunQueued,
    RunStarted,
)
from headrace.kernel.graph import NodeSpec
from headrace.kernel.path import Path
from headrace.kernel.trace import NodeTrace, RoundTrace, RunTrace
from headrace.kernel.usage import price_of
from headrace.node import Flow, Unknown
from headrace.ports import Bus

Outcome: TypeAlias = NodeSucceeded | NodeFailed
UNKNOWN = "unknown"


@dataclass(slots=True)
class Followed:
    """A run that is driven here. `began`: when it was queued; `trace`: its nodes under way; `cost`: by currency. `flow`
    is None where it does not load."""

    run: RunId
    queued: RunQueued
    began: float
    flow: Flow | None
    trace: RunTrace = field(default_factory=RunTrace)
    cost: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def name(self) -> str:
        """The app's, as the file has it."""
        return self.flow.name if self.flow else UNKNOWN

    def spec(self, path: Path) -> NodeSpec | None:
        """The node that a path names."""
        if self.flow is None:
            return None
        return self.flow.graph.spec_of(path)

    def container(self, path: Path) -> bool:
        """Whether a node has rounds: what it is said to have used was used inside."""
        return self.flow is not None and self.flow.graph.is_container(path)

    def kind(self, path: Path) -> str:
        """The type of a node; `unknown` for one that nobody here knows: the file may call it anything."""
        spec = self.spec(path)
        if spec is None or self.flow is None or isinstance(self.flow.nodes.get(spec.id), Unknown):
            return UNKNOWN
        return spec.type


class Sink(Protocol):
    """What becomes of it. `live` is False for what happened before this process took the run up."""

    def taken(self, run: Followed, records: Sequence[Record]) -> None:
        """The run is driven here from now on; `records` are its records so far."""
        ...

    def started(self, run: Followed, at: float) -> None: ...
    def retried(self, run: Followed, record: Record) -> None: ...
    def skipped(self, run: Followed, path: Path) -> None: ...

    def node(self, run: Followed, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool) -> None:
        """A node has ended; without an outcome if the run did so first."""
        ...

    def round(self, run: Followed, container: Path, index: int, which: RoundTrace, *, live: bool) -> None:
        """A round has ended, and so has its container."""
        ...

    def ended(self, run: Followed, at: float, event: RunEnded) -> None: ...
    def left(self, run: Followed) -> None:
        """The run is not driven here any more."""
        ...


class Following:
    """Hears all records of the runs driven here, and tells its sinks."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._runs: dict[RunId, Followed] = {}
        self._handlers: Mapping[type[Any], Callable[[Followed, Record, Any, bool], None]] = {
            RunStarted: self._run_started,
            NodeStarted: self._trace,
            NodeRetried: self._node_retried,
            NodeSucceeded: self._node_ended,
            NodeFailed: self._node_ended,
            NodeSkipped: self._node_skipped,
            RoundStarted: self._trace,
            RunEnded: self._run_ended,
        }

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, run: RunId) -> Followed | None:
        return self._runs.get(run)

    # ------------------------------------------------------------------------------------- what the worker tells

    def take_up(self, records: Sequence[Record], flow: Flow | None) -> None:
        """A run is about to be driven here."""
        queued = records[0].event
        assert isinstance(queued, RunQueued)
        run = self._runs[records[0].run] = Followed(records[0].run, queued, records[0].at, flow)
        for sink in self._sinks:
            sink.taken(run, records)
        for record in records[1:]:
            self._hear(run, record, live=False)

    def let_go(self, run: RunId) -> None:
        """It is not driven here any more: it has ended, or paused, or somebody else has it."""
        followed = self._runs.pop(run, None)
        if followed is not None:
            for sink in self._sinks:
                sink.left(followed)

    def publish(self, records: Sequence[Record]) -> None:
        """Records of one run, as they are told to followers."""
        run = self._runs.get(records[0].run)
        if run is not None:
            for record in records:
                self._hear(run, record, live=True)

    # ------------------------------------------------------------------------------------------------------ records

    def _hear(self, run: Followed, record: Record, *, live: bool) -> None:
        event = record.event
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(run, record, event, live)

    def _run_started(self, run: Followed, record: Record, _: RunStarted, live: bool) -> None:
        if live:
            for sink in self._sinks:
                sink.started(run, record.at)

    def _trace(self, run: Followed, record: Record, event: NodeStarted | RoundStarted, live: bool) -> None:
        run.trace.apply(record)

    def _node_retried(self, run: Followed, record: Record, event: NodeRetried, live: bool) -> None:
        run.trace.apply(record)
        if live:
            for sink in self._sinks:
                sink.retried(run, record)

    def _node_skipped(self, run: Followed, record: Record, event: NodeSkipped, live: bool) -> None:
        if live:
            for sink in self._sinks:
                sink.skipped(run, event.path)

    def _node_ended(self, run: Followed, record: Record, event: Outcome, live: bool) -> None:
        node = run.trace.apply(record)
        assert node is not None
        if isinstance(event, NodeSucceeded) and event.usage and not run.container(event.path):
            currency, price = cost_of(event.usage)
            run.cost[currency] = run.cost.get(currency, 0.0) + price
        self._node(run, node, record.at, event, live=live)

    def _run_ended(self, run: Followed, record: Record, event: RunEnded, live: bool) -> None:
        if not live:
            return
        for node in run.trace.stop(record.at):
            self._node(run, node, record.at, None, live=True)
        for sink in self._sinks:
            sink.ended(run, record.at, event)

    def _node(self, run: Followed, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool) -> None:
        """A node has ended, and with it its rounds."""
        for sink in self._sinks:
            sink.node(run, node, at, outcome, live=live)
        for index, round_ in node.rounds.items():
            for sink in self._sinks:
                sink.round(run, node.path, index, round_, live=live)


def cost_of(usage: Mapping[str, Any]) -> tuple[str, float]:
    """(currency, price) of what a model was paid."""
    return str(usage.get("currency") or "USD"), float(price_of(usage))


class ObservedBus:
    """A bus that also tells somebody of every batch of records."""

    def __init__(self, bus: Bus, heard: Callable[[Sequence[Record]], None]) -> None:
        self._bus = bus
        self._heard = heard

    def publish(self, records: Sequence[Record]) -> None:
        self._bus.publish(records)
        self._heard(records)

    def subscribe(self, run: RunId) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Record]]]:
        return self._bus.subscribe(run)
