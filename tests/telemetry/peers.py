"""What a workflow of these tests talks to, and what hears of it: a model, a web server, and an OpenTelemetry collector.

The collector speaks OTLP over HTTP: protobuf, as any other one does.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PROMPT_TOKENS, COMPLETION_TOKENS = 1000, 500
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Span:
    """A span as the collector understood it. Ids are hex, times in seconds."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    began: float
    ended: float
    attributes: dict[str, Any]
    status: int  # 0 unset, 1 ok, 2 error
    message: str
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str]]


@dataclass
class Peers:
    """All of them behind one address. `gate`: what /wait waits for; `waiting` counts who does; `failures`: how many of
    the next calls of /flaky fail; `heard`: paths and headers of what was asked; `resource`: the collector's last."""

    url: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    failures: int = 0
    deaf: bool = False  # the collector answers 503
    paths: list[str] = field(default_factory=list[str])
    spans: list[Span] = field(default_factory=list[Span])
    resource: dict[str, Any] = field(default_factory=dict[str, Any])
    news: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Peers:
        peers = self

        class Bound(_Handler):
            world = peers

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def collect(self, raw: bytes) -> None:
        export = ExportTraceServiceRequest.FromString(raw)
        with self.news:
            for resource in export.resource_spans:
                self.resource = _plain(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans += [_span(span) for span in scope.spans]
            self.news.notify_all()

    def wait_for(self, enough: Callable[[list[Span]], bool]) -> list[Span]:
        """The spans of the collector, once they are enough."""
        until = time.monotonic() + PATIENCE
        with self.news:
            while not enough(self.spans):
                if not self.news.wait(until - time.monotonic()):
                    raise AssertionError(f"only {sorted(span.name for span in self.spans)}")
            return list(self.spans)


def _plain(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)


def _span(span: Any) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        _plain(span.attributes),
        span.status.code,
        span.status.message,
        [(event.name, _plain(event.attributes)) for event in span.events],
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: Peers

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        world = self.world
        with world.news:
            world.paths.append(self.path)
            world.news.notify_all()
        if self.path == "/v1/traces":
            if world.deaf:
                self._answer(b"", 503)
                return
            world.collect(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self._answer(ExportTraceServiceResponse().SerializeToString(), kind="application/x-protobuf")
        elif self.path == "/v1/chat/completions":
            self._chat(json.loads(body))
        elif self.path == "/wait":
            world.waiting.release()
            world.gate.wait(PATIENCE)
            self._answer(b"waited")
        elif self.path == "/flaky" and world.failures > 0:
            world.failures -= 1
            self._answer(b"not yet", 500)
        else:
            self._answer(b"well")

    do_GET = do_POST

    def _chat(self, body: dict[str, Any]) -> None:
        prompt = body["messages"][-1]["content"]
        if "FAIL" in prompt:
            error = {"error": {"message": f"the model will not do: {prompt}"}}
            self._answer(json.dumps(error).encode(), 400, "application/json")
            return
        used = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS, "total_tokens": 1500}
        events = [
            {"id": "1", "choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": None}]},
            {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"id": "1", "choices": [], "usage": used},
        ]
        lines = [*(json.dumps(event) for event in events), "[DONE]"]
        self._answer("".join(f"data: {line}\n\n" for line in lines).encode(), kind="text/event-stream")

    def _answer(self, body: bytes, status: int = 200, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
