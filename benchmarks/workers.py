"""How the rate at which runs are driven grows with workers, until the cores are full."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import aiohttp
import psycopg

from benchmarks import machine
from benchmarks.machine import processor_seconds, processor_seconds_of_server
from benchmarks.service import RunningServer, serving, working
from benchmarks.table import Row
from tests import postgresql

GROUP = "Workers: start -> end, runs that wait in the database until the workers begin together"
WORKERS = (1, 2, 3)
_UNFINISHED = "SELECT count(*) FROM runs WHERE finished_at IS NULL"


def measure(quick: bool) -> list[Row]:
    runs = 500 if quick else 3_000
    with postgresql.serving() as server:
        return [
            *_rows("PostgreSQL", server.new_database(), lambda: processor_seconds_of_server(server.pid), runs),
            *_rows("SQLite", None, lambda: 0.0, runs),
        ]


def _rows(name: str, url: str | None, seconds_spent: Callable[[], float], runs: int) -> Iterator[Row]:
    environ = {} if url is None else {"HEADRACE_DATABASE_URL": url}
    with ExitStack() as stack:
        server = stack.enter_context(serving("start_end.yml", environ, options=["--no-worker"]))
        database: Any = stack.enter_context(
            closing(sqlite3.connect(server.data / "headrace.db"))
            if url is None
            else psycopg.connect(url, autocommit=True)
        )
        beside: dict[str, float | str] = {}
        workers: list[int] = []
        for count in WORKERS:
            workers.append(stack.enter_context(working(server, environ)))
            _drain(server, database, workers, runs // 10)  # they do much for the first time
            before = sum(map(processor_seconds, workers)), seconds_spent()
            seconds = _drain(server, database, workers, runs)
            each = 1e6 * (sum(map(processor_seconds, workers)) - before[0]) / runs
            of_server = f" and the server's {1e6 * (seconds_spent() - before[1]) / runs:.0f} us" if url else ""
            what = f"{name}, {count} worker{'s' if count > 1 else ''}"
            note = f"processor time a run: {each:.0f} us{of_server}; {machine.cores()} cores"
            yield Row(GROUP, what, runs / seconds, "runs/s", None, dict(beside), note)
            beside.setdefault("1 worker", runs / seconds)


def _drain(server: RunningServer, database: Any, workers: Sequence[int], runs: int) -> float:
    """The seconds that the workers need for so many runs, which wait for all of them."""
    time.sleep(1)  # one that is stopped as it writes to SQLite keeps everybody else from writing
    for pid in workers:  # for less than their lease
        os.kill(pid, signal.SIGSTOP)
    try:
        asyncio.run(_submit(server, runs))
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    began = time.perf_counter()
    while database.execute(_UNFINISHED).fetchone()[0]:
        time.sleep(0.01)
    return time.perf_counter() - began


async def _submit(server: RunningServer, count: int) -> None:
    connector = aiohttp.TCPConnector(limit=50)
    path, body = f"/api/v1/workflows/{server.app}/run", {"inputs": {"query": "hello"}, "user": "benchmark"}
    url = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(url, connector=connector, headers=server.headers) as session:

        async def submit() -> None:
            async with session.post(path, json=body) as answer:
                if answer.status != 202:
                    raise RuntimeError(f"a run was not accepted: {await answer.text()}")

        await asyncio.gather(*(submit() for _ in range(count)))
