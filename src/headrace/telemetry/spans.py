"""OpenTelemetry spans of runs, rounds and nodes, made of the records when they end.

    run ─┬─ node                     a span's times are its records' own
         ├─ node of a model          GenAI conventions: gen_ai.request.model, gen_ai.usage.input_tokens ...
         └─ container ── round ── nodes

Every id follows from the run's: the trace is the caller's (`traceparent`) or has the run's id, and a span's id is made
of the run and the path. So what two processes tell of one run, before a crash and after it, fits together. A node that
ended shortly before a crash is told once more, with the same id: nobody knows whether it had been sent.

Sending is the SDK's: in batches, from a thread of its own; what it cannot send is dropped.
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
from headrace.telemetry.run_tracker import Outcome, TrackedRun

logger = logging.getLogger(__name__)

RESEND_SECONDS = 10.0  # of what ended that long before a crash it is not known whether it had been sent
FLUSH_SECONDS = 2.0  # for what is still to be sent when the process ends

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SCOPE = InstrumentationScope("headrace", __version__)
_UNSET = Status(StatusCode.UNSET)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class _RunSpan(NamedTuple):
    """A run's place in its trace. `mask` hides the workflow's secrets; what ended after `unsent`, before this process
    took the run up, is to be told (again)."""

    trace: int
    parent: SpanContext | None
    mask: SecretMask
    resend_after: float


class Spans:
    """A sink of `Following`. `endpoint` is a collector's URL without /v1/traces; empty: the standard variables tell.

    Those also tell the service's name, headers, certificates, sampling and how large batches are (OTEL_*).
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
        """Sends what is still to be sent, as long as that does not take too long."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._processor.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody has waited for so long
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
        seen = set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
        sampling = self._sampler.should_sample(seen, trace, run.name, SpanKind.SERVER)
        if sampling.decision != Decision.RECORD_AND_SAMPLE:
            return
        # what a retry has of the run before was told with that one; a run's own nodes come after it was asked for
        unsent = max(records[-1].at - RESEND_SECONDS, run.queued_at)
        self._runs[run.run] = _RunSpan(trace, parent, SecretMask(run.flow.secrets if run.flow else ()), unsent)

    def on_started(self, run: TrackedRun, at: float) -> None:
        pass

    def on_node_retried(self, run: TrackedRun, record: Record) -> None:
        pass

    def on_node_skipped(self, run: TrackedRun, path: Path) -> None:
        pass

    def on_node_ended(
        self, run: TrackedRun, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool
    ) -> None:
        traced, path = self._runs.get(run.run), node.path
        spec = run.spec(path)
        if traced is None or spec is None or (not live and at <= traced.resend_after):
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
            status = Status(StatusCode.ERROR, traced.mask.text(outcome.error))
        self._send(
            run,
            traced,
            model_span.name if model_span else f"{spec.type} {spec.title}".rstrip(),
            path,
            split(path)[0],
            node.started_at,
            at,
            attributes,
            kind=SpanKind.CLIENT if model_span or spec.traits.calls_service else SpanKind.INTERNAL,
            status=status,
            events=[_retry(each, traced.mask) for each in node.retries],
        )

    def on_round_ended(self, run: TrackedRun, container: Path, index: int, round_: RoundTrace, *, live: bool) -> None:
        traced = self._runs.get(run.run)
        spec = run.spec(container)
        if traced is None or spec is None or (not live and round_.ended_at <= traced.resend_after):
            return
        attributes = {"headrace.run.id": run.run, "headrace.node.id": spec.id, "headrace.round": index}
        name = f"{spec.type} {spec.title} round".strip()
        path = round_path(container, index)
        status = Status(StatusCode.ERROR) if round_.failed else _UNSET
        self._send(run, traced, name, path, container, round_.started_at, round_.ended_at, attributes, status=status)

    def on_ended(self, run: TrackedRun, at: float, event: RunEnded) -> None:
        traced = self._runs.get(run.run)
        if traced is None:
            return
        queued = run.queued
        attributes: dict[str, Any] = {
            "headrace.run.id": run.run,
            "headrace.app.id": queued.app,
            "headrace.app.name": run.name,
            "headrace.workflow.version": queued.version,
            "headrace.source": queued.source,
            "headrace.status": event.status,
            "headrace.tokens": event.tokens,
            "headrace.steps": event.steps,
        }
        if queued.conversation is not None:
            attributes["gen_ai.conversation.id"] = queued.conversation
        if len(run.cost) == 1:  # prices in two currencies make no sum
            (attributes["headrace.cost.currency"],) = run.cost
            (attributes["headrace.cost"],) = run.cost.values()
        status = _UNSET
        if event.status == "failed":
            status = Status(StatusCode.ERROR, traced.mask.text(event.error or ""))
        links: list[Link] = []
        if queued.retry_of is not None:
            attributes["headrace.retry_of"] = queued.retry_of
            before, _ = origin(queued.retry_of, queued.trace)
            links.append(Link(_context(before, span_id(queued.retry_of))))
        name = f"run {run.name}"
        self._send(
            run, traced, name, "", "", run.queued_at, at, attributes, kind=SpanKind.SERVER, status=status, links=links
        )

    def on_released(self, run: TrackedRun) -> None:
        self._runs.pop(run.run, None)

    # ------------------------------------------------------------------------------------------------------ sending

    def _send(
        self,
        run: TrackedRun,
        traced: _RunSpan,
        name: str,
        path: Path,
        outside: Path,
        began: float,
        ended: float,
        attributes: Mapping[str, Any],
        *,
        status: Status,
        kind: SpanKind = SpanKind.INTERNAL,
        events: Sequence[Event] = (),
        links: Sequence[Link] = (),
    ) -> None:
        """Hands a span over. `path` is a node's, a round's (`it[3]/`), or empty for the run; `outside` is what it is
        within."""
        parent = _context(traced.trace, span_id(run.run, outside)) if path else traced.parent
        span = ReadableSpan(
            name,
            _context(traced.trace, span_id(run.run, path)),
            parent,
            self._resource,
            attributes,
            events,
            links,
            kind,
            status=status,
            start_time=_nanoseconds(began),
            end_time=_nanoseconds(max(began, ended)),
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)


def origin(run: RunId, traceparent: str | None) -> tuple[int, SpanContext | None]:
    """The id of a run's trace, and the caller's span; a trace without a caller has the run's id."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        try:
            return UUID(run).int, None
        except ValueError:
            return int.from_bytes(blake2b(run.encode(), digest_size=16).digest()), None
    trace = int(match[1], 16)
    return trace, SpanContext(trace, int(match[2], 16), is_remote=True, trace_flags=TraceFlags(int(match[3], 16) & 1))


def span_id(run: RunId, path: Path = "") -> int:
    """Always the same for a run, or for a node or round of it."""
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
