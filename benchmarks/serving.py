"""The whole service: start -> end over HTTP, blocking, with SQLite, compared with FastAPI sending as many bytes."""

from __future__ import annotations

import sqlite3
import statistics
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.machine import cores
from benchmarks.service import call, helper, load, serving
from benchmarks.table import Row, Target, ratio

GROUP = "Served: start -> end, blocking, SQLite, load generator on the same cores"
REFERENCE = "bare FastAPI"
SECONDS = 60.0  # for a job, at most
WARM_UP = 2_000  # requests
STORED_BEFORE = 2_480.0  # bytes of database a run, before rows were made smaller
MISSED = {
    64: "authentication, the run itself and the transaction that stores it cost more than the bare request",
    1: "each run waits for its commit, which another thread makes",
    "workers": "the load generator has the same cores, and SQLite one writer",
    "stored": "the row of the run and its indexes are most of it",
}


def measure(quick: bool) -> list[Row]:
    rounds, many, few = (3, 2_000, 300) if quick else (7, 6_000, 1_000)
    pairs: dict[int, list[tuple[dict[str, Any], dict[str, Any]]]] = {64: [], 1: []}
    with load() as ask, serving("start_end.yml") as server:
        job = {**call(server, {"query": "hello"}), "expect": '"status":"succeeded"', "seconds": SECONDS}
        warm = ask(**job, connections=64, requests=WARM_UP)
        sizes, runs = _stored(server.data), WARM_UP
        with helper("bare_fastapi.py", str(warm["body"])) as port:
            peer = {**job, "port": port, "path": "/run", "headers": {"Content-Type": "application/json"}}
            ask(**peer, connections=64, requests=WARM_UP)
            for _ in range(rounds):
                for connections, requests in ((64, many), (1, few)):
                    turn = {"connections": connections, "requests": requests}
                    pairs[connections].append((ask(**job, **turn), ask(**peer, **turn)))
                    runs += requests
        if (logged_runs := server.logged_runs()) != runs:
            raise RuntimeError(f"{runs} runs were answered, and {logged_runs} are in the log")
        growth = {part: size - sizes[part] for part, size in _stored(server.data).items()}
    p99 = {number: 1000 * statistics.median(_quantile(ours, 0.99) for ours, _ in of) for number, of in pairs.items()}
    return [
        ratio(
            GROUP,
            "64 connections",
            [(_throughput(ours), _throughput(bare)) for ours, bare in pairs[64]],
            "runs/s",
            REFERENCE,
            Target(0.5, more=True),
            f"p99 {p99[64]:.1f} ms",
            MISSED[64],
        ),
        ratio(
            GROUP,
            "one connection, p50",
            [(_p50(ours), _p50(bare)) for ours, bare in pairs[1]],
            "ms",
            REFERENCE,
            Target(2),
            f"p99 {p99[1]:.1f} ms",
            MISSED[1],
        ),
        Row(
            GROUP,
            "database a run",
            growth["database"] / (runs - WARM_UP),
            "bytes",
            Target(STORED_BEFORE / 2),
            {"journal": growth["events"] / (runs - WARM_UP), "before": STORED_BEFORE},
            "does not depend on the machine",
            missed=MISSED["stored"],
        ),
        *_of_workers(rounds, many),
    ]


def _of_workers(rounds: int, requests: int) -> list[Row]:
    """One worker for each core, and one alone."""
    count = cores()
    environ = {"HEADRACE_WORKERS": str(count)}
    with load() as ask, serving("start_end.yml", environ) as several, serving("start_end.yml") as one:
        turn = {"expect": '"status":"succeeded"', "seconds": SECONDS, "connections": 64}
        jobs = [{**call(server, {"query": "hello"}), **turn} for server in (several, one)]
        for job in jobs:
            ask(**job, requests=WARM_UP)
        pairs = [tuple(_throughput(ask(**job, requests=requests)) for job in jobs) for _ in range(rounds)]
    return [
        ratio(
            GROUP,
            f"64 connections, --workers {count}",
            [(ours, theirs) for ours, theirs in pairs],
            "runs/s",
            "one worker",
            Target(0.8 * count, more=True),
            "",
            MISSED["workers"],
        )
    ]


def _stored(data: Path) -> dict[str, int]:
    """The bytes of the database, and of the journal in it with its indexes."""
    with closing(sqlite3.connect(data / "headrace.db")) as database:
        pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        journal = (
            "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = 'events')"
        )
        queries = {"database": pages, "events": journal}
        return {part: database.execute(query).fetchone()[0] for part, query in queries.items()}


def _throughput(result: dict[str, Any]) -> float:
    return len(result["latencies"]) / result["elapsed"]


def _p50(result: dict[str, Any]) -> float:
    return 1000 * statistics.median(result["latencies"])


def _quantile(result: dict[str, Any], at: float) -> float:
    latencies = sorted(result["latencies"])
    return latencies[min(len(latencies) - 1, int(len(latencies) * at))]
