"""What it costs a worker to take over the runs of a dead one: a number of statements that hardly grows with theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from headrace.kernel.events import NodeStarted, Record, RunResumed, RunStarted
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.writer import Call
from tests.stores.plans import listening

from .examples import numbered, queued

RUNS = 200
NAMES = [f"r{number:03}" for number in range(RUNS)]


@pytest.fixture
async def two(url: str) -> AsyncIterator[tuple[SqlStorage, SqlStorage]]:
    """Two workers, and the runs of a third one that has died."""
    mine, other, dead = [await SqlStorage.open(url) for _ in range(3)]
    for store in (mine, other, dead):
        await store.leases.heartbeat()
    for name in NAMES:
        await dead.journal.append(numbered(name, [queued(name), RunStarted(), NodeStarted("n")]))
    await dead.aclose()
    yield mine, other
    await mine.aclose()
    await other.aclose()


async def test_many_runs_are_taken_over_by_few_statements(two: tuple[SqlStorage, SqlStorage]) -> None:
    mine, _ = two
    with listening(mine) as statements:
        await mine.queue.restore(await mine.leases.orphaned())
        claimed = [await mine.queue.claim(50) for _ in range(RUNS // 50)]
        for part in claimed:
            assert await mine.leases.acquire(part) == {*part}
        records = await mine.journal.read_all(NAMES)
        is_released = threading.Event()
        mine.journal._writer.submit(
            Call(lambda _: is_released.wait(60), "the writer")
        )  # the appends form one transaction
        resumed = [Record(name, len(records[name]) + 1, 2000.0, RunResumed(True)) for name in NAMES]
        appends = [asyncio.ensure_future(mine.journal.append([record])) for record in resumed]
        is_released.set()
        await asyncio.gather(*appends)
    assert sorted(run for part in claimed for run in part) == NAMES
    assert len(statements) < RUNS / 2, [statement for statement, _ in statements]


async def test_what_one_reconciler_has_dispatched_another_leaves_alone(two: tuple[SqlStorage, SqlStorage]) -> None:
    mine, other = two
    orphaned, same = await mine.leases.orphaned(), await other.leases.orphaned()
    assert orphaned == same
    await mine.queue.restore(orphaned)
    claimed = [run for _ in range(RUNS // 50) for run in await mine.queue.claim(50)]
    assert sorted(claimed) == NAMES
    assert await other.queue.restore(same) == set()
    assert await other.queue.claim(RUNS) == []
