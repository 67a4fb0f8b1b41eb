"""What every queue promises."""

from __future__ import annotations

import asyncio

import pytest

from headrace.brokers import LocalQueue
from headrace.ports import Queue


@pytest.fixture(params=["local"])
def queue() -> Queue:
    return LocalQueue()


async def _claim(queue: Queue) -> str:
    async with queue.claim("w") as run:
        return run


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_runs_are_handed_out_in_order(queue: Queue) -> None:
    for run in ("a", "b", "c"):
        await queue.put(run)
    assert [await _claim(queue) for _ in range(3)] == ["a", "b", "c"]


async def test_a_claim_waits_for_a_run(queue: Queue) -> None:
    first, second = asyncio.create_task(_claim(queue)), asyncio.create_task(_claim(queue))
    await _settle()
    await queue.put("a")
    assert await first == "a"
    assert not second.done()
    await queue.put("b")
    assert await second == "b"


async def test_a_run_put_twice_while_it_waits_is_handed_out_once(queue: Queue) -> None:
    for run in ("a", "a", "b", "a"):
        await queue.put(run)
    assert [await _claim(queue) for _ in range(2)] == ["a", "b"]
    more = asyncio.create_task(_claim(queue))
    await _settle()
    assert not more.done()
    more.cancel()


async def test_a_run_put_while_it_is_claimed_comes_once_more_after_its_release(queue: Queue) -> None:
    await queue.put("a")
    async with queue.claim("w1") as run:
        await queue.put(run)
        await queue.put(run)
        again = asyncio.create_task(_claim(queue))
        await _settle()
        assert not again.done(), "nobody else may work on a claimed run"
    assert await again == "a"
    more = asyncio.create_task(_claim(queue))
    await _settle()
    assert not more.done()
    more.cancel()


async def test_a_block_left_by_an_exception_gives_the_run_back(queue: Queue) -> None:
    await queue.put("a")
    with pytest.raises(ZeroDivisionError):
        async with queue.claim("w1"):
            raise ZeroDivisionError
    assert await _claim(queue) == "a"


async def test_a_cancelled_worker_gives_its_run_back(queue: Queue) -> None:
    claimed = asyncio.Event()

    async def work() -> None:
        async with queue.claim("w1"):
            claimed.set()
            await asyncio.Event().wait()

    await queue.put("a")
    worker = asyncio.create_task(work())
    await claimed.wait()
    worker.cancel()
    assert await _claim(queue) == "a"


async def test_a_claim_cancelled_while_it_waits_loses_nothing(queue: Queue) -> None:
    first, second = asyncio.create_task(_claim(queue)), asyncio.create_task(_claim(queue))
    await _settle()
    first.cancel()
    await _settle()
    await queue.put("a")
    assert await second == "a"


async def test_a_claim_cancelled_as_it_is_handed_a_run_loses_nothing(queue: Queue) -> None:
    first, second = asyncio.create_task(_claim(queue)), asyncio.create_task(_claim(queue))
    await _settle()
    await queue.put("a")
    first.cancel()
    assert await second == "a"
    await queue.put("a")
    assert await _claim(queue) == "a"


async def test_many_workers_share_many_runs(queue: Queue) -> None:
    done: list[str] = []
    all_done = asyncio.Event()

    async def work() -> None:
        while True:
            async with queue.claim("w") as run:
                await asyncio.sleep(0)
                done.append(run)
                if len(done) == 1000:
                    all_done.set()

    workers = [asyncio.create_task(work()) for _ in range(16)]
    runs = [f"r{n}" for n in range(1000)]
    for run in runs:
        await queue.put(run)
    await all_done.wait()
    for worker in workers:
        worker.cancel()
    assert sorted(done) == sorted(runs)
