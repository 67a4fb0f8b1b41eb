"""Copies what an installation has in one database into another one."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Table, func, select

from headrace.errors import HeadraceError
from headrace.stores.sql.repository import put
from headrace.stores.sql.schema import installation, metadata

_OF_PROCESSES = frozenset({"workers", "claims", "ready_runs", "model_slots"})  # of those that have ended
_GENERATED = frozenset({("dataset_text", "number")})
_ROWS = 500  # in one statement

TABLES = [table for table in metadata.sorted_tables if table.name not in _OF_PROCESSES and table is not installation]


def copy_rows(source: Connection, target: Connection, facts: Mapping[str, str]) -> Mapping[str, int]:
    """Copies the rows of all tables, within a transaction of the target, and states these facts of the installation.
    Returns how many rows each table has. HeadraceError if the target has any already."""
    for table in TABLES:
        if target.execute(select(func.count()).select_from(table)).scalar_one():
            raise HeadraceError(f"The database has {table.name} already; import into an empty one.")
    counts = {table.name: _copy(table, source, target) for table in TABLES}
    for name, value in facts.items():
        put(target, installation, {"name": name, "value": value})
    return counts


def _copy(table: Table, source: Connection, target: Connection) -> int:
    columns = [column for column in table.columns if (table.name, column.name) not in _GENERATED]
    rows = source.execute(select(*columns).execution_options(yield_per=_ROWS)).mappings()
    count = 0
    for part in rows.partitions():
        target.execute(table.insert(), [dict(row) for row in part])
        count += len(part)
    return count
