"""The idle service: time until ready, memory, time to import.

The benchmark has a bytecode cache of its own, so that only the first start compiles, wherever the packages are
installed and however Python is configured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.machine import proportional_mb
from benchmarks.service import serving
from benchmarks.table import Row, Target, figure, ratio

GROUP = "Idle: `headrace serve` with one app, SQLite"
IMPORTS = "import fastapi, uvicorn"
MISSED_READY = "SQLAlchemy, pydantic and the routes of Dify's API are loaded before the first request"
MISSED_MEMORY = "SQLAlchemy takes 13 MB, and what `import fastapi, uvicorn` loads about 38"


def measure(quick: bool) -> list[Row]:
    rounds = 3 if quick else 9
    with tempfile.TemporaryDirectory() as folder:
        return _measure(rounds, {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""})


def _measure(rounds: int, environ: dict[str, str]) -> list[Row]:
    ready: list[tuple[float, float]] = []
    import_times: list[tuple[float, float]] = []
    version: list[tuple[float, float]] = []
    memory: list[float] = []
    with serving("start_end.yml", environ) as server:
        compiling = server.ready
    _seconds(environ, "-c", IMPORTS)
    for _ in range(rounds):
        fastapi, python = _seconds(environ, "-c", IMPORTS), _seconds(environ, "-c", "pass")
        with serving("start_end.yml", environ) as server:
            ready.append((server.ready, fastapi))
            time.sleep(0.5)  # includes what it does right after it is ready
            memory.append(proportional_mb(server.pid))
        import_times.append((_seconds(environ, "-c", "import headrace"), python))
        version.append((_seconds(environ, "-m", "headrace", "--version"), python))
    note = f"{compiling:.2f} s the first time, when Python compiles everything"
    return [
        figure(
            GROUP,
            "memory (PSS)",
            memory,
            "MB",
            Target(60),
            {IMPORTS: _memory_of_imports(environ)},
            "does not depend on how fast the machine is",
            MISSED_MEMORY,
        ),
        ratio(GROUP, "from process start to ready", ready, "s", IMPORTS, Target(1.2), note, MISSED_READY),
        ratio(GROUP, "import headrace, including Python's start", import_times, "s", "python", Target(1.5)),
        ratio(GROUP, "headrace --version", version, "s", "python"),
    ]


def _memory_of_imports(environ: dict[str, str]) -> float:
    program = f"{IMPORTS}; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environ},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        memory = proportional_mb(process.pid)
        process.communicate(b"\n")
    return memory


def _seconds(environ: dict[str, str], *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environ})
    return time.perf_counter() - began
