"""What Temporal has given to a worker whose lease has expired is taken from it before it is silent for Temporal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest, PollActivityTaskQueueResponse
from temporalio.client import ActivityExecutionDescription, Client

from headrace.adapters.temporal import TemporalDispatch, TemporalOptions
from headrace.adapters.temporal.connection import identity_of
from headrace.adapters.temporal.takeover import Takeover
from headrace.kernel.events import RunId, RunStarted
from headrace.ports import WORKSPACE, Priority, ReadyRun, Timer, TimerKind
from headrace.runs.service import RunService
from headrace.stores.sql import SqlStorage, schema
from headrace.stores.sql.leases import SqlLeases
from tests.runs.service import ECHO, GATED, Gate, publish, run_service, submission_of, working
from tests.runs.test_two_workers import begun, ended
from tests.temporal_server import Server

LONG = 600.0  # seconds of silence for Temporal: nothing here waits for them


class Stopped:
    """A worker whose process is stopped: it has a row in the database, and requests for work that nobody reads."""

    def __init__(self, store: SqlStorage, options: TemporalOptions, client: Client) -> None:
        self.store = store
        self.options = options
        self._client = client
        self._polls: list[asyncio.Task[PollActivityTaskQueueResponse]] = []

    @property
    def worker(self) -> str:
        assert isinstance(self.store.leases, SqlLeases)
        return self.store.leases.worker

    def poll(self, queue: str, times: int = 1) -> None:
        request = PollActivityTaskQueueRequest(
            namespace=self._client.namespace, task_queue=TaskQueue(name=queue), identity=identity_of(self.worker)
        )
        service = self._client.workflow_service
        self._polls += [asyncio.create_task(service.poll_activity_task_queue(request)) for _ in range(times)]

    async def has_taken(self) -> None:
        """Until one of its requests is answered."""
        await asyncio.wait(self._polls, return_when=asyncio.FIRST_COMPLETED)

    async def taken(self) -> list[str]:
        """The activities that it has got, once all its requests are answered."""
        return [response.activity_id for response in await asyncio.gather(*self._polls)]

    async def die(self) -> None:
        """It is known to be dead, as after its lease."""
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
        await process.wait()
        gone = update(schema.workers).where(schema.workers.c.id == self.worker).values(pid=process.pid, began=None)
        await self.store.leases._database.write(lambda connection: connection.execute(gone))  # pyright: ignore

    def close(self) -> None:
        for poll in self._polls:
            poll.cancel()


class Fleet:
    def __init__(self, service: RunService, store: SqlStorage, stopped: Stopped, client: Client) -> None:
        self.service = service
        self.store = store
        self.stopped = stopped
        self.client = client

    @property
    def dispatch(self) -> TemporalDispatch:
        assert isinstance(self.service.dispatch, TemporalDispatch)
        return self.service.dispatch

    def takeover(self) -> Takeover:
        return Takeover(self.dispatch.connection, self.store.leases, self.store.claims)

    async def listed(self, id: str) -> None:
        """Until queries find an activity."""
        async with asyncio.timeout(60):
            while not (await self.client.count_activities(f"ActivityId = '{id}'")).count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def drive_of(self, run: RunId) -> ActivityExecutionDescription:
        return await self.client.get_activity_handle(f"{run}:1").describe()


@pytest.fixture
async def fleet(tmp_path: Path, temporal_server: Server) -> AsyncIterator[Fleet]:
    Gate.reset()
    store, other = [await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db") for _ in range(2)]
    options = replace(temporal_server.options(), heartbeat_seconds=LONG)
    client = await Client.connect(temporal_server.address)
    stopped = Stopped(other, options, client)
    await other.leases.heartbeat()
    async with aclosing(TemporalDispatch(options, {}, store.leases, store.claims)) as dispatch:
        yield Fleet(run_service(store, dispatch=dispatch), store, stopped, client)
    stopped.close()
    for item in (store, other):
        await item.aclose()


async def test_a_run_that_a_stopped_worker_has_taken_again_and_again_is_given_to_a_living_one(fleet: Fleet) -> None:
    service, stopped = fleet.service, fleet.stopped
    served = await publish(service, ECHO)
    stopped.poll(stopped.options.task_queue, times=3)
    run = (await service.submit(submission_of(served, q="a"))).run
    await stopped.has_taken()
    await stopped.die()
    async with working(service):
        assert (await ended(service, run)).status == "succeeded"
    attempts = (await fleet.drive_of(run)).attempt
    stopped.close()
    # a request of the living one may have been answered before those that were still open
    assert 2 <= attempts <= 4
    records = await service.environment.journal.read(run)
    assert sum(isinstance(record.event, RunStarted) for record in records) == 1


async def test_each_look_takes_back_what_was_lost_since_the_last_one(fleet: Fleet) -> None:
    service, stopped = fleet.service, fleet.stopped
    served = await publish(service, ECHO)
    stopped.poll(stopped.options.task_queue, times=2)
    run = (await service.submit(submission_of(served, q="a"))).run
    await stopped.has_taken()
    await fleet.listed(f"{run}:1")
    takeover = fleet.takeover()
    assert await takeover.look() == 0, "its row is there: it is alive"
    assert (await fleet.drive_of(run)).attempt == 1
    await stopped.die()
    assert await fleet.store.leases.heartbeat()
    takeover.begin()
    assert await takeover.look() == 1
    assert await stopped.taken() == [f"{run}:1"] * 2
    assert await takeover.look() == 1
    described = await fleet.drive_of(run)
    assert described.attempt == 3
    assert described.raw_info.run_state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED


async def test_what_a_living_worker_drives_stays_with_it(fleet: Fleet) -> None:
    service, stopped = fleet.service, fleet.stopped
    served = await publish(service, GATED)
    async with working(service):
        run = (await service.submit(submission_of(served))).run
        await begun(1)
        await fleet.listed(f"{run}:1")
        await stopped.die()
        await fleet.store.leases.disown(run)  # so that it is looked at
        assert await fleet.store.leases.undriven(10) == [run]
        assert await fleet.takeover().look() == 0
        Gate.release.set()
        assert (await ended(service, run)).status == "succeeded"
    assert (await fleet.drive_of(run)).attempt == 1


async def test_a_batch_that_a_stopped_worker_has_taken_is_brought_again(fleet: Fleet) -> None:
    stopped, timers = fleet.stopped, fleet.dispatch.timers
    stopped.poll(stopped.options.timer_queue(TimerKind.BATCH))
    timers.set(Timer(TimerKind.BATCH, "some batch", 0.0))
    [taken] = await stopped.taken()
    await fleet.listed(taken)
    await stopped.die()
    await fleet.store.leases.heartbeat()
    assert await fleet.takeover().look() == 1
    assert (await fleet.client.get_activity_handle(taken).describe()).attempt == 2


async def test_a_worker_that_others_think_dead_takes_no_run_from_them(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was stopped, and goes on with what its requests have taken meanwhile."""
    service, options = fleet.service, fleet.dispatch.options
    woken = fleet.stopped.store
    served = await publish(service, GATED)
    async with working(service):
        run = (await service.submit(submission_of(served))).run
        await begun(1)
        service.dispatch.drain()  # so that the other one gets what comes
        monkeypatch.setattr(SqlLeases, "expired", True)
        async with (
            aclosing(TemporalDispatch(options, {}, woken.leases, woken.claims)) as dispatch,
            working(run_service(woken, dispatch=dispatch)),
        ):
            again = ReadyRun(run, 99, WORKSPACE, served.app.id, Priority.API)
            await dispatch.start(again)
            handle = fleet.client.get_activity_handle(dispatch.activity_id(again))
            async with asyncio.timeout(60):
                while (await handle.describe()).attempt < 2:  # noqa: ASYNC110 - the server sets no event
                    await asyncio.sleep(0.01)
            assert Gate.entered == 1
            Gate.release.set()
            assert (await ended(service, run)).status == "succeeded"
            await handle.terminate()
    assert Gate.entered == 1
