"""What an OpenTelemetry collector gets to see of runs that a real `headrace serve` does."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from tests.server.process import Serve
from tests.telemetry import flows
from tests.telemetry.collector import collector
from tests.telemetry.peers import COMPLETION_TOKENS, PROMPT_TOKENS, Peers, Span

KEY = "sk-of-the-models-owner-0123456789"
COST = (PROMPT_TOKENS * 0.15 + COMPLETION_TOKENS * 0.6) / 1e6  # gpt-4o-mini's list price
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00"


@pytest.fixture
def peers() -> Generator[Peers]:
    with Peers() as running:
        yield running


def environ(peers: Peers, **more: str) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"{peers.url}/v1",
        "HEADRACE_EGRESS_ALLOW": "127.0.0.1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": peers.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **more,
    }


def run(serve: Serve, name: str, headers: Mapping[str, str] | None = None, **inputs: str) -> dict[str, Any]:
    answer = httpx.post(
        f"{serve.url}/v1/workflows/run",
        headers={"Authorization": f"Bearer {serve.keys[name]}", **(headers or {})},
        json={"inputs": inputs, "user": "ada"},
        timeout=60,
        verify=False,  # loading certificates takes longer than the run
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def of(spans: list[Span], run: str) -> dict[str, Span]:
    """The spans of a run, by node id and round: "", "llm", "it", "it[0]", "it[0]/llm"."""
    by_place: dict[str, Span] = {}
    for span in spans:
        attributes = span.attributes
        if attributes.get("headrace.run.id") == run:
            index = attributes.get("headrace.round")
            where = attributes.get("headrace.node.path") or (
                f"{attributes['headrace.node.id']}[{index}]" if index is not None else ""
            )
            assert where not in by_place
            by_place[where] = span
    return by_place


def whole(run: str) -> Any:
    """Whether the run's own span, which comes last, is there."""
    return lambda spans: "" in of(spans, run)


@pytest.mark.parametrize("through", ["a collector", "nothing"])
def test_a_runs_spans_are_nested_and_say_what_the_models_used(through: str, peers: Peers, tmp_path: Path):
    code = "def main():\n    return {'items': ['a', 'b']}\n"
    items = {"items": {"type": "array[string]", "children": None}}
    file = flows.write(
        tmp_path,
        "nested",
        [
            flows.start("q"),
            flows.llm("first", "{{#start.q#}}"),
            flows.node("make", "code", code=code, code_language="python3", variables=[], outputs=items),
            flows.rounds(["make", "items"], ["inner", "text"])[0],
            flows.end("it", "output"),
        ],
        [flows.rounds([], [])[1], flows.llm("inner", "{{#it.item#}}", "it")],
    )
    with ExitStack() as stack:
        settings = environ(peers, OTEL_SERVICE_NAME="shop")
        if through == "a collector":
            settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = stack.enter_context(collector(peers.url))
        serve = stack.enter_context(Serve(tmp_path, [file], settings))
        data = run(serve, "nested", {"traceparent": CALLER}, q="Yes?")
        assert data["status"] == "succeeded", data
        run_id = data["id"]
        run_spans = of(peers.wait_for(whole(run_id)), run_id)
        app = serve.apps["nested"]

    assert set(run_spans) == {"", "start", "first", "make", "it", "it[0]", "it[1]", "it[0]/inner", "it[1]/inner", "end"}
    assert peers.resource["service.name"] == "shop"
    assert {item.trace for item in run_spans.values()} == {CALLER.split("-")[1]}
    assert len({item.id for item in run_spans.values()}) == len(run_spans)
    inside = {"": "", "it[0]": "it", "it[1]": "it", "it[0]/inner": "it[0]", "it[1]/inner": "it[1]"}
    for where, item in run_spans.items():
        parent = run_spans[inside.get(where, "")] if where else None
        assert item.parent == (parent.id if parent else CALLER.split("-")[2]), where
        assert item.status == 0
        assert item.began <= item.ended
        if parent:
            assert parent.began <= item.began <= item.ended <= parent.ended, where

    whole_run = run_spans[""].attributes
    assert run_spans[""].name == "run nested"
    assert whole_run["headrace.app.id"] == app["app_id"]
    assert whole_run["headrace.workflow.version"] == app["workflow_id"]
    assert whole_run["headrace.status"] == "succeeded"
    assert whole_run["headrace.tokens"] == data["total_tokens"] == 3 * (PROMPT_TOKENS + COMPLETION_TOKENS)
    assert whole_run["headrace.cost"] == pytest.approx(3 * COST)
    for where in ("first", "it[0]/inner", "it[1]/inner"):
        attributes = run_spans[where].attributes
        assert run_spans[where].name == "chat gpt-4o-mini"
        assert run_spans[where].kind == 3  # client
        assert attributes["gen_ai.operation.name"] == "chat"
        assert attributes["gen_ai.provider.name"] == attributes["gen_ai.system"] == "openai"
        assert attributes["gen_ai.request.model"] == "gpt-4o-mini"
        assert attributes["gen_ai.request.temperature"] == 0.5
        assert attributes["gen_ai.usage.input_tokens"] == PROMPT_TOKENS
        assert attributes["gen_ai.usage.output_tokens"] == COMPLETION_TOKENS
        assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
        assert attributes["headrace.cost"] == pytest.approx(COST)
        assert attributes["headrace.cost.currency"] == "USD"
    said = {name for item in run_spans.values() for name in item.attributes if name.startswith("gen_ai.")}
    known = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    assert said <= known, "of what the conventions know"
    # a container's own usage is what was used inside
    assert not [name for name in run_spans["it"].attributes if "usage" in name or "cost" in name]


