"""Two workers on one database to which Temporal brings runs, as in two processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from temporalio.client import Client

from headrace.adapters.temporal import TemporalDispatch
from headrace.apps.catalog import Apps
from headrace.kernel.events import Event, RunEnded, RunId, RunPaused, RunResumed, RunStarted, StopRequested
from headrace.node import Context, Pause, Result
from headrace.ports import WORKSPACE, Priority, ReadyRun
from headrace.runs import worker
from headrace.runs.redispatch import Redispatcher
from headrace.runs.service import RunService, Submission
from headrace.stores.sql import SqlStorage
from tests.runs.service import ECHO, GATED, SECRET, Gate, publish, run_service, submission_of, working
from tests.runs.test_conversations import REGISTRY as TALK_REGISTRY
from tests.runs.test_conversations import talk
from tests.runs.test_two_workers import SILENT, begun, ended, let_go
from tests.temporal_server import Server


class Fleet:
    """`services` have workers in a test; all share one database, and the queues of one installation."""

    def __init__(self, stores: list[SqlStorage], server: Server) -> None:
        self.server = server
        self.options = server.options()
        self.stores = stores
        self.services = [run_service(store, dispatch=self.dispatch(store)) for store in stores]

    def dispatch(self, store: SqlStorage) -> TemporalDispatch:
        return TemporalDispatch(self.options, {}, store.leases, store.claims)

    def redispatcher(self) -> Redispatcher:
        """One that looks at a run twice before it restores it."""
        dispatch = self.services[0].dispatch
        assert isinstance(dispatch, TemporalDispatch)
        return Redispatcher(self.services[0], self.stores[0].claims, dispatch.restore, patience=0)

    async def has(self, run: RunId) -> bool:
        return await self.activities(run) > 0

    async def activities(self, run: RunId) -> int:
        """How many drives of a run Temporal has had."""
        client = await Client.connect(self.server.address)
        return (await client.count_activities(f"HeadraceRun = '{run}'")).count


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporal_server: Server) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(worker, "OVERTAKEN_SECONDS", 0.02)
    Gate.reset()
    stores = [await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db") for _ in range(2)]
    fleet = Fleet(stores, temporal_server)
    for store in stores:
        await store.leases.heartbeat()
    yield fleet
    for service in fleet.services:
        assert isinstance(service.dispatch, TemporalDispatch)
        await service.dispatch.aclose()
    for store in stores:
        await store.aclose()


async def events(service: RunService, run: RunId) -> list[Event]:
    return [record.event for record in await service.environment.journal.read(run)]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def last_is(service: RunService, run: RunId, kind: type[Event]) -> bool:
    return isinstance((await events(service, run))[-1], kind)


async def test_many_runs_are_each_driven_once(fleet: Fleet) -> None:
    mine, other = fleet.services
    release = await publish(mine, ECHO)
    async with working(mine), working(other):
        runs = [(await mine.submit(submission_of(release, q="a"))).run for _ in range(30)]
        for run in runs:
            assert (await ended(mine, run)).status == "succeeded"
    for run in runs:
        assert sum(isinstance(event, RunStarted) for event in await events(mine, run)) == 1


async def test_a_start_that_is_repeated_drives_no_run_twice(fleet: Fleet) -> None:
    mine, other = fleet.services
    release = await publish(mine, GATED)
    async with working(mine), working(other):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        again = ReadyRun(run, 1, WORKSPACE, release.app.id, Priority.API)
        for service in fleet.services:
            await service.dispatch.ready(again)
        Gate.release.set()
        assert (await ended(mine, run)).status == "succeeded"
        await let_go(mine)
        await other.dispatch.ready(again)  # after its end
        after = (await mine.submit(submission_of(release))).run
        await ended(mine, after)
    assert Gate.entered == 2
    assert sum(isinstance(event, RunEnded) for event in await events(mine, run)) == 1


async def test_a_stop_at_another_process_ends_a_run(fleet: Fleet) -> None:
    mine, other = fleet.services
    release = await publish(mine, SILENT)
    async with working(mine):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        async with working(other):
            await other.stop(run, "ada")
            assert (await ended(other, run)).status == "stopped"
            await let_go(mine)
    assert sum(isinstance(event, StopRequested) for event in await events(mine, run)) == 1
    assert Gate.entered == 1


async def test_a_run_that_waits_in_the_queue_can_be_stopped(fleet: Fleet) -> None:
    mine, _ = fleet.services
    release = await publish(mine, GATED)
    run = (await mine.submit(submission_of(release))).run
    await mine.stop(run, "ada")
    async with working(mine):
        assert (await ended(mine, run)).status == "stopped"
    assert Gate.entered == 0


async def test_a_run_that_is_resumed_as_it_pauses_continues(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def pauses_once(self: Gate, ctx: Context) -> Result | Pause:
        Gate.entered += 1
        return Pause({"form": "?"}) if Gate.entered % 2 else Result({"text": "", "secret": None})

    monkeypatch.setattr(Gate, "run", pauses_once)
    mine, other = fleet.services
    release = await publish(mine, GATED)
    async with working(mine):
        for _ in range(10):
            run = (await mine.submit(submission_of(release))).run
            await until(partial(last_is, other, run, RunPaused))
            await other.resume(run)  # the activity that has paused it may be open still
            assert (await ended(other, run)).status == "succeeded"
    assert Gate.entered == 20


async def test_a_worker_that_drains_ends_its_run_and_leaves_the_next_to_another(fleet: Fleet) -> None:
    mine, other = fleet.services
    release = await publish(mine, GATED)
    async with working(mine):
        first = (await mine.submit(submission_of(release))).run
        await begun(1)
        mine.dispatch.drain()
        async with working(other):
            second = (await mine.submit(submission_of(release))).run
            await begun(2)
            assert (set(mine.driving), set(other.driving)) == ({first}, {second})
            Gate.release.set()
            for run in (first, second):
                assert (await ended(mine, run)).status == "succeeded"


async def test_a_worker_that_ends_leaves_its_run_to_another_at_once(fleet: Fleet) -> None:
    mine, other = fleet.services
    release = await publish(mine, GATED)
    async with working(mine):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
    async with working(other):
        await begun(2)
        Gate.release.set()
        assert (await ended(other, run)).status == "succeeded"
    resumed = [event for event in await events(other, run) if isinstance(event, RunResumed)]
    assert resumed == [RunResumed(recovered=True)]


async def test_a_run_that_was_never_started_is_restored(fleet: Fleet) -> None:
    mine, other = fleet.services
    release = await publish(mine, ECHO)
    [record] = Submission(release, "somebody", {"q": "a"}).records(mine.environment.clock())
    await mine.environment.journal.append([record])  # and its process dies
    redispatcher = fleet.redispatcher()
    async with working(other):
        await redispatcher.look()
        await redispatcher.look()
        assert (await ended(mine, record.run)).status == "succeeded"


async def test_a_run_that_temporal_has_is_not_started_again(fleet: Fleet) -> None:
    mine, _ = fleet.services
    release = await publish(mine, GATED)
    redispatcher = fleet.redispatcher()
    async with working(mine):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        await until(partial(fleet.has, run))
        for _ in range(3):
            await redispatcher.look()
        assert await fleet.activities(run) == 1
        Gate.release.set()
        assert (await ended(mine, run)).status == "succeeded"
    assert Gate.entered == 1


async def test_a_run_whose_activity_an_operator_has_ended_is_restored(fleet: Fleet) -> None:
    mine, _ = fleet.services
    release = await publish(mine, GATED)
    redispatcher = fleet.redispatcher()
    async with working(mine):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        client = await Client.connect(fleet.server.address)
        await client.get_activity_handle(f"{run}:1").terminate()
        await let_go(mine)
        Gate.release.set()

        async def looked() -> bool:
            await redispatcher.look()
            return await last_is(mine, run, RunEnded)

        await until(looked)
    assert (await ended(mine, run)).status == "succeeded"
    assert Gate.entered == 2


async def test_messages_of_one_conversation_are_answered_in_order(fleet: Fleet) -> None:
    for service, store in zip(fleet.services, fleet.stores, strict=True):
        service.apps = Apps(store.catalog, TALK_REGISTRY, SECRET)
    mine, other = fleet.services
    message = await talk(mine)
    async with working(mine), working(other):
        runs = [(await service.submit(message)).run for service in fleet.services * 3]
        await begun(1)
        Gate.release.set()
        answers = [(await ended(mine, run)).outputs["answer"] for run in runs]
    assert answers == [f"{number}/{number}" for number in range(1, 7)]
    assert Gate.entered == 6
