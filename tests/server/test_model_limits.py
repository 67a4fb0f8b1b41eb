"""Two processes on one database make no more calls of a model at once than the limit allows, and share them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.background import serving
from tests.server.gated import Client
from tests.server.process import Serve

FLOW = """
app: {mode: workflow, name: asks}
kind: app
version: 0.5.0
workflow:
  features: {}
  environment_variables: []
  graph:
    nodes:
    - id: s
      data: {type: start, title: Start, variables: [{variable: q, label: q, type: text-input, required: true}]}
    - id: m
      data:
        type: llm
        title: Model
        model: {provider: openai_api_compatible, name: any, mode: chat, completion_params: {}}
        prompt_template: [{role: user, text: "{{#s.q#}}"}]
        context: {enabled: false}
        vision: {enabled: false}
    - id: e
      data: {type: end, title: End, outputs: [{variable: text, value_selector: [m, text]}]}
    edges:
    - {id: a, source: s, sourceHandle: source, target: m}
    - {id: b, source: m, sourceHandle: source, target: e}
"""
LIMIT, RUNS = 3, 12  # runs of each process


class Model(ThreadingHTTPServer):
    """Answers with the question, once `LIMIT` calls are in progress or `hurry` is set."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.changed = threading.Condition()
        self.active = self.most = self.begun = 0
        self.served: Counter[str] = Counter()


class Answer(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:
        model = self.server
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        with model.changed:
            model.active += 1
            model.begun += 1
            model.most = max(model.most, model.active)
            number = model.begun
            model.changed.notify_all()
            # answers one of the first round only once the whole limit is used, so that less than it is noticed
            model.changed.wait_for(lambda: number > LIMIT or model.begun >= LIMIT, 60)
            model.served[question.split()[0]] += 1
        events = ({"choices": [{"index": 0, "delta": {"content": question}, "finish_reason": "stop"}]}, "[DONE]")
        texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
        body = "".join(f"data: {text}\n\n" for text in texts).encode()
        with model.changed:
            model.active -= 1  # before the response ends, since another call may begin then
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def model() -> Iterator[Model]:
    server = Model()
    with serving(server):
        yield server


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_two_processes_share_a_limit(
    tmp_path: Path, model: Model, database: str, request: pytest.FixtureRequest
) -> None:
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW)
    environ = {
        "OPENAI_API_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{model.server_address[1]}/v1",
        "HEADRACE_MODEL_CONCURRENCY": f"openai_api_compatible={LIMIT}",
    }
    if database == "postgresql":
        environ["HEADRACE_DATABASE_URL"] = request.getfixturevalue("postgresql_url")
    with ExitStack() as stack:
        one, two = (stack.enter_context(Serve(tmp_path, [flow], environ)) for _ in range(2))

        def run(serve: Serve, question: str) -> str:
            body = {"inputs": {"q": question}, "response_mode": "blocking", "user": "u"}
            with Client(serve).stream("POST", "/v1/workflows/run", body) as answer:
                return json.loads(answer.read())["data"]["outputs"]["text"]

        questions = [(serve, f"{name} {number}") for number in range(RUNS) for serve, name in ((one, "1"), (two, "2"))]
        with ThreadPoolExecutor(len(questions)) as callers:
            assert list(callers.map(run, *zip(*questions, strict=True))) == [question for _, question in questions]
        metrics = [line for line in _metrics(one).splitlines() if line.startswith("headrace_model_calls")]
    assert model.most == LIMIT
    assert model.served == {"1": RUNS, "2": RUNS}
    assert metrics == [
        'headrace_model_calls_active{limit="openai_api_compatible"} 0.0',
        'headrace_model_calls_waiting{limit="openai_api_compatible"} 0.0',
    ]


def _metrics(serve: Serve) -> str:
    with Client(serve).stream("GET", "/metrics") as answer:
        return answer.read().decode()
