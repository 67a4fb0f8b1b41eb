"""Events of PostgreSQL in partitions by day: which of them go as a whole, and what is never dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import NAMESPACE_URL, uuid5

import pytest
from psycopg import connect
from sqlalchemy import Connection

from headrace.errors import SequenceConflict
from headrace.ids import new_id, new_run_id
from headrace.kernel.events import RunId, RunPaused, RunStarted
from headrace.kernel.summary import FINAL
from headrace.ports import Pruned, RunFilter
from headrace.stores.sql import SqlStorage, partitions
from headrace.stores.sql.partitions import AHEAD, Partition, partition_events
from tests.contracts.examples import numbered, queued, whole
from tests.postgresql import Server, execute

DAY = 86400.0
NOW = datetime.now(UTC)


class _Clock(datetime):
    """Stands still, so that a test that runs across midnight has one day."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return NOW.astimezone(tz)


@pytest.fixture(autouse=True)
def _one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "datetime", _Clock)


@pytest.fixture
async def store(postgresql_server: Server) -> AsyncIterator[SqlStorage]:
    store = await SqlStorage.open(postgresql_server.new_database())
    yield store
    await store.aclose()


def _moment(days_ago: int) -> float:
    """Noon of a past day."""
    noon = NOW.replace(hour=12, minute=0, second=0, microsecond=0)
    return (noon - timedelta(days=days_ago)).timestamp()


def _partition(days_ago: int) -> Partition:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    return Partition(midnight - timedelta(days=days_ago))


async def _add(store: SqlStorage, days_ago: int, run: RunId | None = None) -> RunId:
    """A run that has begun and ended on a past day."""
    at = _moment(days_ago)
    run = run or new_run_id(at)
    await store.journal.append(whole(run, at=at))
    return run


async def _paused(store: SqlStorage, days_ago: int) -> RunId:
    at = _moment(days_ago)
    run = new_run_id(at)
    await store.journal.append(numbered(run, [queued(run), RunStarted(), RunPaused()], at=at))
    return run


async def _prune(store: SqlStorage) -> Pruned:
    """Deletes what has ended more than a month ago."""
    total = Pruned()
    before = NOW.timestamp() - 30 * DAY
    async for _, pruned in store.pruner.prune(dict.fromkeys(FINAL, before), before):
        total = total.plus(pruned)
    return total


async def _days(store: SqlStorage) -> list[Partition]:
    return await store.database.run(partitions.partitions)


async def _stored(store: SqlStorage, table: str) -> set[RunId]:
    """The runs whose events are in a table."""

    def work(connection: Connection) -> set[RunId]:
        return set(connection.exec_driver_sql(f"SELECT run FROM {table}").scalars())

    return await store.database.run(work)


async def test_a_day_goes_as_a_whole_if_all_of_it_may(store: SqlStorage) -> None:
    gone = [await _add(store, 40) for _ in range(3)]
    also, waits = await _add(store, 39), await _paused(store, 39)
    recent = await _add(store, 1)
    random, derived = await _add(store, 40, new_id()), await _add(store, 40, str(uuid5(NAMESPACE_URL, "x")))
    assert await store.database.write(partition_events)
    assert await _stored(store, _partition(40).name) == {*gone}
    assert await _stored(store, _partition(39).name) == {also, waits}

    assert await _prune(store) == Pruned(runs=6, events=30)
    days = await _days(store)
    assert _partition(40) not in days
    assert _partition(39) in days
    assert await _stored(store, "events") == {waits, recent}
    for run in (*gone, also, random, derived):
        assert await store.journal.read(run) == []
        assert await store.runs.find_run(run) is None
    assert len(await store.journal.read(waits)) == 3
    assert await _prune(store) == Pruned()


