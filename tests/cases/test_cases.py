"""Small workflows that went wrong once, in exported files or in reports, with the right value.

A folder of `data/` is a case: `dsl.yml`, and `case.json` with what is asked and what comes of it:

    about   why the case is here
    needs   "node": what has to be installed
    lint    a pattern of the problem that `headrace lint` names
    calls   requests, each sent blocking and streaming: `inputs`, `query` of a chat, and what is expected:
            `outputs` (of a workflow; a part is enough), `answer` (of a chat) or `error` (how the message begins).
            {"json": value} stands for a text that is this JSON. `gated`: the model's second chunk is sent once the
            first has been received.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.adapters.sandbox.node_program import bundled
from tests.cases.peer import Peer
from tests.cli.conftest import Invoke, invoke  # noqa: F401
from tests.conformance.compare import differs
from tests.server.process import Serve

DATA = Path(__file__).parent / "data"
CASES = {folder.name: json.loads((folder / "case.json").read_text()) for folder in sorted(DATA.iterdir())}


def cases_with(part: str) -> list[str]:
    return [name for name, case in CASES.items() if case.get(part)]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, peer: Peer) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("cases")
    files: list[Path] = []
    for name in CASES:
        file = folder / name / "dsl.yml"
        file.parent.mkdir()
        file.write_text((DATA / name / "dsl.yml").read_text().replace("http://127.0.0.1:8900", peer.url))
        files.append(file)
    environ = {
        "HEADRACE_EGRESS_ALLOW": "127.0.0.1",
        "OPENAI_API_COMPATIBLE_API_KEY": "none",
        "OPENAI_API_COMPATIBLE_BASE_URL": f"{peer.url}/v1",
        "OLLAMA_BASE_URL": f"{peer.url}/v1",
    }
    with Serve(folder, files, environ) as serve:
        yield serve


def request(server: Serve, name: str, call: Mapping[str, Any], mode: str) -> tuple[str, dict[str, Any]]:
    body = {"inputs": call["inputs"], "user": "tester", "response_mode": mode}
    path = "/v1/workflows/run"
    if "query" in call:
        body["query"], path = call["query"], "/v1/chat-messages"
    headers = {"Authorization": f"Bearer {server.keys[name]}", "Content-Type": "application/json"}
    # json.dumps, as httpx would refuse half an emoji
    return f"{server.url}{path}", {"content": json.dumps(body), "headers": headers, "timeout": 60}


def stream(server: Serve, peer: Peer, name: str, call: Mapping[str, Any]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    url, arguments = request(server, name, call, "streaming")
    with httpx.stream("POST", url, **arguments) as response:
        for line in response.iter_lines():
            if line.startswith("data:"):
                events.append(json.loads(line[5:]))
                if events[-1]["event"] == "message":
                    peer.gate.set()
    return events


def check_outputs(expected: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if isinstance(value, dict) and set(value) == {"json"}:
            assert json.loads(outputs[name]) == value["json"]
        else:
            assert differs(value, outputs[name], name) is None


def requires(case: Mapping[str, Any]) -> None:
    if case.get("needs") == "node" and shutil.which("node") is None and bundled() is None:
        pytest.skip("NOT TESTED: there is no Node.js on this machine, and no headrace[node]")


@pytest.mark.parametrize("name", cases_with("calls"))
def test_case(name: str, server: Serve, peer: Peer):
    requires(CASES[name])
    for call in CASES[name]["calls"]:
        peer.gate.clear() if call.get("gated") else peer.gate.set()
        events = stream(server, peer, name, call)
        url, arguments = request(server, name, call, "blocking")
        response = httpx.post(url, **arguments)
        body = response.json()
        if "error" in call:
            assert response.status_code == 400
            assert body["message"].startswith(call["error"])
            assert events[-1]["event"] == "error"
            assert events[-1]["message"].startswith(call["error"])
            continue
        assert response.status_code == 200, body
        finished = next(event["data"] for event in events if event["event"] == "workflow_finished")
        assert finished["status"] == "succeeded", finished
        if "answer" in call:
            assert body["answer"] == call["answer"]
            assert "".join(event["answer"] for event in events if event["event"] == "message") == call["answer"]
            assert finished["outputs"]["answer"] == call["answer"]
        else:
            assert body["data"]["status"] == "succeeded", body
            check_outputs(call["outputs"], body["data"]["outputs"])
            check_outputs(call["outputs"], finished["outputs"])


@pytest.mark.parametrize("name", cases_with("lint"))
def test_lint(name: str, invoke: Invoke):  # noqa: F811
    result = invoke("lint", DATA / name / "dsl.yml")
    assert result.exit_code == 1
    assert re.search(CASES[name]["lint"], result.stdout)
