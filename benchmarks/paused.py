"""Ten thousand runs that wait for people: what they cost a service that has nothing else to do."""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import processor_seconds, resident_mb
from benchmarks.service import RunningServer, call, load, serving
from benchmarks.table import Row, Target

GROUP = "Paused: 10,000 runs of start -> human-input -> end that wait, SQLite"
FLOW = "review.yml"
ANSWERS = 50


def measure(quick: bool) -> list[Row]:
    """Idle figures are those of a service that was started again, with the paused runs and without them."""
    runs, seconds = (2_000, 10) if quick else (10_000, 60)
    with tempfile.TemporaryDirectory() as folder, load() as ask:
        data = Path(folder) / "data"
        with serving(FLOW, data=data):
            pass
        with serving(FLOW, data=data) as server:
            before = _size(data)
            alone = _idle(server.pid, seconds)
            job = {**call(server, {"query": "hello"}), "seconds": 600, "expect": '"status":"paused"'}
            ask(**job, connections=64, requests=runs)
            answers = sorted(_answer(server, form) for form in _forms(server))
        size = _size(data) - before
        with serving(FLOW, data=data) as server:
            together = _idle(server.pid, seconds)
    note = f"{runs:,} runs; measured for {seconds} s"
    return [
        Row(GROUP, "processor time while idle, share of one core", together[0], "%", None, {"none": alone[0]}, note),
        Row(GROUP, "memory (RSS) beyond that without them", together[1] - alone[1], "MB", Target(10)),
        Row(GROUP, "disk a run", size / runs / 1e3, "kB"),
        Row(
            GROUP,
            "an answer, median",
            median(answers) * 1e3,
            "ms",
            Target(50),
            note=f"maximum {answers[-1] * 1e3:.1f} ms, of {ANSWERS}, one at a time",
        ),
    ]


def _idle(pid: int, seconds: int) -> tuple[float, float]:
    """(percent of a core, MB) of a service that nobody calls."""
    time.sleep(10)  # includes what it does after its start
    before, begin = processor_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (processor_seconds(pid) - before) / (time.monotonic() - begin), resident_mb(pid)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _forms(server: RunningServer) -> list[str]:
    """The tokens of some forms."""
    return [form["form_token"] for form in _ask(server, f"/api/v1/forms?limit={ANSWERS}")["data"]]


def _answer(server: RunningServer, token: str) -> float:
    """The seconds until an answer is accepted."""
    begin = time.perf_counter()
    body = {"inputs": {"comment": "fine"}, "action": "approve", "user": "benchmark"}
    _ask(server, f"/v1/form/human_input/{token}", body)
    return time.perf_counter() - begin


def _ask(server: RunningServer, path: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", data, server.headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)
