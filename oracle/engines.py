"""The two engines, asked the same."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.ports.services import Resources
from oracle import headrace_side
from oracle.case import Case
from oracle.echo import echo_server

ROOT = Path(__file__).parent.parent


class Dify:
    """Dify's engine, in a process of its own that answers a line with a line."""

    def __init__(self, python: Path) -> None:
        command = [str(python), "-m", "oracle.graphon_side"]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )

    def send(self, case: Case, echo: str) -> None:
        assert self._process.stdin is not None
        line = json.dumps({"dsl": case.dsl(echo), "inputs": case.inputs, "system": case.system})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"Dify's engine has ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Engines:
    """Both, as long as the block of `engines` goes on."""

    def __init__(self, runner: asyncio.Runner, resources: Resources, dify: Dify, echo: str) -> None:
        self._runner, self._resources, self._dify, self._echo = runner, resources, dify, echo

    def run(self, case: Case) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """(what Headrace put out, what Dify's engine did)."""
        self._dify.send(case, self._echo)
        ours = self._runner.run(headrace_side.run(case, self._resources, self._echo))
        return ours, self._dify.receive()


@contextmanager
def engines(python: Path) -> Iterator[Engines]:
    """`python`: of the environment that Dify's engine is in."""
    with tempfile.TemporaryDirectory() as folder, echo_server() as echo, asyncio.Runner() as runner:
        dify = Dify(python)
        side_resources = headrace_side.resources(Path(folder))
        resources = runner.run(side_resources.__aenter__())
        try:
            yield Engines(runner, resources, dify, echo)
        finally:
            runner.run(side_resources.__aexit__(None, None, None))
            dify.close()
