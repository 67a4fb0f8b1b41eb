"""What is particular to a database on a server of PostgreSQL; every contract suite runs on one too."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, select, text

from headrace.errors import StoreError
from headrace.kernel.events import RunEnded, RunStarted
from headrace.ports import Bucket
from headrace.stores.sql import SqlStorage, migrations, postgresql
from headrace.stores.sql.database import WRITERS, engine_of
from headrace.stores.sql.schema import metadata, workers
from headrace.stores.sql.writer import Call
from tests.contracts.examples import numbered, queued, whole
from tests.postgresql import Server

ROOT = Path(__file__).parents[2]


# ------------------------------------------------------------------------------------------------- opening a database


async def test_many_may_open_a_new_database_at_once(postgresql_server: Server) -> None:
    url = postgresql_server.new_database()
    stores = await asyncio.gather(*(SqlStorage.open(url) for _ in range(4)))
    for n, store in enumerate(stores):
        await store.journal.append(whole(f"r{n}"))
    assert [len(await stores[0].journal.read(f"r{n}")) for n in range(4)] == [5] * 4
    for store in stores:
        await store.aclose()


def _schema(url: str) -> list[tuple[object, ...]]:
    engine = engine_of(url)
    with engine.connect() as connection:
        described = [
            *connection.exec_driver_sql(
                "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
                " WHERE table_schema = 'public'"
            ),
            *connection.exec_driver_sql("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"),
        ]
    engine.dispose()
    return sorted((tuple(row) for row in described), key=repr)


def _declared(name: str | None, _kind: str, _parents: object) -> bool:
    return name != "ix_dataset_text_terms"  # it is made by a statement; `_schema` compares it


async def test_a_new_database_is_what_the_migrations_make(postgresql_server: Server) -> None:
    migrated, new = postgresql_server.new_database(), postgresql_server.new_database()
    engine = engine_of(migrated)
    with engine.connect() as connection:
        migrations.upgrade(connection)
        assert (
            compare_metadata(MigrationContext.configure(connection, opts={"include_name": _declared}), metadata) == []
        )
    engine.dispose()
    await (await SqlStorage.open(new)).aclose()
    assert _schema(new) == _schema(migrated)


async def test_a_url_as_providers_write_it_is_accepted(postgresql_url: str) -> None:
    for scheme in ("postgres", "postgresql+psycopg"):
        await (await SqlStorage.open(postgresql_url.replace("postgresql", scheme, 1))).aclose()


async def test_another_driver_is_refused(postgresql_url: str) -> None:
    with pytest.raises(StoreError, match=r"postgresql\+asyncpg is not supported; write .* as postgresql://"):
        await SqlStorage.open(postgresql_url.replace("postgresql", "postgresql+asyncpg", 1))


async def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match=r"ada:\*\*\*@127.0.0.1:1/h cannot be opened: .*refused") as failed:
        await SqlStorage.open("postgresql://ada:hunter2@127.0.0.1:1/h")
    assert failed.value.transient


async def test_a_database_that_is_not_there_is_named(postgresql_server: Server) -> None:
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        await SqlStorage.open(postgresql_server.url("nowhere"))


async def test_a_server_that_is_too_old_is_refused(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_OLDEST", 99)
    with pytest.raises(StoreError, match=r"The server is PostgreSQL \d\d; Headrace needs 99 or later"):
        await SqlStorage.open(postgresql_url)


async def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'headrace\[postgresql\]'"):
        await SqlStorage.open("postgresql://127.0.0.1:1/h")


# ------------------------------------------------------------------------------------------------------ transactions


async def test_an_append_is_one_statement(postgresql_url: str) -> None:
    """A transaction of several would keep its locks while a process is paused between them."""
    store = await SqlStorage.open(postgresql_url)
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    event.listen(store.database.engine, "before_cursor_execute", note)
    await store.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    await store.journal.append(numbered("r1", [RunEnded("succeeded")], after=2))
    event.remove(store.database.engine, "before_cursor_execute", note)
    assert len(statements) == 2
    assert [statements[1].count(f"INSERT INTO {table} ") for table in ("events", "runs", "run_sums")] == [1, 1, 1]
    await store.aclose()


HOSTILE = ['"', "\\", "{a,b}", "NULL", "", " ", "a,b", "'; DROP TABLE runs; --", "\n\t", "礁溪🤖", "%s", "$1"]


async def test_texts_that_look_like_syntax_come_back_equal(postgresql_url: str) -> None:
    store = await SqlStorage.open(postgresql_url)
    for n, content in enumerate(HOSTILE):
        await store.journal.append(
            numbered(f"r{n}", [queued(f"r{n}", app=content, user=content), RunEnded("failed", error=content)])
        )
    for n, content in enumerate(HOSTILE):
        run = await store.runs.find_run(f"r{n}")
        assert run is not None
        assert (run.app, run.session, run.error) == (content, content, content)
    await store.aclose()


async def test_the_store_works_again_after_a_restart_of_the_server(
    postgresql_server: Server, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await SqlStorage.open(postgresql_url)
    await store.journal.append(whole("r1"))
    await asyncio.to_thread(postgresql_server.stop)
    try:
        for access in (store.journal.append(whole("r2")), store.journal.read("r1"), store.leases.heartbeat()):
            with pytest.raises(StoreError) as failed:
                await access
            assert failed.value.transient
    finally:
        await asyncio.to_thread(postgresql_server.start)
    assert await store.journal.read("r1") == whole("r1")
    await store.journal.append(whole("r2"))
    assert await store.journal.read("r2") == whole("r2")
    assert store.database.health.problem is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    await store.aclose()


async def test_idle_connections_that_the_server_has_closed_are_not_noticed(
    postgresql_server: Server, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await SqlStorage.open(postgresql_url)

    async def write(run: str) -> None:
        await asyncio.gather(store.journal.append(whole(run)), store.buckets.take([Bucket(run, 5, 1)], 0))

    await write("r0")
    await asyncio.gather(*(store.journal.read("r1") for _ in range(8)))
    postgresql_server.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    assert await asyncio.gather(*(store.journal.read("r1") for _ in range(8))) == [[]] * 8
    await write("r2")
    assert await store.journal.read("r2") == whole("r2")
    assert not caplog.records
    await store.aclose()


_PAUSED = """
import asyncio, signal, sys, threading
from headrace.errors import StoreError
from headrace.ports import Bucket
from headrace.stores.sql import SqlStorage, postgresql
from headrace.stores.sql.writer import Call

