"""A follower in one process receives what another one writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path

import pytest

from headrace.background import background
from headrace.brokers import POLL_SECONDS, LocalWire, SharedBus
from headrace.errors import StoreError
from headrace.kernel.events import NodeStarted, Record, RunEnded, RunId, RunStarted
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.journal import SqlJournal
from tests.contracts.examples import numbered, queued


class Counted(SqlJournal):
    """A journal that counts its queries."""

    numbered = 0
    away = False
    refused: asyncio.Event

    async def last_sequences(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        self.numbered += 1
        if self.away:
            self.refused.set()
            raise StoreError("database is locked")
        return await super().last_sequences(of)


class Two:
    def __init__(self, here: SqlStorage, elsewhere: SqlStorage) -> None:
        self.here, self.elsewhere = here, elsewhere
        self.driven: set[RunId] = set()
        self.journal = Counted(here.database, here.writer)
        self.journal.refused = asyncio.Event()
        self.bus = SharedBus(self.journal, lambda: self.driven)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    url = f"sqlite:///{tmp_path}/headrace.db"
    here, elsewhere = await SqlStorage.open(url), await SqlStorage.open(url)
    both = Two(here, elsewhere)
    looking = asyncio.create_task(both.bus.polling.run())
    yield both
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    await here.aclose()
    await elsewhere.aclose()


async def until(live: AsyncIterator[Sequence[Record]], seq: int) -> list[Record]:
    received: list[Record] = []
    async with asyncio.timeout(60):
        while not received or received[-1].seq != seq:
            received += await anext(live)
    return received


async def test_what_another_process_writes_is_received_with_the_next_poll(two: Two) -> None:
    await two.elsewhere.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    polls: list[int] = []
    async with two.bus.subscribe("r1") as live:
        first = await until(live, 2)
        assert [record.seq for record in first] == [2], "the newest: who lacks more reads the journal"
        for seq in range(3, 13):
            before = two.journal.numbered
            await two.elsewhere.journal.append(numbered("r1", [NodeStarted(str(seq))], after=seq - 1))
            assert [record.seq for record in await until(live, seq)] == [seq]
            polls.append(two.journal.numbered - before)
    assert polls == [1] * 10
    assert POLL_SECONDS <= 0.1


async def test_several_records_written_at_once_come_in_order_and_once(two: Two) -> None:
    await two.elsewhere.journal.append(numbered("r1", [queued("r1")]))
    async with two.bus.subscribe("r1") as one, two.bus.subscribe("r1") as other:
        await until(one, 1)
        await two.elsewhere.journal.append(numbered("r1", [NodeStarted(str(n)) for n in range(50)], after=1))
        await two.elsewhere.journal.append(numbered("r1", [RunEnded("succeeded")], after=51))
        assert [record.seq for record in await until(one, 52)] == [*range(2, 53)]
        assert [record.seq for record in await until(other, 52)][-51:] == [*range(2, 53)]


async def test_a_run_that_is_driven_here_is_not_looked_for(two: Two) -> None:
    await two.here.journal.append(numbered("r1", [queued("r1")]))
    await two.elsewhere.journal.append(numbered("r2", [queued("r2")]))
    two.driven.add("r1")
    async with two.bus.subscribe("r1") as live:
        async with two.bus.subscribe("r2") as other:
            await until(other, 1)
        before = two.journal.numbered
        await two.here.journal.append(numbered("r1", [RunStarted()], after=1))
        two.bus.publish(numbered("r1", [RunStarted()], after=1))
        assert [record.seq for record in await until(live, 2)] == [2]
        async with two.bus.subscribe("r2") as other:
            await until(other, 1)
    assert two.journal.numbered == before + 1, "for the other run, and as that one is new here"


async def test_nothing_is_looked_for_while_nothing_changes(two: Two) -> None:
    await two.elsewhere.journal.append(numbered("r1", [queued("r1")]))
    looks, changed = asyncio.Semaphore(0), two.journal.changed

    async def counted() -> bool:
        looks.release()
        return await changed()

    two.journal.changed = counted
    async with two.bus.subscribe("r1") as live:
        await until(live, 1)
        await looks.acquire()
        before = two.journal.numbered
        for _ in range(5):
            await looks.acquire()
        assert two.journal.numbered <= before + 1


async def test_what_was_written_while_the_database_was_away_is_received_after(two: Two) -> None:
    await two.elsewhere.journal.append(numbered("r1", [queued("r1")]))
    async with two.bus.subscribe("r1") as live:
        await until(live, 1)
        two.journal.away = True
        await two.elsewhere.journal.append(numbered("r1", [RunStarted()], after=1))
        async with asyncio.timeout(60):
            await two.journal.refused.wait()
        two.journal.away = False
        assert (await until(live, 2))[-1].seq == 2


class FollowedWire(LocalWire):
    """A wire that notes what is followed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: asyncio.Queue[tuple[str, RunId]] = asyncio.Queue()

    def follow(self, run: RunId) -> None:
        self.changes.put_nowait(("follow", run))

    def unfollow(self, run: RunId) -> None:
        self.changes.put_nowait(("unfollow", run))


