"""Starts and stops Headrace, as users run it, and the processes around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import HERE

HELPERS = HERE / "helpers"
FLOWS = HERE / "flows"
READY_SECONDS = 120.0  # on a busy machine


@dataclass
class RunningServer:
    """A serving Headrace with one app. `ready` is the seconds from the start of the process to its ready file."""

    port: int
    app: str
    key: str
    pid: int
    ready: float
    data: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

    def logged_runs(self) -> int:
        """How many runs the app's log has."""
        url = f"http://127.0.0.1:{self.port}/v1/workflows/logs?limit=1"
        with urllib.request.urlopen(urllib.request.Request(url, headers=self.headers), timeout=30) as answer:
            return json.load(answer)["total"]


@contextmanager
def serving(
    flow: str | Path,
    environ: Mapping[str, str] | None = None,
    *,
    data: Path | None = None,
    options: Sequence[str] = (),
    **replacements: str,
) -> Iterator[RunningServer]:
    """Serves flows/`flow` with SQLite, from a new data folder unless one is given. `replacements`: NAME -> text in the
    file; `options`: more of the command's."""
    with tempfile.TemporaryDirectory() as folder:
        source = FLOWS / flow
        text = source.read_text()
        for name, value in replacements.items():
            text = text.replace(name, value)
        file = Path(folder) / source.name
        file.write_text(text)
        ready = Path(folder) / "ready.json"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        command = [sys.executable, "-m", "headrace", "serve", str(file), "--host", "127.0.0.1", "--port", "0", *options]
        data = data or Path(folder) / "data"
        command += ["--data", str(data), "--ready-file", str(ready), "--log-level", "warning"]
        with (Path(folder) / "log").open("w+") as log:
            began = time.perf_counter()
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**environment, **(environ or {})})
            try:
                while not ready.exists():
                    if process.poll() is not None or time.perf_counter() - began > READY_SECONDS:
                        log.seek(0)
                        raise RuntimeError(f"Headrace did not start:\n{log.read()[-3000:]}")
                    time.sleep(0.001)
                elapsed = time.perf_counter() - began
                ready_content = json.loads(ready.read_text())
                port = int(ready_content["url"].rsplit(":", 1)[1])
                app = ready_content["apps"][0]
                yield RunningServer(port, app["app_id"], app["key"], process.pid, elapsed, data)
            finally:
                end(process)


@contextmanager
def working(server: RunningServer, environ: Mapping[str, str]) -> Iterator[int]:
    """The process id of a worker on the data of a served Headrace."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        command = [sys.executable, "-m", "headrace", "worker", "--data", str(server.data), "--ready-file", str(ready)]
        process = subprocess.Popen([*command, "--log-level", "warning"], env={**environment, **environ})
        try:
            began = time.perf_counter()
            while not ready.exists():
                if process.poll() is not None or time.perf_counter() - began > READY_SECONDS:
                    raise RuntimeError("a worker did not start")
                time.sleep(0.01)
            yield process.pid
        finally:
            process.send_signal(signal.SIGCONT)
            end(process)


@contextmanager
def helper(script: str, *arguments: str) -> Iterator[int]:
    """A helper that prints its port and serves."""
    with helper_process(script, *arguments) as (port, _):
        yield port


@contextmanager
def helper_process(script: str, *arguments: str) -> Iterator[tuple[int, int]]:
    """(port, process id) of a helper."""
    command = [sys.executable, str(HELPERS / script), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        end(process)
        process.stdout.close()


def end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Load:
    """The load generator (see helpers/load.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, **job: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        """The result of the job. RuntimeError unless every response was as expected."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator ended with {self._process.wait()}")
        result = json.loads(line)
        if result["wrong"] or result["unanswered"]:
            raise RuntimeError(
                f"{result['wrong']} responses were wrong and {result['unanswered']} never came: {result['example']}"
            )
        return result

    def __call__(self, **job: Any) -> dict[str, Any]:
        self.start(**job)
        return self.finish()


@contextmanager
def load() -> Iterator[Load]:
    command = [sys.executable, str(HELPERS / "load.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Load(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        end(process)
        process.stdout.close()


def call(server: RunningServer, inputs: Mapping[str, Any], mode: str = "blocking") -> dict[str, Any]:
    """The address and the request of a job."""
    body = json.dumps({"inputs": inputs, "response_mode": mode, "user": "benchmark"})
    return {"port": server.port, "path": "/v1/workflows/run", "headers": server.headers, "body": body}
