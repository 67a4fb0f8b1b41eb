"""Which statements the database executes, and how it finds their rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event

from headrace.stores.sql import SqlStorage, bulk_insert, transaction


@contextmanager
def listening(store: SqlStorage) -> Iterator[list[tuple[str, Any]]]:
    """The statements that the database executes, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def listen(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        statements.append((statement, parameters))

    def execute(connection: Connection, text: str, values: bulk_insert.Values = ()) -> None:
        if connection.dialect.name == "sqlite":  # the driver executes it: see `bulk_insert.execute`
            statements.append((text, values))
        executing(connection, text, values)

    executing = bulk_insert.execute
    event.listen(store.database.engine, "before_cursor_execute", listen)
    with pytest.MonkeyPatch.context() as patch:
        for module in (bulk_insert, transaction):
            patch.setattr(module, "execute", execute)
        yield statements
    event.remove(store.database.engine, "before_cursor_execute", listen)


async def plan_of(store: SqlStorage, statement: str, parameters: Any) -> list[str]:
    """The steps of SQLite's plan."""

    def work(connection: Connection) -> list[str]:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [row[3] for row in plan]

    return await store.database.run(work)
