"""Slots that no app and no workspace can use up."""

import asyncio
from collections import Counter

import pytest

from headrace.adapters.sandbox.slots import Owner, Slots


class Crowd:
    """Programs that hold their slots until they are let go."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.running: Counter[Owner] = Counter()
        self.order: list[Owner] = []
        self._ends: dict[Owner, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, owner: Owner, count: int = 1) -> None:
        for _ in range(count):
            end = asyncio.Event()
            self._ends.setdefault(owner, []).append(end)
            self.tasks.append(asyncio.create_task(self._program(owner, end)))
        await self.settle()

    async def _program(self, owner: Owner, end: asyncio.Event) -> None:
        async with self.slots.slot(owner):
            self.running[owner] += 1
            self.order.append(owner)
            await end.wait()
            self.running[owner] -= 1

    async def end(self, owner: Owner, count: int = 1) -> None:
        for _ in range(count):
            self._ends[owner].pop(0).set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end_all(self) -> None:
        for ends in self._ends.values():
            for end in ends:
                end.set()
        await asyncio.gather(*self.tasks)


A, B, C = Owner("w", "a"), Owner("w", "b"), Owner("w", "c")


async def test_one_app_alone_gets_half_and_another_comes_in_at_once() -> None:
    crowd = Crowd(Slots(16))
    await crowd.start(A, 40)
    assert crowd.running[A] == 8
    await crowd.start(B)
    assert crowd.running[B] == 1
    await crowd.start(B, 40)
    assert crowd.running[B] <= crowd.running[A] <= 8
    await crowd.end_all()
    assert crowd.slots.used == 0


async def test_five_apps_that_sleep_let_a_sixth_in() -> None:
    crowd = Crowd(Slots(16))
    for app in "abcde":
        await crowd.start(Owner("w", app), 32)
    for _ in range(10):
        small = Owner("w", "small")
        await crowd.start(small)
        assert crowd.running[small] == 1
        await crowd.end(small)
    await crowd.end_all()
    assert crowd.slots.used == 0


async def test_a_workspace_of_many_apps_lets_another_workspace_in() -> None:
    crowd = Crowd(Slots(4))
    for app in range(100):
        await crowd.start(Owner("many", str(app)), 2)
    assert crowd.slots.used <= 16
    other = Owner("other", "a")
    await crowd.start(other)
    assert crowd.running[other] == 1
    await crowd.end_all()
    assert crowd.slots.used == 0


async def test_those_who_wait_are_served_by_workspace_then_app_then_age() -> None:
    crowd = Crowd(Slots(1, most=1))
    await crowd.start(A)
    x = Owner("x", "x")
    await crowd.start(B, 2)
    await crowd.start(C, 2)
    await crowd.start(x, 2)
    for owner in [A, B, x, C, x, B]:
        await crowd.end(owner)
    assert crowd.order == [A, B, x, C, x, B, C]
    await crowd.end_all()


async def test_one_that_gives_up_leaves_nothing_behind() -> None:
    crowd = Crowd(Slots(1, most=1))
    await crowd.start(A)
    await crowd.start(B)
    await crowd.start(C)
    crowd.tasks[1].cancel()
    await crowd.settle()
    await crowd.end(A)
    assert crowd.running == {A: 0, C: 1}
    with pytest.raises(asyncio.CancelledError):
        await crowd.tasks.pop(1)
    await crowd.end_all()
    assert crowd.slots.used == 0


async def test_one_that_is_cancelled_in_the_moment_of_its_turn_gives_it_on() -> None:
    crowd = Crowd(Slots(1, most=1))
    await crowd.start(A)
    await crowd.start(B)
    await crowd.start(C)
    crowd._ends[A][0].set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    crowd.tasks[1].cancel()
    await crowd.settle()
    await asyncio.gather(crowd.tasks.pop(1), return_exceptions=True)
    assert crowd.running[C] == 1
    await crowd.end_all()
    assert crowd.slots.used == 0


async def test_many_that_are_cancelled_at_once_give_everything_back() -> None:
    crowd = Crowd(Slots(2, most=4))
    for app in "abcdef":
        await crowd.start(Owner("w", app), 5)
    for task in crowd.tasks:
        task.cancel()
    await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert crowd.slots.used == 0
    crowd.tasks.clear()
    crowd.running.clear()
    await crowd.start(A)
    assert crowd.running[A] == 1
    await crowd.end_all()
