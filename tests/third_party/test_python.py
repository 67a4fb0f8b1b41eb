"""Other people's Python clients, unchanged, each in an environment of its own: several are called `dify_client`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import Serve

HERE = Path(__file__).parent / "python"
ANSWER = "Fine answer"
Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, server: Serve) -> Callable[[str, str], Outcome]:
    """Runs `python/PROGRAM.py` with the packages of `python/PACKAGES.txt`, and returns what it prints."""
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` sets UV
    assert uv is not None, "uv makes the environments"
    environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}

    def call(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(packages: str, program: str) -> Outcome:
        venv = tmp_path_factory.mktemp(packages) / "venv"
        call(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(venv))
        python = str(venv / "bin" / "python")
        call(uv, "pip", "install", "--quiet", "--python", python, "--requirements", str(HERE / f"{packages}.txt"))
        return json.loads(call(python, str(HERE / f"{program}.py"), server.url, json.dumps(server.keys)))

    return run


def workflow_events(events: list[str]) -> list[str]:
    """The names of a stream's events, all text in a row as one. A client that does not know text_chunk calls it `_`."""
    names = ["text_chunk" if name == "_" else name for name in events]
    return [name for at, name in enumerate(names) if name != "text_chunk" or names[at - 1] != name]


STREAM = [
    "workflow_started",
    *("node_started", "node_finished"),
    *("node_started", "text_chunk", "node_finished"),
    *("node_started", "node_finished"),
    "workflow_finished",
]


def test_official_client(run: Callable[[str, str], Outcome]):
    assert run("official", "official") == {
        "completion": ANSWER,
        "chat stream": ANSWER,
        "file": "panda.jpeg",
        "opening": "Welcome.",
        "message": ["Hello", ANSWER],
        "feedback": {"result": "success"},
        "renamed": "New name",
        "conversations": ["New name"],
    }


@pytest.mark.parametrize("packages", ["haoyuhu", "castalk"])
def test_typed_clients(run: Callable[[str, str], Outcome], packages: str):
    outcome = run(packages, "typed")
    assert workflow_events(outcome.pop("workflow stream")) == STREAM
    assert workflow_events(outcome.pop("async workflow stream")) == STREAM
    assert outcome == {
        "chat": ANSWER,
        "chat stream": ANSWER,
        "same conversation": True,
        "ends with": "message_end",
        "workflow": ["succeeded", {"text": ANSWER}],
        "completion": ANSWER,
        "feedback": "success",
        "error": [400, "invalid_param"],
    }


def test_client_of_builders(run: Callable[[str, str], Outcome]):
    assert run("oapi", "oapi") == {"chat": ANSWER, "chat stream": ANSWER, "messages": [["Hello", ANSWER]]}


def test_fork_of_the_official_client(run: Callable[[str, str], Outcome]):
    outcome = run("fork", "fork")
    assert workflow_events(outcome.pop("workflow stream")) == STREAM
    assert outcome.pop("logs") >= 2
    assert outcome == {
        "workflow": ["succeeded", {"text": ANSWER}],
        "result": ["succeeded", {"text": ANSWER}],
        "error": 400,
        "chat stream": ANSWER,
        "variables": [],
        "async chat": ANSWER,
    }


def test_knowledge_bases_of_the_fork(run: Callable[[str, str], Outcome]):
    assert run("fork", "knowledge") == {
        "datasets": ["Manuals"],
        "states": ["completed", "completed"],
        "segments": ["A filter keeps sand away."],
        "changed": "A sieve keeps sand away.",
        "found": ["A sieve keeps sand away."],
        "fields": [["language", 1]],
        "built-in": {"result": "success"},
        "documents": ["pump"],
        "left": 1,
        "deleted": 204,
    }


def test_small_clients(run: Callable[[str, str], Outcome]):
    outcome = run("plain", "plain")
    assert outcome.pop("logs") >= 1
    assert outcome == {
        "workflow": ["succeeded", {"text": ANSWER}],
        "status": "succeeded",
        "info": "workflow",
        "chat stream": ANSWER,
    }
