"""What a client gets at a process that does not drive its run: by the wire, though nothing is polled for an hour."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.adapters.wire import HostWire, open_wire
from headrace.api.native import run_watch
from headrace.api.native.run_watch import RunWatcher
from headrace.background import background
from headrace.brokers import LocalWire, SharedBus
from headrace.kernel.events import Delta, Record, RunEnded, RunId, StopRequested
from headrace.ports import Signal
from headrace.runs import reader, worker
from headrace.runs.service import RunService
from headrace.stores.encoding import decode, encode
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.journal import SqlJournal
from tests.wire.processes import eventually

from .service import GATED, Gate, publish, run_service, submission_of, working

HOUR = 3600.0
SILENT = GATED.replace("{variable: text, value_selector: [g, text]}, ", "")


class Journal(SqlJournal):
    """A journal that counts what is read from it."""

    reads = 0

    async def read(self, run: RunId, after: int = 0, limit: int | None = None) -> list[Record]:
        self.reads += 1
        return await super().read(run, after, limit)

    async def last_sequences(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        self.reads += 1
        return await super().last_sequences(of)


class Host:
    """A process on a database that others share."""

    def __init__(self, storage: SqlStorage, wire: HostWire | LocalWire) -> None:
        self.journal = Journal(storage.database, storage.writer)
        self.wire = wire
        self.bus = SharedBus(self.journal, lambda: self.service.driving, wire, HOUR)
        self.service: RunService = run_service(replace(storage, journal=self.journal), self.bus)

    async def reaches(self, other: Host) -> None:
        """Until another process has what this one has sent before."""
        arrived = asyncio.Event()
        other.wire.on_signal(Signal.ENDED, lambda _: arrived.set())

        def has_arrived() -> bool:
            self.wire.signal(Signal.ENDED, "here")  # lost, as long as the other process is not known
            return arrived.is_set()

        await eventually(has_arrived)

    async def follows(self, run: RunId, other: Host) -> None:
        """Until another process knows that this one follows a run, and this one has what it has missed before."""
        await eventually(lambda: run in self.wire._followed_runs)
        await self.reaches(other)
        await eventually(lambda: self.journal.reads >= (1 if isinstance(self.wire, LocalWire) else 2))


@pytest.fixture(params=["local", "postgresql", "valkey"])
async def hosts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Sequence[Host]]:
    """Two processes; the first one drives runs."""
    for module, name in (
        (reader, "POLL_SECONDS"),
        (run_watch, "_CHECK_SECONDS"),
        (worker, "OVERTAKEN_SECONDS"),
    ):
        monkeypatch.setattr(module, name, HOUR)
    Gate.reset()
    secret, group = os.urandom(32), list[LocalWire]()
    async with AsyncExitStack() as stack:
        processes: list[Host] = []
        for _ in range(2):
            storage = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
            stack.push_async_callback(storage.aclose)
            if request.param == "local":
                wire = LocalWire(group)
            else:
                server = request.getfixturevalue(f"{request.param}_server")
                url = server.url() if request.param == "postgresql" else server.url
                wire = open_wire(url, secret, encode, decode)
                await stack.enter_async_context(background("wire", wire.run()))
            processes.append(Host(storage, wire))
            await stack.enter_async_context(background("bus", processes[-1].bus.polling.run()))
        await processes[0].reaches(processes[1])
        await processes[1].reaches(processes[0])
        await stack.enter_async_context(working(processes[0].service))
        yield processes


async def at_the_gate() -> None:
    async with asyncio.timeout(60):
        await Gate.begun.wait()


async def test_text_and_records_arrive_without_a_poll(hosts: Sequence[Host]) -> None:
    driving, other = hosts
    run = (await driving.service.submit(submission_of(await publish(driving.service, GATED)))).run
    await at_the_gate()
    arrived: list[Record] = []

    async def follow() -> None:
        async for record in other.service.follow(run):
            arrived.append(record)  # noqa: PERF401 - they are looked at as they arrive

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        await other.follows(run, driving)
        await eventually(lambda: any(isinstance(record.event, Delta) and record.seq for record in arrived))
        before, reads = len(arrived), other.journal.reads
        Gate.release.set()
    assert other.journal.reads == reads
    live = [record.event for record in arrived[before:] if record.seq is None]
    assert Delta("g", "text", len("through "), "the gate") in live
    numbers = [record.seq for record in arrived if record.seq is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    assert isinstance(arrived[-1].event, RunEnded)


async def test_a_caller_that_waits_has_the_end_without_a_poll(hosts: Sequence[Host]) -> None:
    driving, other = hosts
    release = await publish(driving.service, GATED)
    run = (await driving.service.submit(submission_of(release))).run
    await at_the_gate()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(RunWatcher(other.service).find(run, release.app.id, wait=HOUR))
        await other.follows(run, driving)
        Gate.release.set()
    status = waiting.result()
    assert status is not None
    assert status.summary.ended is not None
    assert status.summary.ended.status == "succeeded"
    assert other.journal.reads <= 2, "when it begins to follow the run, and once more for what it missed meanwhile"


async def test_a_stop_reaches_the_process_that_drives_the_run(hosts: Sequence[Host]) -> None:
    driving, other = hosts
    run = (await driving.service.submit(submission_of(await publish(driving.service, SILENT)))).run
    await at_the_gate()
    await other.reaches(driving)
    await other.service.stop(run, "ada")
    await eventually(lambda: run not in driving.service.driving)
    events = [record.event for record in await driving.journal.read(run)]
    assert isinstance(events[-1], RunEnded)
    assert events[-1].status == "stopped"
    assert sum(isinstance(event, StopRequested) for event in events) == 1


async def test_a_poll_knows_the_end_without_reading(hosts: Sequence[Host]) -> None:
    driving, other = hosts
    release = await publish(driving.service, GATED)
    run = (await driving.service.submit(submission_of(release))).run
    await at_the_gate()
    async with asyncio.timeout(60):
        status = await RunWatcher(other.service).find(run, release.app.id)
    assert status is not None
    assert status.summary.status == "running"
    await other.follows(run, driving)
    reads = other.journal.reads
    Gate.release.set()
    await eventually(lambda: status.summary.status == "succeeded")
    assert other.journal.reads <= reads + 1, "once more for what it missed meanwhile"


async def test_callers_at_the_process_that_drives_a_run_receive_how_another_ends_it(hosts: Sequence[Host]) -> None:
    driving, other = hosts
    release = await publish(driving.service, SILENT)
    run = (await driving.service.submit(submission_of(release))).run
    await at_the_gate()
    await other.reaches(driving)
    async with asyncio.timeout(60), working(other.service), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(RunWatcher(driving.service).find(run, release.app.id, wait=HOUR))
        await eventually(lambda: run in driving.bus._subscribers)
        await other.service.stop(run, "ada")
    status = waiting.result()
    assert status is not None
    assert status.summary.status == "stopped"
