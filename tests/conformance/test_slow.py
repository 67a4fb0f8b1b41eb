"""What takes its time: a stream that is silent for long, and a run that is stopped in mid-node (cases 21 and 22).

The recordings wait 25 and 6 seconds for the echo server. Here they wait for less, and pings come ten times as often.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conformance import compare, peers
from tests.server.process import Serve

SLOW = pathlib.Path(__file__).parent / "slow"
PING, STOP = SLOW / "21_ping_25s", SLOW / "22_stop_running"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("slow")
    with peers.started() as started:
        flow = started.rewritten(PING, folder) / "dsl.yml"
        with Serve(folder, [flow], {**started.environ, "HEADRACE_PING_SECONDS": "0.1"}) as serve:
            headers = {"Authorization": f"Bearer {serve.keys[PING.name]}"}
            with httpx.Client(base_url=serve.url, headers=headers, timeout=60) as http_client:
                yield http_client


def body_of(seconds: str) -> dict[str, Any]:
    body = json.loads((PING / "request.json").read_text())["body"]
    return {**body, "inputs": {"query": seconds}, "response_mode": "streaming"}


def blocks(text: str) -> list[str]:
    return [block for block in text.replace("\r\n", "\n").split("\n\n") if block]


def events_and_texts(text: str) -> list[Any]:
    """The stream's events as they are compared, with what was waited for taken out."""
    others, texts = compare.events_and_text(compare.events(text))
    return json.loads(json.dumps([others, texts]).replace("/slow/25", "/slow/N").replace("/slow/0.35", "/slow/N"))


def test_a_silent_stream_pings_as_recorded(client: httpx.Client):
    recorded = (PING / "response.stream.txt").read_text()
    answer = client.post("/v1/workflows/run", json=body_of("0.35")).text
    want, got = events_and_texts(recorded), events_and_texts(answer)
    for event in (*want[0], *got[0]):  # what the caller asked for
        for part in ("inputs", "outputs"):
            values = event["data"].get(part) if isinstance(event["data"], dict) else None
            if isinstance(values, dict) and "query" in values:
                values["query"] = "N"
    assert compare.names(want[0]) == compare.names(got[0])
    assert compare.differs(want, got) is None
    pings = blocks(answer).count("event: ping")
    assert blocks(recorded).count("event: ping") == 2
    assert pings >= 2
    at = blocks(answer).index("event: ping")
    assert '"node_id":"h"' in blocks(answer)[at - 1] or "node_started" in blocks(answer)[at - 1]


def test_a_run_is_stopped_in_mid_node(client: httpx.Client):
    recorded = compare.events((STOP / "response.stream.txt").read_text())
    stream_events: list[dict[str, Any]] = []
    run = ""
    with client.stream("POST", "/v1/workflows/run", json=body_of("60")) as stream:
        for line in stream.iter_lines():
            if not line.startswith("data:"):
                continue
            stream_events.append(json.loads(line[5:]))
            run = stream_events[-1]["workflow_run_id"]
            if [event["event"] for event in stream_events].count("node_started") == 2 and len(stream_events) == 4:
                stop = client.post(f"/v1/workflows/tasks/{stream_events[-1]['task_id']}/stop", json={"user": "abc-123"})
                assert (stop.status_code, stop.json()) == (200, {"result": "success"})
    assert compare.names(stream_events) == compare.names(recorded)
    ended, want = stream_events[-1]["data"], recorded[-1]["data"]
    for name in ("status", "outputs", "error", "total_tokens", "total_steps", "exceptions_count", "files"):
        assert ended[name] == want[name], name
    # Dify's detail says `running` for ever; here every view says the same
    detail = client.get(f"/v1/workflows/run/{run}").json()
    assert (detail["status"], detail["error"]) == ("stopped", "Stopped by user.")
    again = client.post(f"/v1/workflows/tasks/{stream_events[-1]['task_id']}/stop", json={"user": "abc-123"})
    assert again.json() == {"result": "success"}
