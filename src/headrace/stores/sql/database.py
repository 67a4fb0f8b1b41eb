"""A database: opened, brought to the newest schema, and read by a few threads."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Select, create_engine, event, inspect, text
from sqlalchemy.engine import URL, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from headrace.errors import StoreError
from headrace.stores.sql.failures import is_transient, read_error, reason
from headrace.stores.sql.health import Health
from headrace.stores.sql.schema import REVISIONS, metadata

READERS = 4  # threads, each with a connection of its own while it reads
BUSY_SECONDS = 10.0  # how long to wait for another process that writes to the same SQLite file

T = TypeVar("T")


class Database:
    """An engine at the newest schema, and threads that read from it. Every statement is its own transaction, but
    where one is begun by hand (`begin`)."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.url.render_as_string(hide_password=True)
        self.health = Health(self.name)
        self._readers = ThreadPoolExecutor(READERS, "headrace-read")
        self._closed = False
        self._looking = asyncio.Lock()
        self._lookout: Connection | None = None
        self._version: object = None

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Runs reading work in a reader's thread. StoreError where the database fails."""
        if self._closed:
            raise StoreError(f"{self.name} is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run, work)

    def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            with self.engine.connect() as connection:
                result = work(connection)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            failure = read_error(self.name, error)
            if failure.transient:
                self.health.failed("read", reason(error))
            raise failure from error
        self.health.succeeded("read")
        return result

    async def rows(self, statement: Select[Any]) -> list[RowMapping]:
        return await self.run(lambda connection: list(connection.execute(statement).mappings()))

    async def row(self, statement: Select[Any]) -> RowMapping | None:
        return await self.run(lambda connection: connection.execute(statement).mappings().first())

    async def changed(self) -> bool:
        """Whether anything was committed since the last call, by whatever process; true where it is not known."""
        if self.engine.dialect.name != "sqlite":
            return True
        async with self._looking:
            return await self.run(self._look)

    def _look(self, _: Connection) -> bool:
        # the version is that of one connection, which sees what all others commit: so it is kept
        if self._lookout is None:
            self._lookout = self.engine.connect()
        try:
            version = self._lookout.exec_driver_sql("PRAGMA data_version").scalar()
        except BaseException:
            lookout, self._lookout, self._version = self._lookout, None, None
            lookout.invalidate()
            lookout.close()
            raise
        before, self._version = self._version, version
        return version != before

    def close(self) -> None:
        self._closed = True
        self._readers.shutdown()
        if self._lookout is not None:
            self._lookout.close()
        self.engine.dispose()


def connect(url: str, *, full_sync: bool = False) -> Database:
    """Opens a database, and creates or migrates it where that is due.

    `url` is `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://...`; `full_sync` makes SQLite safe
    against power loss too, not only against a crash. StoreError says why it cannot be.
    """
    engine = engine_of(url, full_sync=full_sync)
    name = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            _prepare(connection, name)
    except SQLAlchemyError as error:
        engine.dispose()
        raise StoreError(f"{name} cannot be opened: {reason(error)}", transient=is_transient(error)) from error
    except StoreError:
        engine.dispose()
        raise
    return Database(engine)


def engine_of(url: str, *, full_sync: bool = False) -> Engine:
    """What reaches a database, as it is: see `connect`. StoreError where the URL is of none."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"{url!r} is no database URL; write it as sqlite:///path/to/file.db") from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(f"Headrace keeps its data in SQLite or PostgreSQL, not in {backend}.")
    return _sqlite(parsed, full_sync) if backend == "sqlite" else _postgresql(parsed)


def begin(connection: Connection) -> None:
    """Begins a transaction that will write. SQLite's has to say so: one that reads first may not be let write."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN")


# --------------------------------------------------------------------------------------------------------- engines


def _postgresql(url: URL) -> Engine:
    try:
        return create_engine(url, isolation_level="AUTOCOMMIT", pool_size=READERS + 2, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StoreError(f"PostgreSQL needs the Python package {error.name}, which is not installed.") from error


def _sqlite(url: URL, full_sync: bool) -> Engine:
    if url.database in (None, "", ":memory:") or url.query.get("mode") == "memory":
        raise StoreError("SQLite needs a file (sqlite:///path/to/file.db); for a store in memory name no database.")
    if not str(url.database).startswith("file:"):
        try:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{url.database} cannot be created: {error}") from error
    engine = create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=READERS + 2, connect_args={"timeout": BUSY_SECONDS}
    )

    def configure(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        _wal(cursor)
        cursor.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    event.listen(engine, "connect", configure)
    return engine


def _wal(cursor: Any) -> None:
    """Switches a file to WAL. Of several that do so with a new one at once, SQLite refuses some without letting them
    wait; so they wait here."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            # only a new file can take this up: room that is free can then be given back a little at a time
            if cursor.execute("PRAGMA page_count").fetchone() == (0,):
                cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------------ migrations


def _prepare(connection: Connection, name: str) -> None:
    if revision_of(connection, name) == REVISIONS[-1]:
        return
    begin(connection)
    try:
        # another process may have come first, between the look and the lock
        if revision_of(connection, name) != REVISIONS[-1]:
            _migrate(connection, name)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise


def revision_of(connection: Connection, name: str) -> str | None:
    """The migration that the database is at; None before the first. StoreError where this version does not know it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found not in REVISIONS:
        raise StoreError(f"{name} is of a newer version of Headrace (schema {found}, this one knows {REVISIONS[-1]}).")
    return found


def _migrate(connection: Connection, name: str) -> None:
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        upgrade(connection)
        return
    if taken := tables & set(metadata.tables):
        raise StoreError(f"{name} has tables that Headrace did not make: {', '.join(sorted(taken))}.")
    # a new database gets today's schema at once: what Alembic would come to, without the time it takes to import
    metadata.create_all(connection)
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISIONS[-1]})


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrates with Alembic, within the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
