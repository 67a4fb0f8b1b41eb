"""Forms, schedules, callbacks and batches whose moments Temporal brings, to whichever process is alive.

The looks at the database, which would do the same a minute later, are switched off where they are not what is tested.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from headrace.adapters.http import HttpClient
from headrace.adapters.temporal import TemporalDispatch, TemporalTimers
from headrace.adapters.temporal.connection import Connection
from headrace.apps.catalog import Apps
from headrace.background import background
from headrace.batches import BatchRunner
from headrace.brokers import LocalBus
from headrace.conversations.annotations import Annotations
from headrace.conversations.messages import Chats
from headrace.engine import EngineEnvironment
from headrace.kernel.events import FormExpired, RunEnded, RunId, RunPaused
from headrace.nodes import registry
from headrace.ports import Batch, BatchLine, Callback, RunFilter, Timer, TimerKind
from headrace.ports.services import Limits
from headrace.runs import form_expiry
from headrace.runs.form_expiry import FormObserver
from headrace.runs.service import RunService, Submission
from headrace.runs.worker import Worker
from headrace.stores.sql import SqlStorage
from headrace.triggers import ScheduleTimer, TriggerService
from headrace.webhooks import DeliveryPolicy, WebhookSender
from tests.engine.worlds import NOTHING
from tests.human_input.flows import REVIEW
from tests.native.receivers import Receiver, receiver
from tests.runs.service import ECHO, GATED, SECRET, Gate, publish
from tests.temporal_server import Server, serving
from tests.triggers.world import cron, triggered

POLICY = DeliveryPolicy(back_off=(0.5, 0.5, 0.5), jitter=0.0)


@dataclass
class Process:
    """What a process has. `sender` and `batch_runner` work while it is `alive`."""

    service: RunService
    store: SqlStorage
    sender: WebhookSender
    batch_runner: BatchRunner
    schedules: ScheduleTimer


class Fleet:
    """Processes on one database and one server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.server = server
        self.options = server.options()
        self._folder = folder
        self.offset = 0.0  # of their clocks

    def clock(self) -> float:
        return time.time() + self.offset

    @asynccontextmanager
    async def process(self) -> AsyncGenerator[Process]:
        async with AsyncExitStack() as stack:
            store = await SqlStorage.open(f"sqlite:///{self._folder}/headrace.db")
            stack.push_async_callback(store.aclose)
            dispatch = await stack.enter_async_context(
                aclosing(TemporalDispatch(self.options, {}, store.leases, store.claims))
            )
            timers = await stack.enter_async_context(aclosing(self.timers()))
            http = HttpClient(("127.0.0.1",))
            stack.push_async_callback(http.aclose)
            limits = Limits(max_form_seconds=1)
            environment = EngineEnvironment(store.journal, LocalBus(), NOTHING, limits, clock=self.clock)
            types = {**registry(), "gate": Gate}
            apps = Apps(store.catalog, types, SECRET)  # pyright: ignore[reportArgumentType]
            service = RunService(apps, environment, dispatch, store, timers=timers)
            sender = WebhookSender(service, store.callbacks, store.claims, http, SECRET, POLICY)
            environment.bus.observers.append(FormObserver(service, sender.wake).on_records)
            chats = Chats(service, Annotations(store.conversations).answer)
            batch_runner = BatchRunner(service, store.batches, store.claims, chats)
            yield Process(service, store, sender, batch_runner, ScheduleTimer(TriggerService(service), 3600.0))

    def timers(self) -> TemporalTimers:
        return TemporalTimers(Connection(self.options, {}, "some process"), self.clock)

    @asynccontextmanager
    async def alive(self, process: Process) -> AsyncGenerator[None]:
        """It works until the end of the block, and ends in good order."""
        await process.store.leases.heartbeat()
        async with (
            background("worker", Worker(process.service, notify_callback=process.sender.wake).run()),
            background("webhooks", process.sender.run()),
            background("batches", process.batch_runner.run()),
        ):
            yield

    async def activities(self, kind: TimerKind) -> int:
        """How many timers of a kind Temporal has had."""
        client = await Client.connect(self.server.address)
        return (await client.count_activities(f"TaskQueue = '{self.options.task_queue}-{kind}'")).count


@pytest.fixture
def fleet(tmp_path: Path, temporal_server: Server) -> Fleet:
    return Fleet(tmp_path, temporal_server)


