"""How much later a run begins because 10,000 others of one workspace wait for the same slots."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from statistics import median
from typing import Any

import aiohttp

from benchmarks.service import FLOWS, RunningServer, call, helper, serving
from benchmarks.table import Row, Target
from tests import postgresql, temporal_server

GROUP = "Fairness: interactive runs of 0.1 s while 10,000 of one workspace wait for 20 slots"
FLOOD, SLOTS, SECONDS = 10_000, 20, 0.1


def measure(quick: bool) -> list[Row]:
    flood, calls = (1_000, 10) if quick else (FLOOD, 50)
    with ExitStack() as stack:
        service = f"http://127.0.0.1:{stack.enter_context(helper('others.py'))}/slow/{SECONDS}"
        server = stack.enter_context(postgresql.serving())
        engine = stack.enter_context(temporal_server.serving())
        environs = {
            "SQLite": {},
            "PostgreSQL": {"HEADRACE_DATABASE_URL": server.new_database()},
            "Temporal's development server": {
                "HEADRACE_DATABASE_URL": server.new_database(),
                "HEADRACE_TEMPORAL_ADDRESS": engine.address,
            },
        }
        return [row for name, environ in environs.items() for row in _rows(name, environ, service, flood, calls)]


def _rows(name: str, environ: Mapping[str, str], service: str, flood: int, calls: int) -> Iterator[Row]:
    environ = {**environ, "HEADRACE_EGRESS_ALLOW": "127.0.0.1", "HEADRACE_CONCURRENCY": str(SLOTS)}
    with serving("http.yml", environ, SERVICE_URL=service) as headrace:
        other = _other_workspace(headrace, environ, service)
        keys = {"another workspace": other, "the same workspace": headrace.headers}
        alone = {whose: _latencies(headrace, headers, calls) for whose, headers in keys.items()}
        asyncio.run(_flood(headrace, flood))
        behind = {whose: _latencies(headrace, headers, calls) for whose, headers in keys.items()}
    target = None if "HEADRACE_TEMPORAL_ADDRESS" in environ else Target(100)  # it depends on the engine, too
    for whose, latencies in behind.items():
        delay = 1e3 * (median(latencies) - median(alone[whose]))
        worst = 1e3 * (max(latencies) - median(alone[whose]))
        what = f"{name}: delay of a run of {whose}, median"
        yield Row(GROUP, what, delay, "ms", target, note=f"at most {worst:.0f} ms")


async def _flood(headrace: RunningServer, count: int) -> None:
    """Submits runs; the responses do not wait for them."""
    connector = aiohttp.TCPConnector(limit=50)
    path, body = f"/api/v1/workflows/{headrace.app}/run", {"inputs": {"query": "flood"}, "user": "benchmark"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{headrace.port}", connector=connector) as session:

        async def submit() -> None:
            async with session.post(path, json=body, headers=headrace.headers) as answer:
                if answer.status != 202:
                    raise RuntimeError(f"a run was not accepted: {await answer.text()}")

        await asyncio.gather(*(submit() for _ in range(count)))


def _other_workspace(headrace: RunningServer, environ: Mapping[str, str], service: str) -> dict[str, str]:
    """The headers of a caller of the same workflow in another workspace."""
    file = headrace.data.parent / "other.yml"
    file.write_text((FLOWS / "http.yml").read_text().replace("SERVICE_URL", service))
    command = [sys.executable, "-m", "headrace", "apps", "add", str(file), "--data", str(headrace.data)]
    environ = {**os.environ, **environ, "HEADRACE_WORKSPACE": "other"}
    output = subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout
    return {**headrace.headers, "Authorization": f"Bearer {json.loads(output)['key']}"}


def _latencies(headrace: RunningServer, headers: Mapping[str, str], calls: int) -> list[float]:
    job: dict[str, Any] = call(headrace, {"query": "hello"})
    url = f"http://127.0.0.1:{headrace.port}{job['path']}"
    latencies: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        request = urllib.request.Request(url, job["body"].encode(), dict(headers))
        with urllib.request.urlopen(request, timeout=300) as answer:
            if json.load(answer)["data"]["status"] != "succeeded":
                raise RuntimeError("a run has not succeeded")
        latencies.append(time.perf_counter() - began)
    return latencies
