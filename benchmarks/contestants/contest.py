"""What every contestant of the engine benchmark is: a process that runs graphs when it is asked to.

Asked on stdin, a line of JSON each: {"shape": "chain" | "fan_out", "nodes": N, "times": K}. Answers on stdout, a line
each: {"ms": [milliseconds a node, of each of the K runs]}, or {"skipped": why}. Its first line says who it is:
{"name": ..., "version": ...}. While it is not asked it waits, so that contestants can take turns.

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
    """Where a peer is to keep its state: `sqlite FOLDER` on the command line; None for nowhere. It is set as Headrace
    sets its own."""
    if len(sys.argv) < 3:
        return None
    connection = sqlite3.connect(Path(sys.argv[2]) / f"{Path(sys.argv[0]).stem}.db", check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def compete(name: str, version: str, build: Build) -> None:
    """Answers until stdin ends."""
    out = sys.stdout
    sys.stdout = sys.stderr  # a contestant that prints must not break the conversation
    print(json.dumps({"name": name, "version": version}), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"ms": _measure(build, asked["shape"], asked["nodes"], asked["times"])}
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
