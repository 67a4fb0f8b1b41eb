"""A store that fails in the middle of a run: what passes is waited for, what stays ends the run, and no node that is
paid for is asked again for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from headrace import dispatch
from headrace.engine import outbox
from headrace.engine.attempts import MAX_RECOVERIES, TOO_MANY_RECOVERIES
from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import (
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.node import Config, Context, Flow, Node, Result
from headrace.ports import Storage
from headrace.runs import worker
from headrace.stores.memory import MemoryJournal, memory_storage
from headrace.stores.memory.leases import MemoryLeases
from headrace.stores.sql import SqlStorage

from .service import ECHO, GATED, REGISTRY, Gate, publish, run_service, submission_of, working


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    Gate.reset()
    Gate.release.set()
    monkeypatch.setattr(outbox, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(dispatch, "MAX_PAUSE", 0.01)
    monkeypatch.setattr(dispatch, "RECONCILE_SECONDS", 0.01)


class Failing(MemoryJournal):
    """A store that refuses appends for as long as `fails` says so. `late`: what it refuses it has written."""

    def __init__(self, fails: Callable[[Sequence[Record]], Exception | None], *, late: bool = False) -> None:
        super().__init__()
        self._fails = fails
        self._late = late

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        error = self._fails(records)
        if error is None:
            return super().append(records)  # pyright: ignore[reportReturnType]
        if self._late and not isinstance(error, SequenceConflict):
            super().append(records)
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(error)
        return failed


def has(records: Sequence[Record], kind: type) -> bool:
    return any(isinstance(record.event, kind) for record in records)


async def ended(store: Storage) -> list[Record]:
    """The records of a gated run, once it has ended."""
    where = run_service(store)
    release = await publish(where, GATED)
    async with working(where), asyncio.timeout(60), where.open(submission_of(release)) as started:
        return [record async for record in started.records]


def end_of(records: Sequence[Record]) -> RunEnded:
    last = records[-1].event
    assert isinstance(last, RunEnded)
    return last


async def test_a_result_is_held_while_the_database_is_away() -> None:
    refusals = 0

    def fails(records: Sequence[Record]) -> StoreError | None:
        nonlocal refusals
        if has(records, NodeSucceeded) and refusals < 5:
            refusals += 1
            return StoreError("database is locked")
        return None

    store = memory_storage(Failing(fails))
    records = await ended(store)
    assert end_of(records).status == "succeeded"
    assert refusals == 5
    assert Gate.entered == 1, "the node is not run again for it"
    numbers = [record.seq for record in records if record.seq is not None]
    assert numbers == [*range(1, len(numbers) + 1)]


async def test_a_commit_whose_answer_was_lost_is_not_made_twice() -> None:
    lost = 0

    def fails(records: Sequence[Record]) -> StoreError | None:
        nonlocal lost
        if has(records, NodeSucceeded) and not lost:
            lost += 1
            return StoreError("the connection is lost")
        return None

    store = memory_storage(Failing(fails, late=True))
    assert end_of(await ended(store)).status == "succeeded"
    assert (lost, Gate.entered) == (1, 1)


async def test_what_can_never_be_written_ends_the_run_and_is_not_tried_again() -> None:
    refusals = 0

    def fails(records: Sequence[Record]) -> StoreError | None:
        nonlocal refusals
        if any(isinstance(record.event, NodeSucceeded) and record.event.path == "g" for record in records):
            refusals += 1
            return StoreError("/data/headrace.db cannot be written: too large", transient=False, reason="too large")
        return None

    end = end_of(await ended(memory_storage(Failing(fails))))
    assert (end.status, end.error) == ("failed", "The outputs of the run cannot be stored: too large")
    assert (refusals, Gate.entered) == (1, 1)


async def test_where_the_sums_cannot_be_written_either_the_run_ends_without_them() -> None:
    def fails(records: Sequence[Record]) -> StoreError | None:
        sums = any(isinstance(record.event, RunEnded) and record.event.steps for record in records)
        late = any(isinstance(record.event, NodeSucceeded) and record.event.path == "g" for record in records)
        return StoreError("integer out of range", transient=False) if sums or late else None

    end = end_of(await ended(memory_storage(Failing(fails))))
    assert (end.status, end.steps) == ("failed", 0)
    assert "integer out of range" in (end.error or "")


async def test_a_node_whose_result_is_never_kept_is_not_run_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "HOLD_SECONDS", 0.0)

    def fails(records: Sequence[Record]) -> StoreError | None:
        # what is small still fits: that a node starts can be written, what it puts out cannot
        late = any(isinstance(record.event, NodeSucceeded) and record.event.path == "g" for record in records)
        return StoreError("database or disk is full") if late else None

    records = await ended(memory_storage(Failing(fails)))
    end = end_of(records)
    assert (end.status, end.error) == ("failed", TOO_MANY_RECOVERIES)
    assert Gate.entered == 1 + MAX_RECOVERIES
    assert sum(isinstance(record.event, RunResumed) for record in records) == MAX_RECOVERIES


async def test_a_run_rests_longer_after_each_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(dispatch, "MAX_PAUSE", 0.2)
    tries: list[float] = []

    class Locked(MemoryLeases):
        async def acquire(self, of: Collection[RunId]) -> set[RunId]:
            tries.append(asyncio.get_running_loop().time())
            if len(tries) < 7:
                raise StoreError("the database is locked")
            return await super().acquire(of)

    store = memory_storage()
    where = run_service(store)
    where.leases = Locked(where.environment.journal)
    run = (await where.submit(submission_of(await publish(where, GATED)))).run
    await store.journal.append([Record(run, 2, 0.0, RunStarted())])
    where.take_handover(run)
    async with where.environment.bus.subscribe(run) as live, working(where), asyncio.timeout(60):
        while not isinstance((await anext(live))[-1].event, RunEnded):
            pass
    pauses = [after - before for before, after in pairwise(tries)]
    floors = [0.8 * pause for pause in (0.02, 0.04, 0.08, 0.16, 0.2, 0.2)]
    assert len(pauses) == 6
    assert all(pause >= floor for pause, floor in zip(pauses, floors, strict=True)), pauses


async def test_a_run_whose_workflow_cannot_be_read_at_present_continues_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 0.01)
    store = memory_storage()
    where = run_service(store)
    release = await publish(where, ECHO)
    flow, failures = where.apps.flow, [StoreError("the database system is starting up") for _ in range(3)]

    async def read(app: str, version: str) -> Flow:
        if failures:
            raise failures.pop()
        return await flow(app, version)

    monkeypatch.setattr(where.apps, "flow", read)
    run = (await where.submit(submission_of(release, q="x"))).run
    async with where.environment.bus.subscribe(run) as live, working(where), asyncio.timeout(60):
        while not isinstance((records := await anext(live))[-1].event, RunEnded):
            pass
    assert (end_of(records).status, failures) == ("succeeded", [])


async def test_a_defect_that_comes_again_and_again_ends_the_run(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    class Broken(MemoryLeases):
        async def acquire(self, of: Collection[RunId]) -> set[RunId]:
            nonlocal tries
            tries += 1
            raise KeyError("a defect")

    store = memory_storage()
    where = run_service(store)
    where.leases = Broken(where.environment.journal)
    run = (await where.submit(submission_of(await publish(where, GATED)))).run
    await store.journal.append([Record(run, 2, 0.0, RunStarted())])
    where.take_handover(run)
    async with where.environment.bus.subscribe(run) as live, working(where), asyncio.timeout(60):
        while not isinstance((records := await anext(live))[-1].event, RunEnded):
            pass
    end = end_of(records)
    assert (end.status, tries) == ("failed", worker.MAX_ATTEMPTS)
    assert "a defect" in (end.error or "")
    assert sum(record.exc_info is not None for record in caplog.records) == 1, "its trace is logged once"


async def test_a_run_that_rests_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(dispatch, "MAX_PAUSE", 1000.0)
    tried = asyncio.Event()

    class Locked(MemoryLeases):
        async def acquire(self, of: Collection[RunId]) -> set[RunId]:
            tried.set()
            raise StoreError("the database is locked")

    store = memory_storage()
    where = run_service(store)
    where.leases = Locked(where.environment.journal)
    run = (await where.submit(submission_of(await publish(where, GATED)))).run
    await store.journal.append([Record(run, 2, 0.0, RunStarted())])
    where.take_handover(run)
    async with where.environment.bus.subscribe(run) as live, working(where), asyncio.timeout(60):
        await tried.wait()
        await where.stop(run, "ada")
        while not isinstance((records := await anext(live))[-1].event, RunEnded):
            pass
    assert end_of(records).status == "stopped"


class Costly(Node[Config]):
    """Says of what it was paid what nobody can be paid."""

    type = "gate"

    async def run(self, ctx: Context) -> Result:
        usage = {"total_tokens": 10**30, "prompt_tokens": 1e30, "completion_tokens": -1, "total_price": "a lot"}
        return Result({"text": "half \ud83d", "secret": 10**40}, usage=usage)


async def test_a_usage_that_nobody_can_have_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "gate", Costly)  # pyright: ignore[reportArgumentType]
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    records = await ended(store)  # pyright: ignore[reportArgumentType]
    end = end_of(records)
    assert (end.status, end.outputs["key"], end.tokens) == ("succeeded", 10**40, 2**53 - 1)
    queued = records[0]
    assert isinstance(queued.event, RunQueued)
    stored = await store.runs.find_run(queued.run)
    assert stored is not None
    assert (stored.status, stored.tokens) == ("succeeded", 2**53 - 1)
    await store.aclose()
