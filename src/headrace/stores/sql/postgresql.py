"""Connections to a server of PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

from headrace.errors import StoreError

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


def postgresql_engine(url: URL, connections: int) -> Engine:
    """The engine of a database that a server keeps. StoreError if the driver is not installed; that the server is too
    old is raised by the first connection."""
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise StoreError(f"{url.drivername} is not supported; write the database's URL as postgresql://...")
    network = {name: value for name, value in _NETWORK.items() if name not in url.query}
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            pool_size=connections,
            connect_args=network,
        )
    except ImportError as error:
        raise StoreError(
            f"PostgreSQL needs a package that is not installed ({error}): pip install 'headrace[postgresql]'"
        ) from error
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: Any, _: object) -> None:
    major = connection.info.server_version // 10_000
    if major < _OLDEST:
        raise StoreError(f"The server is PostgreSQL {major}; Headrace needs {_OLDEST} or later.")
    connection.autocommit = True  # a setting that is made within a transaction is undone with it
    for name, value in _TIMEOUTS.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
