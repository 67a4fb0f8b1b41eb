"""The same runs with SQLite, with PostgreSQL, and with PostgreSQL and Temporal, in turn, on the same cores. No database
waits for the disk; Temporal's is in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.machine import processor_seconds, processor_seconds_of_server
from benchmarks.service import call, load, serving
from benchmarks.table import Row, Target, ratio
from tests import postgresql, temporal_server

GROUP = "Databases: start -> end over HTTP, blocking, 64 connections, load generator and server on the same cores"
SECONDS = 120.0  # for a job, at most
_FEWER = 10  # times, of the runs that Temporal brings


def measure(quick: bool) -> list[Row]:
    rounds, count = (2, 2_000) if quick else (5, 6_000)
    with ExitStack() as stack:
        ask = stack.enter_context(load())
        database = stack.enter_context(postgresql.serving())
        engine = stack.enter_context(temporal_server.serving())
        environs = {
            "sqlite": {},
            "postgresql": {"HEADRACE_DATABASE_URL": database.new_database()},
            "temporal": {
                "HEADRACE_DATABASE_URL": database.new_database(),
                "HEADRACE_TEMPORAL_ADDRESS": engine.address,
            },
        }
        servers = {name: stack.enter_context(serving("start_end.yml", environ)) for name, environ in environs.items()}
        jobs = {
            name: {
                **call(process, {"query": "hello"}),
                "expect": '"status":"succeeded"',
                "seconds": SECONDS,
                "connections": 64,
            }
            for name, process in servers.items()
        }
        requests = {name: count // _FEWER if name == "temporal" else count for name in jobs}
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
        seconds_spent: Counter[str] = Counter()  # seconds of processor time, of processes and their servers
        for job in jobs.values():
            ask(**job, requests=100)
        for _ in range(rounds):
            for name, job in jobs.items():
                processes: dict[str, Callable[[], float]] = {
                    name: lambda name=name: processor_seconds(servers[name].pid)
                }
                if name != "sqlite":
                    processes[f"{name}: database"] = lambda: processor_seconds_of_server(database.pid)
                if name == "temporal":
                    processes["engine"] = lambda: processor_seconds(engine.pid)
                before = {process: seconds() for process, seconds in processes.items()}
                results[name].append(ask(**job, requests=requests[name]))
                for process, seconds in processes.items():
                    seconds_spent[process] += (seconds() - before[process]) / (rounds * requests[name])
    rates = {name: [len(result["latencies"]) / result["elapsed"] for result in of] for name, of in results.items()}
    each = {name: f"{1e6 * seconds:.0f} us" for name, seconds in seconds_spent.items()}
    return [
        ratio(
            GROUP,
            "PostgreSQL",
            list(zip(rates["postgresql"], rates["sqlite"], strict=True)),
            "runs/s",
            "SQLite",
            Target(0.6, more=True),
            f"processor time a run: {each['postgresql']} and the server's {each['postgresql: database']}; "
            f"with SQLite {each['sqlite']}",
        ),
        ratio(
            GROUP,
            "PostgreSQL, and Temporal brings the runs",
            list(zip(rates["temporal"], rates["postgresql"], strict=True)),
            "runs/s",
            "PostgreSQL",
            note=f"processor time a run: {each['temporal']}, the database's {each['temporal: database']} and that of "
            f"Temporal's development server {each['engine']}",
        ),
    ]
