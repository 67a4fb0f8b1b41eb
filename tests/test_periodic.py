"""Periodic work: how it is woken, how it outlasts a database that is away, and how it ends. Work for many callers at
once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from math import inf

import pytest

from headrace.background import Batched, Periodic, back_off, background, cancel
from headrace.errors import StoreError


class Counting:
    """Work that counts its calls, and raises the errors it is given first."""

    def __init__(self, *errors: Exception, pause: float | None = None) -> None:
        self.errors = list(errors)
        self.pause = pause
        self.calls = 0
        self.called = asyncio.Event()

    async def __call__(self) -> float | None:
        self.calls += 1
        self.called.set()
        if self.errors:
            raise self.errors.pop(0)
        return self.pause

    async def next_call(self) -> None:
        async with asyncio.timeout(30):
            await self.called.wait()
        self.called.clear()


async def test_work_waits_until_it_is_woken() -> None:
    work = Counting(pause=inf)
    periodic = Periodic("work", work)
    async with background("work", periodic.run()):
        await work.next_call()
        for _ in range(3):
            periodic.wake()
            await work.next_call()
    assert work.calls == 4


async def test_what_is_woken_during_the_work_is_not_missed() -> None:
    calls: list[int] = []
    done = asyncio.Event()

    async def work() -> float:
        calls.append(len(calls))
        if len(calls) == 1:
            periodic.wake()
        else:
            done.set()
        return inf

    periodic = Periodic("work", work)
    async with background("work", periodic.run()), asyncio.timeout(30):
        await done.wait()


async def test_wakes_in_quick_succession_are_handled_together() -> None:
    work = Counting(pause=inf)
    periodic = Periodic("work", work, delay=0.001)
    async with background("work", periodic.run()):
        await work.next_call()
        for _ in range(100):
            periodic.wake()
        await work.next_call()
    assert work.calls == 2


async def test_a_failure_is_logged_once_until_the_work_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    broken = StoreError("is damaged", transient=False)
    work = Counting(broken, broken, broken)
    periodic = Periodic("work", work, 1.0)
    assert [await periodic.once() for _ in range(5)] == [1.0, 2.0, 4.0, 1.0, 1.0]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "work failed: is damaged"
    ]
    work.errors = [OSError("no space")]
    await periodic.once()
    assert "work failed: no space" in caplog.text


async def test_a_bug_ends_the_work_and_is_raised_with_the_block() -> None:
    work = Counting(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        async with background("work", Periodic("work", work, 1.0).run()) as task:
            await asyncio.wait((task,))


async def test_the_block_ends_its_work() -> None:
    async with background("work", Periodic("work", Counting(pause=inf)).run()) as task:
        pass
    assert task.cancelled()


async def test_cancelled_tasks_have_ended_in_order() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(name)

    tasks = [asyncio.create_task(work(name)) for name in "abc"]
    await asyncio.sleep(0)
    await cancel(*tasks)
    assert ended == ["a", "b", "c"]


def test_pauses_grow_to_a_cap() -> None:
    assert [back_off(failures, 1.0, 5.0) for failures in (1, 2, 3, 4, 1000)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert back_off(3, 60.0, 5.0) == 60.0, "what is rarer anyway is not made more frequent"


# --------------------------------------------------------------------------------------------------- many at once


async def test_what_is_requested_together_is_one_call() -> None:
    calls: list[list[int]] = []

    async def double(keys: Sequence[int]) -> dict[int, int]:
        calls.append([*keys])
        await asyncio.sleep(0)
        return {key: 2 * key for key in keys if key != 3}

    batched = Batched(double, 4)
    assert await asyncio.gather(*(batched.get(key) for key in range(6))) == [0, 2, 4, None, 8, 10]
    assert calls == [[0, 1, 2, 3], [4, 5]]
    assert await batched.get(7) == 14


async def test_a_failed_call_fails_for_those_in_it_alone() -> None:
    async def fail_for_some(keys: Sequence[int]) -> dict[int, int]:
        if 1 in keys:
            raise StoreError("the database is locked")
        return dict.fromkeys(keys, 0)

    batched = Batched(fail_for_some, 2)
    results = await asyncio.gather(*(batched.get(key) for key in range(4)), return_exceptions=True)
    assert [isinstance(result, StoreError) for result in results] == [True, True, False, False]


async def test_a_caller_that_is_cancelled_holds_up_no_other() -> None:
    may_end = asyncio.Event()

    async def wait(keys: Sequence[int]) -> dict[int, int]:
        await may_end.wait()
        return dict.fromkeys(keys, 1)

    batched = Batched(wait, 2)
    cancelled, other = (asyncio.create_task(batched.get(key)) for key in range(2))
    await asyncio.sleep(0)
    await cancel(cancelled)
    may_end.set()
    assert await other == 1
