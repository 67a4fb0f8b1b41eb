"""Two workers on one database, as in two processes: who does which run, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace import worker
from headrace.kernel.events import NodeStarted, RunEnded, RunId, RunResumed, StopRequested
from headrace.runtime import Runtime
from headrace.stores.sql import SqlStore
from headrace.worker import Worker

from .service import GATED, Gate, asked, publish, working
from .service import runtime as made


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Runtime]]:
    monkeypatch.setattr(worker, "RECONCILE_SECONDS", 0.02)
    Gate.reset()
    stores = [await SqlStore.open(f"sqlite:///{tmp_path}/headrace.db") for _ in range(2)]
    yield [made(store) for store in stores]  # pyright: ignore[reportArgumentType]
    for store in stores:
        await store.aclose()


async def begun(runs: int) -> None:
    """Until so many runs have come to the gate."""
    async with asyncio.timeout(5):
        while Gate.entered < runs:
            Gate.begun.clear()
            await Gate.begun.wait()


async def looks(where: Runtime) -> None:
    """Until a worker has looked twice for what it could take up."""
    journal = where.world.journal
    looked, adrift = asyncio.Semaphore(0), journal.adrift

    async def counted() -> list[RunId]:
        found = await adrift()
        looked.release()
        return found

    journal.adrift = counted
    async with asyncio.timeout(5):
        for _ in range(2):
            await looked.acquire()
    journal.adrift = adrift


async def ended(where: Runtime, run: RunId) -> RunEnded:
    async with asyncio.timeout(5):
        while True:
            last = (await where.world.journal.read(run))[-1].event
            if isinstance(last, RunEnded):
                return last
            await asyncio.sleep(0.01)


async def test_neither_takes_what_the_other_does(two: list[Runtime]) -> None:
    mine, other = two
    served = await publish(mine, GATED)
    async with working(mine), working(other):
        runs = [(await mine.submit(asked(served))).run for _ in range(3)]
        await begun(3)
        await looks(other)
        assert Gate.entered == 3
        assert not other.driving
        Gate.opened.set()
        for run in runs:
            assert (await ended(mine, run)).status == "succeeded"


async def test_a_stop_asked_for_at_the_other_ends_a_run_at_once(two: list[Runtime]) -> None:
    mine, other = two
    served = await publish(mine, GATED)
    async with working(mine), working(other):
        run = (await mine.submit(asked(served))).run
        await begun(1)
        await other.stop(run, "ada")
        assert (await ended(other, run)).status == "stopped"
    events = [record.event for record in await mine.world.journal.read(run)]
    assert sum(isinstance(event, StopRequested) for event in events) == 1
    assert Gate.entered == 1


async def test_whoever_drains_leaves_what_waits_to_the_other_and_ends_what_it_has_begun(two: list[Runtime]) -> None:
    mine, other = two
    served = await publish(mine, GATED)
    draining = Worker(mine, concurrency=1)
    task = asyncio.create_task(draining.run())
    runs = [(await mine.submit(asked(served))).run for _ in range(3)]
    await begun(1)
    async with working(other):
        await looks(other)
        assert not other.driving
        assert draining.drain() is False
        await begun(3)
        await looks(other)
        assert set(mine.driving) == {runs[0]}
        assert set(other.driving) == set(runs[1:])

        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await begun(4)
        assert set(other.driving) == set(runs)
        Gate.opened.set()
        for run in runs:
            assert (await ended(other, run)).status == "succeeded"
    resumed = [sum(isinstance(each.event, RunResumed) for each in await other.world.journal.read(run)) for run in runs]
    assert resumed == [1, 0, 0]


async def test_a_run_that_both_would_begin_is_begun_once(two: list[Runtime]) -> None:
    mine, other = two
    served = await publish(mine, GATED)
    runs = [(await mine.submit(asked(served))).run for _ in range(20)]  # by one that does no runs, as yet: anybody's
    async with working(mine), working(other):
        await begun(20)
        await looks(mine)
        await looks(other)
        assert Gate.entered == 20
        assert {*mine.driving, *other.driving} == set(runs)
        Gate.opened.set()
        for run in runs:
            assert (await ended(mine, run)).status == "succeeded"
    for run in runs:
        events = [record.event for record in await mine.world.journal.read(run)]
        assert events.count(NodeStarted("g")) == 1
        assert not any(isinstance(event, RunResumed) for event in events)
