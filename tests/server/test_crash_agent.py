"""A serving process dies in each step of an agent: what has ended is not repeated, what had begun is repeated once."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.background import serving
from tests.server.gated import FINISHED, Client, heard
from tests.server.process import Serve

FLOW = """
app: {mode: workflow, name: forecast}
kind: app
version: 0.5.0
workflow:
  features: {}
  environment_variables: []
  graph:
    nodes:
    - {id: s, data: {type: start, title: Start, variables: []}}
    - id: a
      data:
        type: agent
        title: Agent
        agent_strategy_provider_name: langgenius/agent/agent
        agent_strategy_name: function_calling
        tool_node_version: "2"
        agent_parameters:
          model:
            type: constant
            value: {provider: openai_api_compatible, model: m, mode: chat, model_type: llm, completion_params: {}}
          query: {type: constant, value: "And tomorrow?"}
          maximum_iterations: {type: constant, value: 5}
          tools:
            type: constant
            value: [{enabled: true, type: api, provider_name: weather, tool_name: forecast}]
    - {id: e, data: {type: end, title: End, outputs: [{variable: text, value_selector: [a, text]}]}}
    edges:
    - {id: sa, source: s, sourceHandle: source, target: a}
    - {id: ae, source: a, sourceHandle: source, target: e}
"""
WEATHER = """
openapi: 3.0.0
info: {title: weather, version: "1"}
servers: [{url: "http://ADDRESS"}]
paths:
  /forecast:
    get:
      operationId: forecast
      parameters: [{name: day, in: query, schema: {type: string}}]
      responses: {"200": {description: The forecast}}
"""
ANSWER = "Rain today, sun tomorrow."


class World(ThreadingHTTPServer):
    """The model and the tool. A request is reported in `requests`, and waits for `go_on` if it is the first of its
    kind: the model asks for a forecast, for another one, and answers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.seen: list[str] = []
        self.go_on = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def receive(self, name: str) -> None:
        is_first = name not in self.seen
        self.seen.append(name)
        if is_first:
            self.requests.put(name)
            self.go_on.wait(120)


class Handler(BaseHTTPRequestHandler):
    server: World

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        self.server.receive(f"model after {len(results)}")
        events = "".join(f"data: {json.dumps(event)}\n\n" for event in _events(results))
        self._send("text/event-stream", f"{events}data: [DONE]\n\n")

    def do_GET(self) -> None:
        self.server.receive(self.path)
        self._send("text/plain", "Rain." if "today" in self.path else "Sun.")

    def _send(self, type_: str, text: str) -> None:
        try:
            self.send_response(200)
            self.send_header("Content-Type", type_)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())
        except OSError:
            self.close_connection = True  # the caller was killed

    def log_message(self, format: str, *args: object) -> None:
        pass


def _events(results: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    delta: dict[str, Any] = {"content": ANSWER}
    if len(results) < 2:
        arguments = json.dumps({"day": ("today", "tomorrow")[len(results)]})
        call = {"index": 0, "id": f"c{len(results)}", "type": "function"}
        delta = {"tool_calls": [{**call, "function": {"name": "forecast", "arguments": arguments}}]}
    yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop" if len(results) == 2 else "tool_calls"}]}


@pytest.fixture
def outside() -> Iterator[World]:
    server = World()
    with serving(server):
        try:
            yield server
        finally:
            server.go_on.set()


STEPS = ["model after 0", "/forecast?day=today", "model after 1", "/forecast?day=tomorrow", "model after 2"]


def test_killed_in_each_step_of_an_agent(tmp_path: Path, outside: World):
    (tmp_path / "flow.yml").write_text(FLOW)
    (tmp_path / "weather.yml").write_text(WEATHER.replace("ADDRESS", outside.address))
    environ = {
        "HEADRACE_EGRESS_ALLOW": outside.address,
        "HEADRACE_TOOLS": str(tmp_path / "weather.yml"),
        "OPENAI_API_COMPATIBLE_BASE_URL": f"http://{outside.address}/v1",
    }
    files = [tmp_path / "flow.yml"]
    with Serve(tmp_path, files, environ) as serve:
        body = {"inputs": {}, "user": "u", "response_mode": "streaming"}
        with Client(serve).stream("POST", "/v1/workflows/run", body) as stream:
            events, _ = heard(stream, ("node_started", "a"))
        assert outside.requests.get(timeout=60) == STEPS[0]
        serve.kill()
    run = events[0]["workflow_run_id"]
    for step in STEPS[1:]:
        with Serve(tmp_path, files, environ) as serve:
            assert outside.requests.get(timeout=60) == step
            serve.kill()
    path, position = f"/v1/workflow/{run}/events?user=u", {"Last-Event-ID": "0"}
    with Serve(tmp_path, files, environ) as serve, Client(serve).stream("GET", path, **position) as stream:
        finished = heard(stream, FINISHED)[0][-1]["data"]
    text = "\n\n" + ANSWER  # a line break follows the calls of each round, as in Dify
    assert (finished["status"], finished["outputs"]) == ("succeeded", {"text": text})
    assert outside.seen == [request for step in STEPS for request in (step, step)]
