"""What the tables are made with, and the conditions of partial indexes in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, MetaData, text

PENDING, RUNNING, LISTED = "status = 'pending'", "status = 'running'", "NOT deleted"
WAITING = "status = 'waiting'"
metadata = MetaData()
_CONDITION = "condition"


def partial_index(name: str, condition: str, *columns: Column[Any], unique: bool = False) -> None:
    Index(name, *columns, unique=unique, sqlite_where=text(condition), info={_CONDITION: condition})


def add_postgresql_conditions() -> None:
    """Completes the partial indexes for PostgreSQL: only to name an option of its dialect loads all of that."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if condition := index.info.get(_CONDITION):
                index.dialect_kwargs["postgresql_where"] = text(condition)
