"""Telemetry of a server, put together from its settings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING

from headrace.errors import HeadraceError, StoreError
from headrace.kernel.events import Record, RunId
from headrace.node import Flow
from headrace.ports import Bus, Callback
from headrace.runs.service import RunService
from headrace.settings import Settings
from headrace.telemetry.logs import RUN
from headrace.telemetry.metrics import Metrics
from headrace.telemetry.run_tracker import ObservedBus, RunTracker, Sink
from headrace.telemetry.scrubbing import Scrubber
from headrace.telemetry.web import MetricsRoute, RequestTelemetry

if TYPE_CHECKING:
    from headrace.telemetry.spans import Spans

logger = logging.getLogger(__name__)

METRICS_PATH = "/metrics"

_MAX_AGE_SECONDS = 5.0  # what is asked of the database for /metrics is as old as this, at most
_TIMEOUT_SECONDS = 2.0  # for the database's answer
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Telemetry:
    """What a server tells of itself. HeadraceError where a collector is named and the libraries for it are missing.

    It is the `watch` of a worker and, wrapped around its bus (`bus`), hears what runs do; `web` is that of the API,
    `called_back` that of the webhook sender. `metrics` is None where they are off.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._spans = _spans(settings, environ)
        self.metrics = Metrics() if settings.metrics.lower() not in OFF else None
        self._token = None if settings.metrics.lower() in ON | OFF else settings.metrics
        scrubber.learn([self._token] if self._token else [])
        sinks: Sequence[Sink] = [each for each in (self.metrics, self._spans) if each is not None]
        self.tracker = RunTracker(sinks)
        self.web = RequestTelemetry(self.metrics, access_log=settings.access_log)
        self._run_service: RunService | None = None
        self._unfinished: int | None = None
        self._counted_at = 0.0
        self._count_lock = asyncio.Lock()

    async def aclose(self) -> None:
        """Sends what is still to be sent."""
        if self._spans is not None:
            await self._spans.aclose()

    def bus(self, bus: Bus) -> Bus:
        """A bus whose records are heard here, too."""
        return ObservedBus(bus, self.tracker.on_records)

    # ------------------------------------------------------------------------------------------------------- hearing

    def on_acquired(self, records: Sequence[Record], flow: Flow | None) -> None:
        """For the worker, from within the task of the run."""
        if flow is not None and flow.secrets:
            self._scrubber.learn(flow.secrets)
        self.tracker.on_acquired(records, flow)
        run = self.tracker.find(records[0].run)
        RUN.set((run.run, run.queued.app) if run else None)

    def on_released(self, run: RunId) -> None:
        self.tracker.on_released(run)

    def on_callback(self, callback: Callback) -> None:
        """For the webhook sender."""
        if self.metrics is not None:
            self.metrics.on_callback(callback)

    # ----------------------------------------------------------------------------------------------------- /metrics

    def observe_service(self, run_service: RunService, queue: Sized | None = None) -> None:
        """Where to look for what is waiting. `queue`: one of this process, which knows how many runs are in it."""
        self._run_service = run_service
        if self.metrics is None:
            return
        self.metrics.gauges += [
            ("headrace_runs_in_flight", "Runs that this process drives.", lambda: len(run_service.driving)),
            (
                "headrace_runs_unfinished",
                "Runs that are queued or under way, in all processes; paused ones wait for somebody else.",
                lambda: self._unfinished,
            ),
        ]
        if queue is not None:
            depth = "Runs in this process's queue: they wait for a worker."
            self.metrics.gauges.append(("headrace_queue_depth", depth, lambda: len(queue)))

    @property
    def route(self) -> MetricsRoute | None:
        """What answers `METRICS_PATH`; None where metrics are off."""
        return None if self.metrics is None else MetricsRoute(self.metrics, self._count_unfinished, self._token)

    async def _count_unfinished(self) -> None:
        """Asks the journal how many runs are unfinished. Where it does not answer, that is not told."""
        async with self._count_lock:
            fresh = self._unfinished is not None and time.monotonic() - self._counted_at < _MAX_AGE_SECONDS
            if self._run_service is None or fresh:
                return
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    self._unfinished = len(await self._run_service.environment.journal.unfinished())
            except (StoreError, TimeoutError) as error:
                level = error.level if isinstance(error, StoreError) else logging.WARNING
                logger.log(level, "the journal does not tell how many runs are unfinished: %s", error or "too slow")
                self._unfinished = None
            self._counted_at = time.monotonic()


ON, OFF = frozenset({"on", "true", "yes", "1", ""}), frozenset({"off", "false", "no", "0"})
"""What the setting `metrics` may be besides a token."""


def _spans(settings: Settings, environ: Mapping[str, str]) -> Spans | None:
    """What sends spans; None where no collector is named, or OpenTelemetry is switched off by its own variables."""
    named = settings.otel_endpoint or any(environ.get(name) for name in _ENDPOINTS)
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not named or disabled or environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return None
    try:
        from headrace.telemetry.spans import Spans  # an extra; and 0.1 s to import
    except ImportError as error:
        raise HeadraceError(
            f'A collector for traces is named, but {error.name} is not installed: pip install "headrace[otel]"'
        ) from error
    return Spans(settings.otel_endpoint)
