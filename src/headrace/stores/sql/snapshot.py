"""A database as a whole: its schema, its size, and a copy of it at one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from headrace.errors import StoreError
from headrace.frozen import frozen
from headrace.stores.sql.database import engine_of, url_parts
from headrace.stores.sql.failures import reason
from headrace.stores.sql.migrations import pending, revision_of
from headrace.stores.sql.postgresql import PGBOUNCER
from headrace.stores.sql.schema import REVISIONS, metadata

_PAGES = 2048  # copied at once


@frozen
class DatabaseStatus:
    """Schema and size of a database. `revision` is None if it has no tables yet; `size` is in bytes, -1 if unknown;
    `rows` are counted by table."""

    revision: str | None
    newest: str
    size: int
    rows: Mapping[str, int]

    @property
    def pending(self) -> list[str]:
        """The pending migrations, in order."""
        return [*pending(self.revision)]


def file_of(url: str) -> Path | None:
    """The file of an SQLite database; None for another database. StoreError if the URL is not valid."""
    parts = url_parts(url)
    if parts.get_backend_name() != "sqlite" or not parts.database:
        return None
    return Path(parts.database.removeprefix("file:"))


def database_status(url: str, *, count: bool = True) -> DatabaseStatus:
    """Schema and size of the database at a URL, which is not changed. StoreError if it cannot be read, or is of a newer
    version."""
    file = file_of(url)
    if file is not None and not file.is_file():
        return DatabaseStatus(None, REVISIONS[-1], 0, {})
    with _connected(url) as connection:
        revision = revision_of(connection, _name(connection.engine))
        there = set(inspect(connection).get_table_names()) if count else set[str]()
        rows = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
            if table.name in there
        }
        if connection.dialect.name == "postgresql":
            size = int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
        else:
            size = sum(part.stat().st_size for part in sqlite_files(file)) if file is not None else -1
        return DatabaseStatus(revision, REVISIONS[-1], size, rows)


def sqlite_files(file: Path) -> list[Path]:
    """The existing files of an SQLite database: the file itself, and those beside it."""
    return [part for end in ("", "-wal", "-shm") if (part := file.with_name(file.name + end)).is_file()]


def snapshot(url: str, target: Path) -> None:
    """Copies an SQLite database as it is at this moment, while others continue to write to it.

    One read transaction spans the whole copy: without it every write of another process would restart it. The workers
    are left out: in the copy every unfinished run can be acquired.
    StoreError if either cannot be read or written; `target` may then be incomplete.
    """
    with _connected(url) as connection:
        source = connection.connection.driver_connection
        assert isinstance(source, sqlite3.Connection)
        try:
            with closing(sqlite3.connect(target)) as copy:
                copy.execute("PRAGMA synchronous=OFF")  # the caller syncs it if necessary
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()
                try:
                    source.backup(copy, pages=_PAGES)
                finally:
                    source.execute("ROLLBACK")
                if copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'workers'").fetchone():
                    copy.execute("DELETE FROM workers")
                    copy.commit()
                # one file without others beside it; a store that opens it switches back to WAL
                copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            raise StoreError(f"{_name(connection.engine)} cannot be copied: {error}") from error


def checked(file: Path) -> tuple[str | None, set[str]]:
    """(revision, ids of the stored files) of an SQLite database that is not in use. StoreError if it is damaged or of a
    newer version."""
    with _connected(f"sqlite:///{file}") as connection:
        result = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if result != "ok":
            raise StoreError(f"the database is damaged: {result}")
        revision = revision_of(connection, file.name)
        known_files = (
            set(connection.execute(select(metadata.tables["files"].c.id)).scalars()) if revision else set[str]()
        )
        connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        return revision, known_files


def in_use(file: Path) -> bool:
    """Whether another process has an SQLite database open. If not, the files beside it are removed."""
    try:
        with closing(sqlite3.connect(file, timeout=0)) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    except sqlite3.DatabaseError:
        return False  # it is not a database at all
    return False


def backup_commands(url: str) -> tuple[str, str]:
    """The commands that dump and restore a PostgreSQL database, without its password."""
    target = url_parts(url).difference_update_query((PGBOUNCER,))
    target = target._replace(drivername="postgresql", password=None).render_as_string()
    return (
        f"pg_dump --format=custom --file=headrace.dump '{target}'",
        f"pg_restore --single-transaction --dbname='{target}' headrace.dump",
    )


@contextmanager
def _connected(url: str) -> Generator[Connection]:
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StoreError(f"{_name(engine)} cannot be read: {reason(error)}") from error
    finally:
        engine.dispose()


def _name(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)
