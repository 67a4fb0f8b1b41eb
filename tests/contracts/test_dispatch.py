"""What every dispatch promises."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace import dispatch as module
from headrace.background import Slots
from headrace.brokers import LocalWire
from headrace.dispatch import LocalDispatch, SharedDispatch
from headrace.kernel.events import RunId
from headrace.ports import Backlog, Claim, Dispatch, Drive, Priority, ReadyRun, Storage
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage
from tests.temporal_server import own_queues


def work(run: RunId, workspace: str = "default", priority: Priority = Priority.API, seq: int = 1) -> ReadyRun:
    return ReadyRun(run, seq, workspace, "app", priority)


@pytest.fixture(params=["memory", "sqlite", "postgresql", "temporal"])
async def dispatch(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Dispatch]:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    if request.param == "temporal":
        async with own_queues(request.getfixturevalue("temporal_server"), memory_storage()) as temporal:
            yield temporal
    elif request.param == "memory":
        yield LocalDispatch(memory_storage().leases)
    else:
        on_postgresql = request.param == "postgresql"
        url = request.getfixturevalue("postgresql_url") if on_postgresql else f"sqlite:///{tmp_path}/headrace.db"
        store = await SqlStorage.open(url)
        yield SharedDispatch(store.leases, store.queue, LocalWire())
        await store.aclose()


@asynccontextmanager
async def working(dispatch: Dispatch, drive: Drive, slots: int | Slots = 1) -> AsyncGenerator[asyncio.Task[None]]:
    task = asyncio.create_task(dispatch.work(drive, Slots(slots) if isinstance(slots, int) else slots))
    try:
        async with asyncio.timeout(60):
            yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Driven:
    """Drives that end when they are allowed to. `fails`: how many of the next ones raise."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[Claim] = asyncio.Queue()
        self.ended: asyncio.Queue[RunId] = asyncio.Queue()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.fails = 0
        self.now = 0
        self.most = 0

    async def __call__(self, claim: Claim) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.put_nowait(claim)
        try:
            await self.may_end.wait()
            if self.fails:
                self.fails -= 1
                raise ZeroDivisionError
            self.ended.put_nowait(claim.run)
        finally:
            self.now -= 1

    async def begins(self, count: int) -> list[RunId]:
        return [(await self.begun.get()).run for _ in range(count)]


@pytest.mark.parametrize("dispatch", ["local"], indirect=True)  # Temporal's is not strict
async def test_runs_are_driven_in_order(dispatch: Dispatch) -> None:
    driven = Driven()
    for run in ("a", "b", "c"):
        await dispatch.ready(work(run))
    async with working(dispatch, driven):
        assert await driven.begins(3) == ["a", "b", "c"]


async def test_a_worker_waits_for_runs(dispatch: Dispatch) -> None:
    driven = Driven()
    async with working(dispatch, driven):
        for run in ("a", "b"):
            await dispatch.ready(work(run))
            assert await driven.begins(1) == [run]


async def test_a_run_that_is_ready_twice_is_driven_once(dispatch: Dispatch) -> None:
    driven = Driven()
    for run in ("a", "a", "b", "a"):
        await dispatch.ready(work(run))
    async with working(dispatch, driven):
        assert sorted(await driven.begins(2)) == ["a", "b"]
        await dispatch.ready(work("c"))
        assert await driven.begins(1) == ["c"]


async def test_a_run_that_is_ready_while_it_is_driven_is_driven_once_more(dispatch: Dispatch) -> None:
    driven = Driven()
    driven.may_end.clear()
    async with working(dispatch, driven, slots=3):
        await dispatch.ready(work("a"))
        assert await driven.begins(1) == ["a"]
        for _ in range(2):
            await dispatch.ready(work("a", seq=2))  # another number may reach a worker of Temporal's after this drive
        await dispatch.ready(work("b"))
        assert await driven.begins(1) == ["b"], "nobody else may drive a claimed run"
        driven.may_end.set()
        assert await driven.begins(1) == ["a"]
        assert [await driven.ended.get() for _ in range(3)] == ["a", "b", "a"]
        await dispatch.ready(work("c"))
        assert await driven.begins(1) == ["c"]


async def test_a_drive_that_fails_is_repeated(dispatch: Dispatch) -> None:
    driven = Driven()
    driven.fails = 2
    async with working(dispatch, driven):
        await dispatch.ready(work("a"))
        claims = [await driven.begun.get() for _ in range(3)]
        assert [claim.run for claim in claims] == ["a"] * 3
        assert [claim.attempt for claim in claims] == [1, 2, 3]
        assert await driven.ended.get() == "a"


async def test_a_worker_that_ends_leaves_its_runs_to_the_next(dispatch: Dispatch) -> None:
    driven = Driven()
    driven.may_end.clear()
    for run in ("a", "b", "c"):
        await dispatch.ready(work(run))
    async with working(dispatch, driven, slots=2):
        await driven.begins(2)
    assert not driven.now
    driven.may_end.set()
    async with working(dispatch, driven, slots=2):
        assert sorted(await driven.begins(3)) == ["a", "b", "c"]


