"""Tracks the runs that this process drives, by their records, reports what happens to runs and nodes, and logs a line
for each run that ends.

A run is tracked only while it is driven here; of its nodes only those that are running are kept, and the rounds of
running containers. Events from before this process took the run are read from its records.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from headrace.dsl.unknown_node import UnknownNode
from headrace.frozen import new_dict
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
from headrace.kernel.summary import duration, price_of
from headrace.kernel.trace import NodeTrace, RoundTrace, RunTrace
from headrace.node import Flow
from headrace.telemetry.logs import RUN
from headrace.telemetry.scrubbing import Scrubber

logger = logging.getLogger("headrace.runs")

Outcome: TypeAlias = NodeSucceeded | NodeFailed
UNKNOWN = "unknown"
_LOG_SECONDS = 0.05
"""Lines of this time are one record: most of what a line costs, a record does."""


@dataclass(slots=True)
class TrackedRun:
    """A run that is driven here. `name` is that of the app in its file; `flow` is None if it does not load. `trace`:
    its running nodes; `cost`: by currency; `failure`: the last one that no error strategy handled, the innermost node's
    if containers passed it on."""

    run: RunId
    queued: RunQueued
    queued_at: float
    name: str
    flow: Flow | None
    trace: RunTrace = field(default_factory=RunTrace)
    cost: dict[str, float] = field(default_factory=new_dict)
    failure: NodeFailed | None = None

    def spec(self, path: Path) -> NodeSpec | None:
        """The node that a path names."""
        if self.flow is None:
            return None
        return self.flow.graph.spec_of(path)

    def is_container(self, path: Path) -> bool:
        """Whether a node has rounds: its usage is that of the nodes inside."""
        return self.flow is not None and self.flow.graph.is_container(path)

    def node_type(self, path: Path) -> str:
        """The type of a node; `unknown` for one that is not registered, since the file may name it anything."""
        if self.flow is None:
            return UNKNOWN
        spec = self.flow.graph.spec_of(path)
        return UNKNOWN if isinstance(self.flow.nodes.get(spec.id), UnknownNode) else spec.type


class Sink:
    """Receives what happens to tracked runs. `live` is False for events from before this process took the run."""

    def on_acquired(self, run: TrackedRun, records: Sequence[Record]) -> None:
        """The run is driven here from now on; `records` are its records so far."""

    def on_started(self, run: TrackedRun, at: float) -> None:
        """A worker has started the run."""

    def on_node_retried(self, run: TrackedRun, record: Record) -> None:
        """An attempt of a node has failed, and another one follows."""

    def on_node_skipped(self, run: TrackedRun, path: Path) -> None:
        """A node was skipped."""

    def on_node_ended(
        self, run: TrackedRun, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool
    ) -> None:
        """A node has ended; without an outcome if the run ended first."""

    def on_round_ended(self, run: TrackedRun, container: Path, index: int, round_: RoundTrace, *, live: bool) -> None:
        """A container has ended, and with it this round."""

    def on_ended(self, run: TrackedRun, at: float, event: RunEnded) -> None:
        """The run has ended."""

    def on_released(self, run: TrackedRun) -> None:
        """The run is no longer driven here."""


class RunTracker:
    """The observer of a worker and of its bus; reports to its sinks. The scrubber learns the secrets of the runs."""

    def __init__(self, sinks: Sequence[Sink], scrubber: Scrubber | None = None) -> None:
        self._sinks = sinks
        self._scrubber = scrubber
        self._runs: dict[RunId, TrackedRun] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def on_acquired(self, records: Sequence[Record], flow: Flow | None) -> None:
        """A run is about to be driven here; called in the task that drives it, whose log lines then have its id."""
        request = records[0].event
        assert isinstance(request, RunQueued)
        if self._scrubber is not None and flow is not None and flow.secrets:
            self._scrubber.learn(flow.secrets)
        id_, name = records[0].run, flow.name if flow is not None else UNKNOWN
        run = self._runs[id_] = TrackedRun(id_, request, records[0].at, name, flow)
        RUN.set((run.run, request.app))
        for sink in self._sinks:
            sink.on_acquired(run, records)
        for record in records[1:]:
            self._apply(run, record, live=False)

    def on_released(self, run: RunId) -> None:
        """The run has ended or paused, or another process drives it."""
        run_record = self._runs.pop(run, None)
        if run_record is not None:
            for sink in self._sinks:
                sink.on_released(run_record)

    def on_records(self, records: Sequence[Record]) -> None:
        """Records of one run, as they are published."""
        run = self._runs.get(records[0].run)
        if run is not None:
            for record in records:
                self._apply(run, record, live=True)

    def _apply(self, run: TrackedRun, record: Record, *, live: bool) -> None:
        match record.event:
            case NodeStarted() | RoundStarted():
                run.trace.apply(record)
            case NodeSucceeded() | NodeFailed() as event:
                node = run.trace.apply(record)
                assert node is not None
                if isinstance(event, NodeSucceeded) and event.usage and not run.is_container(event.path):
                    currency, price = cost_of(event.usage)
                    run.cost[currency] = run.cost.get(currency, 0.0) + price
                elif isinstance(event, NodeFailed) and event.strategy is None and not _passes_on(event, run.failure):
                    run.failure = event
                self._report_node(run, node, record.at, event, live=live)
            case NodeRetried():
                run.trace.apply(record)
                for sink in self._sinks if live else ():
                    sink.on_node_retried(run, record)
            case NodeSkipped(path) if live:
                for sink in self._sinks:
                    sink.on_node_skipped(run, path)
            case RunStarted() if live:
                for sink in self._sinks:
                    sink.on_started(run, record.at)
            case RunEnded() as event if live:
                for node in run.trace.stop(record.at):
                    self._report_node(run, node, record.at, None, live=True)
                for sink in self._sinks:
                    sink.on_ended(run, record.at, event)
            case _:
                pass

    def _report_node(self, run: TrackedRun, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool) -> None:
        """A node has ended, and with it its rounds."""
        for sink in self._sinks:
            sink.on_node_ended(run, node, at, outcome, live=live)
        for index, round_ in node.rounds.items():
            for sink in self._sinks:
                sink.on_round_ended(run, node.path, index, round_, live=live)


def _passes_on(failure: NodeFailed, cause: NodeFailed | None) -> bool:
    """Whether a container failed because a node inside it had failed before."""
    return cause is not None and cause.path.startswith(f"{failure.path}[") and failure.error.endswith(cause.error)


def cost_of(usage: Mapping[str, Any]) -> tuple[str, float]:
    """(currency, price) of a model call."""
    return str(usage.get("currency") or "USD"), float(price_of(usage))


class RunLog(Sink):
    """Logs how each run ended, how long it took since it was submitted, and where it failed."""

    def __init__(self) -> None:
        self._ended_runs: list[tuple[TrackedRun, float, RunEnded]] = []

    def on_ended(self, run: TrackedRun, at: float, event: RunEnded) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        self._ended_runs.append((run, at, event))
        if len(self._ended_runs) == 1:
            # in a context of its own, since the lines are not about the current run alone
            asyncio.get_running_loop().call_later(_LOG_SECONDS, self.flush, context=Context())

    def flush(self) -> None:
        """Writes the lines that wait."""
        ended_runs, self._ended_runs = self._ended_runs, []
        if ended_runs:
            entries = [_entry(run, duration(run.queued_at, at), event) for run, at, event in ended_runs]
            logger.info("%s", "\n".join(text for text, _ in entries), extra={"entries": entries})


def _entry(run: TrackedRun, seconds: float, event: RunEnded) -> tuple[str, Mapping[str, Any]]:
    """The text of a line, and the items that it says."""
    items = {"run": run.run, "app": run.queued.app, "status": event.status, "seconds": seconds}
    text = f"run {run.run} of {run.name}: {event.status} in {seconds:.2f} s"
    if event.error:
        mask = run.flow.mask if run.flow is not None else None
        error = mask.text(event.error) if mask else event.error
        if run.failure is not None and event.error.endswith(run.failure.error):
            path = items["node"] = run.failure.path
            spec = run.spec(path)
            text += f" at '{path if spec is None else spec.title or spec.id}'"
        items["error"] = error
        text += f": {error}"
    return text, items
