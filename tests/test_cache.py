"""The cache of what was read from the store: callers at the same time share one read."""

from __future__ import annotations

import asyncio

import pytest

from headrace.cache import Cache


class Store:
    """Counts its reads; each ends once it is allowed to."""

    def __init__(self) -> None:
        self.reads = 0
        self.value = "first"
        self.error: Exception | None = None
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()

    async def read(self) -> str:
        self.reads += 1
        self.began.set()
        value = self.value
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return value


async def test_callers_without_a_value_wait_for_one_read() -> None:
    cache, store = Cache[str](10), Store()
    callers = [asyncio.create_task(cache.get("key", store.read)) for _ in range(20)]
    await asyncio.sleep(0)
    store.may_end.set()
    assert await asyncio.gather(*callers) == ["first"] * 20
    assert store.reads == 1


async def test_a_caller_that_leaves_does_not_end_the_read() -> None:
    cache, store = Cache[str](10), Store()
    leaves, stays = (asyncio.create_task(cache.get("key", store.read)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait([leaves])
    store.may_end.set()
    assert await stays == "first"
    assert leaves.cancelled()
    assert store.reads == 1


async def test_what_is_read_while_something_changes_is_not_kept() -> None:
    cache, store = Cache[str](10), Store()
    early = asyncio.create_task(cache.get("key", store.read))
    await store.began.wait()
    store.value = "second"
    cache.invalidate()
    late = asyncio.create_task(cache.get("key", store.read))
    await asyncio.sleep(0)
    store.may_end.set()
    assert await early == "first"
    assert await late == "second"
    assert await cache.get("key", store.read) == "second"
    assert store.reads == 2


async def test_a_read_that_takes_longer_than_a_value_lasts_is_not_joined() -> None:
    cache, store = Cache[str](10, 0.0), Store()
    callers = [asyncio.create_task(cache.get("key", store.read)) for _ in range(2)]
    await asyncio.sleep(0)
    store.may_end.set()
    assert await asyncio.gather(*callers) == ["first"] * 2
    assert store.reads == 2


async def test_a_failure_reaches_all_callers_and_the_next_one_reads_again() -> None:
    cache, store = Cache[str](10), Store()
    store.error = ValueError("away")
    callers = [asyncio.create_task(cache.get("key", store.read)) for _ in range(3)]
    await asyncio.sleep(0)
    store.may_end.set()
    assert [str(error) for error in await asyncio.gather(*callers, return_exceptions=True)] == ["away"] * 3
    store.error = None
    assert await cache.get("key", store.read) == "first"
    assert store.reads == 2


async def test_while_one_caller_reads_again_others_get_the_old_value(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("headrace.cache.time.monotonic", lambda: now)
    cache, store = Cache[str](10, 1.0), Store()
    store.may_end.set()
    assert await cache.get("key", store.read) == "first"
    now += 0.6
    store.may_end.clear()
    store.value = "second"
    reading = asyncio.create_task(cache.get("key", store.read))
    await asyncio.sleep(0)
    assert await cache.get("key", store.read) == "first"
    now += 0.5  # too old by now: this one waits
    waiting = asyncio.create_task(cache.get("key", store.read))
    await asyncio.sleep(0)
    store.may_end.set()
    assert await asyncio.gather(reading, waiting) == ["second", "second"]
    assert store.reads == 2
