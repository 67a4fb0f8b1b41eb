"""Submit, follow, get, stop: what becomes of a run, whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import pytest

from headrace.apps.catalog import Release
from headrace.brokers import LocalBus
from headrace.errors import NotFound, StoreError, TooManyRequests
from headrace.kernel.events import Delta, NodeSucceeded, Record, RunEnded, RunId, RunResumed, RunStarted
from headrace.kernel.secrets import STARS, SecretMask
from headrace.ports import Storage
from headrace.runs.service import RunService
from headrace.stores.memory import MemoryJournal, memory_storage
from headrace.stores.memory.leases import MemoryLeases
from tests.runs.service import ECHO, GATED, Gate, publish, run_service, submission_of, working


@pytest.fixture(autouse=True)
async def gate() -> None:
    Gate.reset()


@pytest.fixture
def store() -> Storage:
    return memory_storage()


async def follow(where: RunService, run: RunId, after: int = 0) -> list[Record]:
    return [record async for record in where.follow(run, after)]


def outcome(records: Sequence[Record]) -> RunEnded:
    last = records[-1].event
    assert isinstance(last, RunEnded)
    return last


async def test_a_run_is_followed_from_its_first_record_to_its_last(store: Storage):
    async with working(run_service(store)) as where:
        release = await publish(where, ECHO)
        async with where.open(submission_of(release, q="hi")) as started:
            records = [record async for record in started.records]
    assert [record.seq for record in records] == list(range(1, 8))
    assert outcome(records).outputs == {"q": "hi"}
    assert records == await store.journal.read(started.run)


async def test_leaving_does_not_end_the_run(store: Storage):
    async with working(run_service(store)) as where:
        async with where.open(submission_of(await publish(where, GATED))) as started:
            pass
        await Gate.begun.wait()
        Gate.release.set()
        assert outcome(await follow(where, started.run)).status == "succeeded"


async def test_a_submitted_run_is_in_the_journal_before_anybody_does_it(store: Storage):
    where = run_service(store)
    run, task, *_ = await where.submit(submission_of(await publish(where, ECHO), q="x"))
    assert len(await store.journal.read(run)) == 1
    assert await store.runs.find_task(task) == run
    async with working(where):
        assert outcome(await follow(where, run)).outputs == {"q": "x"}


async def test_whoever_comes_late_hears_everything_and_whoever_comes_back_the_rest(store: Storage):
    async with working(run_service(store)) as where:
        run, *_ = await where.submit(submission_of(await publish(where, GATED)))
        await Gate.begun.wait()
        late = asyncio.create_task(follow(where, run))
        back = asyncio.create_task(follow(where, run, after=4))
        await asyncio.sleep(0)
        Gate.release.set()
        whole = [record for record in await late if record.seq]
        assert [record.seq for record in whole] == list(range(1, len(whole) + 1))
        assert [record for record in await back if record.seq] == whole[4:]
        assert await follow(where, run, after=whole[-1].seq or 0) == []


async def test_an_unknown_run_is_not_found(store: Storage):
    with pytest.raises(NotFound):
        await follow(run_service(store), "nobody")
    assert await run_service(store).get("nobody") is None


class Deaf(LocalBus):
    """Loses every other record."""

    count = 0

    def publish(self, records: Sequence[Record]) -> None:
        for record in records:
            self.count += 1
            if self.count % 2 or isinstance(record.event, RunEnded):
                super().publish([record])


async def test_what_the_bus_loses_comes_from_the_journal(store: Storage):
    async with working(run_service(store, Deaf())) as where:
        run, *_ = await where.submit(submission_of(await publish(where, GATED)))
        following = asyncio.create_task(follow(where, run))
        await Gate.begun.wait()
        Gate.release.set()
        records = [record for record in await following if record.seq]
    assert records == [masked(record) for record in await store.journal.read(run)]


class Unreadable(MemoryJournal):
    """A store that cannot be read while it has an `error`."""

    def __init__(self) -> None:
        super().__init__()
        self.error: StoreError | None = None
        self.read_failed = asyncio.Event()

    async def read(self, run: RunId, after: int = 0, limit: int | None = None) -> list[Record]:
        if self.error is not None:
            self.read_failed.set()
            raise self.error
        return await super().read(run, after, limit)


async def test_a_follower_waits_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace.runs.reader.POLL_SECONDS", 0.01)
    journal = Unreadable()
    store = memory_storage(journal)
    async with working(run_service(store, Deaf())) as where, asyncio.timeout(30):
        run, *_ = await where.submit(submission_of(await publish(where, GATED)))
        following = asyncio.create_task(follow(where, run))
        await Gate.begun.wait()
        journal.error = StoreError("disk I/O error")
        await journal.read_failed.wait()
        Gate.release.set()
        for _ in range(3):
            journal.read_failed.clear()
            await journal.read_failed.wait()  # it looks again and again
        journal.error = None
        records = [record for record in await following if record.seq]
    assert records == [masked(record) for record in await store.journal.read(run)]


async def test_a_follower_ends_with_what_can_never_be_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace.runs.reader.POLL_SECONDS", 0.01)
    journal = Unreadable()
    store = memory_storage(journal)
    async with working(run_service(store)) as where:
        run, *_ = await where.submit(submission_of(await publish(where, GATED)))
        following = asyncio.create_task(follow(where, run))
        await Gate.begun.wait()
        journal.error = StoreError("event 7 cannot be read", transient=False)
        with pytest.raises(StoreError, match="event 7"):
            await following


def masked(record: Record) -> Record:
    return SecretMask(["hunter2!"]).record(record)


async def test_secrets_are_masked_for_whoever_looks_and_kept_for_the_nodes(store: Storage):
    async with working(run_service(store)) as where:
        Gate.release.set()
        async with where.open(submission_of(await publish(where, GATED))) as started:
            live_records = [record async for record in started.records]
        followed = await follow(where, started.run)
        view = await where.get(started.run)
    assert view is not None
    for records in (live_records, followed, view.records):
        assert "hunter2!" not in repr([record.event for record in records])
        assert outcome(records).outputs["key"] == STARS
    assert outcome(await store.journal.read(started.run)).outputs["key"] == "hunter2!"
    assert view.summary.ended is not None
    assert view.summary.ended.outputs["key"] == STARS


async def test_a_stop_ends_a_running_run_and_is_fine_on_an_ended_one(store: Storage):
    async with working(run_service(store)) as where:
        async with where.open(submission_of(await publish(where, GATED))) as started:
            await Gate.begun.wait()
            await where.stop(started.run, "me")
            records = [record async for record in started.records]
        assert outcome(records).status == "stopped"
        await where.stop(started.run, "me")
        await where.stop("nobody", "me")
        assert await store.journal.read(started.run) == [r for r in records if r.seq]


async def test_a_stop_reaches_a_run_that_nobody_drives_yet(store: Storage):
    where = run_service(store)
    run, *_ = await where.submit(submission_of(await publish(where, GATED)))
    await where.stop(run, "me")
    async with working(where):
        assert outcome(await follow(where, run)).status == "stopped"
    assert Gate.entered == 0


async def test_a_run_goes_on_in_the_next_process_from_the_node_that_was_running(store: Storage):
    async with working(run_service(store)) as where:
        run, *_ = await where.submit(submission_of(await publish(where, GATED)))
        await Gate.begun.wait()
    assert not isinstance((await store.journal.read(run))[-1].event, RunEnded)
    Gate.release.set()
    async with working(run_service(store)) as where:  # its reconciler finds the run
        records = await follow(where, run)
    assert outcome(records).status == "succeeded"
    assert Gate.entered == 2
    assert [type(r.event) for r in records if isinstance(r.event, RunResumed)] == [RunResumed]
    assert len([r for r in records if isinstance(r.event, NodeSucceeded)]) == 3
    text = "".join(r.event.text for r in records if isinstance(r.event, Delta) and r.seq)
    assert text.endswith("through the gate")


async def test_no_more_callers_than_an_app_may_have(store: Storage):
    async with working(run_service(store, max_active=1)) as where:
        release = await publish(where, GATED)
        async with where.open(submission_of(release)) as started:
            await Gate.begun.wait()
            with pytest.raises(TooManyRequests) as refused:
                async with where.open(submission_of(release)):
                    raise AssertionError
            assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
            Gate.release.set()
            assert outcome([record async for record in started.records]).status == "succeeded"
        async with where.open(submission_of(release)) as started:
            assert outcome([record async for record in started.records]).status == "succeeded"


async def test_a_run_whose_app_is_gone_ends_and_says_so(store: Storage):
    where = run_service(store)
    release = await publish(where, GATED)
    run, *_ = await where.submit(submission_of(release))
    await store.catalog.remove_app(release.app.id)
    again = run_service(store)
    async with again.environment.bus.subscribe(run) as live, working(again):
        assert isinstance((await anext(live))[0].event, RunEnded)
    assert outcome(await store.journal.read(run)).error == f"Workflow not found with id: {release.version.id}"


async def open_run(where: RunService, release: Release) -> list[Record]:
    async with where.open(submission_of(release, q="x")) as started:
        return [record async for record in started.records]


class Full(MemoryJournal):
    """A store whose disk is full."""

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(StoreError("the disk is full"))
        return failed


async def test_a_run_that_cannot_be_written_down_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace.runs.reader.POLL_SECONDS", 0.01)
    monkeypatch.setattr("headrace.dispatch.FIRST_PAUSE", 0.01)
    async with working(run_service(memory_storage(Full()))) as where:
        release = await publish(where, ECHO)
        with pytest.raises(StoreError):
            await where.submit(submission_of(release, q="x"))
        with pytest.raises(StoreError):
            await open_run(where, release)


class Locked(MemoryLeases):
    """Leases that cannot be acquired at first."""

    attempts = 0

    async def acquire(self, of: Collection[RunId]) -> set[RunId]:
        self.attempts += 1
        if self.attempts <= 3:
            raise StoreError("the database is locked")
        return await super().acquire(of)


async def test_a_run_that_cannot_be_taken_up_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace.dispatch.FIRST_PAUSE", 0.1)
    store = memory_storage()
    where = run_service(store)
    where.leases = leases = Locked(where.environment.journal)
    release = await publish(where, ECHO)
    run = (await where.submit(submission_of(release, q="x"))).run
    await store.journal.append([Record(run, 2, 0.0, RunStarted())])  # begun by a process that is no more
    where.take_handover(run)
    since = asyncio.get_running_loop().time()
    async with where.environment.bus.subscribe(run) as live, working(where), asyncio.timeout(60):
        while not isinstance((await anext(live))[-1].event, RunEnded):
            pass
    assert outcome(await store.journal.read(run)).status == "succeeded"
    assert leases.attempts == 4
    assert asyncio.get_running_loop().time() - since >= 0.3, "and not at once"
