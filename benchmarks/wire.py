"""How late text arrives at a process that does not drive its run, and what carrying it costs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import processor_seconds, processor_seconds_of_server
from benchmarks.service import HELPERS, end, serving
from benchmarks.table import Row, Target
from tests import postgresql, valkey

GROUP = "Wire: text from the process that drives 100 runs to others, all on the same cores"
RATE, RUNS = 1_000, 100


def measure(quick: bool) -> list[Row]:
    seconds = 3.0 if quick else 15.0
    rows: list[Row] = []
    with ExitStack() as stack:
        database = stack.enter_context(postgresql.serving())
        cache = stack.enter_context(valkey.serving())
        servers = {
            "PostgreSQL": (database.url(), lambda: processor_seconds_of_server(database.pid)),
            "Valkey": (cache.url, lambda: processor_seconds(cache.pid)),
        }
        for name, (url, seconds_spent) in servers.items():
            for followers, target in ((1, Target(10)), (5, None)):
                rows.append(_row(name, url, seconds_spent, followers, target, seconds))
        rows.append(_idle(database.new_database(), seconds))
    return rows


def _idle(url: str, seconds: float) -> Row:
    """One of two serving processes that a wire connects, while nobody calls them."""
    environ = {"HEADRACE_DATABASE_URL": url}
    with serving("start_end.yml", environ) as one, serving("start_end.yml", environ):
        time.sleep(3)  # what a process does once after its start
        before, began = processor_seconds(one.pid), time.monotonic()
        time.sleep(2 * seconds)
        share = 100 * (processor_seconds(one.pid) - before) / (time.monotonic() - began)
    return Row(GROUP, "an idle process, one of two on PostgreSQL", share, "% of a core", Target(1))


def _row(
    name: str, url: str, seconds_spent: Callable[[], float], followers: int, target: Target | None, seconds: float
) -> Row:
    with ExitStack() as stack:
        secret = os.urandom(32).hex()
        following = [stack.enter_context(_helper("follow", url, secret, str(RUNS))) for _ in range(followers)]
        numbers = (str(RATE), str(seconds), str(RUNS))
        publishing = stack.enter_context(_helper("publish", url, secret, *numbers))
        before = seconds_spent()
        for process in (*following, publishing):
            _tell(process)
        publisher = _result(publishing)
        server = seconds_spent() - before
        for process in following:
            _tell(process)
        results = [_result(process) for process in following]
    latencies = sorted(ms for result in results for ms in result["latencies"])
    pieces = publisher["published"] + publisher["dropped"]  # once for each follower
    per_second = pieces / followers
    follower = sum(result["spent"] for result in results) / followers
    who = "another process" if followers == 1 else f"each of {followers} other processes"
    return Row(
        GROUP,
        f"{name}, {RATE:,} tokens/s to {who}: 95 of 100 within",
        _quantile(latencies, 0.95),
        "ms",
        target,
        {"50": _quantile(latencies, 0.5), "99": _quantile(latencies, 0.99)},
        f"processor time a token: {1e6 * publisher['spent'] / per_second:.0f} us where it is sent, "
        f"{1e6 * follower / per_second:.0f} us where it arrives, {1e6 * server / per_second:.0f} us at the server; "
        f"{pieces - len(latencies)} of {pieces} did not arrive",
    )


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))]


@contextmanager
def _helper(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, str(HELPERS / "wire.py"), *arguments],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise OSError("a process on the wire did not get ready")
        yield process
    finally:
        end(process)
        process.stdin.close()
        process.stdout.close()


def _tell(process: subprocess.Popen[str]) -> None:
    """Goes on to the next stage."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())
