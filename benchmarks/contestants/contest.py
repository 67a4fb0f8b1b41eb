"""The protocol of the contestants of the engine benchmark: processes that run graphs on request.

Requests are lines of JSON on stdin: {"shape": "chain" | "fan_out", "nodes": N, "times": K}. Responses are lines on
stdout: {"ms": [milliseconds per node, for each of the K runs]}, or {"skipped": reason}. The first line identifies the
contestant: {"name": ..., "version": ...}. Between requests it waits, so that contestants can take turns.

A shape has N trivial nodes. A chain is just these, one after the other; a fan-out has a node before and one after them.
Graphs are built before the clock starts. Only a run is timed, and each must have run all its nodes.
"""

from __future__ import annotations

import gc
import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path


class Skipped(Exception):
    """This contestant does not have the shape."""


Run = Callable[[], int]
"""Runs the graph once and returns how many nodes it ran."""

Build = Callable[[str, int], Callable[[], Run]]
"""(shape, nodes) -> what prepares one run, untimed."""


def size(shape: str, nodes: int) -> int:
    """How many nodes a graph of this shape has in all."""
    return nodes if shape == "chain" else nodes + 2


def database() -> sqlite3.Connection | None:
    """The database for a peer's state, from `sqlite FOLDER` on the command line (None without it). Its settings are
    those of Headrace's own database."""
    if len(sys.argv) < 3:
        return None
    connection = sqlite3.connect(Path(sys.argv[2]) / f"{Path(sys.argv[0]).stem}.db", check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def compete(name: str, version: str, build: Build) -> None:
    """Serves requests until stdin ends."""
    out = sys.stdout
    sys.stdout = sys.stderr  # a contestant that prints must not break the conversation
    print(json.dumps({"name": name, "version": version}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ms": _measure(build, request["shape"], request["nodes"], request["times"])}
        except Skipped as reason:
            answer = {"skipped": str(reason)}
        print(json.dumps(answer), file=out, flush=True)


def _measure(build: Build, shape: str, nodes: int, times: int) -> list[float]:
    prepare = build(shape, nodes)
    all_nodes = size(shape, nodes)
    figures: list[float] = []
    for _ in range(times):
        run = prepare()
        gc.collect()
        began = time.perf_counter()
        ran = run()
        elapsed = time.perf_counter() - began
        if ran != all_nodes:
            raise RuntimeError(f"{shape} of {all_nodes} nodes ran {ran}")
        figures.append(elapsed * 1000 / all_nodes)
    return figures
