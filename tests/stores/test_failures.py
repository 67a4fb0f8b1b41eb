"""What a database may do to its users: be locked, full, shared, or killed with its process."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection

from headrace.access.keys import Access, Rights
from headrace.errors import SequenceConflict, StoreError, Unauthorized
from headrace.kernel.events import NodeStarted, NodeSucceeded, RunEnded, RunStarted, StopRequested
from headrace.ports import RunFilter
from headrace.stores.sql import SqlStorage, database
from headrace.stores.sql.writer import Call
from tests.contracts.examples import numbered, queued, whole


async def test_everything_acknowledged_survives_kill_9(url: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from headrace.kernel.events import NodeStarted, Record, RunQueued\n"
        "from headrace.stores.sql import SqlStorage\n"
        "async def write(store, run):\n"
        "    await store.journal.append([Record(run, 1, 1.0, RunQueued('app', 'v', 't' + run, 'u', {}, {}))])\n"
        "    for seq in range(2, 10**6):\n"
        "        await store.journal.append([Record(run, seq, 1.0, NodeStarted(str(seq)))])\n"
        "        sys.stdout.write(f'{run} {seq}\\n')\n"
        "        sys.stdout.flush()\n"
        "async def main():\n"
        "    store = await SqlStorage.open(sys.argv[1])\n"
        "    await asyncio.gather(*(write(store, f'r{n}') for n in range(8)))\n"
        "asyncio.run(main())\n"
    )
    acknowledged: dict[str, int] = {}
    writing = await asyncio.create_subprocess_exec(sys.executable, "-c", script, url, stdout=asyncio.subprocess.PIPE)
    assert writing.stdout
    lines = 0
    while (line := await writing.stdout.readline()).endswith(b"\n"):
        run, seq = line.decode().split()
        acknowledged[run] = int(seq)
        lines += 1
        if lines == 400:
            writing.kill()  # what it wrote before it died is read to the end
    assert await writing.wait() == -9
    assert len(acknowledged) == 8
    store = await SqlStorage.open(url)
    for run, seq in acknowledged.items():
        numbers = [record.seq for record in await store.journal.read(run)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= seq
    assert sorted(await store.journal.unfinished()) == sorted(acknowledged)
    await store.aclose()


async def test_a_locked_database_fails_what_waits_and_goes_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    store = await SqlStorage.open(url)
    await store.journal.append(numbered("r1", [queued("r1")]))
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    appends = [store.journal.append(numbered("r1", [NodeStarted("a")], after=n)) for n in (1, 2)]
    results = await asyncio.gather(*appends, store.journal.append(whole("r2")), return_exceptions=True)
    assert all(isinstance(result, StoreError) and "database is locked" in str(result) for result in results)
    assert [record.seq for record in await store.journal.read("r1")] == [1], "reading goes on meanwhile"
    holder.execute("ROLLBACK")
    holder.close()
    await store.journal.append(numbered("r1", [NodeStarted("a")], after=1))
    await store.journal.append(whole("r2"))
    assert len(await store.journal.read("r1")) == 2
    await store.aclose()


async def test_a_full_disk_fails_what_does_not_fit_and_goes_on(store: SqlStorage) -> None:
    def limit(pages: str) -> asyncio.Future[object]:
        def work(connection: Connection) -> object:
            return connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

        return store.writer.submit(Call(work, "test"))

    await store.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    used = (await store.database.run(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar())) or 0
    await limit(str(used + 20))
    huge = numbered("r1", [NodeSucceeded("n", {"text": "x" * 10**6})], after=2)
    appends = [
        store.journal.append(whole("r2")),
        store.journal.append(huge),
        store.journal.append(numbered("r1", [RunEnded("succeeded")], after=3)),
        store.journal.append(whole("r3")),
    ]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), StoreError, StoreError, type(None)]
    assert "full" in str(results[1])
    await limit("1000000")
    await store.journal.append(huge)
    await store.journal.append(numbered("r1", [RunEnded("succeeded")], after=3))
    assert [len(await store.journal.read(run)) for run in ("r1", "r2", "r3")] == [4, 5, 5]
    assert await store.journal.unfinished() == []


async def test_a_value_that_cannot_be_kept_is_refused_at_once(store: SqlStorage) -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 300 levels"):
        await store.journal.append(numbered("r1", [queued("r1", deep=deep)]))
    await store.journal.append(whole("r1"))


async def test_another_process_may_write_to_the_same_run(store: SqlStorage, url: str) -> None:
    other = await SqlStorage.open(url)
    await store.journal.append(numbered("r1", [queued("r1"), RunStarted(), NodeStarted("a")]))
    await other.journal.append(numbered("r1", [StopRequested("ada")], after=3))
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("r1", [NodeSucceeded("a", {})], after=3))
    assert [type(record.event) for record in await store.journal.read("r1", after=3)] == [StopRequested]
    await other.journal.append(numbered("r1", [NodeStarted("b")], after=4))
    # who has read the tail goes on from there, with no conflict before
    await store.journal.append(numbered("r1", [RunEnded("stopped", {}, None, 1, 1, 0)], after=5))
    summary = await other.runs.find_run("r1")
    assert summary is not None
    assert (summary.status, summary.elapsed, summary.created_at) == ("stopped", 2.0, 1000.5)
    await other.aclose()


async def test_a_run_goes_on_in_another_process(store: SqlStorage, url: str) -> None:
    await store.journal.append(numbered("r1", [queued("r1", name="礁溪"), RunStarted(), NodeStarted("a")]))
    other = await SqlStorage.open(url)
    await other.journal.append(numbered("r1", [RunEnded("failed", {}, "boom", 5, 1, 1)], after=3))
    await other.aclose()
    total, [summary] = await store.runs.list_runs(RunFilter("app", keyword="礁溪"))
    assert (total, summary.status, summary.error, summary.elapsed) == (1, "failed", "boom", 1.0)
    assert await store.journal.unfinished() == []


async def test_a_key_revoked_elsewhere_is_refused_within_half_a_second(
    store: SqlStorage, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("headrace.cache.time", SimpleNamespace(monotonic=lambda: now))
    other = await SqlStorage.open(url)
    here, elsewhere = Access(store.catalog), Access(other.catalog)
    key, secret = await elsewhere.create(Rights(), "test")
    bearer = f"Bearer {secret}"
    assert (await here.principal(bearer)).id == key.id
    await elsewhere.revoke(key, "test")
    now += 0.2
    assert (await here.principal(bearer)).id == key.id, "for a moment it is not read again"
    now += 0.3
    with pytest.raises(Unauthorized):
        await here.principal(bearer)
    await other.aclose()


async def test_end_users_are_the_same_in_every_process(store: SqlStorage, url: str) -> None:
    other = await SqlStorage.open(url)
    users = await asyncio.gather(*(opener.catalog.end_user("a1", "ada", 5.0) for opener in (store, other) * 10))
    assert len(set(users)) == 1
    await other.aclose()


async def test_a_caller_that_gives_up_hinders_nobody(store: SqlStorage) -> None:
    given_up = store.journal.append(whole("r1"))
    appended = store.journal.append(whole("r2"))
    given_up.cancel()
    await appended
    assert await store.journal.read("r1") == whole("r1"), "what was begun is written all the same"


async def test_a_closed_store_says_so(url: str) -> None:
    store = await SqlStorage.open(url)
    await store.aclose()
    with pytest.raises(StoreError, match="is closed"):
        await store.journal.append(whole("r1"))
    with pytest.raises(StoreError, match="is closed"):
        await store.journal.read("r1")
    await store.aclose()


async def test_errors_tell_nothing_of_what_users_wrote(store: SqlStorage) -> None:
    def broken(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO events VALUES (?)", ("a secret",))

    with pytest.raises(StoreError) as failed:
        await store.writer.submit(Call(broken, "the database"))
    assert "a secret" not in str(failed.value)
    assert str(failed.value).startswith("the database cannot be written: ")


async def test_full_sync_is_what_sqlite_is_told(url: str) -> None:
    for full, level in ((False, 1), (True, 2)):
        store = await SqlStorage.open(url, full_sync=full)
        synchronous = await store.database.run(
            lambda connection: connection.exec_driver_sql("PRAGMA synchronous").scalar()
        )
        assert synchronous == level
        await store.aclose()
