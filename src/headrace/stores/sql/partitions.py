"""Events of PostgreSQL in partitions by day, so that old ones are dropped as a whole.

A run's id begins with its time: a range of ids is a range of time. Other ids (derived ones, for instance) are in
`events_low` and `events_high`; the few of them that look like a time are in its partition, or in `events_rest`.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, ColumnElement, Connection, and_, func, select

from headrace.frozen import frozen
from headrace.stores.sql.schema import runs

AHEAD = 30  # days for which there are partitions
_BEHIND = 400  # days of existing events that get partitions of their own
_DAY = re.compile(r"events_(\d{8})")
_FIRST, _LAST = "01", "02"  # ids of the years 2004 to 2039 are between them


@frozen
class Partition:
    """The events of the runs that began on a day (UTC)."""

    day: datetime

    @property
    def name(self) -> str:
        return f"events_{self.day:%Y%m%d}"

    @property
    def bounds(self) -> tuple[str, str]:
        return _id_at(self.day), _id_at(self.day + timedelta(days=1))

    def has(self, run: Column[str]) -> ColumnElement[bool]:
        first, end = self.bounds
        return and_(run >= first, run < end)


def _id_at(moment: datetime) -> str:
    """The beginning of the ids of runs that begin at a moment: see `ids.new_run_id`."""
    digits = f"{int(moment.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def partitions(connection: Connection) -> list[Partition]:
    """The partitions of days, oldest first; none if the events are not partitioned."""
    if connection.dialect.name != "postgresql":
        return []
    names = connection.exec_driver_sql(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
        " WHERE inhparent = to_regclass('events_timed') ORDER BY child.relname"
    ).scalars()
    days = [match[1] for name in names if (match := _DAY.fullmatch(name))]
    return [Partition(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)) for day in days]


def partition_events(connection: Connection) -> bool:
    """Moves all events into partitions, within a transaction; false if they are in some already. Others wait."""
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    connection.exec_driver_sql("LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")
    if partitions(connection):
        return False
    _move(connection)
    return True


def _move(connection: Connection) -> None:
    for statement in (
        "ALTER TABLE events RENAME TO events_before",
        "ALTER INDEX events_pkey RENAME TO events_before_pkey",
        "CREATE TABLE events (LIKE events_before INCLUDING DEFAULTS) PARTITION BY RANGE (run)",
        "ALTER TABLE events ADD CONSTRAINT events_pkey PRIMARY KEY (run, seq)",
        f"CREATE TABLE events_low PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('{_FIRST}')",
        f"CREATE TABLE events_timed PARTITION OF events FOR VALUES FROM ('{_FIRST}') TO ('{_LAST}')"
        " PARTITION BY RANGE (run)",
        f"CREATE TABLE events_high PARTITION OF events FOR VALUES FROM ('{_LAST}') TO (MAXVALUE)",
        "CREATE TABLE events_rest PARTITION OF events_timed DEFAULT",
    ):
        connection.exec_driver_sql(statement)
    now = time.time()
    oldest = connection.execute(select(func.min(runs.c.created_at))).scalar() or now
    for partition in _days(-min(_BEHIND, int((now - oldest) // 86400) + 1)):
        _add(connection, partition)
    connection.exec_driver_sql("INSERT INTO events SELECT * FROM events_before")
    connection.exec_driver_sql("DROP TABLE events_before")


def missing(connection: Connection) -> list[Partition]:
    """The partitions of today and later days that are to be made; none if the events are not partitioned."""
    there = partitions(connection)
    return [partition for partition in _days(0) if partition not in there] if there else []


def add(connection: Connection, partition: Partition) -> None:
    """Makes a partition, within a transaction. Fails if `events_rest` has events of its day."""
    _lock(connection)
    _add(connection, partition)


def droppable(connection: Connection, prunable: ColumnElement[bool]) -> list[Partition]:
    """The partitions of past days all of whose runs may be deleted."""
    over = datetime.now(UTC) - timedelta(days=2)
    return [
        partition
        for partition in partitions(connection)
        if partition.day < over and _is_empty(connection, partition, prunable.is_not(True))
    ]


def drop(connection: Connection, partition: Partition) -> int:
    """Drops a partition, within a transaction, unless it has events of a run that still exists. Returns the number of
    events."""
    count = connection.exec_driver_sql(f"SELECT coalesce(sum(1 + more), 0) FROM {partition.name}").scalar_one()
    _lock(connection)
    if not _is_empty(connection, partition):
        return 0
    connection.exec_driver_sql(f"DROP TABLE {partition.name}")
    return count


def _is_empty(connection: Connection, partition: Partition, *conditions: ColumnElement[bool]) -> bool:
    """Whether there are no runs in a partition that meet conditions."""
    statement = select(runs.c.run).where(partition.has(runs.c.run), *conditions).limit(1)
    return connection.execute(statement).first() is None


def _days(first: int) -> list[Partition]:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [Partition(today + timedelta(days=days)) for days in range(first, AHEAD + 1)]


def _add(connection: Connection, partition: Partition) -> None:
    first, end = partition.bounds
    connection.exec_driver_sql(
        f"CREATE TABLE IF NOT EXISTS {partition.name} PARTITION OF events_timed"
        f" FOR VALUES FROM ('{first}') TO ('{end}')"
    )


def _lock(connection: Connection) -> None:
    """Waits for all who use the table. Those who come after that wait for this transaction: so not for long."""
    connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
    connection.exec_driver_sql("LOCK TABLE ONLY events_timed IN ACCESS EXCLUSIVE MODE")
