"""A database at the newest schema, and the threads that read from it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, Select, create_engine, event
from sqlalchemy.engine import URL, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from headrace.errors import NewerSchema, StoreError
from headrace.stores.sql.failures import is_disconnected, is_transient, read_error, reason, write_error
from headrace.stores.sql.migrations import check, migrate
from headrace.stores.sql.postgresql import postgresql_engine
from headrace.stores.sql.transaction import begin

logger = logging.getLogger(__name__)

READERS = 4  # threads, each with a connection of its own while it reads
WRITERS = 2  # the same, beside the writer: one claims runs, one changes partitions
CONNECTIONS = READERS + WRITERS + 2  # and one each for the writer and the heartbeats; long work opens others
BUSY_SECONDS = 10.0  # how long to wait for another process that writes to the same SQLite file

T = TypeVar("T")
Work: TypeAlias = Callable[[Connection], T]
Access = Literal["read", "written"]


class Health:
    """Whether the database can be read and written, by the outcome of the last reads and writes in any thread.

    A failing database is logged once, and once more when it is back, however many callers notice. `name` is the
    database's, without its password.
    """

    def __init__(self, name: str) -> None:
        self.problem: str | None = None  # why it cannot be read or written, in the database's own words
        self.refusal: str | None = None  # why this version must not use it any more
        self._name = name
        self._failing: dict[Access, str] = {}  # with the reason
        self._since = 0.0
        self._lock = threading.Lock()

    def refuse(self, reason: str) -> None:
        """From now on, nothing is read or written."""
        with self._lock:
            first, self.refusal, self.problem = self.refusal is None, reason, reason
        if first:
            logger.error("nothing is read or written any more: %s", reason)

    def succeeded(self, access: Access) -> None:
        with self._lock:
            if self._failing.pop(access, None) is None or self.refusal is not None:
                return
            self.problem = next(iter(self._failing.values()), None)
            if self.problem is not None:
                return
            seconds = time.monotonic() - self._since
        logger.warning("%s can be read and written again, after %.0f s", self._name, seconds)

    def failed(self, access: Access, reason: str) -> None:
        """A read or write failed because of the database itself."""
        with self._lock:
            if self.refusal is not None:
                return
            first = not self._failing
            self._failing[access] = reason
            self.problem = next(iter(self._failing.values()))
            if first:
                self._since = time.monotonic()
        if first:
            logger.error("%s cannot be %s, and is tried again until it can: %s", self._name, access, reason)


class Database:
    """An engine, and threads that read with it. Every statement is its own transaction, except after BEGIN."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.url.render_as_string(hide_password=True)
        self.health = Health(self.name)
        self._readers = ThreadPoolExecutor(READERS, "headrace-read")
        self._writers = ThreadPoolExecutor(WRITERS, "headrace-write-beside")
        self._heartbeats = ThreadPoolExecutor(1, "headrace-heartbeat")
        self._long_writers = ThreadPoolExecutor(2, "headrace-write-long")
        self._closed = False
        self._version_lock = asyncio.Lock()
        self._version_connection: Connection | None = None
        self._version: object = None

    async def run(self, work: Work[T]) -> T:
        """Runs reading work in a reader's thread. StoreError if the database fails."""
        return await self._execute(self._readers, self._run, work)

    async def check_schema(self) -> None:
        """Refuses all further work once a newer version has migrated the database so that this one cannot use it."""
        try:
            await self.run(lambda connection: check(connection, self.name))
        except StoreError as error:
            if error.transient:
                raise
            self.health.refuse(str(error))

    def _run(self, work: Work[T]) -> T:
        if (refusal := self.health.refusal) is not None:
            raise NewerSchema(refusal)
        try:
            try:
                with self.engine.connect() as connection:
                    result = work(connection)
            except DBAPIError as error:
                if not is_disconnected(error):
                    raise
                # the server closed the idle connections, for instance because it was restarted
                with self.engine.connect() as connection:
                    result = work(connection)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            failure = read_error(self.name, error)
            if failure.transient:
                self.health.failed("read", reason(error))
            raise failure from error
        if self.health.problem is not None:
            self.health.succeeded("read")
        return result

    async def write(self, work: Work[T]) -> T:
        """Runs writing work in a transaction of its own, beside the writer: where one process need not wait for another
        (PostgreSQL), this one need not wait for itself. StoreError if the database fails."""
        return await self._execute(self._writers, self._write, work)

    async def heartbeat(self, work: Work[T]) -> T:
        """As `write`, in a thread and on a connection that nothing else can keep waiting."""
        return await self._execute(self._heartbeats, self._write, work)

    async def look(self, work: Work[T]) -> T:
        """As `run`, in the thread of the heartbeats."""
        return await self._execute(self._heartbeats, self._run, work)

    async def write_long(self, work: Work[T]) -> T:
        """As `write`, for work that may take minutes: nothing but other such work waits for it."""
        return await self._execute(self._long_writers, self._write, work)

    async def _execute(self, executor: ThreadPoolExecutor, run: Callable[[Work[T]], T], work: Work[T]) -> T:
        if self._closed:
            raise StoreError(f"{self.name} is closed.")
        return await asyncio.get_running_loop().run_in_executor(executor, run, work)

    def _write(self, work: Work[T]) -> T:
        if (refusal := self.health.refusal) is not None:
            raise NewerSchema(refusal)
        try:
            with self.engine.connect() as connection:  # rolls back what was not committed
                begin(connection)
                result = work(connection)
                connection.exec_driver_sql("COMMIT")
        except (SQLAlchemyError, OSError) as error:
            raise write_error(self.name, error) from error
        return result

    async def rows(self, statement: Select[Any]) -> list[RowMapping]:
        return await self.run(lambda connection: list(connection.execute(statement).mappings()))

    async def row(self, statement: Select[Any]) -> RowMapping | None:
        return await self.run(lambda connection: connection.execute(statement).mappings().first())

    async def changed(self) -> bool:
        """Whether any process has committed anything since the last call; true if that is unknown."""
        if self.engine.dialect.name != "sqlite":
            return True
        async with self._version_lock:
            return await self.run(self._version_changed)

    def _version_changed(self, _: Connection) -> bool:
        # the version is relative to one connection, which notices the commits of all others: so it is kept open
        if self._version_connection is None:
            self._version_connection = self.engine.connect()
        try:
            version = self._version_connection.exec_driver_sql("PRAGMA data_version").scalar()
        except BaseException:
            connection, self._version_connection, self._version = self._version_connection, None, None
            connection.invalidate()
            connection.close()
            raise
        before, self._version = self._version, version
        return version != before

    def close(self) -> None:
        self._closed = True
        self._readers.shutdown()
        self._writers.shutdown()
        self._heartbeats.shutdown()
        self._long_writers.shutdown()
        if self._version_connection is not None:
            self._version_connection.close()
        self.engine.dispose()


