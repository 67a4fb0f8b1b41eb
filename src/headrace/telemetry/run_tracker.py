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
from headrace.kernel.graph import NodeSpec, Path
from headrace.kernel.summary import price_of
from headrace.kernel.trace import NodeTrace, RoundTrace, RunTrace
from headrace.node import Flow, UnknownNode
from headrace.ports import Bus

Outcome: TypeAlias = NodeSucceeded | NodeFailed
UNKNOWN = "unknown"


@dataclass(slots=True)
class TrackedRun:
    """A run that is driven here. `began`: when it was queued; `trace`: its nodes under way; `cost`: by currency. `flow`
    is None where it does not load."""

    run: RunId
    queued: RunQueued
    queued_at: float
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

    def is_container(self, path: Path) -> bool:
        """Whether a node has rounds: what it is said to have used was used inside."""
        return self.flow is not None and self.flow.graph.is_container(path)

    def node_type(self, path: Path) -> str:
        """The type of a node; `unknown` for one that nobody here knows: the file may call it anything."""
        spec = self.spec(path)
        if spec is None or self.flow is None or isinstance(self.flow.nodes.get(spec.id), UnknownNode):
            return UNKNOWN
        return spec.type


class Sink(Protocol):
    """What becomes of it. `live` is False for what happened before this process took the run up."""

    def on_acquired(self, run: TrackedRun, records: Sequence[Record]) -> None:
        """The run is driven here from now on; `records` are its records so far."""
        ...

    def on_started(self, run: TrackedRun, at: float) -> None: ...
    def on_node_retried(self, run: TrackedRun, record: Record) -> None: ...
    def on_node_skipped(self, run: TrackedRun, path: Path) -> None: ...

    def on_node_ended(
        self, run: TrackedRun, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool
    ) -> None:
        """A node has ended; without an outcome if the run did so first."""
        ...

    def on_round_ended(self, run: TrackedRun, container: Path, index: int, round_: RoundTrace, *, live: bool) -> None:
        """A round has ended, and so has its container."""
        ...

    def on_ended(self, run: TrackedRun, at: float, event: RunEnded) -> None: ...
    def on_released(self, run: TrackedRun) -> None:
        """The run is not driven here any more."""
        ...


class RunTracker:
    """Hears all records of the runs driven here, and tells its sinks."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._runs: dict[RunId, TrackedRun] = {}
        self._handlers: Mapping[type[Any], Callable[[TrackedRun, Record, Any, bool], None]] = {
            RunStarted: self._on_run_started,
            NodeStarted: self._trace,
            NodeRetried: self._on_node_retried,
            NodeSucceeded: self._on_node_ended,
            NodeFailed: self._on_node_ended,
            NodeSkipped: self._on_node_skipped,
            RoundStarted: self._trace,
            RunEnded: self._on_run_ended,
        }

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, run: RunId) -> TrackedRun | None:
        return self._runs.get(run)

    # ------------------------------------------------------------------------------------- what the worker tells

    def on_acquired(self, records: Sequence[Record], flow: Flow | None) -> None:
        """A run is about to be driven here."""
        queued = records[0].event
        assert isinstance(queued, RunQueued)
        run = self._runs[records[0].run] = TrackedRun(records[0].run, queued, records[0].at, flow)
        for sink in self._sinks:
            sink.on_acquired(run, records)
        for record in records[1:]:
            self._apply(run, record, live=False)

    def on_released(self, run: RunId) -> None:
        """It is not driven here any more: it has ended, or paused, or somebody else has it."""
        followed = self._runs.pop(run, None)
        if followed is not None:
            for sink in self._sinks:
                sink.on_released(followed)

    def on_records(self, records: Sequence[Record]) -> None:
        """Records of one run, as they are told to followers."""
        run = self._runs.get(records[0].run)
        if run is not None:
            for record in records:
                self._apply(run, record, live=True)

    # ------------------------------------------------------------------------------------------------------ records

    def _apply(self, run: TrackedRun, record: Record, *, live: bool) -> None:
        event = record.event
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(run, record, event, live)

    def _on_run_started(self, run: TrackedRun, record: Record, _: RunStarted, live: bool) -> None:
        if live:
            for sink in self._sinks:
                sink.on_started(run, record.at)

    def _trace(self, run: TrackedRun, record: Record, event: NodeStarted | RoundStarted, live: bool) -> None:
        run.trace.apply(record)

    def _on_node_retried(self, run: TrackedRun, record: Record, event: NodeRetried, live: bool) -> None:
        run.trace.apply(record)
        if live:
            for sink in self._sinks:
                sink.on_node_retried(run, record)

    def _on_node_skipped(self, run: TrackedRun, record: Record, event: NodeSkipped, live: bool) -> None:
        if live:
            for sink in self._sinks:
                sink.on_node_skipped(run, event.path)

    def _on_node_ended(self, run: TrackedRun, record: Record, event: Outcome, live: bool) -> None:
        node = run.trace.apply(record)
        assert node is not None
        if isinstance(event, NodeSucceeded) and event.usage and not run.is_container(event.path):
            currency, price = cost_of(event.usage)
            run.cost[currency] = run.cost.get(currency, 0.0) + price
        self._report_node(run, node, record.at, event, live=live)

    def _on_run_ended(self, run: TrackedRun, record: Record, event: RunEnded, live: bool) -> None:
        if not live:
            return
        for node in run.trace.stop(record.at):
            self._report_node(run, node, record.at, None, live=True)
        for sink in self._sinks:
            sink.on_ended(run, record.at, event)

    def _report_node(self, run: TrackedRun, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool) -> None:
        """A node has ended, and with it its rounds."""
        for sink in self._sinks:
            sink.on_node_ended(run, node, at, outcome, live=live)
        for index, round_ in node.rounds.items():
            for sink in self._sinks:
                sink.on_round_ended(run, node.path, index, round_, live=live)


def cost_of(usage: Mapping[str, Any]) -> tuple[str, float]:
    """(currency, price) of what a model was paid."""
    return str(usage.get("currency") or "USD"), float(price_of(usage))


class ObservedBus:
    """A bus that also tells somebody of every batch of records."""

    def __init__(self, bus: Bus, on_records: Callable[[Sequence[Record]], None]) -> None:
        self._bus = bus
        self._on_records = on_records

    def publish(self, records: Sequence[Record]) -> None:
        self._bus.publish(records)
        self._on_records(records)

    def subscribe(self, run: RunId) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Record]]]:
        return self._bus.subscribe(run)
