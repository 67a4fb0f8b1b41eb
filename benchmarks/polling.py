"""The asynchronous API: the cost of a thousand pollers, and how soon a waiting client learns that a run has ended."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Any

import aiohttp

from benchmarks.machine import processor_seconds
from benchmarks.service import RunningServer, helper_process, serving
from benchmarks.table import Row, Target, ratio

GROUP = "Asynchronous API: 1,000 runs that wait, each polled once a second over 100 connections"
RUNS, CONNECTIONS, WAITING = 1_000, 100, 50


def measure(quick: bool) -> list[Row]:
    """Polls queued runs (the service executes one at a time); waits are timed on running ones."""
    rounds, seconds = (2, 2) if quick else (5, 4)
    with helper_process("others.py") as (port, _):
        where = f"http://127.0.0.1:{port}/slow/120"
        allow = {"HEADRACE_EGRESS_ALLOW": "127.0.0.1"}
        with (
            serving("http.yml", allow | {"HEADRACE_CONCURRENCY": "1"}, SERVICE_URL=where) as server,
            helper_process("bare_fastapi.py", "500") as (bare_port, bare),
        ):
            shares = asyncio.run(_shares(server, bare_port, bare, rounds, seconds))
        with serving("http.yml", allow, SERVICE_URL=where) as server:
            late = asyncio.run(_waited(server))
    return [
        ratio(
            GROUP,
            "processor time, share of one core",
            shares,
            "%",
            "bare FastAPI",
            Target(1),
            missed="a poll reads the run, its app and its key; a client that waits (?wait=30) needs one request",
        ),
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


async def _submit(session: aiohttp.ClientSession, server: RunningServer, many: int) -> list[str]:
    async def one() -> str:
        body = {"inputs": {"query": "hello"}, "user": "benchmark"}
        async with session.post(f"/api/v1/workflows/{server.app}/run", json=body) as reply:
            response: dict[str, Any] = await reply.json()
            return response["workflow_run_id"]

    return await asyncio.gather(*(one() for _ in range(many)))


async def _shares(
    server: RunningServer, bare_port: int, bare: int, rounds: int, seconds: int
) -> list[tuple[float, float]]:
    """The shares of a core that Headrace and a bare endpoint use, in turn."""
    async with _session(server.port, server.headers) as session, _session(bare_port, {}) as bare_session:
        runs = await _submit(session, server, RUNS)

        async def poll(number: int) -> None:
            async with session.get(f"/api/v1/workflow-runs/{runs[number]}") as answer:
                status = (await answer.json())["status"]
            if status not in ("queued", "running"):
                raise RuntimeError(f"a queued run has the status {status}")

        async def ask(number: int) -> None:
            async with bare_session.post("/run", data=b"{}") as answer:
                await answer.read()

        await asyncio.gather(*(poll(number) for number in range(RUNS)))  # the first poll of each run is not counted
        return [(await _cost(server.pid, poll, seconds), await _cost(bare, ask, seconds)) for _ in range(rounds)]


async def _cost(pid: int, ask: Any, seconds: int) -> float:
    """The share of a core, in percent, that a process uses while each of the thousand runs is polled once a second."""

    async def poll_one(number: int, begin: float) -> None:
        for second in range(seconds):
            due = begin + second + number / RUNS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await ask(number)

    before, begin = processor_seconds(pid), time.monotonic()
    await asyncio.gather(*(poll_one(number, begin) for number in range(RUNS)))
    return 100 * (processor_seconds(pid) - before) / (time.monotonic() - begin)


async def _waited(server: RunningServer) -> list[float]:
    async with _session(server.port, server.headers) as session:
        runs = await _submit(session, server, WAITING)

        async def wait(run: str) -> float:
            async with session.get(f"/api/v1/workflow-runs/{run}?wait=30") as answer:
                run_response = await answer.json()
            return time.time() - run_response["finished_at_ms"] / 1e3

        waiting = [asyncio.create_task(wait(run)) for run in runs]
        await asyncio.sleep(0.5)  # all of them wait before the first run ends
        for run in runs:
            async with session.post(f"/api/v1/workflow-runs/{run}/stop") as answer:
                await answer.read()
        return await asyncio.gather(*waiting)
