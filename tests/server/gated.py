"""Runs that wait in their second step until a gate is opened, and a client of their server."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.background import serving
from tests.server.process import Serve

FLOW = """
app: {{mode: workflow, name: waits}}
kind: app
version: 0.5.0
workflow:
  features: {{}}
  environment_variables: []
  graph:
    nodes:
    - id: s
      data: {{type: start, title: Start, variables: [{{variable: q, label: q, type: text-input, required: true}}]}}
    - id: first
      data:
        {{type: http-request, title: First, method: post, url: "{url}/first/{{{{#s.q#}}}}", headers: "", params: "",
          authorization: {{type: no-auth}}, body: {{type: none, data: []}}}}
    - id: second
      data:
        {{type: http-request, title: Second, method: post, url: "{url}/second/{{{{#s.q#}}}}",
          headers: "Idempotency-Key:", params: "", authorization: {{type: no-auth}}, body: {{type: none, data: []}}}}
    - id: e
      data:
        type: end
        title: End
        outputs:
        - {{variable: one, value_selector: [first, body]}}
        - {{variable: two, value_selector: [second, body]}}
    edges:
    - {{id: a, source: s, sourceHandle: source, target: first}}
    - {{id: b, source: first, sourceHandle: source, target: second}}
    - {{id: c, source: second, sourceHandle: source, target: e}}
"""


Event = dict[str, Any]
FINISHED = ("workflow_finished", None)


class Peer(ThreadingHTTPServer):
    """Answers /first at once, and /second once the gate is open. Counts who called, and with which key."""

    daemon_threads = True
    request_queue_size = 1000  # many may come at once

    def __init__(self, patience: float = 120.0) -> None:
        self.gate = threading.Event()
        self.patience = patience  # seconds after which /second answers though the gate is closed
        self.waiting = threading.Semaphore(0)
        self.calls: list[tuple[str, str | None]] = []
        self.on_call: Callable[[], None] = lambda: None
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Peer

    def do_POST(self) -> None:
        self.server.calls.append((self.path, self.headers.get("Idempotency-Key")))
        self.server.on_call()
        if self.path.startswith("/second"):
            self.server.waiting.release()
            self.server.gate.wait(self.server.patience)
        body = self.path.encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the caller was killed

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[Peer]:
    server = Peer()
    with serving(server):
        try:
            yield server
        finally:
            server.gate.set()


class Client:
    def __init__(self, serve: Serve, app: str = "flow") -> None:
        self._address = urlsplit(serve.url).netloc
        self._headers = {"Authorization": f"Bearer {serve.keys[app]}", "Content-Type": "application/json"}

    @contextmanager
    def stream(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> Generator[http.client.HTTPResponse]:
        with closing(http.client.HTTPConnection(self._address, timeout=60)) as connection:
            sent = {"Accept": "text/event-stream; ids=true", **self._headers, **headers}
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            with connection.getresponse() as answer:
                yield answer

    def get(self, path: str) -> Event:
        with self.stream("GET", path) as answer:
            return json.loads(answer.read())


def read_until(stream: http.client.HTTPResponse, until: tuple[str, str | None]) -> tuple[list[Event], str]:
    """(events up to and with the first of a name and node, the last id told) of a stream."""
    assert stream.status == 200, stream.read()
    events: list[Event] = []
    last = ""
    for raw in stream:
        line = raw.decode().strip()
        if line.startswith("data:"):
            events.append(json.loads(line[5:]))
        elif line.startswith("id:"):
            last = line[3:].strip()
            if events_and_nodes(events)[-1] == until:
                return events, last
    raise AssertionError(f"the stream ended before {until}: {events_and_nodes(events)}")


def events_and_nodes(events: list[Event]) -> list[tuple[str, str | None]]:
    return [(event["event"], event["data"].get("node_id")) for event in events]
