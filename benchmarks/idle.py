"""The idle service: time until ready, memory, time to import.

The benchmark has a bytecode cache of its own, so that only the first start compiles, wherever the packages are
installed and however Python is configured.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.machine import resident_mb
from benchmarks.service import serving
from benchmarks.table import Row, Target

GROUP = "Idle: `headrace serve` with one app, SQLite"


def measure(quick: bool) -> list[Row]:
    rounds = 3 if quick else 7
    with tempfile.TemporaryDirectory() as folder:
        return _measure(rounds, {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""})


def _measure(rounds: int, environ: dict[str, str]) -> list[Row]:
    ready: list[float] = []
    memory: list[float] = []
    imported: list[float] = []
    version: list[float] = []
    nothing: list[float] = []
    fastapi: list[float] = []
    with serving("start_end.yml", environ) as served:
        time.sleep(0.5)
        compiling, after_compiling = served.ready, resident_mb(served.pid)
    for _ in range(rounds):
        with serving("start_end.yml", environ) as served:
            ready.append(served.ready)
            time.sleep(0.5)  # includes what it does right after it is ready
            memory.append(resident_mb(served.pid))
        nothing.append(_seconds(environ, "-c", "pass"))
        imported.append(_seconds(environ, "-c", "import headrace"))
        version.append(_seconds(environ, "-m", "headrace", "--version"))
        fastapi.append(_seconds(environ, "-c", "import fastapi, uvicorn"))
    beside = {"python": statistics.median(nothing), "import fastapi, uvicorn": statistics.median(fastapi)}
    return [
        Row(
            GROUP,
            "memory (RSS)",
            statistics.median(memory),
            "MB",
            Target(80),
            {},
            f"{after_compiling:.1f} MB after the first start",
        ),
        Row(
            GROUP,
            "from process start to ready",
            statistics.median(ready),
            "s",
            Target(1),
            beside,
            f"{compiling:.2f} s the first time, when Python compiles everything",
        ),
        Row(GROUP, "import headrace, including Python's start", statistics.median(imported), "s", Target(0.3), beside),
        Row(GROUP, "headrace --version", statistics.median(version), "s"),
    ]


def _seconds(environ: dict[str, str], *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environ})
    return time.perf_counter() - began
