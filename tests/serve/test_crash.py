"""A serving process dies in the middle of runs; the next one finishes them, and nothing is told twice."""

from __future__ import annotations

import http.client
import json
import pathlib
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.serve.process import Serve

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

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.calls: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Peer

    def do_POST(self) -> None:
        self.server.calls.append((self.path, self.headers.get("Idempotency-Key")))
        if self.path.startswith("/second"):
            self.server.waiting.release()
            self.server.gate.wait(30)
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
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.gate.set()
        server.shutdown()
        thread.join()


class Client:
    def __init__(self, serve: Serve) -> None:
        self._address = urlsplit(serve.url).netloc
        self._headers = {"Authorization": f"Bearer {serve.keys['flow']}", "Content-Type": "application/json"}

    @contextmanager
    def stream(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> Generator[http.client.HTTPResponse]:
        with closing(http.client.HTTPConnection(self._address, timeout=30)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers | headers)
            with connection.getresponse() as answer:
                yield answer

    def get(self, path: str) -> Event:
        with self.stream("GET", path) as answer:
            return json.loads(answer.read())


def heard(stream: http.client.HTTPResponse, until: tuple[str, str | None]) -> tuple[list[Event], str]:
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
            if told(events)[-1] == until:
                return events, last
    raise AssertionError(f"the stream ended before {until}: {told(events)}")


def told(events: list[Event]) -> list[tuple[str, str | None]]:
    return [(event["event"], event["data"].get("node_id")) for event in events]


def test_killed_in_mid_run_and_started_again(tmp_path: pathlib.Path, peer: Peer):
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    environ = {"HEADRACE_EGRESS_ALLOW": peer.address}
    runs = [f"run{n}" for n in range(5)]
    before: dict[str, list[Event]] = {}
    last_ids: dict[str, str] = {}

    with Serve(tmp_path, [flow], environ) as serve, ExitStack() as streams:
        key, client = serve.keys["flow"], Client(serve)
        for name in runs:
            asked = {"inputs": {"q": name}, "user": "u", "response_mode": "streaming"}
            stream = streams.enter_context(client.stream("POST", "/v1/workflows/run", asked))
            before[name], last_ids[name] = heard(stream, ("node_started", "second"))
        for _ in runs:
            assert peer.waiting.acquire(timeout=20)
        serve.kill()
    peer.gate.set()

    with Serve(tmp_path, [flow], environ) as serve:
        assert serve.keys["flow"] == key
        client = Client(serve)
        for name in runs:
            run = before[name][0]["workflow_run_id"]
            with client.stream(
                "GET", f"/v1/workflow/{run}/events?user=u", **{"Last-Event-ID": last_ids[name]}
            ) as stream:
                after, _ = heard(stream, FINISHED)
            kinds = [(event, node) for event, node in told(before[name] + after) if event != "text_chunk"]
            assert len(kinds) == len(set(kinds)), "nothing is told twice"
            assert kinds[-1] == ("workflow_finished", None)
            assert after[-1]["data"]["status"] == "succeeded"
            assert after[-1]["data"]["outputs"] == {"one": f"/first/{name}", "two": f"/second/{name}"}
            chunks = [event for event in before[name] + after if event["event"] == "text_chunk"]
            text = "".join(chunk["data"]["text"] for chunk in chunks)
            assert text == f"/first/{name}\n/second/{name}"
            assert client.get(f"/v1/workflows/run/{run}")["status"] == "succeeded"

    for name in runs:
        firsts = [call for call in peer.calls if call[0] == f"/first/{name}"]
        keys = {key for path, key in peer.calls if path == f"/second/{name}"}
        assert len(firsts) == 1, "a node that had ended is not run again"
        assert len(keys) == 1, "a node that is run again after a crash brings the same idempotency key"
        assert None not in keys


def test_a_stopped_service_ends_its_streams_and_goes_on_with_its_runs(tmp_path: pathlib.Path, peer: Peer):
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    environ = {"HEADRACE_EGRESS_ALLOW": peer.address}
    with Serve(tmp_path, [flow], environ) as serve:
        asked = {"inputs": {"q": "x"}, "user": "u", "response_mode": "streaming"}
        with Client(serve).stream("POST", "/v1/workflows/run", asked) as stream:
            events, _ = heard(stream, ("node_started", "second"))
        assert peer.waiting.acquire(timeout=20)
        began = time.monotonic()
    assert time.monotonic() - began < 15, "it does not wait for the run"
    peer.gate.set()
    with Serve(tmp_path, [flow], environ) as serve:
        run = events[0]["workflow_run_id"]
        with Client(serve).stream("GET", f"/v1/workflow/{run}/events?user=u") as stream:
            assert heard(stream, FINISHED)[0][-1]["data"]["status"] == "succeeded"
