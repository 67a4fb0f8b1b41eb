"""What every implementation of timers promises: the moment comes to a process that serves its kind, and what is due is
done once, however often it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from headrace.background import Periodic
from headrace.errors import StoreError
from headrace.ports import HandledElsewhere, Timer, TimerKind, Timers
from headrace.runs.timers import LocalTimers


@pytest.fixture(params=["local", "temporal"])
async def timers(request: pytest.FixtureRequest) -> AsyncGenerator[Timers]:
    if request.param == "local":
        yield LocalTimers(time.time)
        return
    from headrace.adapters.temporal import TemporalTimers
    from headrace.adapters.temporal.connection import Connection

    server = request.getfixturevalue("temporal_server")
    async with aclosing(TemporalTimers(Connection(server.options(), {}, "a process"))) as temporal:
        yield temporal


class Rows:
    """Rows that become due at a time, and are done once; `fails`: how many attempts fail."""

    def __init__(self, **due: float) -> None:
        self.due = due
        self.done: list[str] = []
        self.early: list[str] = []  # handled before they were due
        self.fails = 0
        self.looking = Periodic("looking", self._look)
        self._changed = asyncio.Event()

    def wake(self) -> None:
        self.looking.wake()

    async def handle(self, row: str) -> None:
        if self.due.get(row, 0.0) > time.time():
            self.early.append(row)
        if self.fails:
            self.fails -= 1
            raise HandledElsewhere("another process has it") if self.fails % 2 else StoreError("the database is away")
        await self._do(row)

    async def _look(self) -> None:
        if self.fails:
            self.fails -= 1
            raise StoreError("the database is away")
        for row in list(self.due):
            await self._do(row)

    async def _do(self, row: str) -> None:
        if row in self.due and self.due[row] <= time.time():
            del self.due[row]
            self.done.append(row)
            self._changed.set()

    async def until_done(self, *rows: str) -> None:
        async with asyncio.timeout(60):
            while not {*rows} <= {*self.done}:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def serving(timers: Timers, rows: Rows, kind: TimerKind = TimerKind.CALLBACK) -> AsyncGenerator[None]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(timers.serving(kind, rows))
        looking = asyncio.create_task(rows.looking.run(first=3600.0))  # it is woken, or looks too late for the test
        try:
            yield
        finally:
            looking.cancel()


def timer(row: str, at: float, kind: TimerKind = TimerKind.CALLBACK) -> Timer:
    return Timer(kind, row, at, "app", "run")


async def test_a_row_is_done_at_its_time_and_not_before(timers: Timers) -> None:
    now = time.time()
    rows = Rows(later=now + 1.0, now=now, past=now - 100.0)
    async with serving(timers, rows):
        for row, at in list(rows.due.items()):
            timers.set(timer(row, at))
        await rows.until_done("now", "past", "later")
    assert time.time() >= now + 1.0
    assert rows.early == []


async def test_a_timer_that_is_set_again_and_again_changes_nothing(timers: Timers) -> None:
    at = time.time() + 0.3
    rows = Rows(row=at, after=at + 0.5)
    async with serving(timers, rows):
        for _ in range(5):
            timers.set(timer("row", at))
        await rows.until_done("row")
        timers.set(timer("row", at))
        timers.set(timer("after", at + 0.5))
        await rows.until_done("after")
    assert sorted(rows.done) == ["after", "row"]


async def test_a_row_that_was_not_done_is_tried_again(timers: Timers) -> None:
    rows = Rows(row=time.time())
    rows.fails = 3
    async with serving(timers, rows):
        timers.set(timer("row", rows.due["row"]))
        await rows.until_done("row")
    assert rows.fails == 0


async def test_a_row_that_is_postponed_is_done_later(timers: Timers) -> None:
    now = time.time()
    rows = Rows(row=now + 0.8)  # since the timer was set
    async with serving(timers, rows):
        timers.set(timer("row", now + 0.2))
        timers.set(timer("row", now + 0.8))
        await rows.until_done("row")
    assert rows.done == ["row"]
    assert time.time() >= now + 0.8


async def test_kinds_do_not_mix(timers: Timers) -> None:
    at = time.time()
    forms, schedules = Rows(form=at), Rows(schedule=at)
    async with serving(timers, forms, TimerKind.FORM), serving(timers, schedules, TimerKind.SCHEDULE):
        timers.set(timer("form", at, TimerKind.FORM))
        timers.set(timer("schedule", at, TimerKind.SCHEDULE))
        await forms.until_done("form")
        await schedules.until_done("schedule")
    assert (len(forms.done), len(schedules.done)) == (1, 1)


async def test_many_timers_at_once(timers: Timers) -> None:
    at = time.time() + 0.5
    rows = Rows(**{f"r{number}": at for number in range(200)})
    names = list(rows.due)
    async with serving(timers, rows):
        for name in names:
            timers.set(timer(name, at))
        await rows.until_done(*names)
    assert len(rows.done) == 200


async def test_nothing_is_done_after_the_end(timers: Timers) -> None:
    rows = Rows(row=time.time() + 0.2)
    async with serving(timers, rows):
        timers.set(timer("row", rows.due["row"]))
    assert rows.done == []
    assert timers.look_seconds(1.0) >= 1.0
    assert timers.look_seconds(600.0) == 600.0
