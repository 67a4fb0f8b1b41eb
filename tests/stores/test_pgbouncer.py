"""Transactions that a pooler gives to any session of the server: none may leave anything in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from headrace.errors import StoreError
from headrace.ports import Bucket
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.diagnosis import diagnose
from headrace.stores.sql.writer import Call
from tests.contracts.examples import whole
from tests.postgresql import Server

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONFIGURATION = """
[databases]
* = host={server} user=headrace
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = extra_float_digits
"""
TIMEOUTS = "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"


@pytest.fixture
def pooled_url(postgresql_url: str) -> str:
    """A database without any rows, as through a pooler, but without one."""
    return f"{postgresql_url}&pgbouncer=true"


@pytest.fixture(scope="module")
def pgbouncer(postgresql_server: Server) -> Iterator[Path]:
    """The folder of the socket of PgBouncer, which shares two sessions between all transactions."""
    if PROGRAM is None:
        pytest.skip("PgBouncer was not tested: it is not installed")
    folder = Path(tempfile.mkdtemp(prefix="headrace-pgbouncer-"))
    shutil.chown(folder, postgresql_server.user or os.getuid())
    configuration = folder / "pgbouncer.ini"
    server = postgresql_server.url().partition("host=")[2]
    configuration.write_text(CONFIGURATION.format(server=server, folder=folder))
    configuration.chmod(0o644)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [PROGRAM, str(configuration)], user=postgresql_server.user, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        while not _listens(folder / ".s.PGSQL.6432"):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
            assert process.returncode is None, (folder / "log").read_text()
        yield folder
    finally:
        process.kill()
        process.wait()
        log.close()
        shutil.rmtree(folder)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def url(pgbouncer: Path, postgresql_url: str) -> str:
    """A database without any rows, through PgBouncer."""
    head, _, _ = postgresql_url.partition("?")
    return f"{head}?host={pgbouncer}&port=6432&pgbouncer=true"


def _left_in(connection: Connection) -> list[tuple[Any, ...]]:
    prepared = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
    return [(prepared,), tuple(connection.exec_driver_sql(TIMEOUTS).one())]


async def _use(url: str) -> None:
    """More transactions at once than there are sessions, each statement more often than it takes to prepare it."""
    first, second = await asyncio.gather(SqlStorage.open(url), SqlStorage.open(url))
    for store in (first, second):
        await store.leases.heartbeat()
    await asyncio.gather(
        *(store.journal.append(whole(f"{n}-{id(store)}")) for n in range(50) for store in (first, second))
    )
    for n in range(10):
        await first.journal.append(whole(f"one{n}"))
        await second.buckets.take([Bucket("b", 50, 1)], 0)
        assert await second.claims.claim([f"work{n}"]) == {f"work{n}"}
    (taken,) = await first.buckets.take([Bucket("b", 50, 1)], 0)
    assert taken.left == 39
    names = [f"one{n}" for n in range(10)] * 5
    assert await asyncio.gather(*(second.journal.read(name) for name in names)) == [whole(name) for name in names]
    assert await second.journal.last_sequences(names) == dict.fromkeys(names, 5)
    for store in (first, second):
        await store.aclose()


async def test_nothing_is_left_in_a_session(pooled_url: str) -> None:
    store = await SqlStorage.open(pooled_url)
    for n in range(20):
        await store.journal.append(whole(f"r{n}"))
        await store.journal.read("r1")

    def look(connection: Connection) -> list[tuple[Any, ...]]:
        return _left_in(connection)

    assert await store.database.run(look) == [(0,), ("0", "0")]
    in_transaction = await store.writer.submit(Call(look, "it"))
    assert in_transaction == [(0,), ("10s", "5s")], "the settings are the transaction's"
    assert await store.database.run(look) == [(0,), ("0", "0")]
    await store.aclose()


async def test_each_connection_has_the_timeouts_without_a_pooler(postgresql_url: str) -> None:
    store = await SqlStorage.open(postgresql_url)

    def look(connection: Connection) -> tuple[Any, ...]:
        connection.exec_driver_sql("SELECT pg_sleep(0.01)")  # so that each of those below needs its own connection
        return tuple(connection.exec_driver_sql(TIMEOUTS).one())

    looks = [store.database.run(look), store.database.run(look), store.database.write(look)]
    assert await asyncio.gather(*looks, store.writer.submit(Call(look, "it"))) == [("10s", "5s")] * 4
    await store.aclose()


async def test_a_pooler_may_give_transactions_to_any_session(url: str, pgbouncer: Path) -> None:
    await _use(url)
    store = await SqlStorage.open(url)
    left = await asyncio.gather(*(store.database.run(_left_in) for _ in range(8)))
    assert left == [[(0,), ("0", "0")]] * 8
    await store.aclose()


async def test_many_may_open_a_new_database_through_a_pooler_at_once(
    postgresql_server: Server, pgbouncer: Path
) -> None:
    name = postgresql_server.new_database().partition("?")[0]
    stores = await asyncio.gather(
        *(SqlStorage.open(f"{name}?host={pgbouncer}&port=6432&pgbouncer=true") for _ in range(4))
    )
    for store in stores:
        await store.aclose()


async def test_the_parameter_is_true_or_false(postgresql_url: str) -> None:
    await (await SqlStorage.open(f"{postgresql_url}&pgbouncer=false")).aclose()
    with pytest.raises(StoreError, match="pgbouncer=1 in the database's URL is neither true nor false"):
        await SqlStorage.open(f"{postgresql_url}&pgbouncer=1")


async def test_a_pooler_that_the_url_does_not_name_is_detected(pgbouncer: Path, postgresql_server: Server) -> None:
    url = f"postgresql://headrace@/postgres?host={pgbouncer}&port=6432"
    assert diagnose(url).shares_sessions is True
    assert diagnose(f"{url}&pgbouncer=true").shares_sessions is False
    assert diagnose(postgresql_server.url()).shares_sessions is False