postgresql._TIMEOUTS["idle_in_transaction_session_timeout"] = "1s"

def work(connection):
    connection.exec_driver_sql("UPDATE buckets SET tokens = 0")
    connection.exec_driver_sql("UPDATE workers SET seen_at = 0")
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # not one instruction later

async def main():
    store = await SqlStorage.open(sys.argv[1])
    await store.buckets.take([Bucket("b", 5, 1)], 0)
    await store.leases.heartbeat()
    try:
        await store.writer.submit(Call(work, "it"))
    except StoreError as error:
        print(error.transient)
    print((await store.buckets.take([Bucket("b", 5, 1)], 0))[0])
    await store.aclose()

asyncio.run(main())
"""


async def test_a_process_that_is_paused_within_a_transaction_does_not_stop_the_others(postgresql_url: str) -> None:
    command = [sys.executable, "-c", _PAUSED, postgresql_url]
    paused = await asyncio.to_thread(subprocess.Popen, command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        await asyncio.to_thread(os.waitid, os.P_PID, paused.pid, os.WSTOPPED | os.WNOWAIT)
        store = await SqlStorage.open(postgresql_url)
        waits = asyncio.ensure_future(store.buckets.take([Bucket("b", 5, 1)], 0))
        await store.leases.heartbeat()
        assert store.leases.shared, "this one has shown that it is alive, and has seen the other"
        (taken,) = await waits
        assert taken.left == 3, "what the paused one has not committed is undone"
        await store.aclose()
    finally:
        paused.send_signal(signal.SIGCONT)
        out, _ = await asyncio.to_thread(paused.communicate)
    assert out.splitlines()[0] == "True", "its transaction has failed, and can be tried again"
    assert "left=2.0" in out


async def test_a_worker_whose_transactions_all_wait_for_a_lock_shows_that_it_is_alive(postgresql_url: str) -> None:
    store = await SqlStorage.open(postgresql_url)
    await store.buckets.take([Bucket("b", 5, 1)], 0)
    await store.leases.heartbeat()
    update = "UPDATE buckets SET tokens = 0"

    def wait(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # however slow this machine is
        connection.exec_driver_sql(update)

    with store.database.engine.connect() as holder:
        holder.exec_driver_sql("BEGIN")
        holder.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        holder.exec_driver_sql(update)
        waiting = [store.writer.submit(Call(wait, "it")), *(store.database.write(wait) for _ in range(WRITERS))]
        tasks = [asyncio.ensure_future(item) for item in waiting]
        await _until_blocked(store, len(tasks))
        await store.database.run(lambda connection: connection.exec_driver_sql("UPDATE workers SET seen_at = 0"))
        async with asyncio.timeout(60):
            await store.leases.heartbeat()
        assert await store.database.rows(select(workers.c.id).where(workers.c.seen_at > 0))
        assert not any(task.done() for task in tasks)
        holder.exec_driver_sql("ROLLBACK")
    await asyncio.gather(*tasks)
    await store.aclose()


async def _until_blocked(store: SqlStorage, count: int) -> None:
    """Until so many sessions wait for a lock."""
    blocked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(60):
        while True:
            if await store.database.run(lambda connection: connection.scalar(blocked)) == count:
                return
            await asyncio.sleep(0.01)
