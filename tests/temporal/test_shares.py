"""Who comes first when more runs wait than there are slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from temporalio.client import Client

from headrace.adapters.temporal import TemporalDispatch, TemporalOptions
from headrace.errors import ServerOverloaded, TooManyRequests
from headrace.ports import Priority, ReadyRun
from headrace.runs.queue_limits import QueueLimits
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage
from tests.contracts.test_dispatch import Driven, work, working
from tests.runs.service import ECHO, publish, run_service, submission_of
from tests.runs.service import working as driving
from tests.runs.test_two_workers import ended
from tests.temporal_server import Server, own_queues


@pytest.fixture
async def dispatch(temporal_server: Server) -> AsyncIterator[TemporalDispatch]:
    async with own_queues(temporal_server, memory_storage()) as dispatch:
        yield dispatch


async def test_a_run_that_somebody_waits_for_has_slots_of_its_own(dispatch: TemporalDispatch) -> None:
    driven = Driven()
    driven.may_end.clear()
    async with working(dispatch, driven, slots=1):
        await dispatch.ready(work("held"))
        assert await driven.begins(1) == ["held"]
        await dispatch.ready(work("interactive", priority=Priority.INTERACTIVE))
        assert await driven.begins(1) == ["interactive"]


async def test_a_run_that_somebody_waits_for_is_started_before_those_of_a_flood() -> None:
    started = asyncio.Event()

    class Flooded(TemporalDispatch):
        async def start(self, work: ReadyRun) -> None:
            if work.priority != Priority.INTERACTIVE:
                await asyncio.get_running_loop().create_future()
            started.set()

    storage = memory_storage()
    flooded = Flooded(TemporalOptions("127.0.0.1:1"), {}, storage.leases, storage.claims)
    for number in range(200):
        await flooded.ready(work(str(number)))
    await flooded.ready(work("interactive", priority=Priority.INTERACTIVE))
    async with asyncio.timeout(60):
        await started.wait()
    await flooded.aclose()


@pytest.mark.parametrize(
    ("workspace", "key"), [("other", "other"), ("ö" * 40, "ö" * 32), ("x" + "ö" * 40, "x" + "ö" * 31)]
)
async def test_what_a_fair_server_needs_to_know_is_part_of_an_activity(
    temporal_server: Server, dispatch: TemporalDispatch, workspace: str, key: str
) -> None:
    run = work("r", workspace=workspace, priority=Priority.BATCH)
    await dispatch.ready(run)
    client = await Client.connect(temporal_server.address)
    described = await client.get_activity_handle(dispatch.activity_id(run)).describe()
    assert (described.priority.priority_key, described.priority.fairness_key) == (5, key)
    assert described.task_queue == dispatch.options.task_queue


async def test_a_run_is_refused_where_too_many_of_its_workspace_wait(temporal_server: Server, tmp_path: Path) -> None:
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    async with aclosing(TemporalDispatch(temporal_server.options(), {}, store.leases, store.claims)) as dispatch:
        service = run_service(store, dispatch=dispatch)
        release = await publish(service, ECHO)
        other = await service.apps.publish("other.yml", ECHO, "other")
        for _ in range(2):
            await service.submit(submission_of(release, q="x"))
        service.queue_limits = QueueLimits(store.unstarted, of_workspace=2, of_all=3)
        with pytest.raises(TooManyRequests, match="2 runs of the workspace are waiting") as refusal:
            await service.submit(submission_of(release, q="x"))
        assert 1 <= int(refusal.value.headers["Retry-After"]) <= 60
        last = (await service.submit(submission_of(other, q="x"))).run
        service.queue_limits = QueueLimits(store.unstarted, of_workspace=2, of_all=3)
        with pytest.raises(ServerOverloaded):
            await service.submit(submission_of(other, q="x"))
        async with driving(service):
            assert (await ended(service, last)).status == "succeeded"
            service.queue_limits = QueueLimits(store.unstarted, of_workspace=3, of_all=3)
            assert (await ended(service, (await service.submit(submission_of(other, q="x"))).run)).status == "succeeded"
    await store.aclose()
