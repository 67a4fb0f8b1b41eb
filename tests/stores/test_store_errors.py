"""Which failures of a database may pass and which stay: SQLite's own, and what PostgreSQL's drivers raise."""

from __future__ import annotations

import asyncio
import logging
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, exc, text

from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import NodeStarted, Record, RunEnded, RunStarted
from headrace.stores.sql import SqlStorage, database
from headrace.stores.sql.failures import is_duplicate, is_transient
from headrace.stores.sql.writer import Call
from tests.contracts.examples import numbered, queued


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    return f"sqlite:///{tmp_path}/headrace.db"


async def failure_of(store: SqlStorage, statement: str, *values: object) -> StoreError:
    def work(connection: Connection) -> object:
        return connection.exec_driver_sql(statement, values).rowcount

    with pytest.raises(StoreError) as failed:
        await store.writer.submit(Call(work, "it"))
    return failed.value


# ------------------------------------------------------------------------------------------------------------ SQLite


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(2**63, id="an integer beyond 64 bits"),
        pytest.param("half \ud83d of an emoji", id="a lone surrogate"),
        pytest.param(None, id="nothing where something has to be"),
        pytest.param(float("nan"), id="NaN, which SQLite takes for nothing"),
        pytest.param(object(), id="what is not a value at all"),
    ],
)
async def test_what_a_column_does_not_take_fails_for_good(store: SqlStorage, value: object) -> None:
    failure = await failure_of(store, "INSERT INTO buckets (name, tokens, at) VALUES (?, ?, ?)", "b", 1.0, value)
    assert not failure.transient
    assert store.database.health.problem is None, "the database itself is well"


async def test_a_statement_that_is_wrong_fails_for_good(store: SqlStorage) -> None:
    assert not (await failure_of(store, "INSERT INTO nowhere VALUES (1)")).transient


async def test_a_text_that_is_too_large_fails_for_good(store: SqlStorage) -> None:
    failure = await failure_of(store, "INSERT INTO buckets (name, tokens, at) VALUES (zeroblob(2147483647), 1, 1)")
    assert not failure.transient


async def test_a_locked_database_may_pass(store: SqlStorage, url: str) -> None:
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as failed:
        await store.journal.append(numbered("r1", [queued("r1")]))
    assert failed.value.transient
    assert store.database.health.problem == "database is locked"
    holder.execute("ROLLBACK")
    holder.close()
    await store.journal.append(numbered("r1", [queued("r1")]))
    assert store.database.health.problem is None


