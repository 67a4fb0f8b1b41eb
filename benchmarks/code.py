"""What a code node adds to a run: beside a process that does nothing, forked from a CPython without other modules."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.service import Load, call, end, load, serving
from benchmarks.table import Row, Target, ratio

GROUP = "Code: start -> code -> end, blocking, SQLite, one run at a time"
SECONDS = 60.0  # for a job, at most
FORKS = """
import os, sys, time
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        times.append(time.perf_counter() - began)
    print(sorted(times)[len(times) // 2], flush=True)
"""
MISSED = "a fork confines itself, receives the program, and sends its result"


def measure(quick: bool) -> list[Row]:
    rounds, requests = (3, 50) if quick else (9, 150)
    pairs: list[tuple[float, float]] = []
    with load() as ask, serving("start_end.yml") as without, serving("code.yml") as with_code, _forks() as forks:
        jobs = [call(server, {"query": "hello"}) for server in (with_code, without)]
        for job in jobs:
            _median(ask, job, 20)
        for _ in range(rounds):
            whole, rest = (_median(ask, job, requests) for job in jobs)
            pairs.append((1000 * (whole - rest), 1000 * _median_fork(forks, requests)))
    what = "a code node in Python"
    return [ratio(GROUP, what, pairs, "ms", "a forked CPython that does nothing", Target(1.2), missed=MISSED)]


def _median(ask: Load, job: dict[str, Any], requests: int) -> float:
    job_with_check = {"expect": '"status":"succeeded"', "seconds": SECONDS, **job}
    return statistics.median(ask(**job_with_check, connections=1, requests=requests)["latencies"])


def _median_fork(forks: subprocess.Popen[str], count: int) -> float:
    assert forks.stdin is not None
    assert forks.stdout is not None
    forks.stdin.write(f"{count}\n")
    forks.stdin.flush()
    return float(forks.stdout.readline())


@contextmanager
def _forks() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-I", "-S", "-c", FORKS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            end(process)
