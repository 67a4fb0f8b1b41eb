"""Each kind of fault once, and each at an event. `make soak` has the long form: more runs, in rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path

import pytest

from tests.server.gated import Peer, peer
from tests.server.test_one_database import Hook, hook
from tests.soak.fleet import SERVERS, Servers, fleet, serving_all
from tests.soak.load import FLOW_WITH_TEXT, Load
from tests.soak.recovery import waits

__all__ = ["hook", "peer"]

RUNS = 24


@pytest.fixture(params=SERVERS)
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Of its own: they are restarted."""
    with ExitStack() as stack:
        try:
            servers = serving_all(stack, request.param)
        except OSError as error:
            pytest.skip(f"faults of processes were not tested: a server cannot be started: {error}")
        yield servers


async def test_whatever_fails_each_run_ends_once(tmp_path: Path, servers: Servers, peer: Peer, hook: Hook) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(RUNS + 8))
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW_WITH_TEXT.format(url=f"http://{peer.address}"))
    environ = {"HEADRACE_EGRESS_ALLOW": f"{peer.address},{hook.address}", "HEADRACE_DEMO_MODEL": "true"}
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(fleet(tmp_path, servers, flow, environ))
        apis = [api.serve for api in processes.apis]
        load = stack.enter_context(closing(Load(RUNS, apis, peer, hook, (f"run{number}" for number in range(RUNS)))))
        await load.start()
        killed, paused, cut = processes.workers
        losses = [await processes.kill_worker(killed), await processes.pause_worker(paused)]
        for api in processes.apis:
            await processes.restart_api(api)
        for forwarding in (*cut.host.proxies, *processes.apis[0].host.proxies):
            await processes.cut(forwarding)
            await processes.stall(forwarding)
        await processes.restart_wire()
        await processes.restart_temporal()

        async def finish() -> None:
            peer.gate.set()

        await processes.restart_postgresql(finish)
        processes.resume_worker(paused)
        records = await load.check(processes.url)
    assert any(waits(losses, records, processes.outages))
    assert all(stream.resumed for stream in load.streams.values())
    assert load.repeated == 0
