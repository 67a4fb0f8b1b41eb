"""How many calls of models may begin, whichever processes make them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete, func, select

from headrace.ports import Granted, Storage
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.schema import model_slots, workers


@pytest.fixture
async def three(url: str) -> AsyncIterator[list[SqlStorage]]:
    stores = [await SqlStorage.open(url) for _ in range(3)]
    for store in stores:
        await store.leases.heartbeat()
    yield stores
    for store in stores:
        await store.aclose()


async def rows(store: SqlStorage) -> int:
    statement = select(func.count()).select_from(model_slots)
    return await store.database.run(lambda connection: connection.execute(statement).scalar_one())


async def test_as_many_calls_begin_as_the_limit_allows(store: Storage) -> None:
    slots = store.model_slots
    assert await slots.request("openai", 3, 0, 2) == Granted(2, others_wait=False)
    assert await slots.request("openai", 3, 2, 5) == Granted(1, others_wait=False)
    assert await slots.request("openai", 3, 3, 4) == Granted(0, others_wait=False)
    assert await slots.request("openai", 1, 3, 4) == Granted(0, others_wait=False), "a smaller limit than before"
    assert await slots.request("openai", 3, 1, 4) == Granted(2, others_wait=False), "two have ended"
    assert await slots.request("openai", 3, 0, 0) == Granted(0, others_wait=False)


async def test_each_limit_is_counted_by_itself(store: Storage) -> None:
    assert (await store.model_slots.request("openai", 1, 0, 1)).calls == 1
    assert (await store.model_slots.request("名 \0", 1, 0, 1)).calls == 1


async def test_workers_share_a_limit(three: list[SqlStorage]) -> None:
    one, two, third = (store.model_slots for store in three)
    assert (await one.request("openai", 2, 0, 5)).calls == 2
    assert await two.request("openai", 2, 0, 1) == Granted(0, others_wait=True)
    assert await third.request("openai", 2, 0, 1) == Granted(0, others_wait=True)
    assert await one.request("openai", 2, 1, 3) == Granted(0, others_wait=True), "others have waited for longer"
    assert (await third.request("openai", 2, 0, 1)).calls == 0, "it came last"
    assert (await two.request("openai", 2, 0, 1)).calls == 1
    assert (await one.request("openai", 2, 0, 4)).calls == 1, "its calls have waited for longer than that of the third"
    assert (await one.request("openai", 2, 0, 4)).calls == 0
    assert (await third.request("openai", 2, 0, 1)).calls == 1


async def test_workers_that_always_wait_take_turns(three: list[SqlStorage]) -> None:
    active, order, begun = [0, 0, 0], [0, 1, 2], list[int]()
    for turn in range(12):
        for number in order:
            granted = (await three[number].model_slots.request("openai", 1, active[number], 1)).calls
            active[number] += granted
            begun += [number] * granted
        assert sum(active) == 1, turn
        active[begun[-1]] = 0  # its call ends, and it is the first to know
        order.sort(key=begun[-1].__ne__)
    assert begun == [0, 1, 2] * 4


async def test_requests_at_once_are_granted_no_more_than_the_limit(three: list[SqlStorage]) -> None:
    granted = await asyncio.gather(*(store.model_slots.request("openai", 4, 0, 4) for store in three))
    assert sum(grant.calls for grant in granted) == 4


async def test_a_dead_worker_has_no_calls(three: list[SqlStorage]) -> None:
    one, two, _ = three
    assert (await one.model_slots.request("openai", 1, 0, 2)).calls == 1
    assert (await two.model_slots.request("openai", 1, 0, 1)).calls == 0
    dead = delete(workers).where(workers.c.id == one.leases.worker)
    await two.database.write(lambda connection: connection.execute(dead))
    assert await two.model_slots.request("openai", 1, 0, 1) == Granted(1, others_wait=False)
    await two.model_slots.request("openai", 1, 0, 0)
    assert await rows(two) == 0, "nothing is left of it, and of who needs nothing"