def test_what_failed_says_so_and_tells_no_secret(peers: Peers, tmp_path: Path):
    retry = {"retry_config": {"retry_enabled": True, "max_retries": 2, "retry_interval": 1}}
    files = [
        flows.write(
            tmp_path,
            "fails",
            [flows.start("q"), flows.llm("model", "FAIL {{#env.token#}}"), flows.end("model", "text")],
        ),
        flows.write(
            tmp_path,
            "flaky",
            [flows.start(), flows.http("call", f"{peers.url}/flaky", **retry), flows.end("call", "body")],
        ),
    ]
    peers.failures = 1
    with Serve(tmp_path, files, environ(peers)) as serve:
        failed, saved = run(serve, "fails"), run(serve, "flaky")
        assert (failed["status"], saved["status"]) == ("failed", "partial-succeeded")
        spans = peers.wait_for(lambda spans: whole(failed["id"])(spans) and whole(saved["id"])(spans))
    run_spans = of(spans, failed["id"])
    assert run_spans[""].trace == failed["id"].replace("-", "")  # nobody asked for another one
    assert run_spans[""].parent == ""
    assert run_spans[""].status == run_spans["model"].status == 2
    assert run_spans["model"].attributes["error.type"] == "InvokeBadRequestError"
    assert run_spans["model"].attributes["gen_ai.request.model"] == "gpt-4o-mini"
    assert "the model will not do: FAIL ****" in run_spans["model"].message
    assert "the model will not do: FAIL ****" in run_spans[""].message
    call = of(spans, saved["id"])["call"]
    assert call.status == 0
    ((name, attributes),) = call.events
    assert (name, attributes["headrace.attempt"]) == ("exception", 1)
    assert flows.SECRET not in str(spans)
    assert KEY not in str(spans)


def test_the_caller_decides_whether_a_run_is_traced(peers: Peers, tmp_path: Path):
    file = flows.write(tmp_path, "plain", [flows.start("q"), flows.end("start", "q")])
    with Serve(tmp_path, [file], environ(peers)) as serve:
        unseen = run(serve, "plain", {"traceparent": UNSAMPLED})["id"]
        broken = run(serve, "plain", {"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"})["id"]
        spans = peers.wait_for(whole(broken))
    assert not of(spans, unseen)
    assert of(spans, broken)[""].trace == broken.replace("-", "")


def test_a_run_that_two_processes_do_is_one_trace(peers: Peers, tmp_path: Path):
    file = flows.write(
        tmp_path,
        "waits",
        [
            flows.start(),
            flows.http("before", f"{peers.url}/before"),
            flows.http("wait", f"{peers.url}/wait"),
            flows.end("wait", "body"),
        ],
    )
    with Serve(tmp_path, [file], environ(peers, OTEL_BSP_SCHEDULE_DELAY="20")) as first:
        response = httpx.post(
            f"{first.url}/api/v1/workflows/{first.apps['waits']['app_id']}/run",
            headers={"Authorization": f"Bearer {first.keys['waits']}", "traceparent": CALLER},
            json={"inputs": {}, "user": "ada"},
        )
        assert response.status_code == 202, response.text
        run_id = response.json()["workflow_run_id"]
        assert peers.waiting.acquire(timeout=60)
        before = of(peers.wait_for(lambda spans: "before" in of(spans, run_id)), run_id)
        first.kill()
    peers.gate.set()
    peers.spans = []
    with Serve(tmp_path, [], environ(peers)):
        after = of(peers.wait_for(whole(run_id)), run_id)
    assert set(after) >= {"", "wait", "end"}
    assert {item.trace for item in [*before.values(), *after.values()]} == {CALLER.split("-")[1]}
    assert after[""].parent == CALLER.split("-")[2]
    assert {item.parent for where, item in [*before.items(), *after.items()] if where} == {after[""].id}
    assert after["wait"].began >= before["before"].ended  # its start is on the record of the process that died
    for where in set(before) & set(after):  # told once more, as the same
        assert before[where] == after[where]


def test_a_collector_that_is_down_holds_nothing_up(peers: Peers, tmp_path: Path):
    peers.deaf = True
    file = flows.write(tmp_path, "plain", [flows.start("q"), flows.end("start", "q")])
    with Serve(
        tmp_path, [file], environ(peers, OTEL_BSP_MAX_QUEUE_SIZE="4", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="2")
    ) as serve:
        for _ in range(20):
            assert run(serve, "plain", q="x")["status"] == "succeeded"
    assert serve.process.returncode in (0, -15)
