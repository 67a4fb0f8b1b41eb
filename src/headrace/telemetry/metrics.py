"""Prometheus metrics. Labels are bounded: apps, node types, models, routes; never a run or a user.

Only the runs and nodes that this process drives are counted. An event loop needs no locks, so counting is one addition
to a dictionary; the library only writes the text format.
"""

from __future__ import annotations

import hmac
import logging
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope

from headrace import __version__
from headrace.errors import Unauthorized
from headrace.kernel.events import NodeRetried, NodeSucceeded, Record, RunEnded
from headrace.kernel.graph import Path
from headrace.kernel.summary import STOPPED, node_status
from headrace.kernel.trace import NodeTrace
from headrace.ports import Callback
from headrace.telemetry.logs import REQUEST
from headrace.telemetry.run_tracker import Outcome, Sink, TrackedRun, cost_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

access_logger = logging.getLogger("headrace.access")

MAX_SERIES = 2_000  # of one metric; all others are counted together as `OTHER`
OTHER = "other"
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)
_APP = ("app", "name")
_MODEL = ("provider", "model")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLIENT_CLOSED_REQUEST = 499  # the client closed the connection; as in nginx
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STREAMED = b"text/event-stream"
_STARTED, _STATUS, _STREAM = "headrace.began", "headrace.status", "headrace.stream"

Labels = tuple[str, ...]


class Counter:
    """A counter. `add` takes the values of its labels, in order."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str] = ()) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._overflow = (OTHER,) * len(labels)
        self._counts: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        counts = self._counts
        if labels in counts:
            counts[labels] += amount
        else:
            if len(counts) >= MAX_SERIES:
                labels = self._overflow
            counts[labels] = counts.get(labels, 0) + amount

    def family(self) -> CounterMetricFamily:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        return family


class Histogram:
    """A histogram of seconds; `bounds` are the upper bounds of its buckets, without the last one."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._overflow = (OTHER,) * len(labels)
        self._bounds = list(bounds)
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._series: dict[Labels, tuple[list[int], list[float]]] = {}

    def add(self, labels: Labels, seconds: float) -> None:
        if labels not in self._series and len(self._series) >= MAX_SERIES:
            labels = self._overflow
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = ([0] * len(self._names), [0.0])
        seconds = max(seconds, 0.0)  # a clock may be set back
        series[0][bisect_left(self._bounds, seconds)] += 1
        series[1][0] += seconds

    def family(self) -> HistogramMetricFamily:
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, (counts, total) in self._series.items():
            buckets: list[tuple[str, float]] = []
            below = 0
            for name, count in zip(self._names, counts, strict=True):
                below += count
                buckets.append((name, below))
            family.add_metric(labels, buckets, total[0])
        return family


class ModelLimit(Protocol):
    """The calls of this process under a limit of calls of models."""

    active: int
    waiting: int


