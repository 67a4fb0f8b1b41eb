"""The asynchronous API: what a thousand pollers cost, and how soon whoever waits hears of a run's end."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from benchmarks.service import Served, helper_process, serving
from benchmarks.table import Row, Target

GROUP = "Asynchronous API: 1,000 runs that wait, each polled once a second over 100 connections"
RUNS, CONNECTIONS, WAITING = 1_000, 100, 50


def measure(quick: bool) -> list[Row]:
    """Polls queued runs (all but one of a service that does one at a time); the wait is timed on running ones."""
    seconds = 4 if quick else 10
    with helper_process("others.py") as (port, _):
        where = f"http://127.0.0.1:{port}/slow/120"
        allow = {"HEADRACE_EGRESS_ALLOW": "127.0.0.1"}
        with serving("http.yml", allow | {"HEADRACE_CONCURRENCY": "1"}, SERVICE_URL=where) as served:
            queued = asyncio.run(_polled(served, seconds))
        with serving("http.yml", allow, SERVICE_URL=where) as served:
            late = asyncio.run(_waited(served))
    with helper_process("bare_fastapi.py", "500") as (port, pid):
        bare = asyncio.run(_bare(port, pid, seconds))
    return [
        Row(GROUP, "CPU, share of one core", queued, "%", Target(20), {"bare FastAPI": bare}),
        Row(
            GROUP,
            "?wait=30: from the run's end to the response, median",
            median(late) * 1e3,
            "ms",
            Target(50),
            note=f"maximum {max(late) * 1e3:.1f} ms, of {WAITING} runs that are stopped",
        ),
    ]


def _session(port: int, headers: dict[str, str]) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    return aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, headers=headers)


async def _submit(session: aiohttp.ClientSession, served: Served, many: int) -> list[str]:
    async def one() -> str:
        asked = {"inputs": {"query": "hello"}, "user": "benchmark"}
        async with session.post(f"/api/v1/workflows/{served.app}/run", json=asked) as answer:
            told: dict[str, Any] = await answer.json()
            return told["workflow_run_id"]

    return await asyncio.gather(*(one() for _ in range(many)))


async def _polled(served: Served, seconds: int) -> float:
    async with _session(served.port, served.headers) as session:
        runs = await _submit(session, served, RUNS)

        async def poll(number: int) -> None:
            async with session.get(f"/api/v1/workflow-runs/{runs[number]}") as answer:
                status = (await answer.json())["status"]
            if status not in ("queued", "running"):
                raise RuntimeError(f"a run that waits is told to be {status}")

        await asyncio.gather(*(poll(number) for number in range(RUNS)))  # the first look at each is not counted
        return await _cost(served.pid, poll, seconds)


async def _bare(port: int, pid: int, seconds: int) -> float:
    async with _session(port, {}) as session:

        async def ask(number: int) -> None:
            async with session.post("/run", data=b"{}") as answer:
                await answer.read()

        return await _cost(pid, ask, seconds)


async def _cost(pid: int, ask: Any, seconds: int) -> float:
    """How much of a core a process takes while each of the thousand is asked for once a second, in percent."""

    async def each(number: int, begin: float) -> None:
        for second in range(seconds):
            due = begin + second + number / RUNS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await ask(number)

    before, begin = _processor_seconds(pid), time.monotonic()
    await asyncio.gather(*(each(number, begin) for number in range(RUNS)))
    return 100 * (_processor_seconds(pid) - before) / (time.monotonic() - begin)


async def _waited(served: Served) -> list[float]:
    async with _session(served.port, served.headers) as session:
        runs = await _submit(session, served, WAITING)

        async def wait(run: str) -> float:
            async with session.get(f"/api/v1/workflow-runs/{run}?wait=30") as answer:
                told = await answer.json()
            return time.time() - told["finished_at"]

        waiting = [asyncio.create_task(wait(run)) for run in runs]
        await asyncio.sleep(0.5)  # all of them hang before the first run ends
        for run in runs:
            async with session.post(f"/api/v1/workflow-runs/{run}/stop") as answer:
                await answer.read()
        return await asyncio.gather(*waiting)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
