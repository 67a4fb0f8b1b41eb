"""What happens by itself happens once, with two services on one database: forms that expire, schedules, the retry of a
callback, and retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.http import HttpClient
from headrace.background import background
from headrace.kernel.events import FormExpired, RunEnded, RunId
from headrace.ports import Callback, Pruned
from headrace.retention import DAY, Retention
from headrace.runs.forms import expire_forms
from headrace.runs.service import Submission
from headrace.stores.sql import SqlStorage
from headrace.triggers import ScheduleTimer
from headrace.webhooks import DeliveryPolicy, WebhookSender
from tests.human_input.flows import REVIEW
from tests.human_input.world import HOUR, people
from tests.human_input.world import Clock as FormClock
from tests.native.receivers import receiver
from tests.runs.service import ECHO, SECRET, publish, run_service, working
from tests.triggers.world import Clock, cron, triggered, world

from .examples import whole

Two = tuple[SqlStorage, SqlStorage]


@pytest.fixture
async def two(url: str) -> AsyncIterator[Two]:
    first, second = [await SqlStorage.open(url) for _ in range(2)]
    for store in (first, second):
        await store.leases.heartbeat()
    yield first, second
    await first.aclose()
    await second.aclose()


async def delivered(store: SqlStorage, run: RunId) -> Callback:
    for _ in range(6000):
        (callback,) = await store.callbacks.callbacks_of(run)
        if callback.status == "delivered":
            return callback
        await asyncio.sleep(0.01)
    raise AssertionError(f"it is {callback.status}")


async def test_a_form_expires_once(two: Two) -> None:
    clock = FormClock()
    here, there = (people(store, clock) for store in two)
    async with working(here.service), working(there.service):
        runs = [await here.start(REVIEW, q=str(number)) for number in range(4)]
        clock.now += HOUR
        await asyncio.gather(*(expire_forms(where.service) for where in (here, there) for _ in range(2)))
        for run in runs:
            assert (await there.ended(run)).status == "succeeded"
    for run in runs:
        kinds = [type(event) for event in await here.events(run)]
        assert (kinds.count(FormExpired), kinds.count(RunEnded)) == (1, 1)


async def test_a_schedule_starts_one_run_each_time(two: Two, tmp_path: Path) -> None:
    clock = Clock()
    async with AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(world(tmp_path, store, clock)) for store in two]
        for where in worlds:  # as processes that serve the same files
            await where.publish(triggered(cron("0 * * * *")))
        timers = [ScheduleTimer(where.triggers, DAY) for where in worlds]
        for hour in range(4):
            await asyncio.gather(*(timer.poll() for timer in timers))
            assert len(await worlds[0].runs()) == hour
            clock.now += HOUR


async def test_a_callback_is_repeated_by_one_of_two(two: Two) -> None:
    policy = DeliveryPolicy(back_off=(0.05, 0.05), poll_seconds=0.01)
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(receiver(500, 503, 200))
        services = [await stack.enter_async_context(working(run_service(store))) for store in two]
        for store, where in zip(two, services, strict=True):
            http = HttpClient(("127.0.0.1",))
            stack.push_async_callback(http.aclose)
            sender = WebhookSender(where, store.callbacks, store.claims, http, SECRET, policy)
            await stack.enter_async_context(background("webhooks", sender.run()))
        release = await publish(services[0], ECHO)
        run = (await services[0].submit(Submission(release, "somebody", {"q": "hi"}, callback=there.url))).run
        posts = [await there.next() for _ in range(3)]
        callback = await delivered(two[1], run)
    assert callback.attempts == 3
    assert {post.id for post in posts} == {callback.id}
    assert len(there.posts) == 3


async def test_retention_is_the_work_of_one(two: Two, tmp_path: Path) -> None:
    pruned: list[Pruned] = []

    class Counted(Retention):
        async def prune(self, *, dry_run: bool = False, files: bool = True) -> Pruned:
            pruned.append(await super().prune(dry_run=dry_run, files=files))
            return pruned[-1]

    for number in range(3):
        await two[0].journal.append(whole(f"r{number}"))
    blobs = FileBlobStore(tmp_path / "files")
    both = [
        Counted(store.pruner, blobs, {"succeeded": DAY}, lambda: 1000.0 + 30 * DAY, claims=store.claims)
        for store in two
    ]
    await asyncio.gather(*(retention._prune_hourly() for retention in both))
    assert [item.runs for item in pruned] == [3]
