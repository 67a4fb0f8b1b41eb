"""The same runs with SQLite and with PostgreSQL, in turn, on the same cores: neither database waits for the disk."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.service import call, load, serving
from benchmarks.table import Row, Target
from tests import postgresql

GROUP = "Databases: start -> end over HTTP, blocking, 64 connections, load generator and server on the same cores"
SECONDS = 120.0  # for a job, at most


def measure(quick: bool) -> list[Row]:
    rounds, requests = (2, 2_000) if quick else (5, 6_000)
    results: dict[str, list[dict[str, Any]]] = {"sqlite": [], "postgresql": []}
    spent = {"sqlite": 0.0, "postgresql": 0.0, "server": 0.0}
    with ExitStack() as stack:
        ask = stack.enter_context(load())
        server = stack.enter_context(postgresql.serving())
        served = {
            "sqlite": stack.enter_context(serving("start_end.yml")),
            "postgresql": stack.enter_context(
                serving("start_end.yml", {"HEADRACE_DATABASE_URL": server.new_database()})
            ),
        }
        jobs = {
            name: {**call(process, {"query": "hello"}), "expect": '"status":"succeeded"', "seconds": SECONDS}
            for name, process in served.items()
        }
        for job in jobs.values():
            ask(**job, connections=64, requests=1_000)
        for _ in range(rounds):
            for name, job in jobs.items():
                processes: dict[str, Callable[[], float]] = {
                    name: lambda name=name: processor_seconds(served[name].pid)
                }
                if name == "postgresql":
                    processes["server"] = lambda: processor_seconds_of_server(server.pid)
                before = {process: seconds() for process, seconds in processes.items()}
                results[name].append(ask(**job, connections=64, requests=requests))
                for process, seconds in processes.items():
                    spent[process] += seconds() - before[process]
    rates = {
        name: statistics.median(len(result["latencies"]) / result["elapsed"] for result in of)
        for name, of in results.items()
    }
    each = {name: 1e6 * seconds / (rounds * requests) for name, seconds in spent.items()}
    return [
        Row(
            GROUP,
            "PostgreSQL",
            rates["postgresql"],
            "runs/s",
            Target(0.6 * rates["sqlite"], more=True),
            {"SQLite": rates["sqlite"]},
            f"processor time a run: {each['postgresql']:.0f} us and the server's {each['server']:.0f} us; "
            f"with SQLite {each['sqlite']:.0f} us",
        )
    ]


def processor_seconds(pid: int) -> float:
    """The processor time of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def processor_seconds_of_server(pid: int) -> float:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return processor_seconds(pid) + sum(processor_seconds(int(child)) for child in children)