@pytest.fixture
async def two(fleet: Fleet) -> AsyncGenerator[tuple[Process, Process]]:
    async with fleet.process() as first, fleet.process() as second:
        yield first, second


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the database for forms whose time is over."""

    async def look(run_service: RunService) -> None:
        pass

    monkeypatch.setattr(form_expiry, "expire_forms", look)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def ended(process: Process, run: RunId) -> RunEnded:
    async with asyncio.timeout(60):
        async for record in process.service.follow(run, on_pause=True):
            if isinstance(record.event, RunEnded):
                return record.event
    raise AssertionError("the run did not end")


async def run_of(process: Process, content: str, callback: str | None = None, **inputs: object) -> RunId:
    release = await publish(process.service, content)
    return (await process.service.submit(Submission(release, "somebody", inputs, callback=callback))).run


async def callback_of(process: Process, run: RunId) -> Callback | None:
    callbacks = await process.store.callbacks.callbacks_of(run)
    return callbacks[0] if callbacks else None


async def has_status(process: Process, run: RunId, status: str) -> bool:
    callback = await callback_of(process, run)
    return callback is not None and callback.status == status


# ------------------------------------------------------------------------------------------------------------ forms


@pytest.mark.usefixtures("no_looks")
async def test_a_form_expires_at_a_process_that_did_not_request_it(fleet: Fleet, two: tuple[Process, Process]) -> None:
    first, second = two
    async with fleet.alive(first):
        run = await run_of(first, REVIEW, q="a")
        async with asyncio.timeout(60):
            async for record in first.service.follow(run, on_pause=True):
                if isinstance(record.event, RunPaused):
                    break
        (form,) = await first.store.forms.forms_of(run)
        await until(lambda: set_in_temporal(fleet, TimerKind.FORM))
    async with fleet.alive(second):
        assert (await ended(second, run)).status == "stopped"  # it has waited for longer than any may
    records = await second.service.environment.journal.read(run)
    (expired,) = [record for record in records if isinstance(record.event, FormExpired)]
    assert expired.at >= form.created_at + 1


async def set_in_temporal(fleet: Fleet, kind: TimerKind) -> bool:
    return await fleet.activities(kind) > 0


# -------------------------------------------------------------------------------------------------------- callbacks


async def test_a_callback_is_repeated_by_another_process_at_its_time(
    fleet: Fleet, two: tuple[Process, Process]
) -> None:
    first, second = two
    async with receiver(500, 503, 200) as there:
        async with fleet.alive(first):
            run = await run_of(first, ECHO, there.url, q="a")
            await there.next()
            await until(lambda: set_in_temporal(fleet, TimerKind.CALLBACK))
        async with fleet.alive(second):
            await there.next()
            await there.next()
            await until(lambda: has_status(second, run, "delivered"))
    callback = await callback_of(second, run)
    assert callback is not None
    assert (callback.attempts, {post.id for post in there.posts}) == (3, {callback.id})
    assert len(there.posts) == 3


async def test_timers_that_fire_early_late_and_twice_deliver_a_callback_once(
    fleet: Fleet, two: tuple[Process, Process]
) -> None:
    first, second = two
    async with receiver(500, 200) as there, fleet.alive(first), fleet.alive(second):
        run = await run_of(first, ECHO, there.url, q="a")
        await there.next()
        callback = await callback_of(first, run)
        assert callback is not None
        now = time.time()
        for number in range(20):  # of different moments, so that each is an activity of its own
            two[number % 2].service.timers.set(Timer(TimerKind.CALLBACK, callback.id, now + number / 20))
        await until(lambda: has_status(second, run, "delivered"))
        await until(lambda: has_had(fleet, TimerKind.CALLBACK, 20))
        await until(lambda: nothing_runs(fleet, TimerKind.CALLBACK))
    assert len(there.posts) == 2


async def has_had(fleet: Fleet, kind: TimerKind, count: int) -> bool:
    return await fleet.activities(kind) >= count


async def nothing_runs(fleet: Fleet, kind: TimerKind) -> bool:
    client = await Client.connect(fleet.server.address)
    running = f"TaskQueue = '{fleet.options.task_queue}-{kind}' AND ExecutionStatus = 'Running'"
    return (await client.count_activities(running)).count == 0


async def test_a_callback_whose_timer_an_operator_has_ended_is_found_by_the_next_look(fleet: Fleet) -> None:
    async with receiver(500, 200) as there, fleet.process() as process, fleet.alive(process):
        run = await run_of(process, ECHO, there.url, q="a")
        await there.next()
        await until(lambda: set_in_temporal(fleet, TimerKind.CALLBACK))
        client = await Client.connect(fleet.server.address)
        async for activity in client.list_activities(f"TaskQueue = '{fleet.options.task_queue}-callback'"):
            await client.get_activity_handle(activity.activity_id).terminate()
        callback = await callback_of(process, run)
        assert callback is not None
        assert callback.next_at is not None
        await asyncio.sleep(max(0.0, callback.next_at - time.time()) + 0.01)
        process.sender.wake()  # as every minute
        await there.next()
        await until(lambda: has_status(process, run, "delivered"))
    assert len(there.posts) == 2


async def test_the_first_timer_of_a_moment_brings_what_else_is_due(fleet: Fleet) -> None:
    async with receiver(500, 500, 200) as there, fleet.process() as process, fleet.alive(process):
        runs = [await run_of(process, ECHO, there.url, q=q) for q in ("a", "b")]
        for _ in runs:
            await there.next()
        await until(lambda: has_had(fleet, TimerKind.CALLBACK, 2))
        client = await Client.connect(fleet.server.address)
        async for activity in client.list_activities(f"TaskQueue = '{fleet.options.task_queue}-callback'"):
            with suppress(RPCError):  # it may have ended
                await client.get_activity_handle(activity.activity_id).terminate()
        callbacks = [await callback_of(process, run) for run in runs]
        for callback in callbacks:
            assert callback is not None
            await process.store.callbacks.save_callback(replace(callback, status="pending", next_at=time.time()))
        assert callbacks[0] is not None
        process.service.timers.set(Timer(TimerKind.CALLBACK, callbacks[0].id, time.time()))
        for run in runs:
            await until(partial(has_status, process, run, "delivered"))


async def test_a_worker_that_was_found_dead_makes_others_look_for_its_callbacks(fleet: Fleet) -> None:
    """The first attempt has no timer: it is made where the run has ended, unless that process dies."""
    async with receiver() as there, fleet.process() as dead, fleet.process() as other:
        async with background("worker", Worker(dead.service).run()):  # it delivers nothing
            run = await run_of(dead, ECHO, there.url, q="a")
            await ended(dead, run)
        dispatch = other.service.dispatch
        assert isinstance(dispatch, TemporalDispatch)
        async with background("webhooks", other.sender.run()):
            await there.next()  # that of the first look
            await until(lambda: has_status(other, run, "delivered"))
            release = await publish(dead.service, ECHO)
            async with background("worker", Worker(dead.service).run()):
                later = Submission(release, "somebody", {"q": "b"}, callback=there.url)
                second = (await dead.service.submit(later)).run
                await ended(dead, second)
            dispatch.on_dead_worker = other.sender.wake
            beats = iter([True, False])

            async def heartbeat() -> bool:
                return next(beats, False)

            dispatch.leases.heartbeat = heartbeat
            async with background("worker", Worker(other.service).run()):
                await until(lambda: has_status(other, second, "delivered"))
    assert len(there.posts) == 2


# -------------------------------------------------------------------------------------------------------- schedules


async def test_a_schedule_starts_one_run_at_each_time(fleet: Fleet, two: tuple[Process, Process]) -> None:
    fleet.offset = 57.0 - time.time() % 60  # the next minute begins in three seconds
    due = fleet.clock() // 60 * 60 + 60
    first, second = two
    release = await first.service.apps.publish("cron.yml", triggered(cron("* * * * *")))
    await first.schedules.poll()  # from now on it counts
    async with background("first", first.schedules.run()):
        await until(lambda: set_in_temporal(fleet, TimerKind.SCHEDULE))
    looks = Counter[str]()

    class Looking(ScheduleTimer):
        async def poll(self) -> None:
            looks["polls"] += 1
            await super().poll()

    schedules = Looking(TriggerService(second.service), 3600.0)
    runs = second.service.runs
    async with fleet.alive(second), background("second", schedules.run()):

        async def started() -> bool:
            return (await runs.list_runs(RunFilter(release.app.id)))[0] > 0

        await until(started)
        _, listed = await runs.list_runs(RunFilter(release.app.id))
        assert (await ended(second, listed[0].run)).status == "succeeded"
    assert len(listed) == 1
    assert due <= listed[0].created_at
    assert looks["polls"] == 2, "at the start, and at the moment that Temporal brought"
    assert await fleet.activities(TimerKind.SCHEDULE) == 2, "with the next one"


# ---------------------------------------------------------------------------------------------------------- batches


async def add_batch(process: Process, content: str, lines: int, concurrency: int = 10) -> Batch:
    release = await publish(process.service, content)
    batch = Batch(str(uuid4()), release.app.id, release.version.id, "ada", lines, time.time(), concurrency)
    return await process.batch_runner.add(batch, [BatchLine(number, {"q": f"{number}"}) for number in range(lines)])


async def is_over(process: Process, batch: Batch) -> bool:
    stored = await process.store.batches.find_batch(batch.id)
    return stored is not None and stored.ended_at is not None


async def test_a_batch_is_taken_over_when_its_process_ends(fleet: Fleet, two: tuple[Process, Process]) -> None:
    Gate.reset()
    first, second = two
    async with fleet.alive(first):
        batch = await add_batch(first, GATED, 20, concurrency=2)
        async with asyncio.timeout(60):
            await Gate.begun.wait()
    assert not await is_over(second, batch)
    async with fleet.alive(second):
        Gate.release.set()
        await until(lambda: is_over(second, batch))
        progress = await second.batch_runner.lines.progress(batch)
    assert progress.succeeded == 20
    assert await fleet.activities(TimerKind.BATCH) == 1, "one activity holds it until its end"


async def test_a_batch_that_another_process_stops_ends(fleet: Fleet, two: tuple[Process, Process]) -> None:
    Gate.reset()
    first, second = two
    async with fleet.alive(first):
        batch = await add_batch(first, GATED, 50, concurrency=2)
        async with asyncio.timeout(60):
            await Gate.begun.wait()
        await second.batch_runner.stop(batch)
        await until(lambda: is_over(second, batch))
    stored = await second.store.batches.find_batch(batch.id)
    assert stored is not None
    assert stored.status == "stopped"
    assert (await second.batch_runner.lines.progress(stored)).stopped == 50


async def test_a_batch_whose_timer_was_lost_is_found_by_the_next_look(
    fleet: Fleet, two: tuple[Process, Process]
) -> None:
    first, second = two
    release = await publish(first.service, ECHO)
    batch = Batch(str(uuid4()), release.app.id, release.version.id, "ada", 3, time.time())
    async with fleet.alive(second):
        await first.store.batches.add_batch(
            batch, [BatchLine(number, {"q": "x"}) for number in range(3)]
        )  # and it dies
        second.batch_runner.wake()  # as every minute
        await until(lambda: is_over(second, batch))
    assert await fleet.activities(TimerKind.BATCH) == 0


# ------------------------------------------------------------------------------------------------------- the server


async def test_timers_survive_a_server_that_was_away(tmp_path: Path) -> None:
    """One that was set before, and is due meanwhile, and one that is set while nobody answers."""
    with serving(file=True) as server:
        fleet = Fleet(tmp_path, server)
        there: Receiver
        async with receiver(500, 500, 200) as there, fleet.process() as process, fleet.alive(process):
            run = await run_of(process, ECHO, there.url, q="a")
            await there.next()
            await until(lambda: set_in_temporal(fleet, TimerKind.CALLBACK))
            server.kill()
            while_away = await add_batch(process, ECHO, 3)
            await asyncio.sleep(0.6)  # the callback is due
            await asyncio.to_thread(server.start)
            await there.next()
            await there.next()
            await until(lambda: has_status(process, run, "delivered"))
            await until(lambda: is_over(process, while_away))
    assert len(there.posts) == 3


async def test_while_the_server_is_away_a_look_does_what_is_due(tmp_path: Path) -> None:
    with serving(file=True) as server:
        fleet = Fleet(tmp_path, server)
        async with receiver(500, 200) as there, fleet.process() as process, fleet.alive(process):
            run = await run_of(process, ECHO, there.url, q="a")
            await there.next()
            server.kill()
            callback = await callback_of(process, run)
            assert callback is not None
            await process.store.callbacks.save_callback(replace(callback, next_at=time.time()))
            process.sender.wake()  # as every minute
            await there.next()
            await until(lambda: has_status(process, run, "delivered"))


async def test_a_host_whose_clock_is_behind_waits_for_its_own(fleet: Fleet) -> None:
    """The timer is set by a host whose clock is ahead, so that it comes to this one too early."""
    done: list[float] = []

    class Rows:
        def wake(self) -> None:
            raise AssertionError("it is handled")

        async def handle(self, row: str) -> None:
            done.append(time.time())
            handled.set()

    handled = asyncio.Event()
    at = time.time() + 1.5
    async with aclosing(fleet.timers()) as here:
        ahead = TemporalTimers(Connection(fleet.options, {}, "another process"), lambda: time.time() + 30)
        async with aclosing(ahead), here.serving(TimerKind.FORM, Rows()):
            ahead.set(Timer(TimerKind.FORM, "row", at))
            async with asyncio.timeout(60):
                await handled.wait()
    assert done[0] >= at