def connect(url: str, *, full_sync: bool = False) -> Database:
    """Opens a database, and creates or migrates it if necessary.

    `url` is `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://...`; `full_sync` protects SQLite from
    power loss too, not only from a crash. StoreError says why the database cannot be opened.
    """
    engine = engine_of(url, full_sync=full_sync)
    name = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            migrate(connection, name)
    except SQLAlchemyError as error:
        engine.dispose()
        raise StoreError(f"{name} cannot be opened: {reason(error)}", transient=is_transient(error)) from error
    except StoreError:
        engine.dispose()
        raise
    return Database(engine)


def engine_of(url: str, *, full_sync: bool = False) -> Engine:
    """The engine of a database, which is not changed by it: see `connect`. StoreError if the URL is not valid."""
    parts = url_parts(url)
    backend = parts.get_backend_name()
    if backend == "sqlite":
        return _sqlite(parts, full_sync)
    if backend not in ("postgres", "postgresql"):
        raise StoreError(f"Headrace keeps its data in SQLite or PostgreSQL, not in {backend}.")
    return postgresql_engine(parts, CONNECTIONS)


def url_parts(url: str) -> URL:
    """The parts of a database's URL. StoreError if it is not valid; as it may have a password, that does not repeat
    it."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(
            "The database's URL is not valid: write it as sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME, with "
            "special characters of the password as %XX.",
            transient=False,
        ) from None


def _sqlite(url: URL, full_sync: bool) -> Engine:
    if url.database in (None, "", ":memory:") or url.query.get("mode") == "memory":
        raise StoreError("SQLite needs a file (sqlite:///path/to/file.db); for a store in memory name no database.")
    if not str(url.database).startswith("file:"):
        try:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{url.database} cannot be created: {error}") from error
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=CONNECTIONS,
        connect_args={"timeout": BUSY_SECONDS},
        execution_options={"begin": "BEGIN IMMEDIATE"},  # else SQLite may refuse to write after a read
    )

    def configure(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        _use_wal(cursor)
        cursor.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    event.listen(engine, "connect", configure)
    return engine


def _use_wal(cursor: Any) -> None:
    """Switches a file to WAL. If several processes do so with a new file at once, SQLite fails for some of them
    without waiting; so they wait here."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            # can be set on a new file only: free pages can then be returned a few at a time
            if cursor.execute("PRAGMA page_count").fetchone() == (0,):
                cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
        time.sleep(0.01)
