"""Connections to a server of PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError

from headrace.errors import StoreError
from headrace.stores.sql.schema_base import add_postgresql_conditions

_OLDEST = 15  # major version: the oldest that its makers maintain
_TIMEOUTS = {
    "lock_timeout": "10s",  # as long as SQLite waits for another process
    # a process that is paused within a transaction would otherwise keep its locks for as long as it is
    "idle_in_transaction_session_timeout": "5s",
}
# of libpq: a host that no longer responds is noticed in seconds, not in hours; the URL may say otherwise
_NETWORK: dict[str, Any] = {
    "connect_timeout": 10,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
PGBOUNCER = "pgbouncer"  # a parameter of the URL, as Prisma has it


def postgresql_engine(url: URL, connections: int) -> Engine:
    """The engine of a database that a server keeps. StoreError if the driver is not installed; that the server is too
    old is raised by the first connection.

    With `pgbouncer=true` in the URL each transaction may be executed by another session: then nothing is left in one,
    neither a setting nor a prepared statement.
    """
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise StoreError(f"{url.drivername} is not supported; write the database's URL as postgresql://...")
    add_postgresql_conditions()
    pooled = is_pooled(url)
    options: dict[str, Any] = {name: value for name, value in _NETWORK.items() if name not in url.query}
    begin = "BEGIN"
    if pooled:
        options["prepare_threshold"] = None
        begin = "; ".join([begin, *(f"SET LOCAL {name} = '{value}'" for name, value in _TIMEOUTS.items())])
    try:
        engine = create_engine(
            url.difference_update_query((PGBOUNCER,)).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            pool_size=connections,
            connect_args=options,
            execution_options={"begin": begin},
        )
    except ImportError as error:
        raise StoreError(
            f"PostgreSQL needs a package that is not installed ({error}): pip install 'headrace[postgresql]'"
        ) from error

    def configure(connection: Any, _: object) -> None:
        _check_version(connection)
        connection.autocommit = True  # a setting that is made within a transaction is undone with it
        for name, value in () if pooled else _TIMEOUTS.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))

    def check(connection: Any, *_: object) -> None:
        if _is_closed(connection):
            raise DisconnectionError  # the pool makes a new one

    event.listen(engine, "connect", configure)
    event.listen(engine, "checkout", check)
    return engine


def is_closed(connection: Connection) -> bool:
    """Whether the server has closed a connection that was not used for a while, as it does when it is restarted. That
    is known without a request: what is written must not be sent twice, so it cannot be tried on another connection."""
    return connection.dialect.name == "postgresql" and _is_closed(connection.connection.driver_connection)


def _is_closed(connection: Any) -> bool:
    from psycopg import OperationalError

    try:
        for _ in range(2):  # what has arrived is read without waiting: the server's last message, then the end
            connection.pgconn.consume_input()
    except OperationalError:
        return True
    return False


def is_pooled(url: URL) -> bool:
    """Whether the URL says that a pooler may give each transaction another session."""
    match url.query.get(PGBOUNCER, "false"):
        case "true":
            return True
        case "false":
            return False
        case value:
            raise StoreError(f"pgbouncer={value} in the database's URL is neither true nor false.", transient=False)


def _check_version(connection: Any) -> None:
    major = connection.info.server_version // 10_000
    if major < _OLDEST:
        raise StoreError(f"The server is PostgreSQL {major}; Headrace needs {_OLDEST} or later.")
