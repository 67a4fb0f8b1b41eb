"""What becomes of a wire while its server, the network or another process fails."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from headrace.adapters.wire import host as hosts
from headrace.adapters.wire import open_wire
from headrace.background import background
from headrace.kernel.events import Record
from headrace.ports import Signal
from headrace.stores.encoding import decode, encode
from tests.wire.conftest import CarrierServer
from tests.wire.follower import FOLLOWED
from tests.wire.processes import Process, connected, eventually, host, record, settle
from tests.wire.proxy import proxy


def wire_log(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [item.getMessage() for item in caplog.records if item.name == hosts.__name__]


async def until_lost(*processes: Process) -> None:
    await eventually(lambda: not any(process.wire.is_connected for process in processes))


async def until_received(publisher: Process, follower: Process, run: str) -> None:
    """Until what one process publishes arrives at the other, which follows the run."""

    def has_arrived() -> bool:
        publisher.wire.publish([record(99, run)])
        return record(99, run) in follower.arrived

    await eventually(has_arrived)


async def test_a_server_that_is_restarted_is_found_again(
    server: CarrierServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server.url, 2, os.urandom(32)) as processes:
        one, two = processes
        two.wire.follow("r1")
        await settle(processes)
        await asyncio.to_thread(server.stop)
        try:
            await until_lost(*processes)
            one.wire.publish([record(1)])
            one.wire.signal(Signal.STOPPED, "lost")
            two.wire.follow("r2")
        finally:
            await asyncio.to_thread(server.start)
        await until_received(one, two, "r1")
        await until_received(one, two, "r2")
        assert record(1) not in two.arrived
    lines = wire_log(caplog)
    assert len(lines) == 4, "one for each process when it goes, and one when it is back"
    assert sum("is down" in line for line in lines) == sum("is back" in line for line in lines) == 2


async def test_a_connection_that_is_cut_is_replaced(server: CarrierServer) -> None:
    secret = os.urandom(32)
    async with (
        proxy(server.socket) as forwarding,
        connected(server.url, 1, secret) as (one,),
        connected(server.proxied(forwarding.port), 1, secret) as (two,),
    ):
        await settle([one, two])
        two.wire.follow("r1")
        await settle([one, two])
        before = forwarding.connections
        forwarding.cut()
        await until_lost(two)
        one.wire.publish([record(1)])
        forwarding.mend()
        # what it has missed is announced
        await eventually(lambda: ("r1", 1) in two.arrived)
        assert forwarding.connections > before
        await until_received(one, two, "r1")


async def test_a_paused_process_holds_nobody_up(server: CarrierServer) -> None:
    secret = os.urandom(32)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.wire.follower", server.url, secret.hex()]
    async with connected(server.url, 2, secret) as processes, AsyncExitStack() as stack:
        one, two = processes
        paused = await asyncio.create_subprocess_exec(*command, cwd=root)
        stack.push_async_callback(paused.wait)
        stack.callback(paused.kill)
        two.wire.follow("r1")

        def is_there() -> bool:
            one.wire.signal(Signal.QUEUED, "who is there?")
            return (Signal.ENDED, FOLLOWED) in one.arrived

        await eventually(is_there)
        await settle(processes)
        two.arrived.clear()
        paused.send_signal(signal.SIGSTOP)
        try:
            for seq in range(1, 2001):
                one.wire.publish([record(seq, text="x" * 1000)])
                if not seq % 100:
                    await settle(processes)
            arrived = [item for item in two.arrived if isinstance(item, Record)]
            assert arrived == [record(seq, text="x" * 1000) for seq in range(1, 2001)]
        finally:
            paused.send_signal(signal.SIGCONT)


async def test_twenty_processes_receive_what_one_publishes(server: CarrierServer) -> None:
    async with connected(server.url, 21, os.urandom(32)) as processes:
        one, *others = processes
        for process in others:
            process.wire.follow("r1")
        await settle(processes)
        for seq in range(1, 101):
            one.wire.publish([record(seq)])
        for process in others:
            assert [await process.take() for _ in range(100)] == [record(seq) for seq in range(1, 101)]
    assert host(one).counts.published == 2000
    assert all(process.wire.counts.received == 100 for process in others)


async def test_a_server_that_is_not_there_is_logged_once_and_without_its_password(
    caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    caplog.set_level(logging.DEBUG)
    for scheme in ("redis", "rediss", "postgresql"):
        caplog.clear()
        url = f"{scheme}://somebody:hunter2secret@127.0.0.1:{unused_tcp_port}/0?password=hunter2secret"
        wire = open_wire(url, b"s", encode, decode)
        async with background("wire", wire.run()):
            await eventually(lambda: bool(wire_log(caplog)))
            await asyncio.sleep(0.3)  # it is tried again meanwhile
        (line,) = wire_log(caplog)
        assert line.startswith(f"the wire {scheme}://127.0.0.1:{unused_tcp_port}/0 is down")
        assert "hunter2" not in caplog.text
        assert not wire.is_connected
