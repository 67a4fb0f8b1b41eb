"""A thousand concurrent runs that wait for an HTTP service: how long they take, and how much memory."""

from __future__ import annotations

import threading

from benchmarks.machine import resident_mb
from benchmarks.service import call, helper, load, serving
from benchmarks.table import Row, Target, ratio

GROUP = "Waiting: 1,000 runs of start -> http-request -> end at once, each 2 s on HTTP"
RUNS, WAIT = 1_000, 2


def measure(quick: bool) -> list[Row]:
    """One shot of a thousand (and a few before, so that nothing is new to the service)."""
    with helper("others.py") as port, load() as ask:
        where = f"http://127.0.0.1:{port}/slow/{WAIT}"
        with serving("http.yml", {"HEADRACE_EGRESS_ALLOW": "127.0.0.1"}, SERVICE_URL=where) as server:
            job = {**call(server, {"query": "hello"}), "seconds": 60, "expect": '"status":200'}
            ask(**job, connections=5, requests=5)
            ask.start(**job, connections=RUNS, requests=RUNS)
            peak = _Peak(server.pid)
            result = ask.finish()
            most = peak.stop()
            if (logged_runs := server.logged_runs()) != RUNS + 5:
                raise RuntimeError(f"{RUNS + 5} runs were answered, and {logged_runs} are in the log")
    first = min(result["latencies"])
    return [
        ratio(
            GROUP,
            "until the last run has ended",
            [(result["elapsed"], float(WAIT))],
            "s",
            "the wait itself",
            Target(2),
            f"the first after {first:.2f} s",
            "a thousand runs begin and end in the two seconds, on the cores of their clients",
        ),
        Row(GROUP, "peak memory (RSS)", most, "MB", Target(250)),
    ]


class _Peak:
    """Watches how much memory a process and its children hold, until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self._most = max(self._most, resident_mb(self._pid))

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return max(self._most, resident_mb(self._pid))