async def test_a_worker_that_drains_ends_what_it_drives_and_takes_nothing_more(dispatch: Dispatch) -> None:
    driven = Driven()
    driven.may_end.clear()
    async with working(dispatch, driven, slots=2):
        await dispatch.ready(work("a"))
        assert await driven.begins(1) == ["a"]
        dispatch.drain()
        await dispatch.ready(work("b"))
        driven.may_end.set()
        assert await driven.ended.get() == "a"
        for _ in range(10):
            await asyncio.sleep(0)
    assert driven.begun.empty()


async def test_no_more_runs_than_slots_are_driven_at_once(dispatch: Dispatch) -> None:
    driven = Driven()
    driven.may_end.clear()
    runs = [f"r{number}" for number in range(100)]
    for run in runs:
        await dispatch.ready(work(run))
    async with working(dispatch, driven, slots=7):
        await driven.begins(7)
        driven.may_end.set()
        assert sorted([await driven.ended.get() for _ in runs]) == sorted(runs)
    assert driven.most == 7


async def test_a_slot_that_is_lent_starts_another_run(dispatch: Dispatch) -> None:
    slots = Slots(1)
    called, ended = asyncio.Event(), asyncio.Event()

    async def drive(claim: Claim) -> None:
        if claim.run == "called":
            called.set()
            return
        await dispatch.ready(work("called"))
        with slots.lend():
            await called.wait()
        ended.set()

    async with working(dispatch, drive, slots):
        await dispatch.ready(work("caller"))
        await ended.wait()


async def test_the_backlog_counts_what_waits(dispatch: Dispatch) -> None:
    assert await dispatch.backlog() == Backlog(0, 0)
    for run in ("a", "b"):
        await dispatch.ready(work(run))
    async with asyncio.timeout(60):
        while (backlog := await dispatch.backlog()).waiting < 2:  # noqa: ASYNC110 - an engine may count late
            await asyncio.sleep(0.01)
    assert backlog.waiting == 2
    assert 0 <= backlog.oldest < 60


async def test_what_no_slot_is_free_for_is_driven_by_another_worker(storage: Storage) -> None:
    if storage.queue is None:
        pytest.skip("has no other worker")
    first, second = (SharedDispatch(storage.leases, storage.queue, wire) for wire in wires())
    busy, idle = Driven(), Driven()
    busy.may_end.clear()
    async with working(first, busy):
        await first.ready(work("a"))
        assert await busy.begins(1) == ["a"]
        await first.ready(work("b"))
        async with working(second, idle):
            assert await idle.begins(1) == ["b"]


async def test_a_slot_that_is_taken_while_the_queue_is_read_is_not_claimed_for(storage: Storage) -> None:
    queue = storage.queue
    if queue is None:
        pytest.skip("has no other worker")
    read, go_on, claims = asyncio.Event(), asyncio.Event(), list[int]()

    class Read:
        put, restore, backlogs = queue.put, queue.restore, queue.backlogs

        async def is_empty(self) -> bool:
            read.set()
            await go_on.wait()
            return await queue.is_empty()

        async def claim(self, most: int) -> list[RunId]:
            claims.append(most)
            return await queue.claim(most)

    reading: Any = Read()
    my_wire, other_wire = wires()
    mine = SharedDispatch(storage.leases, reading, my_wire)
    other = SharedDispatch(storage.leases, queue, other_wire)
    busy, idle = Driven(), Driven()
    busy.may_end.clear()
    async with working(mine, busy):
        await read.wait()
        await mine.ready(work("a"))
        await mine.ready(work("b"))
        go_on.set()
        assert await busy.begins(1) == ["a"]
        async with working(other, idle):
            assert await idle.begins(1) == ["b"]
    assert claims == []


async def test_a_run_is_driven_where_a_slot_is_free_unless_something_waits(storage: Storage) -> None:
    if storage.queue is None:
        pytest.skip("has no other worker")
    dispatch = SharedDispatch(storage.leases, storage.queue, LocalWire())
    assert not dispatch.ready_here(work("early")), "no worker claims runs here"
    driven = Driven()
    driven.may_end.clear()
    async with working(dispatch, driven, slots=2):
        await dispatch.ready(work("a"))
        assert await driven.begins(1) == ["a"]
        async with asyncio.timeout(60):
            while not dispatch.ready_here(work("b")):  # noqa: ASYNC110 - until it knows that nothing waits
                await asyncio.sleep(0.001)
        assert await driven.begins(1) == ["b"]
        assert dispatch.ready_here(work("b", seq=2)), "it is driven here"
        assert not dispatch.ready_here(work("c"))
        assert await storage.queue.is_empty()


def wires() -> list[LocalWire]:
    group: list[LocalWire] = []
    return [LocalWire(group), LocalWire(group)]


def test_a_lost_claim_calls_back() -> None:
    calls: list[str] = []
    early, late = Claim("a"), Claim("b")
    early.lose()
    late.on_lost = lambda: calls.append("late")
    late.lose()
    assert (calls, early.lost, late.lost) == (["late"], True, True)
