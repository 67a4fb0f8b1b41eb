"""SIGTERM: what is under way may end, nothing new is begun, and no run is lost."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest_asyncio

from tests.cli.flows import Server
from tests.deploy.worlds import Caller, Gate, end, gate, waiting_flow

EGRESS = "127.0.0.1"
BLOCKING, SUBMITTED = 20, 30


@pytest_asyncio.fixture
async def peer() -> AsyncGenerator[Gate]:
    async with gate() as peer_gate:
        yield peer_gate


@pytest_asyncio.fixture
async def session() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as client_session:
        yield client_session


async def until_not_ready(caller: Caller) -> None:
    """Also says that the server still takes connections then."""
    async with asyncio.timeout(60):
        while (await caller.call("GET", "/readyz"))[0] != 503:  # noqa: ASYNC110  # another process's state
            await asyncio.sleep(0.02)


async def test_what_ends_in_time_is_not_cut_off(tmp_path: Path, peer: Gate, session: aiohttp.ClientSession) -> None:
    server = Server(waiting_flow(tmp_path / "w.yml", peer.url), cwd=tmp_path, HEADRACE_EGRESS_ALLOW=EGRESS)
    caller = Caller(session, server)
    calls = [asyncio.create_task(caller.run()) for _ in range(BLOCKING)]
    run = await caller.submit()
    async with session.post(
        f"{server.url}/v1/workflows/run",
        headers=caller.headers,
        json={"inputs": {"query": "hi"}, "response_mode": "streaming", "user": "u"},
    ) as stream:
        await peer.reached_by(BLOCKING + 2)
        ending = asyncio.create_task(end(server, signal.SIGTERM))
        await until_not_ready(caller)

        status, received, headers = await caller.run()
        assert (status, received["code"], headers["Retry-After"]) == (503, "service_unavailable", "1")
        assert headers["Connection"] == "close"
        assert (await caller.call("GET", f"/api/v1/workflow-runs/{run}"))[1]["status"] == "running"  # reading goes on
        assert (await caller.call("GET", "/healthz"))[0] == 200

        peer.open.set()
        answers = await asyncio.gather(*calls)
        assert b"workflow_finished" in await stream.read()
    assert {(status, received["data"]["status"]) for status, received, _ in answers} == {(200, "succeeded")}
    assert await ending == 0
    assert "Traceback" not in server.said

    again = Server(cwd=tmp_path, HEADRACE_EGRESS_ALLOW=EGRESS)
    assert (await Caller(session, again).ended(run))["status"] == "succeeded"
    assert peer.request_count == BLOCKING + 2  # nothing was done twice
    await end(again, signal.SIGTERM)


async def test_what_does_not_goes_on_at_the_next_start(
    tmp_path: Path, peer: Gate, session: aiohttp.ClientSession
) -> None:
    """Under load: more runs than are driven at once, some followed and some not."""
    file = waiting_flow(tmp_path / "w.yml", peer.url)
    server = Server(
        file, cwd=tmp_path, HEADRACE_EGRESS_ALLOW=EGRESS, HEADRACE_DRAIN_SECONDS="0.5", HEADRACE_CONCURRENCY="10"
    )
    caller = Caller(session, server)
    runs = await asyncio.gather(*(caller.submit() for _ in range(SUBMITTED)))
    calls = [asyncio.create_task(caller.run()) for _ in range(BLOCKING)]
    await peer.reached_by(10)
    assert await end(server, signal.SIGTERM) == 0
    for status, received, _ in await asyncio.gather(*calls):  # told so, not cut off
        assert (status, received["code"], received["status"]) == (503, "service_unavailable", 503)
    assert "cut off before the end: " in server.said
    assert re.search(r"waiting up to 0\.5 s for \d+ requests and 10 runs to end", server.said)
    assert "Traceback" not in server.said

    peer.open.set()
    again = Server(file, cwd=tmp_path, HEADRACE_EGRESS_ALLOW=EGRESS)
    caller = Caller(session, again)
    ended = await asyncio.gather(*(caller.ended(run) for run in runs))
    assert {item["status"] for item in ended} == {"succeeded"}
    # those of the callers, too, who were told to try again
    _, listed, _ = await caller.call("GET", "/v1/workflows/logs?limit=100")
    assert listed["total"] == SUBMITTED + BLOCKING
    await end(again, signal.SIGTERM)


async def test_a_second_signal_ends_it_at_once(tmp_path: Path, peer: Gate, session: aiohttp.ClientSession) -> None:
    server = Server(
        waiting_flow(tmp_path / "w.yml", peer.url),
        cwd=tmp_path,
        HEADRACE_EGRESS_ALLOW=EGRESS,
        HEADRACE_DRAIN_SECONDS="60",
    )
    caller = Caller(session, server)
    call = asyncio.create_task(caller.run())
    await peer.reached_by(1)
    server.process.send_signal(signal.SIGTERM)
    await until_not_ready(caller)
    begun = time.monotonic()
    assert await end(server, signal.SIGTERM) == 0
    assert time.monotonic() - begun < 50
    # a request for /readyz may be pending, too
    assert re.search(r"waiting up to 60 s for \d requests? and 1 run to end; a second Ctrl-C", server.said)
    assert (await call)[0] == 503


async def test_a_stream_that_is_cut_does_not_look_whole(
    tmp_path: Path, peer: Gate, session: aiohttp.ClientSession
) -> None:
    server = Server(
        waiting_flow(tmp_path / "w.yml", peer.url),
        cwd=tmp_path,
        HEADRACE_EGRESS_ALLOW=EGRESS,
        HEADRACE_DRAIN_SECONDS="0",
    )
    caller = Caller(session, server)
    body = {"inputs": {"query": "hi"}, "response_mode": "streaming", "user": "u"}
    async with session.post(f"{server.url}/v1/workflows/run", headers=caller.headers, json=body) as stream:
        await peer.reached_by(1)
        ending = asyncio.create_task(end(server, signal.SIGINT))
        try:
            read = await stream.content.read()
        except aiohttp.ClientPayloadError:
            pass
        else:
            raise AssertionError(f"the stream ends as if it were whole: {read!r}")
    assert await ending == 0
    assert "Traceback" not in server.said
