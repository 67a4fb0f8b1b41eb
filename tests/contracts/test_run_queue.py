"""The runs that wait for a worker of any process: which comes first, and that one worker gets each."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, insert, update

from headrace.kernel.events import RunId, RunStarted
from headrace.ports import App, Priority, ReadyRun
from headrace.stores.encoding import VERSION
from headrace.stores.sql import SqlStorage, run_queue
from headrace.stores.sql.run_queue import SqlRunQueue
from headrace.stores.sql.schema import ready_runs, runs

from .examples import numbered, queued

API, BATCH, INTERACTIVE = Priority.API, Priority.BATCH, Priority.INTERACTIVE


@pytest.fixture
async def two(url: str) -> AsyncIterator[tuple[SqlStorage, SqlStorage]]:
    """Two workers on one database, which both are alive."""
    mine, other = await SqlStorage.open(url), await SqlStorage.open(url)
    await mine.leases.heartbeat()
    await other.leases.heartbeat()
    yield mine, other
    await mine.aclose()
    await other.aclose()


@pytest.fixture
def mine(two: tuple[SqlStorage, SqlStorage]) -> SqlStorage:
    return two[0]


def queue_of(store: SqlStorage) -> SqlRunQueue:
    assert isinstance(store.queue, SqlRunQueue)
    return store.queue


async def put(store: SqlStorage, *runs: RunId, workspace: str = "a", priority: Priority = API) -> None:
    for run in runs:
        await queue_of(store).put(ReadyRun(run, 1, workspace, "app", priority))


async def flood(store: SqlStorage, count: int, workspace: str = "a", priority: Priority = API) -> None:
    rows = [
        {"run": f"{workspace}{number:05}", "workspace": workspace, "priority": int(priority), "ready_at": float(number)}
        for number in range(count)
    ]
    await store.database.write(lambda connection: connection.execute(insert(ready_runs), rows))


async def test_runs_of_a_workspace_are_claimed_in_order_and_once(mine: SqlStorage) -> None:
    queue = queue_of(mine)
    assert await queue.is_empty()
    await put(mine, "1", "2", "3", "2")
    assert not await queue.is_empty()
    backlog = (await queue.backlogs())["a"]
    assert backlog.waiting == 3
    assert 0 <= backlog.oldest < 60
    assert await queue.claim(2) == ["1", "2"]
    assert await queue.claim(2) == ["3"]
    assert await queue.claim(2) == []
    assert await queue.is_empty()


async def test_the_more_urgent_come_first_whoever_waits(mine: SqlStorage) -> None:
    await put(mine, "batch", priority=BATCH)
    await put(mine, "api", workspace="b", priority=API)
    await put(mine, "interactive", workspace="c", priority=INTERACTIVE)
    assert await queue_of(mine).claim(10) == ["interactive", "api", "batch"]


async def test_workspaces_take_turns(mine: SqlStorage) -> None:
    await put(mine, "a1", "a2", "a3", "a4")
    await put(mine, "b1", "b2", workspace="b")
    await put(mine, "c1", workspace="c")
    assert await queue_of(mine).claim(4) == ["a1", "b1", "c1", "a2"]
    assert await queue_of(mine).claim(10) == ["b2", "a3", "a4"]


async def test_workspaces_take_turns_from_claim_to_claim(mine: SqlStorage) -> None:
    await put(mine, "a1", "a2")
    await put(mine, "b1", "b2", workspace="b")
    assert [await queue_of(mine).claim(1) for _ in range(4)] == [["a1"], ["b1"], ["a2"], ["b2"]]


async def test_turns_of_one_priority_do_not_depend_on_those_of_another(mine: SqlStorage) -> None:
    await put(mine, "a1", "a2")
    await put(mine, "b1", "b2", workspace="b")
    claimed: list[RunId] = []
    for number in range(4):  # an interactive run of the first workspace between all others
        await put(mine, f"i{number}", priority=INTERACTIVE)
        claimed += await queue_of(mine).claim(1) + await queue_of(mine).claim(1)
    assert claimed == ["i0", "a1", "i1", "b1", "i2", "a2", "i3", "b2"]


async def test_10_000_runs_of_one_workspace_do_not_delay_another(mine: SqlStorage) -> None:
    await flood(mine, 10_000)
    await put(mine, "b", workspace="b")
    await put(mine, "interactive of a", priority=INTERACTIVE)
    await put(mine, "interactive of b", workspace="b", priority=INTERACTIVE)
    claims = [await queue_of(mine).claim(1) for _ in range(4)]
    assert claims == [["interactive of a"], ["interactive of b"], ["a00000"], ["b"]]
    assert {name: backlog.waiting for name, backlog in (await queue_of(mine).backlogs()).items()} == {"a": 9_999}


async def test_a_claim_costs_the_same_however_many_runs_wait(mine: SqlStorage) -> None:
    if mine.database.engine.dialect.name != "sqlite":
        pytest.skip("counts the instructions of SQLite")

    async def claim() -> int:
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        def work(connection: Connection) -> None:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.set_progress_handler(count, 1)
            try:
                values = {"most": 1, "version": VERSION, "after_1": "", "after_3": "", "after_5": ""}
                assert len(queue_of(mine)._claim(connection, values)) == 1
            finally:
                driver.set_progress_handler(None, 0)

        await mine.database.write(work)
        return counted

    await flood(mine, 20)
    few = await claim()
    await flood(mine, 10_000, workspace="b")
    assert await claim() < 2 * few


async def test_one_of_several_workers_gets_a_run(two: tuple[SqlStorage, SqlStorage]) -> None:
    mine, other = two
    await flood(mine, 200)
    claims = await asyncio.gather(*(queue_of(store).claim(7) for _ in range(20) for store in (mine, other)))
    claimed = [run for runs in claims for run in runs]
    while rest := await queue_of(mine).claim(50):
        claimed += rest
    assert sorted(claimed) == [f"a{number:05}" for number in range(200)]


async def owners(store: SqlStorage, run: RunId) -> str | None:
    row = await store.database.run(
        lambda connection: connection.exec_driver_sql(f"SELECT owner FROM runs WHERE run = '{run}'").one()
    )
    return row[0]


async def test_a_run_that_waits_has_no_owner_and_a_claimed_one_is_the_claimants(
    two: tuple[SqlStorage, SqlStorage],
) -> None:
    mine, other = two
    await mine.journal.append(numbered("run", [queued("run")]))
    assert await owners(mine, "run") == mine.leases.worker
    await put(mine, "run")
    assert await owners(mine, "run") is None
    assert await other.leases.orphaned() == [], "it waits"
    assert await queue_of(other).claim(1) == ["run"]
    assert await owners(mine, "run") == other.leases.worker
    assert await mine.leases.orphaned() == []


async def test_a_claim_leaves_a_run_to_the_worker_that_drives_it(two: tuple[SqlStorage, SqlStorage]) -> None:
    mine, other = two
    await mine.journal.append(numbered("run", [queued("run"), RunStarted()]))
    await put(other, "run")  # for instance because it is to be stopped
    assert await queue_of(other).claim(1) == ["run"]
    assert await owners(mine, "run") == mine.leases.worker


async def test_orphaned_runs_wait_as_their_apps_and_sources_say(two: tuple[SqlStorage, SqlStorage]) -> None:
    mine, other = two
    app = App("app-b", "b", "workflow", "b.yml", "v", workspace="b")
    await mine.catalog.save_app(app)
    for run, source, of in [
        ("batch", "batch:1", "app"),
        ("schedule", "trigger-schedule:n", "app"),
        ("call", "run:x", "app"),
        ("api", "service-api", "app"),
        ("b", "service-api", app.id),
    ]:
        await other.journal.append(numbered(run, [replace(queued(run, of), source=source)]))
    await mine.journal.append(numbered("own", [queued("own")]))
    await other.leases.leave()
    orphaned = await mine.leases.orphaned()
    assert sorted(orphaned) == ["api", "b", "batch", "call", "own", "schedule"]
    await put(mine, "waiting", workspace="waiting")
    assert await queue_of(mine).restore(orphaned) == {"api", "b", "batch", "call", "schedule"}
    claimed = await queue_of(mine).claim(10)
    assert sorted(claimed[:3]) == ["api", "b", "call"], "a caller may wait for them"
    assert "b" in claimed[:2], "workspaces take turns"
    assert claimed[3] == "waiting"
    assert sorted(claimed[4:]) == ["batch", "schedule"]


async def test_runs_that_only_a_newer_version_can_read_wait_for_its_workers(
    mine: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await mine.journal.append(numbered(f"newer{number}", [queued(f"newer{number}")]))
    newer = update(runs).values(min_version=VERSION + 1)
    await mine.database.write(lambda connection: connection.execute(newer))
    await put(mine, "newer0", priority=INTERACTIVE)
    await put(mine, "newer1", "newer2")
    assert await queue_of(mine).is_empty(), "there is nothing to look at again and again"
    assert await queue_of(mine).claim(1) == []
    await put(mine, "readable")
    await put(mine, "b", workspace="b", priority=BATCH)
    assert not await queue_of(mine).is_empty()
    assert [await queue_of(mine).claim(1) for _ in range(3)] == [["readable"], ["b"], []]
    assert (await queue_of(mine).backlogs())["a"].waiting == 3

    monkeypatch.setattr(run_queue, "VERSION", VERSION + 1)
    assert await queue_of(mine).claim(10) == ["newer0", "newer1", "newer2"]
