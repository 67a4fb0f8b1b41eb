"""Which statements the database executes, and how it finds their rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from headrace.stores.sql import SqlStorage


@contextmanager
def listening(store: SqlStorage) -> Iterator[list[tuple[str, Any]]]:
    """The statements that the database executes, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def listen(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        statements.append((statement, parameters))

    event.listen(store.database.engine, "before_cursor_execute", listen)
    yield statements
    event.remove(store.database.engine, "before_cursor_execute", listen)


async def plan_of(store: SqlStorage, statement: str, parameters: Any) -> list[str]:
    """The steps of SQLite's plan."""

    def work(connection: Connection) -> list[str]:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [row[3] for row in plan]

    return await store.database.run(work)