@contextlib.asynccontextmanager
async def wired(two: Two, poll_seconds: float = 3600.0) -> AsyncIterator[tuple[SharedBus, FollowedWire]]:
    wire = FollowedWire()
    bus = SharedBus(two.journal, lambda: two.driven, wire, poll_seconds)
    async with background("bus", bus.polling.run()):
        yield bus, wire


async def test_other_processes_are_asked_for_the_runs_that_they_may_drive(two: Two) -> None:
    two.driven.add("mine")
    async with wired(two) as (bus, wire), asyncio.timeout(60):
        async with bus.subscribe("mine"), bus.subscribe("r1"), bus.subscribe("r1"):
            assert await wire.changes.get() == ("follow", "r1")
        assert {await wire.changes.get(), await wire.changes.get()} == {("unfollow", "mine"), ("unfollow", "r1")}
        assert wire.changes.empty()


async def test_a_run_that_is_no_longer_driven_here_is_asked_for(two: Two) -> None:
    two.driven.add("r1")
    async with wired(two, poll_seconds=0.01) as (bus, wire), bus.subscribe("r1"), asyncio.timeout(60):
        await asyncio.sleep(0.03)
        assert wire.changes.empty()
        two.driven.clear()
        assert await wire.changes.get() == ("follow", "r1")


async def test_records_that_are_announced_are_read_from_the_journal_once(two: Two) -> None:
    await two.elsewhere.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    async with wired(two) as (bus, _), bus.subscribe("r1") as live, bus.subscribe("r1") as other:
        bus.on_records(numbered("r1", [queued("r1")]))
        bus.on_head("r1", 2)
        bus.on_head("unknown", 7)
        assert [record.seq for record in await until(live, 2)] == [1, 2]
        assert [record.seq for record in await until(other, 2)] == [1, 2]
        bus.on_head("r1", 2)
        bus.on_records(numbered("r1", [RunEnded("succeeded")], after=2))
        assert [record.seq for record in await until(live, 3)] == [3]
    assert two.journal.numbered == 0, "nobody asks for the runs' last numbers"


async def test_what_the_wire_has_lost_is_found_by_the_next_poll(two: Two) -> None:
    await two.elsewhere.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    async with wired(two, poll_seconds=0.05) as (bus, _), bus.subscribe("r1") as live:
        bus.on_records(numbered("r1", [queued("r1")]))
        assert [record.seq for record in await until(live, 2)] == [1, 2]


async def test_a_store_sees_what_others_commit(two: Two) -> None:
    await two.here.journal.changed()
    assert not await two.here.journal.changed()
    await two.elsewhere.journal.append(numbered("r1", [queued("r1")]))
    assert await two.here.journal.changed()
    assert not await two.here.journal.changed()
