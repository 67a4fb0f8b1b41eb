"""What every wire promises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headrace.brokers import LocalWire
from headrace.kernel.events import Delta, NodeStarted, Record, RunId
from headrace.ports import Signal, Wire


class Process:
    """What arrives at one of several processes."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.received: asyncio.Queue[Record | tuple[RunId, int] | tuple[Signal, str]] = asyncio.Queue()
        wire.receiver = self
        for signal in Signal:
            wire.on_signal(signal, lambda key, signal=signal: self.received.put_nowait((signal, key)))

    def on_records(self, records: Sequence[Record]) -> None:
        for record in records:
            self.received.put_nowait(record)

    def on_head(self, run: RunId, seq: int) -> None:
        self.received.put_nowait((run, seq))

    async def take(self) -> Record | tuple[RunId, int] | tuple[Signal, str]:
        async with asyncio.timeout(60):
            return await self.received.get()


@pytest.fixture
def processes() -> list[Process]:
    group: list[LocalWire] = []
    return [Process(LocalWire(group)) for _ in range(3)]


def _record(seq: int | None, run: str = "r1") -> Record:
    return Record(run, seq, 1.0, NodeStarted(str(seq)) if seq else Delta("llm", "text", 0, "hi"))


async def test_a_signal_reaches_all_other_processes(processes: list[Process]) -> None:
    one, two, three = processes
    one.wire.signal(Signal.STOPPED, "r1")
    assert await two.take() == await three.take() == (Signal.STOPPED, "r1")
    two.wire.signal(Signal.QUEUED)
    assert await one.take() == await three.take() == (Signal.QUEUED, "")


async def test_records_reach_the_processes_that_follow_their_run(processes: list[Process]) -> None:
    one, two, three = processes
    two.wire.follow("r1")
    three.wire.follow("r2")
    one.wire.publish([_record(1), _record(1, "r2"), _record(None), _record(1, "r3")])
    one.wire.publish([_record(2)])
    assert [await two.take() for _ in range(3)] == [_record(1), _record(None), _record(2)]
    assert await three.take() == _record(1, "r2")


async def test_a_run_that_is_no_longer_followed_is_not_received(processes: list[Process]) -> None:
    one, two, _ = processes
    two.wire.follow("r1")
    two.wire.unfollow("r1")
    one.wire.publish([_record(1)])
    one.wire.signal(Signal.ENDED, "c1")
    assert await two.take() == (Signal.ENDED, "c1")


async def test_a_wire_without_other_processes_is_connected_and_sends_nothing() -> None:
    alone = Process(LocalWire())
    alone.wire.follow("r1")
    alone.wire.publish([_record(1)])
    alone.wire.signal(Signal.QUEUED)
    await asyncio.sleep(0)
    assert alone.wire.is_connected
    assert alone.received.empty()
