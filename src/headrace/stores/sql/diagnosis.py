"""What `headrace doctor` learns of a database without changing it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import field

from sqlalchemy import Connection, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from headrace.errors import StoreError
from headrace.frozen import frozen
from headrace.stores.sql.database import engine_of
from headrace.stores.sql.failures import is_transient, reason
from headrace.stores.sql.postgresql import is_pooled
from headrace.stores.sql.schema import installation

_SETTINGS = (
    "server_version",
    "default_transaction_isolation",
    "fsync",
    "synchronous_commit",
    "synchronous_standby_names",
)
_PGVECTOR = "SELECT coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = 'vector'"


@frozen
class Diagnosis:
    """`facts` are those of the installation. The others are of PostgreSQL: its settings, by how many seconds its clock
    is ahead of this machine's, whether a pooler gives the session of one connection to another between transactions
    although the URL does not say so, and the version of pgvector that it has or can have."""

    facts: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    clock_ahead: float = 0.0
    shares_sessions: bool = False
    pgvector: str | None = None


def diagnose(url: str) -> Diagnosis:
    """StoreError if the database cannot be reached or read."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            there = inspect(connection).has_table(installation.name)
            rows = connection.execute(select(installation.c.name, installation.c.value)) if there else ()
            facts = {str(name): str(value) for name, value in rows}
            if connection.dialect.name != "postgresql":
                return Diagnosis(facts)
            settings = {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in _SETTINGS}
            with engine.connect() as other:
                shares = not is_pooled(make_url(url)) and _shares_sessions(connection, other)
            pgvector = connection.exec_driver_sql(_PGVECTOR).scalar()
            return Diagnosis(facts, settings, _clock_ahead(connection), shares, pgvector)
    except (SQLAlchemyError, OSError) as error:
        name = engine.url.render_as_string(hide_password=True)
        raise StoreError(f"{name} cannot be read: {reason(error)}", transient=is_transient(error)) from error
    finally:
        engine.dispose()


def _clock_ahead(connection: Connection) -> float:
    """From the quickest of three queries, since the time of one is unknown by as much as it takes."""
    samples: list[tuple[float, float]] = []
    for _ in range(3):
        before = time.time()
        there = float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
        after = time.time()
        samples.append((after - before, there - (before + after) / 2))
    return min(samples)[1]


def _shares_sessions(connection: Connection, other: Connection) -> bool:
    """Whether a transaction of the other connection runs in this one's session: only a pooler does that."""
    own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    other.exec_driver_sql("BEGIN")
    try:
        return other.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == own
    finally:
        other.exec_driver_sql("ROLLBACK")
