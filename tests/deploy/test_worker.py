"""A worker that is about to end: what it takes no more, what it lets end, and in which order it gives the rest back."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from headrace.background import Slots
from headrace.dispatch import LocalDispatch
from headrace.errors import ServerDraining
from headrace.kernel.events import RunId
from headrace.ports import Claim
from headrace.runs.worker import Worker
from headrace.stores.memory import memory_storage
from tests.runs.service import GATED, Gate, publish, submission_of
from tests.runs.service import run_service as new_service


async def test_it_takes_no_more_and_gives_back_in_order() -> None:
    Gate.reset()
    run_service = new_service(memory_storage())
    release = await publish(run_service, GATED)
    worker = Worker(run_service, concurrency=5)
    working = asyncio.create_task(worker.run())
    runs = [(await run_service.submit(submission_of(release))).run for _ in range(5)]
    async with asyncio.timeout(60):
        while Gate.entered < 5:
            await Gate.begun.wait()
            await asyncio.sleep(0)

    worker.drain()
    assert not worker.is_idle  # five are in progress
    waiting = (await run_service.submit(submission_of(release))).run
    run_service.draining = True
    with pytest.raises(ServerDraining):
        await run_service.submit(submission_of(release))
    assert not worker.is_idle
    assert Gate.entered == 5

    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    assert worker.is_idle
    claims: list[RunId] = []
    all_given = asyncio.Event()

    async def take(claim: Claim) -> None:
        claims.append(claim.run)
        if len(claims) == 6:
            all_given.set()

    another = asyncio.create_task(LocalDispatch(run_service.leases).work(take, Slots(1)))
    await asyncio.wait_for(all_given.wait(), 60)
    another.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await another
    assert claims == [*runs, waiting]
