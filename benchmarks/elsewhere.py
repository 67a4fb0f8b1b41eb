"""How much later a client learns of a run at a process that does not drive it than at the one that does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from statistics import median

import aiohttp

from benchmarks.service import RunningServer, helper, serving
from benchmarks.table import Row, Target
from tests import postgresql, valkey

GROUP = "Elsewhere: how much later than at the process that drives a run, of two, one run of 0.3 s at a time"
SECONDS = 0.3
_USER = {"user": "benchmark"}

Session = aiohttp.ClientSession
Look = Callable[[Session, str], Awaitable[float]]


def measure(quick: bool) -> list[Row]:
    runs = 5 if quick else 30
    with ExitStack() as stack:
        service = f"http://127.0.0.1:{stack.enter_context(helper('others.py'))}/slow/{SECONDS}"
        database = stack.enter_context(postgresql.serving())
        cache = stack.enter_context(valkey.serving())
        environs = {
            "PostgreSQL": {"HEADRACE_DATABASE_URL": database.new_database()},
            "PostgreSQL and Valkey": {"HEADRACE_DATABASE_URL": database.new_database(), "HEADRACE_WIRE_URL": cache.url},
            "SQLite, without a wire": {},
        }
        return [row for name, environ in environs.items() for row in _rows(name, environ, service, runs)]


def _rows(name: str, environ: Mapping[str, str], service: str, runs: int) -> list[Row]:
    environ = {**environ, "HEADRACE_EGRESS_ALLOW": "127.0.0.1"}
    with (
        serving("http.yml", environ, SERVICE_URL=service) as driving,
        serving("http.yml", environ, data=driving.data, SERVICE_URL=service) as other,
    ):
        delays = asyncio.run(_delays(driving, other, runs))
    return [
        Row(
            GROUP,
            f"{name}: {what}, median",
            1e3 * median(seconds),
            "ms",
            Target(50),
            note=f"at most {1e3 * max(seconds):.1f} ms, of {runs}",
        )
        for what, seconds in delays.items()
    ]


async def _delays(driving: RunningServer, other: RunningServer, runs: int) -> dict[str, list[float]]:
    """In seconds, of each run: by how much the later of two looks at its end is later, and a stop slower."""
    async with _session(driving, driving) as here, _session(other, driving) as there:
        looks: dict[str, Look] = {"a wait": _wait, "a poll": _poll, "a stream": _stream}
        delays: dict[str, list[float]] = {name: [] for name in (*looks, "a stop")}
        for number in range(runs + 1):
            run = await _submit(here, driving)
            ends = await asyncio.gather(*(look(at, run) for look in looks.values() for at in (here, there)))
            stops = [await _stopped(here, await _submit(here, driving), at) for at in (here, there)]
            if number:  # the processes do much for the first time
                for name, (first, second) in zip(delays, (ends[:2], ends[2:4], ends[4:], stops), strict=True):
                    delays[name].append(second - first)
        return delays


def _session(server: RunningServer, owner: RunningServer) -> Session:
    return aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", headers=owner.headers)


async def _submit(at: Session, server: RunningServer) -> str:
    body = {"inputs": {"query": "hello"}, **_USER}
    async with at.post(f"/api/v1/workflows/{server.app}/run", json=body) as response:
        return (await response.json())["workflow_run_id"]


async def _wait(at: Session, run: str) -> float:
    async with at.get(f"/api/v1/workflow-runs/{run}?wait=30") as response:
        status = (await response.json())["status"]
    if status not in ("succeeded", "stopped"):
        raise RuntimeError(f"after its end a run has the status {status}")
    return time.perf_counter()


async def _poll(at: Session, run: str) -> float:
    while True:
        async with at.get(f"/api/v1/workflow-runs/{run}") as response:
            if (await response.json())["finished_at"] is not None:
                return time.perf_counter()
        await asyncio.sleep(0.005)


async def _stream(at: Session, run: str) -> float:
    async with at.get(f"/v1/workflow/{run}/events", params=_USER) as response:
        async for line in response.content:
            if line.startswith(b"data:") and json.loads(line[5:])["event"] == "workflow_finished":
                return time.perf_counter()
    raise RuntimeError("a stream has ended before its run")


async def _stopped(driving: Session, run: str, at: Session) -> float:
    """The seconds until a run that is stopped at a process has ended at the one that drives it."""
    waiting = asyncio.create_task(_wait(driving, run))
    await asyncio.sleep(SECONDS / 3)
    began = time.perf_counter()
    async with at.post(f"/api/v1/workflow-runs/{run}/stop") as response:
        await response.read()
    return await waiting - began
