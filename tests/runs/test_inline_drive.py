"""Runs of instant nodes only, which their caller's own task drives."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest

from headrace.brokers import LocalBus
from headrace.engine import EngineEnvironment, driver
from headrace.errors import StoreError
from headrace.kernel.events import Record, RunEnded, RunId
from headrace.node import Flow
from headrace.ports import Storage
from headrace.runs.inline_drive import InlineDrive
from headrace.runs.service import RunService
from headrace.stores.memory import MemoryJournal, memory_storage
from tests.engine.worlds import NOTHING
from tests.runs.service import ECHO, GATED, Gate, publish, run_service, submission_of, working


class CountingJournal(MemoryJournal):
    """Counts appends; each waits for `may_end`, and fails with the next of `errors`, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []
        self.errors: list[Exception] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        self.appends.append(len(records))
        if self.errors and isinstance(self.errors[0], ValueError):
            raise self.errors.pop(0)
        return asyncio.ensure_future(self._append(records))

    async def _append(self, records: Sequence[Record]) -> None:
        self.began.set()
        await self.may_end.wait()
        if self.errors:
            raise self.errors.pop(0)
        await super().append(records)


class Observer:
    """Notes what an observer of runs, and of the bus, is notified of."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_acquired(self, records: Sequence[Record], flow: Flow | None) -> None:
        self.notes.append("acquired")

    def on_records(self, records: Sequence[Record]) -> None:
        self.notes += [type(record.event).__name__ for record in records]

    def on_released(self, run: RunId) -> None:
        self.notes.append("released")


@pytest.fixture
async def journal() -> CountingJournal:
    Gate.reset()
    return CountingJournal()


@pytest.fixture
def store(journal: CountingJournal) -> Storage:
    return memory_storage(journal)


async def open_run(where: RunService, content: str = ECHO, **inputs: str) -> list[Record]:
    async with where.open(submission_of(await publish(where, content), **inputs)) as started:
        return [record async for record in started.records]


async def wait_for_room(where: RunService) -> None:
    async with asyncio.timeout(60):
        while not where.dispatch.has_room():  # noqa: ASYNC110 - until its worker has begun
            await asyncio.sleep(0)


async def test_all_records_are_one_append(store: Storage, journal: CountingJournal):
    async with working(run_service(store)) as where:
        await wait_for_room(where)
        records = await open_run(where, q="hunter2!")
    assert journal.appends == [7]
    assert [record.seq for record in records] == list(range(1, 8))
    stored = await journal.read(records[0].run)
    assert isinstance(last := stored[-1].event, RunEnded)
    assert last.outputs == {"q": "hunter2!"}
    assert "hunter2!" not in str(records), "secrets of the workflow are masked"
    assert await where.runs.find_run(records[0].run) is not None
    assert await journal.unfinished() == []


async def test_a_flow_with_another_node_is_for_a_worker(store: Storage, journal: CountingJournal):
    Gate.release.set()
    async with working(run_service(store)) as where:
        await wait_for_room(where)
        await open_run(where, GATED)
    assert len(journal.appends) > 1
    assert journal.appends[0] == 1


async def test_without_a_free_slot_a_run_waits_for_its_turn(store: Storage, journal: CountingJournal):
    async with working(run_service(store), concurrency=1) as where:
        await wait_for_room(where)
        await where.submit(submission_of(await publish(where, GATED)))
        await Gate.begun.wait()
        assert not where.dispatch.has_room()
        before = len(journal.appends)
        waiting = asyncio.create_task(open_run(where, q="later"))
        async with asyncio.timeout(60):
            while len(journal.appends) == before:  # noqa: ASYNC110 - until it is queued
                await asyncio.sleep(0)
        assert journal.appends[before:] == [1]
        Gate.release.set()
        assert len(await waiting) == 7


async def test_more_steps_than_a_slice_are_for_a_worker(
    store: Storage, journal: CountingJournal, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driver, "STEPS_PER_SLICE", 2)
    async with working(run_service(store)) as where:
        await wait_for_room(where)
        assert len(await open_run(where, q="x")) == 7
    assert journal.appends[0] == 1


@pytest.mark.parametrize("error", [StoreError("cannot be stored", transient=False), ValueError("too deep")])
async def test_a_run_that_cannot_be_appended_is_left_to_a_worker(
    store: Storage, journal: CountingJournal, error: Exception
):
    async with working(run_service(store)) as where:
        await wait_for_room(where)
        journal.errors.append(error)
        assert len(await open_run(where, q="x")) == 7
    assert journal.appends[:2] == [7, 1]


async def test_an_outage_is_the_callers_error_and_leaves_nothing(store: Storage, journal: CountingJournal):
    async with working(run_service(store)) as where:
        await wait_for_room(where)
        journal.errors.append(StoreError("the disk is full"))
        with pytest.raises(StoreError, match="the disk is full"):
            await open_run(where, q="x")
    assert journal.appends == [7]
    assert await journal.unfinished() == []


async def test_a_caller_who_leaves_does_not_end_the_run(store: Storage, journal: CountingJournal):
    async with working(run_service(store)) as where:
        await wait_for_room(where)
        journal.may_end.clear()
        waiting = asyncio.create_task(open_run(where, q="x"))
        await journal.began.wait()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        journal.may_end.set()
        release = await publish(where, ECHO)
        async with asyncio.timeout(60):
            while not (await where.runs.activity([release.app.id], 0, 1))[release.app.id].runs:  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert journal.appends == [7]


async def test_an_observer_is_notified_once_the_records_are_durable(store: Storage, journal: CountingJournal):
    where, observer, bus, callbacks = run_service(store), Observer(), LocalBus(), list[str]()
    bus.observers.append(observer.on_records)
    drive = InlineDrive(EngineEnvironment(journal, bus, NOTHING), lambda: callbacks.append("due"), observer)
    submission = replace(submission_of(await publish(where, ECHO), q="x"), callback="http://127.0.0.1/")
    journal.may_end.clear()
    driving = asyncio.create_task(drive(submission.records(1.0)[0], submission.release.flow))
    await journal.began.wait()
    assert (observer.notes, callbacks) == (["acquired"], [])
    journal.may_end.set()
    records = await driving
    assert records is not None
    published = [type(record.event).__name__ for record in records[1:]]
    assert observer.notes == ["acquired", *published, "released"]
    assert callbacks == ["due"]


async def test_a_driver_is_freed_without_the_garbage_collector(store: Storage, journal: CountingJournal):
    submission = submission_of(await publish(run_service(store), ECHO), q="x")
    (queued,) = submission.records(1.0)
    gc.disable()
    try:
        drive = driver.Driver(queued.run, submission.release.flow, EngineEnvironment(journal, LocalBus(), NOTHING))
        assert drive.finish_at_once(queued) is not None
        alive = weakref.ref(drive)
        del drive
        assert alive() is None
    finally:
        gc.enable()
