"""Other people's Node clients, unchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import Serve
from tests.third_party.test_python import ANSWER, STREAM, workflow_events

HERE = Path(__file__).parent / "node"
NODE, NPM = shutil.which("node"), shutil.which("npm")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, server: Serve) -> Callable[[str], dict[str, Any]]:
    if NODE is None or NPM is None:
        pytest.skip("Node and npm are not installed: the Node clients are NOT tested")
    folder = shutil.copytree(HERE, tmp_path_factory.mktemp("node") / "node")
    subprocess.run([NPM, "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)

    def run(program: str) -> dict[str, Any]:
        command = [NODE, f"{program}.mjs", server.url, json.dumps(server.keys)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_official_client(run: Callable[[str], dict[str, Any]]):
    outcome = run("official")
    assert workflow_events(outcome.pop("workflow stream")) == STREAM
    assert outcome == {
        "completion": ANSWER,
        "workflow": ["succeeded", {"text": ANSWER}],
        "chat stream": ANSWER,
        "messages": [["Hello", ANSWER]],
        "renamed": "New name",
        "conversations": ["New name"],
        "opening": "Welcome.",
        "refused": "invalid_param",
    }


def test_knowledge_bases_of_the_official_client(run: Callable[[str], dict[str, Any]]):
    assert run("knowledge") == {
        "datasets": ["Guides"],
        "states": ["completed", "completed"],
        "changed": "A sieve keeps sand away.",
        "found": ["A sieve keeps sand away."],
        "fields": [["language", 1]],
        "built-in": {"result": "success"},
        "disabled": {"result": "success"},
        "deleted": 204,
        "documents": ["pump"],
        "gone": [404, "not_found"],
    }


def test_model_of_the_vercel_sdk(run: Callable[[str], dict[str, Any]]):
    outcome = run("vercel")
    assert outcome.pop("tokens") > 0
    assert outcome == {"chat": ANSWER, "chat stream": ANSWER, "finish": "stop"}
