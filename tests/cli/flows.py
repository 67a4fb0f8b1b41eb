"""Small workflow files, as Dify exports them, and a `headrace` to run them with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests import forking, logged

HEADRACE = (sys.executable, "-m", "headrace")


def flow(
    path: Path,
    *nodes: Mapping[str, Any],
    variables: Sequence[Mapping[str, Any]] = (),
    outputs: Mapping[str, Sequence[str]] | None = None,
    name: str | None = None,
    **app: Any,
) -> Path:
    """Writes a chain start -> nodes -> end. `outputs` are the end's, by name (default: every input).

    Nodes with a `parentId` are a chain inside that container.
    """
    received = (
        outputs
        if outputs is not None
        else {variable["variable"]: ("start", variable["variable"]) for variable in variables}
    )
    end = {
        "id": "end",
        "type": "end",
        "title": "End",
        "outputs": [{"variable": name, "value_selector": list(selector)} for name, selector in received.items()],
    }
    chain = [{"id": "start", "type": "start", "title": "Start", "variables": list(variables)}, *nodes, end]
    own = ("id", "parentId")
    shaped = [
        {key: node[key] for key in own if key in node} | {"data": {k: v for k, v in node.items() if k not in own}}
        for node in chain
    ]
    edges = [
        {"id": f"{a['id']}-{b['id']}", "source": a["id"], "sourceHandle": "source", "target": b["id"]}
        for place in dict.fromkeys(node.get("parentId") for node in chain)
        for a, b in pairwise(node for node in chain if node.get("parentId") == place)
    ]
    document = {
        "app": {"name": name or path.stem, "mode": "workflow", "description": "", **app},
        "kind": "app",
        "version": "0.5.0",
        "workflow": {"graph": {"nodes": shaped, "edges": edges}, "features": {}, "environment_variables": []},
    }
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), "utf-8")
    return path


def field(name: str, kind: str = "text-input", **more: Any) -> dict[str, Any]:
    return {"variable": name, "label": name, "type": kind, "required": False, **more}


def code(source: str, inputs: Mapping[str, Sequence[str]] | None = None, **outputs: str) -> dict[str, Any]:
    """A Python code node `code`."""
    return {
        "id": "code",
        "type": "code",
        "title": "Compute",
        "code_language": "python3",
        "code": source,
        "variables": [{"variable": name, "value_selector": list(at)} for name, at in (inputs or {}).items()],
        "outputs": {name: {"type": kind, "children": None} for name, kind in outputs.items()},
    }


def llm(provider: str = "openai") -> dict[str, Any]:
    return {
        "id": "llm",
        "type": "llm",
        "title": "Write",
        "model": {"provider": provider, "name": "any", "mode": "chat", "completion_params": {}},
        "prompt_template": [{"role": "user", "text": "{{#start.query#}}"}],
        "context": {"enabled": False, "variable_selector": []},
        "vision": {"enabled": False},
    }


def environ(**more: str) -> dict[str, str]:
    """An environment without credentials or settings of whoever runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    return {name: value for name, value in clean.items() if not name.startswith("HEADRACE_")} | more


def headrace(*arguments: str | Path, cwd: Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """A `headrace` process, run to its end."""
    command = [str(argument) for argument in arguments]
    pipe = subprocess.PIPE
    with forking.start(command, cwd=cwd, env=environ(**more), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            stdout, stderr = process.communicate(stdin, timeout=60)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def knowledge_key(data: Path) -> str:
    """A new knowledge key of the service in this folder."""
    created = headrace("keys", "create", "--knowledge", "--data", data, cwd=data)
    assert created.returncode == 0, created.stderr
    return created.stdout.strip()


class Server:
    """A `headrace serve` process; `ready` is what its ready file says."""

    def __init__(self, *arguments: str | Path, cwd: Path, **more: str) -> None:
        ready_file = cwd / "ready.json"
        command = ["serve", *map(str, arguments), "--port", "0", "--ready-file", str(ready_file)]
        self._secrets = logged.secrets_of(environ(**more), [cwd / argument for argument in arguments])
        self.process = forking.start(
            command, cwd=cwd, env=environ(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stderr is not None
        self.said = ""
        for line in self.process.stderr:  # it says so once it is ready, and ends where it cannot be
            self.said += line
            if line.startswith("Headrace is ready"):
                break
        else:
            raise AssertionError(f"headrace serve ended: {self.said}")
        self.ready: dict[str, Any] = json.loads(ready_file.read_text("utf-8"))
        self.url: str = self.ready["url"]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code; what it said is whole then."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.send_signal(how)
        self.said += self.process.stderr.read()
        assert self.process.stdout.read() == ""
        self.process.stdout.close()
        self.process.stderr.close()
        assert logged.revealing(self.said.splitlines(), self._secrets) == []
        return self.process.wait(60)

    def call(self, key: str, inputs: Mapping[str, Any], version: str | None = None) -> tuple[int, dict[str, Any]]:
        """(status, body) of a blocking run."""
        path = f"/v1/workflows/{version}/run" if version else "/v1/workflows/run"
        body = json.dumps({"inputs": inputs, "response_mode": "blocking", "user": "u"}).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
