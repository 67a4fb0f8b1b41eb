"""What every wire promises."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from headrace.brokers import LocalWire
from headrace.ports import Signal
from tests.wire.processes import Process, connected, record, settle


@pytest.fixture(params=["local", "postgresql", "valkey"])
async def processes(request: pytest.FixtureRequest) -> AsyncIterator[list[Process]]:
    """Three processes of one installation."""
    if request.param == "local":
        group: list[LocalWire] = []
        yield [Process(LocalWire(group)) for _ in range(3)]
        return
    server = request.getfixturevalue(f"{request.param}_server")
    url = server.url() if request.param == "postgresql" else server.url
    async with connected(url, 3, os.urandom(32)) as processes:
        yield processes


async def test_a_signal_reaches_all_other_processes(processes: list[Process]) -> None:
    one, two, three = processes
    one.wire.signal(Signal.STOPPED, "r1")
    assert await two.take() == await three.take() == (Signal.STOPPED, "r1")
    two.wire.signal(Signal.CALLBACK)
    assert await one.take() == await three.take() == (Signal.CALLBACK, "")
    await settle(processes)
    assert not any(process.arrived for process in processes)


async def test_records_reach_the_processes_that_follow_their_run(processes: list[Process]) -> None:
    one, two, three = processes
    two.wire.follow("r1")
    three.wire.follow("r2")
    await settle(processes)
    one.wire.publish([record(1), record(1, "r2"), record(None, text='你\0\n\t"\ud83d'), record(1, "r3")])
    one.wire.publish([record(2)])
    assert [await two.take() for _ in range(3)] == [record(1), record(None, text='你\0\n\t"\ud83d'), record(2)]
    assert await three.take() == record(1, "r2")
    await settle(processes)
    assert not any(process.arrived for process in processes)


async def test_a_run_may_be_followed_and_published_by_several_processes(processes: list[Process]) -> None:
    one, two, three = processes
    for process in processes:
        process.wire.follow("r1")
    await settle(processes)
    one.wire.publish([record(1)])
    assert await two.take() == await three.take() == record(1)
    two.wire.publish([record(2)])
    assert await one.take() == await three.take() == record(2)


async def test_many_records_arrive_in_order(processes: list[Process]) -> None:
    one, two, _ = processes
    two.wire.follow("r1")
    await settle(processes)
    for seq in range(1, 1001):
        one.wire.publish([record(None, text="x" * 60), record(seq)])
    for seq in range(1, 1001):
        assert await two.take() == record(None, text="x" * 60)
        assert await two.take() == record(seq)


async def test_a_run_that_is_no_longer_followed_is_not_received(processes: list[Process]) -> None:
    one, two, _ = processes
    two.wire.follow("r1")
    await settle(processes)
    two.wire.unfollow("r1")
    await settle(processes)
    one.wire.publish([record(1)])
    one.wire.signal(Signal.ENDED, "c1")
    assert await two.take() == (Signal.ENDED, "c1")
    await settle(processes)
    assert not two.arrived


async def test_ids_that_no_run_has_are_of_no_consequence(processes: list[Process]) -> None:
    one, two, _ = processes
    for run in ("", "x\ny", "\ud83d", "你", "r" * 100_000, '"]'):
        two.wire.follow(run)
        two.wire.unfollow(run)
        two.wire.follow(run)
    two.wire.follow("r1")
    await settle(processes)
    one.wire.publish([record(1)])
    assert await two.take() == record(1)


async def test_a_wire_without_other_processes_sends_nothing() -> None:
    alone = Process(LocalWire())
    alone.wire.follow("r1")
    alone.wire.publish([record(1)])
    alone.wire.signal(Signal.QUEUED)
    assert alone.wire.is_connected
    assert not alone.arrived
