"""OpenTelemetry spans of runs, rounds and nodes, made from the records when they end.

    run ─┬─ node                     the times of a span are those of its records
         ├─ node of a model          GenAI conventions: gen_ai.request.model, gen_ai.usage.input_tokens ...
         └─ container ── round ── nodes

Every id is derived from the run: the trace is that of the caller (`traceparent`) or has the id of the run, and the id
of a span is derived from the run and the path. So the spans that two processes send of one run, before a crash and
after it, fit together. The span of a node that ended shortly before a crash is sent again with the same id, since it
may have been lost.

The SDK sends spans in batches, from a thread of its own; those that it cannot send are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from headrace import __version__
from headrace.kernel.events import NodeFailed, NodeRetried, Record, RunEnded, RunId
from headrace.kernel.graph import Path, round_path, split
from headrace.kernel.secrets import SecretMask
from headrace.kernel.trace import NodeTrace, RoundTrace
from headrace.telemetry.genai import conventions
from headrace.telemetry.metrics import status_of
from headrace.telemetry.run_tracker import Outcome, Sink, TrackedRun

logger = logging.getLogger(__name__)

RESEND_SECONDS = 10.0  # before a crash, in which the spans that ended may not have been sent
FLUSH_SECONDS = 2.0  # for the last spans when the process ends

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SCOPE = InstrumentationScope("headrace", __version__)
_UNSET = Status(StatusCode.UNSET)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class _RunSpan(NamedTuple):
    """A run in its trace. `mask` masks the secrets of the workflow; spans that ended after `resend_after`, before this
    process took the run, are sent (again)."""

    trace: int
    parent: SpanContext | None
    mask: SecretMask
    resend_after: float


class Spans(Sink):
    """A sink of `RunTracker`. `endpoint` is the URL of a collector without /v1/traces; if it is empty, the standard
    variables (OTEL_*) have it.

    These also set the name of the service, headers, certificates, sampling and the size of batches.
    """

    def __init__(self, endpoint: str = "") -> None:
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "headrace"}))
        self._resource = Resource({SERVICE_VERSION: __version__}).merge(resource)
        self._sampler = TracerProvider(resource=self._resource, shutdown_on_exit=False).sampler
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None)
        self._processor = BatchSpanProcessor(exporter)
        self._runs: dict[RunId, _RunSpan] = {}

    async def aclose(self) -> None:
        """Sends the last spans, if that does not take too long."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._processor.shutdown()
            with contextlib.suppress(RuntimeError):  # the event loop is closed already
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, name="the last spans", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await done.wait()
        except TimeoutError:
            logger.warning("not all spans could be sent within %g s", FLUSH_SECONDS)

    # --------------------------------------------------------------------------------------------------------- sink

    def on_acquired(self, run: TrackedRun, records: Sequence[Record]) -> None:
        trace, parent = origin(run.run, run.queued.trace)
        parent_context = set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
        sampling = self._sampler.should_sample(parent_context, trace, run.name, SpanKind.SERVER)
        if sampling.decision != Decision.RECORD_AND_SAMPLE:
            return
        # the nodes that a retry has copied are spans of the run before; its own nodes start after it was queued
        unsent = max(records[-1].at - RESEND_SECONDS, run.queued_at)
        self._runs[run.run] = _RunSpan(trace, parent, SecretMask(run.flow.secrets if run.flow else ()), unsent)

    def on_node_ended(
        self, run: TrackedRun, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool
    ) -> None:
        run_span, path = self._runs.get(run.run), node.path
        spec = run.spec(path)
        if run_span is None or spec is None or (not live and at <= run_span.resend_after):
            return
        model_span = conventions(spec, outcome)
        attributes: dict[str, Any] = {
            "headrace.run.id": run.run,
            "headrace.node.id": spec.id,
            "headrace.node.path": path,
            "headrace.node.type": run.node_type(path),
            "headrace.node.title": spec.title,
            "headrace.status": status_of(outcome),
        }
        if model_span is not None:
            attributes |= model_span.attributes
        status = _UNSET
        if isinstance(outcome, NodeFailed):
            attributes["error.type"] = outcome.kind
            status = Status(StatusCode.ERROR, run_span.mask.text(outcome.error))
        self._send(
            run,
            run_span,
            model_span.name if model_span else f"{spec.type} {spec.title}".rstrip(),
            path,
            split(path)[0],
            node.started_at,
            at,
            attributes,
            kind=SpanKind.CLIENT if model_span or spec.traits.calls_service else SpanKind.INTERNAL,
            status=status,
            events=[_retry(record, run_span.mask) for record in node.retries],
        )

    def on_round_ended(self, run: TrackedRun, container: Path, index: int, round_: RoundTrace, *, live: bool) -> None:
        run_span = self._runs.get(run.run)
        spec = run.spec(container)
        if run_span is None or spec is None or (not live and round_.ended_at <= run_span.resend_after):
            return
        attributes = {"headrace.run.id": run.run, "headrace.node.id": spec.id, "headrace.round": index}
        name = f"{spec.type} {spec.title} round".strip()
        path = round_path(container, index)
        status = Status(StatusCode.ERROR) if round_.failed else _UNSET
        self._send(run, run_span, name, path, container, round_.started_at, round_.ended_at, attributes, status=status)

    def on_ended(self, run: TrackedRun, at: float, event: RunEnded) -> None:
        run_span = self._runs.get(run.run)
        if run_span is None:
            return
        request = run.queued
        attributes: dict[str, Any] = {
            "headrace.run.id": run.run,
            "headrace.app.id": request.app,
            "headrace.app.name": run.name,
            "headrace.workflow.version": request.version,
            "headrace.source": request.source,
            "headrace.status": event.status,
            "headrace.tokens": event.tokens,
            "headrace.steps": event.steps,
        }
        if request.conversation is not None:
            attributes["gen_ai.conversation.id"] = request.conversation
        if len(run.cost) == 1:  # prices in two currencies have no sum
            (attributes["headrace.cost.currency"],) = run.cost
            (attributes["headrace.cost"],) = run.cost.values()
        status = _UNSET
        if event.status == "failed":
            status = Status(StatusCode.ERROR, run_span.mask.text(event.error or ""))
        links: list[Link] = []
        if request.retry_of is not None:
            attributes["headrace.retry_of"] = request.retry_of
            before, _ = origin(request.retry_of, request.trace)
            links.append(Link(_context(before, span_id(request.retry_of))))
        name = f"run {run.name}"
        self._send(
            run, run_span, name, "", "", run.queued_at, at, attributes, kind=SpanKind.SERVER, status=status, links=links
        )

    def on_released(self, run: TrackedRun) -> None:
        self._runs.pop(run.run, None)

    # ------------------------------------------------------------------------------------------------------ sending

    def _send(
        self,
        run: TrackedRun,
        run_span: _RunSpan,
        name: str,
        path: Path,
        outside: Path,
        began: float,
        ended_at: float,
        attributes: Mapping[str, Any],
        *,
        status: Status,
        kind: SpanKind = SpanKind.INTERNAL,
        events: Sequence[Event] = (),
        links: Sequence[Link] = (),
    ) -> None:
        """Sends a span. `path` is that of a node or a round (`it[3]/`), or empty for the run; `outside` is that of its
        parent."""
        parent = _context(run_span.trace, span_id(run.run, outside)) if path else run_span.parent
        span = ReadableSpan(
            name,
            _context(run_span.trace, span_id(run.run, path)),
            parent,
            self._resource,
            attributes,
            events,
            links,
            kind,
            status=status,
            start_time=_nanoseconds(began),
            end_time=_nanoseconds(max(began, ended_at)),
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)


def origin(run: RunId, traceparent: str | None) -> tuple[int, SpanContext | None]:
    """The id of a run's trace, and the span of the caller; without a caller the trace has the id of the run."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        try:
            return UUID(run).int, None
        except ValueError:
            return int.from_bytes(blake2b(run.encode(), digest_size=16).digest()), None
    trace = int(match[1], 16)
    return trace, SpanContext(trace, int(match[2], 16), is_remote=True, trace_flags=TraceFlags(int(match[3], 16) & 1))


def span_id(run: RunId, path: Path = "") -> int:
    """The span id of a run, or of a node or round of it; always the same."""
    return int.from_bytes(blake2b(f"{run}/{path}".encode(), digest_size=8).digest()) or 1


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=False, trace_flags=_SAMPLED)


def _retry(record: Record, mask: SecretMask) -> Event:
    event = record.event
    assert isinstance(event, NodeRetried)
    attributes: dict[str, Any] = {
        "exception.type": event.kind,
        "exception.message": mask.text(event.error),
        "headrace.attempt": event.attempt,
    }
    return Event("exception", attributes, timestamp=_nanoseconds(record.at))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
