"""Two workers on one database, as in two processes: who does which run, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy import update

from headrace import dispatch
from headrace.kernel.events import NodeStarted, Record, RunEnded, RunId, RunResumed, RunStarted, StopRequested
from headrace.runs import worker
from headrace.runs.service import RunService
from headrace.runs.worker import Worker
from headrace.stores.sql import SqlStorage, schema
from headrace.stores.sql.leases import SqlLeases

from .service import GATED, Gate, publish, submission_of, working
from .service import run_service as new_service

SILENT = GATED.replace("{variable: text, value_selector: [g, text]}, ", "")  # the gate streams nothing to anybody


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[RunService]]:
    monkeypatch.setattr(dispatch, "RECONCILE_SECONDS", 0.02)
    monkeypatch.setattr(worker, "OVERTAKEN_SECONDS", 0.02)
    Gate.reset()
    stores = [await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db") for _ in range(2)]
    yield [new_service(store) for store in stores]  # pyright: ignore[reportArgumentType]
    for store in stores:
        await store.aclose()


@contextlib.asynccontextmanager
async def both(two: Sequence[RunService]) -> AsyncGenerator[None]:
    """Both work, and what is asked for from now on is theirs."""
    for item in two:
        await item.leases.heartbeat()
    async with working(two[0]), working(two[1]):
        for item in two:
            await looks(item)
        yield


async def begun(runs: int) -> None:
    """Until so many runs have come to the gate."""
    async with asyncio.timeout(60):
        while Gate.entered < runs:
            Gate.begun.clear()
            await Gate.begun.wait()


async def looks(where: RunService) -> None:
    """Until a worker has looked twice for what it could take up."""
    leases = where.leases
    looked, orphaned = asyncio.Semaphore(0), leases.orphaned

    async def counted() -> list[RunId]:
        runs = await orphaned()
        looked.release()
        return runs

    leases.orphaned = counted
    async with asyncio.timeout(60):
        for _ in range(2):
            await looked.acquire()
    leases.orphaned = orphaned


async def take_over(where: RunService, run: RunId) -> None:
    """Gives a run that another worker drives to this one."""
    assert isinstance(where.leases, SqlLeases)
    statement = update(schema.runs).where(schema.runs.c.run == run).values(owner=where.leases.worker)
    await where.leases._database.write(lambda connection: connection.execute(statement))
    await where.dispatch_again(run)


async def let_go(where: RunService) -> None:
    """Until nothing is driven there."""
    for _ in range(6000):
        if not where.driving:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it is driven still")


async def ended(where: RunService, run: RunId) -> RunEnded:
    async with asyncio.timeout(60):
        while True:
            last = (await where.environment.journal.read(run))[-1].event
            if isinstance(last, RunEnded):
                return last
            await asyncio.sleep(0.01)


async def test_neither_takes_what_the_other_does(two: list[RunService]) -> None:
    mine, other = two
    release = await publish(mine, GATED)
    async with both(two):
        runs = [(await mine.submit(submission_of(release))).run for _ in range(3)]
        await begun(3)
        await looks(other)
        assert Gate.entered == 3
        assert not other.driving
        Gate.release.set()
        for run in runs:
            assert (await ended(mine, run)).status == "succeeded"


async def test_a_stop_asked_for_at_the_other_ends_a_run_at_once(two: list[RunService]) -> None:
    mine, other = two
    release = await publish(mine, SILENT)
    async with both(two):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        await other.stop(run, "ada")
        assert (await ended(other, run)).status == "stopped"
        await let_go(mine)
    events = [record.event for record in await mine.environment.journal.read(run)]
    assert sum(isinstance(event, StopRequested) for event in events) == 1
    assert Gate.entered == 1


async def test_a_process_without_a_worker_stops_a_run_while_a_node_is_working(two: list[RunService]) -> None:
    mine, other = two
    release = await publish(mine, SILENT)
    async with working(mine):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        assert not mine.leases.shared, "no other worker is known"
        await other.stop(run, "ada")
        assert (await ended(other, run)).status == "stopped"
    assert Gate.entered == 1


async def test_a_stop_is_not_lost_on_a_run_that_the_other_has_taken_up_unseen(
    two: list[RunService], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "OVERTAKEN_SECONDS", 60)
    mine, other = two
    release = await publish(mine, SILENT)
    async with both(two):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        await take_over(other, run)  # as if the first one had been silent for too long
        await begun(2)
        assert {*mine.driving} == {*other.driving} == {run}
        await mine.stop(run, "ada")
        assert (await ended(other, run)).status == "stopped"
    assert Gate.entered == 2


async def test_a_run_that_the_other_has_taken_up_is_let_go(two: list[RunService]) -> None:
    mine, other = two
    release = await publish(mine, SILENT)
    async with both(two):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        await take_over(other, run)
        await begun(2)
        await let_go(mine)
        assert set(other.driving) == {run}
        Gate.release.set()
        assert (await ended(other, run)).status == "succeeded"
    resumed = [isinstance(record.event, RunResumed) for record in await other.environment.journal.read(run)]
    assert sum(resumed) == 1


async def test_what_waits_goes_to_a_free_slot_and_a_drained_run_to_the_other(two: list[RunService]) -> None:
    mine, other = two
    release = await publish(mine, GATED)
    await mine.leases.heartbeat()
    draining = Worker(mine, concurrency=1)
    task = asyncio.create_task(draining.run())
    runs = [(await mine.submit(submission_of(release))).run for _ in range(3)]
    await begun(1)
    async with working(other):
        await begun(3)
        draining.drain()
        assert not draining.is_idle
        await looks(other)
        assert set(mine.driving) == {runs[0]}
        assert set(other.driving) == set(runs[1:])

        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await begun(4)
        assert set(other.driving) == set(runs)
        Gate.release.set()
        for run in runs:
            assert (await ended(other, run)).status == "succeeded"
    resumed = [
        sum(isinstance(item.event, RunResumed) for item in await other.environment.journal.read(run)) for run in runs
    ]
    assert resumed == [1, 0, 0]


async def test_a_run_that_both_would_begin_is_begun_once(two: list[RunService]) -> None:
    mine, other = two
    release = await publish(mine, GATED)
    runs = [
        (await mine.submit(submission_of(release))).run for _ in range(20)
    ]  # by one that does no runs, as yet: anybody's
    async with working(mine), working(other):
        await begun(20)
        await looks(mine)
        await looks(other)
        assert Gate.entered == 20
        assert {*mine.driving, *other.driving} == set(runs)
        Gate.release.set()
        for run in runs:
            assert (await ended(mine, run)).status == "succeeded"
    for run in runs:
        events = [record.event for record in await mine.environment.journal.read(run)]
        assert events.count(NodeStarted("g")) == 1
        assert not any(isinstance(event, RunResumed) for event in events)


async def test_the_runs_of_a_dead_worker_are_taken_over_together(two: list[RunService]) -> None:
    dead, other = two
    release = await publish(other, GATED)
    await dead.leases.heartbeat()
    names = [(await dead.submit(submission_of(release))).run for _ in range(120)]
    for run in names:
        await dead.environment.journal.append([Record(run, 2, dead.environment.clock(), RunStarted())])
    assert isinstance(dead.leases, SqlLeases)
    await dead.leases.leave()
    calls = 0
    read_all = other.environment.journal.read_all

    async def counted(of: Collection[RunId]) -> Mapping[RunId, list[Record]]:
        nonlocal calls
        calls += 1
        return await read_all(of)

    other.environment.journal.read_all = counted
    async with working(other, concurrency=200):
        await begun(len(names))
        Gate.release.set()
        for run in names:
            assert (await ended(other, run)).status == "succeeded"
    assert calls <= 12, "they are read many at a time"
    assert Gate.entered == len(names), "each is driven once"
