"""What `/metrics` of a real `headrace serve` tells, read by Prometheus' own parser."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.telemetry.metrics import MAX_SERIES, OTHER, Counter, Histogram
from tests.server.process import Serve
from tests.telemetry import flows
from tests.telemetry.peers import COMPLETION_TOKENS, PROMPT_TOKENS, Peers
from tests.telemetry.test_traces import COST, environ, run

CLIENTS, RUNS = 8, 200


@pytest.fixture
def peers() -> Generator[Peers]:
    with Peers() as running:
        yield running


class Metrics:
    """The samples of an answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        self.names = {sample.name for sample in self.samples}

    def sum(self, name: str, /, **labels: str) -> float:
        """Of all samples that have these labels, the value."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, /) -> set[str]:
        return {label for sample in self.samples if sample.name == name for label in sample.labels}


def metrics(serve: Serve, headers: Mapping[str, str] | None = None) -> Metrics:
    answer = httpx.get(f"{serve.url}/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Metrics(answer.text)


def test_numbers_are_equal_under_load(peers: Peers, tmp_path: Path):
    files = [
        flows.write(tmp_path, "plain", [flows.start("q"), flows.end("start", "q")]),
        flows.write(tmp_path, "fails", [flows.start("q"), flows.llm("m", "FAIL"), flows.end("m", "text")]),
        flows.write(tmp_path, "asks", [flows.start("q"), flows.llm("m", "{{#start.q#}}"), flows.end("m", "text")]),
    ]
    settings = environ(peers)
    del settings["OTEL_EXPORTER_OTLP_ENDPOINT"]
    with Serve(tmp_path, files, settings) as serve:
        names = ["plain", "fails", "asks", "plain"] * (RUNS // 4)
        with ThreadPoolExecutor(CLIENTS) as pool:
            done = list(pool.map(lambda name: run(serve, name, q="x"), names))
        streamed = httpx.post(
            f"{serve.url}/v1/workflows/run",
            headers={"Authorization": f"Bearer {serve.keys['plain']}"},
            json={"inputs": {}, "user": "ada", "response_mode": "streaming"},
        )
        assert "workflow_finished" in streamed.text
        for _ in range(3):
            assert httpx.get(f"{serve.url}/no/such/{_}").status_code == 404
        page = metrics(serve)
        again = metrics(serve)
        apps = serve.apps
    run_count, quarter = RUNS + 1, RUNS // 4
    for name, status, count in (
        ("plain", "succeeded", 101),
        ("fails", "failed", quarter),
        ("asks", "succeeded", quarter),
    ):
        which = {"app": apps[name]["app_id"], "name": name, "status": status}
        assert page.sum("headrace_runs_total", **which) == count
        assert page.sum("headrace_run_duration_seconds_count", **which) == count
        assert page.sum("headrace_run_duration_seconds_bucket", le="+Inf", **which) == count
    assert page.sum("headrace_runs_total") == page.sum("headrace_run_wait_seconds_count") == run_count
    lasted = sum(item["elapsed_time"] for item in done)
    assert page.sum("headrace_run_duration_seconds_sum") == pytest.approx(lasted, abs=0.05 * run_count)

    assert page.sum("headrace_nodes_total", type="start", status="succeeded") == run_count
    assert page.sum("headrace_nodes_total", type="llm", status="succeeded") == quarter
    assert page.sum("headrace_nodes_total", type="llm", status="failed") == quarter
    assert page.sum("headrace_nodes_total", type="end") == run_count - quarter
    assert page.sum("headrace_node_duration_seconds_count", type="llm") == 2 * quarter
    model = {"provider": "openai", "model": "gpt-4o-mini"}
    assert page.sum("headrace_tokens_total", kind="prompt", **model) == quarter * PROMPT_TOKENS
    assert page.sum("headrace_tokens_total", kind="completion", **model) == quarter * COMPLETION_TOKENS
    assert page.sum("headrace_cost_total", currency="USD", **model) == pytest.approx(quarter * COST)

    route = {"route": "/v1/workflows/run", "method": "POST"}
    assert page.sum("headrace_http_requests_total", status="200", **route) == run_count
    assert page.sum("headrace_http_request_duration_seconds_count", **route) == run_count
    assert page.sum("headrace_http_requests_total", route="unmatched", status="404") == 3
    assert again.sum("headrace_http_requests_total", route="/metrics") == 1
    assert page.sum("headrace_runs_in_flight") == page.sum("headrace_runs_unfinished") == 0
    assert page.sum("headrace_queue_depth") == page.sum("headrace_http_streams_open") == 0
    assert page.sum("headrace_queue_age_seconds") == 0
    assert page.names >= {
        "headrace_queue_age_seconds",
        "headrace_queue_depth",
        "headrace_info",
        "process_cpu_seconds_total",
        "python_gc_collections_total",
    }
    assert not {"run", "user", "node", "id"} & {label for item in page.names for label in page.labels(item)}


def metrics_without_streams(serve: Serve) -> Metrics:
    """The metrics once no stream is open, which is a moment after the client has read the last byte of one."""
    deadline = time.monotonic() + 60
    while (page := metrics(serve)).sum("headrace_http_streams_open") and time.monotonic() < deadline:
        pass
    return page


def test_what_is_under_way_is_told_while_it_is(peers: Peers, tmp_path: Path):
    file = flows.write(tmp_path, "waits", [flows.start(), flows.http("wait", f"{peers.url}/wait"), flows.end()])
    with Serve(tmp_path, [file], environ(peers)) as serve:
        body = {"inputs": {}, "user": "ada", "response_mode": "streaming"}
        key = {"Authorization": f"Bearer {serve.keys['waits']}"}
        with httpx.stream("POST", f"{serve.url}/v1/workflows/run", headers=key, json=body) as stream:
            assert peers.waiting.acquire(timeout=60)
            page = metrics(serve)
            assert page.sum("headrace_runs_in_flight") == page.sum("headrace_runs_unfinished") == 1
            assert page.sum("headrace_http_streams_open") == 1
            assert page.sum("headrace_runs_total") == 0
            peers.gate.set()
            stream.read()
        page = metrics_without_streams(serve)
        assert page.sum("headrace_http_streams_open") == page.sum("headrace_runs_in_flight") == 0
        assert page.sum("headrace_runs_total", status="succeeded") == 1


def test_the_age_of_a_run_that_waits_for_a_worker(peers: Peers, tmp_path: Path):
    file = flows.write(tmp_path, "waits", [flows.start(), flows.http("wait", f"{peers.url}/wait"), flows.end()])
    with Serve(tmp_path, [file], {**environ(peers), "HEADRACE_CONCURRENCY": "1"}) as serve:
        path = f"{serve.url}/api/v1/workflows/{serve.apps['waits']['app_id']}/run"
        headers = {"Authorization": f"Bearer {serve.keys['waits']}"}
        for _ in range(2):
            assert httpx.post(path, headers=headers, json={"inputs": {}, "user": "ada"}).status_code == 202
        assert peers.waiting.acquire(timeout=60)
        deadline = time.monotonic() + 60
        while not metrics(serve).sum("headrace_queue_age_seconds"):  # it is read from time to time
            assert time.monotonic() < deadline
        peers.gate.set()


def test_what_is_inside_a_container_is_paid_for_once(peers: Peers, tmp_path: Path):
    code = "def main():\n    return {'items': ['a', 'b', 'c']}\n"
    items = {"items": {"type": "array[string]", "children": None}}
    container, begin = flows.rounds(["make", "items"], ["inner", "text"])
    make = flows.node("make", "code", code=code, code_language="python3", variables=[], outputs=items)
    inside = [begin, flows.llm("inner", "{{#it.item#}}", "it")]
    file = flows.write(tmp_path, "rounds", [flows.start(), make, container, flows.end("it", "output")], inside)
    with Serve(tmp_path, [file], environ(peers)) as serve:
        assert run(serve, "rounds")["total_tokens"] == 3 * (PROMPT_TOKENS + COMPLETION_TOKENS)
        page = metrics(serve)
    assert page.sum("headrace_tokens_total") == 3 * (PROMPT_TOKENS + COMPLETION_TOKENS)
    assert page.sum("headrace_cost_total") == pytest.approx(3 * COST)
    assert page.sum("headrace_nodes_total", type="llm") == 3
    assert page.sum("headrace_nodes_total", type="iteration") == 1


def test_callbacks_are_counted(peers: Peers, tmp_path: Path):
    file = flows.write(tmp_path, "plain", [flows.start(), flows.end()])
    with Serve(tmp_path, [file], environ(peers)) as serve:
        for path in ("/hook", "/elsewhere"):
            response = httpx.post(
                f"{serve.url}/api/v1/workflows/{serve.apps['plain']['app_id']}/run",
                headers={"Authorization": f"Bearer {serve.keys['plain']}"},
                json={"inputs": {}, "user": "ada", "callback_url": peers.url + path},
            )
            assert response.status_code == 202, response.text
        with peers.news:
            assert peers.news.wait_for(lambda: {"/hook", "/elsewhere"} <= set(peers.paths), 60)
        page = metrics(serve)
        while page.sum("headrace_callbacks_total", status="delivered") < 2:  # the answer is noted after it came
            page = metrics(serve)
    assert page.sum("headrace_callbacks_total") == 2


@pytest.mark.parametrize(
    ("setting", "headers", "status"),
    [
        ("off", {}, 404),
        ("let-me-see-it", {}, 401),
        ("let-me-see-it", {"Authorization": "Bearer let-me-see-i"}, 401),
        ("let-me-see-it", {"Authorization": "Basic let-me-see-it"}, 401),
        ("let-me-see-it", {"Authorization": "Bearer let-me-see-it"}, 200),
    ],
)
def test_metrics_are_for_whom_they_are_meant(setting: str, headers: dict[str, str], status: int, tmp_path: Path):
    with Serve(tmp_path, [], {"HEADRACE_METRICS": setting}) as serve:
        answer = httpx.get(f"{serve.url}/metrics", headers=headers)
        assert answer.status_code == status
        if status != 200:
            assert answer.json()["status"] == status


def _samples_of(family: Any) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_however_many_labels_there_are_memory_is_bounded():
    counted = Counter("c", "", ("a",))
    spread = Histogram("s", "", ("a",), (1.0,))
    for index in range(MAX_SERIES + 500):
        counted.add((str(index),))
        spread.add((str(index),), 0.5)
    samples = _samples_of(counted.family())
    assert len(samples) == MAX_SERIES + 1
    assert samples[(OTHER,)] == 500
    counts = [sample for sample in spread.family().samples if sample.name == "s_count"]
    assert len(counts) == MAX_SERIES + 1
    assert sum(count.value for count in counts) == MAX_SERIES + 500


def test_a_histogram_counts_each_value_in_its_bucket():
    spread = Histogram("s", "", (), (0.1, 1.0))
    for seconds in (0.1, 0.5, 1.0, 2.0, -3.0):
        spread.add((), seconds)
    samples = {sample.labels.get("le", sample.name): sample.value for sample in spread.family().samples}
    assert samples == {"0.1": 2, "1.0": 4, "+Inf": 5, "s_count": 5, "s_sum": pytest.approx(3.6)}