class Metrics(Sink):
    """Counts runs and nodes (as a sink of `RunTracker`), requests and callbacks.

    `gauges` are evaluated for each response: name, documentation, and a function that returns the value.
    """

    def __init__(self) -> None:
        self.runs = Counter("headrace_runs", "Runs that ended here.", (*_APP, "status"))
        self.run_seconds = Histogram(
            "headrace_run_duration_seconds",
            "From when a run was asked for until it ended, waiting and pauses included.",
            (*_APP, "status"),
            _LONG,
        )
        self.wait_seconds = Histogram(
            "headrace_run_wait_seconds", "From when a run was asked for until it was first taken up.", (), _SHORT
        )
        self.nodes = Counter("headrace_nodes", "Nodes that ended, or were skipped.", ("type", "status"))
        self.node_seconds = Histogram("headrace_node_duration_seconds", "How long nodes took.", ("type",), _LONG)
        self.retries = Counter("headrace_node_retries", "Attempts that failed and were followed by another.", ("type",))
        self.tokens = Counter("headrace_tokens", "Tokens that models were sent and answered with.", (*_MODEL, "kind"))
        self.cost = Counter("headrace_cost", "What models were paid.", (*_MODEL, "currency"))
        self.requests = Counter("headrace_http_requests", "Requests answered.", ("route", "method", "status"))
        self.request_seconds = Histogram(
            "headrace_http_request_duration_seconds",
            "How long requests took: until the answer's end, or the beginning of a stream.",
            ("route", "method"),
            _SHORT,
        )
        self.callbacks = Counter("headrace_callbacks", "Callbacks delivered, or given up.", ("status",))
        self.streams = 0
        self.gauges: list[tuple[str, str, Callable[[], float | None]]] = [
            ("headrace_http_streams_open", "Event streams that are being sent.", lambda: self.streams)
        ]
        self.model_limits: Mapping[str, ModelLimit] = {}
        self.totals: list[tuple[str, str, Callable[[], int]]] = []  # as `gauges`, of counters

    @cached_property
    def _registry(self) -> CollectorRegistry:
        from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return registry

    def text(self) -> bytes:
        """All metrics in Prometheus' text format. To be called in the thread that counts."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the library, on each request."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        version = GaugeMetricFamily("headrace_info", "The version that runs.", labels=("version",))
        version.add_metric((__version__,), 1)
        yield version
        for name, documentation, function in self.gauges:
            value = function()
            if value is not None:
                yield GaugeMetricFamily(name, documentation, value=value)
        if self.model_limits:
            yield from self._model_calls()
        for name, documentation, total in self.totals:
            yield CounterMetricFamily(name, documentation, value=total())
        for metric in vars(self).values():
            if isinstance(metric, Counter | Histogram):
                yield metric.family()

    def _model_calls(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        active = GaugeMetricFamily("headrace_model_calls_active", "Calls under a limit in progress.", labels=("limit",))
        waiting = GaugeMetricFamily("headrace_model_calls_waiting", "Calls that wait for a limit.", labels=("limit",))
        for name, limit in self.model_limits.items():
            active.add_metric((name,), limit.active)
            waiting.add_metric((name,), limit.waiting)
        yield from (active, waiting)

    def describe(self) -> Sequence[Metric]:
        """For the library, on registration: nothing."""
        return ()

    # ------------------------------------------------------------------------------------------------ runs and nodes

    def on_started(self, run: TrackedRun, at: float) -> None:
        self.wait_seconds.add((), at - run.queued_at)

    def on_node_retried(self, run: TrackedRun, record: Record) -> None:
        assert isinstance(record.event, NodeRetried)
        self.retries.add((run.node_type(record.event.path),))

    def on_node_skipped(self, run: TrackedRun, path: Path) -> None:
        self.nodes.add((run.node_type(path), "skipped"))

    def on_node_ended(
        self, run: TrackedRun, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool
    ) -> None:
        if not live:
            return
        kind = run.node_type(node.path)
        self.nodes.add((kind, status_of(outcome)))
        self.node_seconds.add((kind,), at - node.started_at)
        if isinstance(outcome, NodeSucceeded) and outcome.usage and not run.is_container(node.path):
            self._add_usage(outcome)

    def _add_usage(self, outcome: NodeSucceeded) -> None:
        usage: Any = outcome.usage
        # the provider by the last part of its name
        provider = str(outcome.process.get("model_provider") or "").rpartition("/")[2]
        model = (provider, str(outcome.process.get("model_name") or ""))
        self.tokens.add((*model, "prompt"), usage.get("prompt_tokens") or 0)
        self.tokens.add((*model, "completion"), usage.get("completion_tokens") or 0)
        currency, price = cost_of(usage)
        self.cost.add((*model, currency), price)

    def on_ended(self, run: TrackedRun, at: float, event: RunEnded) -> None:
        labels = (run.queued.app, run.name, event.status)
        self.runs.add(labels)
        self.run_seconds.add(labels, at - run.queued_at)

    # ----------------------------------------------------------------------------------------------------- callbacks

    def on_callback(self, callback: Callback) -> None:
        """A callback was attempted."""
        if callback.status != "pending":
            self.callbacks.add((callback.status,))


def status_of(outcome: Outcome | None) -> str:
    """The status of a node as in lists of node executions; `stopped` if the run ended first."""
    return STOPPED if outcome is None else node_status(outcome)


class RequestTelemetry:
    """The observer of `RequestContext`. `access_log`: log a line for each request."""

    def __init__(self, metrics: Metrics | None, *, access_log: bool = False) -> None:
        self._metrics = metrics
        self._access_log = access_log

    def on_request(self, scope: Scope, request: str) -> None:
        """A request has arrived; `request` is its id."""
        REQUEST.set(request)
        scope[_STARTED] = time.perf_counter()

    def on_headers(self, scope: Scope, head: Message) -> None:
        """The headers of its response are sent."""
        scope[_STATUS] = head["status"]
        if self._metrics and any(value.startswith(_STREAMED) for _, value in head["headers"]):
            self._metrics.streams += 1
            scope[_STREAM] = time.perf_counter()

    def on_done(self, scope: Scope) -> None:
        """The request has ended, with or without a response."""
        now = time.perf_counter()
        started_at, status, stream = scope[_STARTED], scope.get(_STATUS, CLIENT_CLOSED_REQUEST), scope.get(_STREAM)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", "unmatched")
        if self._metrics:
            self._metrics.requests.add((route, method, str(status)))
            self._metrics.request_seconds.add((route, method), (stream or now) - started_at)
            if stream:
                self._metrics.streams -= 1
        if self._access_log:
            seconds = round(now - started_at, 6)
            path = route if route.startswith("/triggers/") else scope["path"]  # the id of a webhook starts runs
            fields = {"method": method, "path": path, "status": status, "seconds": seconds}
            access_logger.info("%s %s %d", method, route, status, extra={**fields, "client": _client(scope)})


def _client(scope: Scope) -> str | None:
    return scope["client"][0] if scope.get("client") else None


class MetricsRoute:
    """`/metrics`. With a `token`, requests must send it as a bearer token. `refresh` reads what is not counted here.
    `text` returns the metrics, unless those of other processes are to be added."""

    def __init__(self, metrics: Metrics, refresh: Callable[[], Awaitable[None]], token: str | None = None) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._token = token
        self.text: Callable[[], Awaitable[bytes]] = self.own

    async def own(self) -> bytes:
        """The metrics of this process."""
        await self._refresh()
        return self._metrics.text()

    async def endpoint(self, request: Request) -> Response:
        if self._token is not None:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            matches = hmac.compare_digest(token.strip().encode(), self._token.encode())
            if scheme.lower() != "bearer" or not matches:
                raise Unauthorized("The token for metrics is missing or wrong.")
        return Response(await self.text(), media_type=None, headers={"Content-Type": CONTENT_TYPE})
