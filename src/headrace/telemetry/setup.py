"""The telemetry of a server, composed from its settings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING

from headrace.errors import HeadraceError, StoreError
from headrace.ports import Callback
from headrace.runs.service import RunService
from headrace.settings import Settings
from headrace.telemetry.metrics import Metrics, MetricsRoute, ModelLimit, RequestTelemetry
from headrace.telemetry.run_tracker import RunLog, RunTracker
from headrace.telemetry.scrubbing import Scrubber

if TYPE_CHECKING:
    from headrace.telemetry.spans import Spans

logger = logging.getLogger(__name__)

METRICS_PATH = "/metrics"

_MAX_AGE_SECONDS = 5.0  # of what /metrics reads from the database
_TIMEOUT_SECONDS = 2.0  # for the response of the database
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Telemetry:
    """Logs, metrics and traces of a server. HeadraceError if a collector is configured and its libraries are missing.

    `tracker` observes a worker and its bus, `web` the API, and `on_callback` is called by the webhook sender. `metrics`
    is None if they are off.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], scrubber: Scrubber) -> None:
        self._spans = _spans(settings, environ)
        self.metrics = Metrics() if settings.metrics.lower() not in OFF else None
        self._token = None if settings.metrics.lower() in ON | OFF else settings.metrics
        scrubber.learn([self._token] if self._token else [])
        self._run_log = RunLog()
        self.tracker = RunTracker(
            [sink for sink in (self._run_log, self.metrics, self._spans) if sink is not None], scrubber
        )
        self.web = RequestTelemetry(self.metrics, access_log=settings.access_log)
        self._run_service: RunService | None = None
        self._unfinished: int | None = None
        self._queue_age: float | None = None
        self._counted_at = 0.0
        self._count_lock = asyncio.Lock()

    async def aclose(self) -> None:
        """Writes the last lines, and sends the last spans."""
        self._run_log.flush()
        if self._spans is not None:
            await self._spans.aclose()

    def on_callback(self, callback: Callback) -> None:
        """A callback was attempted."""
        if self.metrics is not None:
            self.metrics.on_callback(callback)

    # ----------------------------------------------------------------------------------------------------- /metrics

    def observe_service(self, run_service: RunService, queue: Sized | None = None) -> None:
        """Adds the gauges of a run service, and of the `queue` if it is one of this process."""
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
            (
                "headrace_queue_age_seconds",
                "How long the first of the runs that wait for a worker has waited, in all processes.",
                lambda: self._queue_age,
            ),
        ]
        wire = run_service.environment.bus.wire
        description = "Whether messages to other processes are delivered at once: 1 or 0."
        self.metrics.gauges.append(("headrace_wire_connected", description, lambda: wire.is_connected))
        self.metrics.totals += [
            ("headrace_wire_published", "Records and pieces of text sent to processes.", lambda: wire.counts.published),
            ("headrace_wire_received", "Those received from other processes.", lambda: wire.counts.received),
            ("headrace_wire_dropped", "Those that could not be sent in time.", lambda: wire.counts.dropped),
            ("headrace_wire_ignored", "Messages that could not be read.", lambda: wire.counts.ignored),
        ]
        if queue is not None:
            depth = "Runs in this process's queue: they wait for a worker."
            self.metrics.gauges.append(("headrace_queue_depth", depth, lambda: len(queue)))

    def observe_model_limits(self, limits: Mapping[str, ModelLimit]) -> None:
        """Adds the gauges of the limits of calls of models, by name."""
        if self.metrics is not None:
            self.metrics.model_limits = limits

    @property
    def route(self) -> MetricsRoute | None:
        """The endpoint at `METRICS_PATH`; None if metrics are off."""
        return None if self.metrics is None else MetricsRoute(self.metrics, self._read_counts, self._token)

    async def _read_counts(self) -> None:
        """Reads what the database knows of all processes. If it does not respond, these metrics are left out."""
        async with self._count_lock:
            fresh = self._unfinished is not None and time.monotonic() - self._counted_at < _MAX_AGE_SECONDS
            if self._run_service is None or fresh:
                return
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    self._unfinished = len(await self._run_service.environment.journal.unfinished())
                    self._queue_age = (await self._run_service.dispatch.backlog()).oldest
            except (StoreError, TimeoutError) as error:
                level = error.level if isinstance(error, StoreError) else logging.WARNING
                logger.log(level, "cannot count unfinished runs: %s", error or "too slow")
                self._unfinished = self._queue_age = None
            self._counted_at = time.monotonic()


ON, OFF = frozenset({"on", "true", "yes", "1", ""}), frozenset({"off", "false", "no", "0"})
"""The values of the setting `metrics` that are not a token."""


def _spans(settings: Settings, environ: Mapping[str, str]) -> Spans | None:
    """The sender of spans; None if no collector is configured, or OpenTelemetry is disabled by its own variables."""
    named = settings.otel_endpoint or any(environ.get(name) for name in _ENDPOINTS)
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not named or disabled or environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return None
    try:
        from headrace.telemetry.spans import Spans  # an extra; and 0.1 s to import
    except ImportError as error:
        raise HeadraceError(
            f'A collector for traces is configured, but {error.name} is not installed: pip install "headrace[otel]"'
        ) from error
    return Spans(settings.otel_endpoint)
