"""What every bus promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from headrace.brokers import LocalBus, SharedBus
from headrace.kernel.events import Delta, NodeStarted, Record
from headrace.ports import Bus
from headrace.stores.memory import memory_storage


@pytest.fixture(params=["local", "shared"])
def bus(request: pytest.FixtureRequest) -> Bus:
    return LocalBus() if request.param == "local" else SharedBus(memory_storage().journal, dict)


def _record(seq: int | None, run: str = "r1") -> Record:
    return Record(run, seq, 1.0, NodeStarted(str(seq)) if seq else Delta("llm", "text", 0, "hi"))


async def _take(live: AsyncIterator[Sequence[Record]], many: int) -> list[Record]:
    taken: list[Record] = []
    while len(taken) < many:
        taken += await anext(live)
    return taken


async def test_a_subscriber_gets_what_is_published_from_then_on(bus: Bus) -> None:
    bus.publish([_record(1)])
    async with bus.subscribe("r1") as records:
        bus.publish([_record(2), _record(None), _record(3)])
        bus.publish([_record(4)])
        assert await _take(records, 4) == [_record(2), _record(None), _record(3), _record(4)]


async def test_a_subscriber_waits_for_more(bus: Bus) -> None:
    async with bus.subscribe("r1") as records:
        waiting = asyncio.create_task(_take(records, 2))
        await asyncio.sleep(0)
        bus.publish([_record(1)])
        await asyncio.sleep(0)
        bus.publish([_record(2)])
        assert await waiting == [_record(1), _record(2)]


async def test_runs_are_apart_and_every_subscriber_gets_all(bus: Bus) -> None:
    async with bus.subscribe("r1") as one, bus.subscribe("r1") as two, bus.subscribe("r2") as other:
        bus.publish([_record(1), _record(1, "r2"), _record(2)])
        for records in (one, two):
            assert await _take(records, 2) == [_record(1), _record(2)]
        assert await _take(other, 1) == [_record(1, "r2")]


async def test_a_subscriber_that_left_hinders_nobody(bus: Bus) -> None:
    async with bus.subscribe("r1") as stays:
        with pytest.raises(ZeroDivisionError):
            async with bus.subscribe("r1"):
                raise ZeroDivisionError
        bus.publish([_record(1)])
        assert await _take(stays, 1) == [_record(1)]
    bus.publish([_record(2)])


async def test_a_wait_given_up_loses_nothing(bus: Bus) -> None:
    async with bus.subscribe("r1") as records:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(records), 0.001)
        bus.publish([_record(1), _record(2)])
        assert await _take(records, 2) == [_record(1), _record(2)]


async def test_a_slow_subscriber_loses_the_oldest_and_never_the_last() -> None:
    bus = LocalBus(backlog=3)
    async with bus.subscribe("r1") as records:
        bus.publish([_record(seq) for seq in (1, None, 2, None, 3, 4)])
        # the gap before 2 shows that the journal is to be read
        assert await _take(records, 3) == [_record(2), _record(3), _record(4)]