async def test_runs_without_a_time_in_their_ids_go_a_few_at_a_time(store: SqlStorage) -> None:
    for number in range(250):  # as batches and triggers have
        await _add(store, 40, str(uuid5(NAMESPACE_URL, str(number))))
    assert await store.database.write(partition_events)
    before = NOW.timestamp() - 30 * DAY
    steps = list[Pruned]()
    async with asyncio.timeout(60):
        async for _, pruned in store.pruner.prune(dict.fromkeys(FINAL, before), before):
            if pruned.runs:  # else it has dropped a day
                steps.append(pruned)
                await _add(store, 0)  # nothing is locked between two of its transactions
    assert [step.runs for step in steps] == [100, 100, 50]
    assert [step.events for step in steps] == [500, 500, 250]
    assert len(await _stored(store, "events")) == 3


async def test_a_dry_run_drops_nothing(store: SqlStorage) -> None:
    run = await _add(store, 40)
    await store.database.write(partition_events)
    before = NOW.timestamp() - 30 * DAY
    steps = store.pruner.prune(dict.fromkeys(FINAL, before), before, dry_run=True)
    assert [pruned async for _, pruned in steps] == [Pruned(runs=1, events=5)]
    assert len(await store.journal.read(run)) == 5


async def test_a_day_to_which_a_run_is_added_meanwhile_stays(store: SqlStorage) -> None:
    await _add(store, 40)
    await store.database.write(partition_events)
    before = NOW.timestamp() - 30 * DAY
    async with aclosing(store.pruner.prune(dict.fromkeys(FINAL, before), before)) as steps:
        async for _, pruned in steps:
            if pruned.runs:
                late = await _paused(store, 40)
    assert _partition(40) in await _days(store)
    assert len(await store.journal.read(late)) == 3


async def test_what_was_interrupted_goes_the_next_time(store: SqlStorage) -> None:
    await _add(store, 40)
    await store.database.write(partition_events)
    before = NOW.timestamp() - 30 * DAY
    async with aclosing(store.pruner.prune(dict.fromkeys(FINAL, before), before)) as steps:
        _, first = await anext(steps)
    assert first == Pruned(runs=1)
    assert await _prune(store) == Pruned(events=5)
    assert _partition(40) not in await _days(store)


async def test_a_day_that_somebody_reads_is_dropped_another_time(
    store: SqlStorage, caplog: pytest.LogCaptureFixture
) -> None:
    run = await _add(store, 40)
    await store.database.write(partition_events)
    url = store.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    reader = await asyncio.to_thread(connect, url)
    reader.execute("SELECT 1 FROM events WHERE run = %s", (run,))
    assert await _prune(store) == Pruned(runs=1)
    [said] = caplog.messages
    assert "is dropped another time: " in said
    assert _partition(40) in await _days(store)
    await _add(store, 0)  # it waits for nobody
    reader.close()
    assert await _prune(store) == Pruned(events=5)


async def test_partitions_are_made_ahead_by_any_number_of_processes(store: SqlStorage) -> None:
    await store.database.write(partition_events)
    url = store.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    for days in (0, 1, AHEAD):
        execute(url, f"DROP TABLE {_partition(-days).name}")
    run = await _add(store, 0)
    assert await _stored(store, "events_rest") == {run}
    await asyncio.gather(_prune(store), _prune(store))
    # that of today cannot be made any more, since its events are elsewhere
    assert [day for day in await _days(store) if day.day >= _partition(0).day] == [
        _partition(-days) for days in range(1, AHEAD + 1)
    ]
    assert len(await store.journal.read(run)) == 5


async def test_the_journal_works_as_before(store: SqlStorage) -> None:
    old, other = await _add(store, 40), await _add(store, 3, new_id())
    assert await store.database.write(partition_events)
    assert not await store.database.write(partition_events)
    run = new_run_id(NOW.timestamp())
    await store.journal.append(numbered(run, [queued(run), RunStarted()]))
    await store.journal.append(numbered(run, [RunPaused()], after=2))
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered(run, [RunPaused()], after=2))
    assert await store.journal.last_sequences([old, other, run, "nobody"]) == {old: 5, other: 5, run: 3}
    assert await _stored(store, _partition(0).name) == {run}
    assert [len(await store.journal.read(name)) for name in (old, other, run)] == [5, 5, 3]
    total, _ = await store.runs.list_runs(RunFilter("app"))
    assert total == 3