async def test_a_full_database_may_pass(store: SqlStorage) -> None:
    def work(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    await store.writer.submit(Call(work, "it"))
    failure = await failure_of(store, "INSERT INTO buckets (name, tokens, at) VALUES (?, 1, 1)", "x" * 100_000)
    assert failure.transient
    assert "full" in failure.reason


async def test_a_file_that_cannot_be_opened_may_pass(url: str) -> None:
    store = await SqlStorage.open(url)
    await store.journal.append(numbered("r1", [queued("r1")]))
    store.database.engine.dispose()
    file, away = Path(url.removeprefix("sqlite:///")), Path(url.removeprefix("sqlite:///") + ".away")

    def swap() -> None:
        if away.exists():
            file.rmdir()
            away.rename(file)
        else:
            file.rename(away)
            file.mkdir()

    await asyncio.to_thread(swap)
    with pytest.raises(StoreError) as failed:
        await store.journal.read("r1")
    assert failed.value.transient
    await asyncio.to_thread(swap)
    assert len(await store.journal.read("r1")) == 1
    await store.aclose()


async def test_a_file_that_may_not_grow_fails_for_a_while(tmp_path: Path) -> None:
    script = (
        "import asyncio, resource, signal, sys\n"
        "from headrace.errors import StoreError\n"
        "from headrace.kernel.events import NodeSucceeded\n"
        "from headrace.stores.sql import SqlStorage\n"
        "from tests.contracts.examples import numbered, queued\n"
        "async def main():\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    store = await SqlStorage.open(sys.argv[1])\n"
        "    await store.journal.append(numbered('r1', [queued('r1')]))\n"
        "    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))\n"
        "    huge = numbered('r1', [NodeSucceeded('n', {'text': 'x' * 4_000_000})], after=1)\n"
        "    try:\n"
        "        await store.journal.append(huge)\n"
        "    except StoreError as error:\n"
        "        print(error.transient, error.reason)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\n"
        "    await store.journal.append(huge)\n"
        "    print(len(await store.journal.read('r1')), store.database.health.problem)\n"
        "    await store.aclose()\n"
        "asyncio.run(main())\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, f"sqlite:///{tmp_path}/headrace.db"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("True "), first
    assert second == "2 None"


async def test_only_a_number_that_is_taken_is_a_conflict(store: SqlStorage) -> None:
    await store.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("r1", [NodeStarted("a")], after=1))
    with pytest.raises(StoreError) as failed:
        await store.journal.append([Record("r1", 3, float("nan"), NodeStarted("a"))])  # a clock that has gone mad
    assert not failed.value.transient


async def test_a_sum_that_no_integer_holds_still_ends_the_run(store: SqlStorage) -> None:
    huge = RunEnded("succeeded", {"n": 10**40}, None, 10**30, 10**30, 10**30)
    await store.journal.append(numbered("r1", [queued("r1"), RunStarted(), huge]))
    run = await store.runs.find_run("r1")
    assert run is not None
    assert (run.status, run.tokens, run.steps) == ("succeeded", 2**63 - 1, 2**31 - 1)
    assert (await store.journal.read("r1"))[-1].event == huge
    assert await store.journal.read("r1", after=10**30) == []


async def test_it_is_logged_once_that_the_database_goes_and_once_that_it_is_back(
    store: SqlStorage, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "headrace")
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for _ in range(5):
        results = await asyncio.gather(*(store.journal.append(numbered(f"r{n}", [queued(f"r{n}")])) for n in range(20)),
                                    return_exceptions=True)  # fmt: skip
        assert all(isinstance(result, StoreError) for result in results)
    holder.execute("ROLLBACK")
    holder.close()
    for n in range(5):
        await store.journal.append(numbered(f"r{n}", [queued(f"r{n}")]))
    went, back = [record for record in caplog.records if record.name.startswith("headrace.stores")]
    assert went.levelno == logging.ERROR
    assert "cannot be written, and is tried again until it can: database is locked" in went.getMessage()
    assert back.levelno == logging.WARNING
    assert "can be read and written again, after" in back.getMessage()
    assert went.exc_info is back.exc_info is None


# -------------------------------------------------------------------------------------------------------- PostgreSQL


class DriverError(Exception):
    """As drivers of PostgreSQL have it."""

    sqlstate: str | None = None


class OperationalError(DriverError): ...


class InterfaceError(DriverError): ...


class DataError(DriverError): ...


class IntegrityError(DriverError): ...


class InternalError(DriverError): ...


class ProgrammingError(DriverError): ...


class NotSupportedError(DriverError): ...


def raised(
    kind: type[DriverError], state: str | None, *, gone: bool = False, named: str = "sqlstate"
) -> exc.DBAPIError:
    cause = kind("what the server says")
    setattr(cause, named, state)
    error = exc.DBAPIError.instance("INSERT", {}, cause, DriverError, connection_invalidated=gone)
    assert isinstance(error, exc.DBAPIError)
    return error


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (OperationalError, None),  # no connection: nobody gave a code
        (OperationalError, "08006"),  # the connection is lost
        (InterfaceError, "08003"),
        (OperationalError, "28P01"),  # the password was changed
        (OperationalError, "3D000"),
        (OperationalError, "40001"),  # could not serialize
        (OperationalError, "40P01"),  # a deadlock
        (OperationalError, "53100"),  # the disk is full
        (OperationalError, "53200"),
        (OperationalError, "53300"),  # too many connections
        (OperationalError, "55P03"),  # a lock that is not to be had
        (OperationalError, "57P01"),  # the server is shut down
        (OperationalError, "57014"),
        (OperationalError, "58030"),  # I/O
        (InternalError, "25006"),  # a replica takes no writes
        (ProgrammingError, "42501"),
    ],
)
def test_postgresql_away_may_pass(kind: type[DriverError], state: str | None) -> None:
    assert is_transient(raised(kind, state))
    assert is_transient(raised(kind, state, named="pgcode"))


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (DataError, "22003"),  # numeric value out of range
        (DataError, "22021"),  # a character that the encoding has not
        (DataError, "22P05"),  # \\u0000 cannot be converted to text
        (DataError, None),  # the driver refuses it itself: a NUL in a text
        (IntegrityError, "23502"),
        (IntegrityError, "23505"),
        (ProgrammingError, "42P01"),  # no such table
        (OperationalError, "54000"),  # a row that is too large for an index
        (NotSupportedError, "0A000"),
        (InternalError, "XX001"),  # the data is damaged
        (InternalError, "XX000"),
    ],
)
def test_what_postgresql_does_not_take_fails_for_good(kind: type[DriverError], state: str | None) -> None:
    assert not is_transient(raised(kind, state))


def test_a_connection_that_is_known_to_be_gone_may_pass() -> None:
    assert is_transient(raised(ProgrammingError, "26000", gone=True))
    assert is_transient(exc.TimeoutError("QueuePool limit reached"))
    assert is_transient(ConnectionResetError())
    assert is_transient(MemoryError())
    assert not is_transient(OverflowError("int too large to convert"))
    assert not is_transient(KeyError("a defect"))


def test_of_integrity_only_a_key_that_is_taken_means_that_somebody_was_faster() -> None:
    assert is_duplicate(raised(IntegrityError, "23505"))
    assert is_duplicate(raised(IntegrityError, "23505", named="pgcode"))
    assert not is_duplicate(raised(IntegrityError, "23502"))
    assert not is_duplicate(raised(DataError, "22003"))


def test_sqlite_says_by_code_which_integrity_it_is(tmp_path: Path) -> None:
    engine = database.engine_of(f"sqlite:///{tmp_path}/x.db")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (a TEXT PRIMARY KEY, b TEXT NOT NULL)"))
        connection.execute(text("INSERT INTO t VALUES ('1', 'x')"))
        with pytest.raises(exc.IntegrityError) as taken:
            connection.execute(text("INSERT INTO t VALUES ('1', 'y')"))
        with pytest.raises(exc.IntegrityError) as lacking:
            connection.execute(text("INSERT INTO t VALUES ('2', NULL)"))
    engine.dispose()
    assert (is_duplicate(taken.value), is_duplicate(lacking.value)) == (True, False)
