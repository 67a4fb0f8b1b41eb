"""A serving process dies in each step of two agents, one of each strategy: what has ended is not repeated, what had
begun is repeated once."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.background import serving
from tests.server.gated import FINISHED, Client, read_until
from tests.server.process import Serve

FLOW = """
app: {mode: workflow, name: STRATEGY}
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
        agent_strategy_name: STRATEGY
        tool_node_version: "2"
        agent_parameters:
          model:
            type: constant
            value: {provider: openai_api_compatible, model: STRATEGY, mode: chat, completion_params: {}}
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
      parameters:
      - {name: day, in: query, schema: {type: string}}
      - {name: for, in: query, schema: {type: string}}
      responses: {"200": {description: The forecast}}
"""
CALLING = "function_calling"
STRATEGIES = (CALLING, "ReAct")
ANSWER = "Rain today, sun tomorrow."


class World(ThreadingHTTPServer):
    """The model and the tool. A request is reported in `requests` of its strategy, and waits for `go_on` if it is the
    first of its kind: the model asks for a forecast, for another one, and answers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: dict[str, queue.SimpleQueue[str]] = {strategy: queue.SimpleQueue() for strategy in STRATEGIES}
        self.seen: dict[str, list[str]] = {strategy: [] for strategy in STRATEGIES}
        self.go_on = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def receive(self, strategy: str, name: str) -> None:
        seen = self.seen[strategy]
        is_first = name not in seen
        seen.append(name)
        if is_first:
            self.requests[strategy].put(name)
            self.go_on.wait(120)


class Handler(BaseHTTPRequestHandler):
    server: World

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        strategy, rounds = body["model"], _rounds(body)
        self.server.receive(strategy, f"model after {rounds}")
        finish = "tool_calls" if rounds < 2 and strategy == CALLING else "stop"
        events = (_event(_delta(strategy, rounds), None), _event({}, finish))
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        self._send("text/event-stream", f"{text}data: [DONE]\n\n")

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        (day,), (strategy,) = query["day"], query["for"]
        self.server.receive(strategy, day)
        self._send("text/plain", "Rain." if day == "today" else "Sun.")

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


def _rounds(body: Mapping[str, Any]) -> int:
    """How many answers of the tool a request has."""
    if body["model"] == CALLING:
        return sum(message["role"] == "tool" for message in body["messages"])
    return sum(message["content"].count("Observation: ") for message in body["messages"][2:])


def _delta(strategy: str, rounds: int) -> dict[str, Any]:
    if rounds == 2:
        return {"content": ANSWER if strategy == CALLING else f"FinalAnswer: {ANSWER}"}
    arguments = {"day": ("today", "tomorrow")[rounds], "for": strategy}
    if strategy == CALLING:
        function = {"name": "forecast", "arguments": json.dumps(arguments)}
        return {"tool_calls": [{"index": 0, "id": f"c{rounds}", "type": "function", "function": function}]}
    action = {"action": "forecast", "action_input": arguments}
    return {"content": f"Thought: I look.\nAction: {json.dumps(action)}\n"}


def _event(delta: Mapping[str, Any], finish: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


@pytest.fixture
def outside() -> Iterator[World]:
    server = World()
    with serving(server):
        try:
            yield server
        finally:
            server.go_on.set()


STEPS = ["model after 0", "today", "model after 1", "tomorrow", "model after 2"]


def test_killed_in_each_step_of_an_agent(tmp_path: Path, outside: World):
    files = [tmp_path / f"{strategy}.yml" for strategy in STRATEGIES]
    for file in files:
        file.write_text(FLOW.replace("STRATEGY", file.stem))
    (tmp_path / "weather.yml").write_text(WEATHER.replace("ADDRESS", outside.address))
    environ = {
        "HEADRACE_EGRESS_ALLOW": outside.address,
        "HEADRACE_TOOLS": str(tmp_path / "weather.yml"),
        "OPENAI_API_COMPATIBLE_BASE_URL": f"http://{outside.address}/v1",
    }

    def kill_in(serve: Serve, step: str) -> None:
        assert [outside.requests[strategy].get(timeout=60) for strategy in STRATEGIES] == [step, step]
        serve.kill()

    runs: dict[str, str] = {}
    with Serve(tmp_path, files, environ) as serve:
        body = {"inputs": {}, "user": "u", "response_mode": "streaming"}
        for strategy in STRATEGIES:
            with Client(serve, strategy).stream("POST", "/v1/workflows/run", body) as stream:
                events, _ = read_until(stream, ("node_started", "a"))
            runs[strategy] = events[0]["workflow_run_id"]
        kill_in(serve, STEPS[0])
    for step in STEPS[1:]:
        with Serve(tmp_path, files, environ) as serve:
            kill_in(serve, step)
    with Serve(tmp_path, files, environ) as serve:
        for strategy, run in runs.items():
            path, position = f"/v1/workflow/{run}/events?user=u", {"Last-Event-ID": "0"}
            with Client(serve, strategy).stream("GET", path, **position) as stream:
                finished = read_until(stream, FINISHED)[0][-1]["data"]
            # a line break follows the calls of each round of function calling, as in Dify
            text = f"\n\n{ANSWER}" if strategy == CALLING else ANSWER
            assert (finished["status"], finished["outputs"]) == ("succeeded", {"text": text})
            assert outside.seen[strategy] == [request for step in STEPS for request in (step, step)]
