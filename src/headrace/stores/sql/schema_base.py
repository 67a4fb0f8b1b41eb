"""What the tables are made with, and the conditions of partial indexes in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, MetaData, text

PENDING, RUNNING, LISTED = "status = 'pending'", "status = 'running'", "NOT deleted"
WAITING = "status = 'waiting'"
metadata = MetaData()


def partial_index(name: str, condition: str, *columns: Column[Any], unique: bool = False) -> None:
    Index(name, *columns, unique=unique, sqlite_where=text(condition), postgresql_where=text(condition))
