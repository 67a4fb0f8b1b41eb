"""The whole service: start -> end over HTTP, blocking, with SQLite, compared with FastAPI sending as many bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.service import call, helper, load, serving
from benchmarks.table import Row, Target

GROUP = "Served: start -> end, blocking, SQLite, load generator on the same cores"
SECONDS = 60.0  # for a job, at most


def measure(quick: bool) -> list[Row]:
    rounds, many, few = (3, 3_000, 300) if quick else (5, 8_000, 1_000)
    ours: dict[int, list[dict[str, Any]]] = {64: [], 1: []}
    bare: dict[int, list[dict[str, Any]]] = {64: [], 1: []}
    with load() as ask, serving("start_end.yml") as served:
        job = {**call(served, {"query": "hello"}), "expect": '"status":"succeeded"', "seconds": SECONDS}
        warm = ask(**job, connections=64, requests=2_000)
        requested = 2_000
        with helper("bare_fastapi.py", str(warm["body"])) as port:
            peer = {**job, "port": port, "path": "/run", "headers": {"Content-Type": "application/json"}}
            ask(**peer, connections=64, requests=len(warm["latencies"]))
            for _ in range(rounds):
                for connections, requests in ((64, many), (1, few)):
                    ours[connections].append(ask(**job, connections=connections, requests=requests))
                    bare[connections].append(ask(**peer, connections=connections, requests=requests))
                    requested += requests
        if (logged := served.logged_runs()) != requested:
            raise RuntimeError(f"{requested} runs were answered, and {logged} are in the log")
    p99 = 1000 * statistics.median(_quantile(result["latencies"], 0.99) for result in ours[64])
    p99_one = 1000 * statistics.median(_quantile(result["latencies"], 0.99) for result in ours[1])
    return [
        Row(
            GROUP,
            "64 connections",
            _throughput(ours[64]),
            "runs/s",
            Target(1500, more=True, aim=3000),
            {"bare FastAPI": _throughput(bare[64])},
            f"p50 {_p50(ours[64]):.1f} ms, p99 {p99:.1f} ms",
        ),
        Row(
            GROUP,
            "one connection, p50",
            _p50(ours[1]),
            "ms",
            Target(3, aim=1),
            {"bare FastAPI": _p50(bare[1])},
            f"p99 {p99_one:.1f} ms",
        ),
    ]


def _throughput(results: Sequence[dict[str, Any]]) -> float:
    return statistics.median(len(result["latencies"]) / result["elapsed"] for result in results)


def _p50(results: Sequence[dict[str, Any]]) -> float:
    return 1000 * statistics.median(statistics.median(result["latencies"]) for result in results)


def _quantile(values: Sequence[float], at: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * at))]
