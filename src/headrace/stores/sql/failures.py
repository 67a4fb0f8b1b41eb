"""Whether a failure is of the database, and transient, or of the statement, and permanent.

The caller of a write tries again after a transient failure; a write with a value that no column accepts would fail for
ever. An unknown failure counts as permanent: a run that calls a paid model must not be repeated on a guess.

Sources: SQLite's result codes (sqlite.org/rescode.html), PostgreSQL's SQLSTATE classes (its manual, appendix A).
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError,
)

from headrace.errors import HeadraceError, StoreError

# PERM, ABORT, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, SCHEMA (another process
# migrates), AUTH, NOLFS; a damaged file (CORRUPT, NOTADB) stays damaged
_SQLITE_TRANSIENT = frozenset({3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 17, 22, 23})
_SQLITE_UNIQUE = frozenset({1555, 2067, 2579})  # PRIMARYKEY, UNIQUE, ROWID

_POSTGRESQL_TRANSIENT_CLASSES = (
    "08",  # connection exception
    "28",  # invalid authorization: a password that was changed
    "3D",  # invalid catalog name: the database is being restored
    "40",  # transaction rollback: serialization failure, deadlock
    "53",  # insufficient resources: disk full, out of memory, too many connections
    "55",  # object not in prerequisite state: lock not available
    "57",  # operator intervention: shutdown, query cancelled
    "58",  # system error: I/O
)
_POSTGRESQL_TRANSIENT = frozenset(
    {
        "25006",  # read-only transaction: a replica, until it is promoted
        "25P03",  # idle in transaction for too long
        "42501",  # insufficient privilege
    }
)
_POSTGRESQL_UNIQUE = "23505"


def is_transient(error: BaseException) -> bool:
    """Whether the same statement may succeed later."""
    if isinstance(error, StoreError):
        return error.transient
    if isinstance(error, TimeoutError):  # no connection of the pool became free
        return True
    if isinstance(error, DBAPIError):
        cause = error.orig if isinstance(error.orig, BaseException) else error
        if is_disconnected(error):
            return True
        if (error_of_code := _by_code(cause)) is not None:
            return error_of_code
        # no code: a connection that failed has none
        return isinstance(error, OperationalError | InternalError) or _is_interface(error)
    if isinstance(error, sqlite3.Error):
        return _by_code(error) or False
    return isinstance(error, OSError | MemoryError)


def is_disconnected(error: BaseException) -> bool:
    """Whether the connection is gone, and with it all that was not committed."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _is_interface(error: DBAPIError) -> bool:
    """Whether the driver itself failed, and not because of a value that it does not accept (which is an error of the
    same name in Python's sqlite3)."""
    return isinstance(error, InterfaceError) and not isinstance(error.orig, sqlite3.Error)


def _by_code(error: BaseException) -> bool | None:
    """By the database's own code; None if there is none."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if not isinstance(code, int):
            return None
        return code & 0xFF in _SQLITE_TRANSIENT
    if (state := _state(error)) is None:
        return None
    return state[:2] in _POSTGRESQL_TRANSIENT_CLASSES or state in _POSTGRESQL_TRANSIENT


def _state(error: object) -> str | None:
    """PostgreSQL's SQLSTATE, as psycopg and asyncpg name it, or psycopg2."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state if isinstance(state, str) else None


def is_duplicate(error: BaseException) -> bool:
    """Whether a row with the same key exists: the one violation of integrity that another writer causes."""
    cause = error.orig if isinstance(error, IntegrityError) else error
    if isinstance(cause, sqlite3.IntegrityError):
        return cause.sqlite_errorcode in _SQLITE_UNIQUE
    return isinstance(error, IntegrityError) and _state(cause) == _POSTGRESQL_UNIQUE


def reason(error: BaseException) -> str:
    """The database's own message in one line, without statement and parameters (which contain users' data)."""
    if isinstance(error, SQLAlchemyError):
        return " ".join(str(getattr(error, "orig", None) or error).split())
    if isinstance(error, sqlite3.Error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def write_error(name: str, error: Exception) -> Exception:
    """What a caller receives: Headrace's own errors as they are, others as a StoreError. `name` is the database's."""
    return error if isinstance(error, HeadraceError) else _failure(f"{name} cannot be written", error)


def read_error(name: str, error: Exception) -> StoreError:
    """As `write_error`, for a read."""
    return _failure(f"{name} cannot be read", error)


def _failure(what: str, error: Exception) -> StoreError:
    why = reason(error)
    store_error = StoreError(f"{what}: {why}", transient=is_transient(error), reason=why)
    store_error.__cause__ = error
    return store_error
