"""The base of the ports of a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import Executable

from headrace.stores.encoding import cleaned
from headrace.stores.sql.database import Database
from headrace.stores.sql.writer import Call, Writer

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

T = TypeVar("T")


class SqlRepository:
    """Reads from the database, writes through the writer."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def _write(self, work: Callable[[Connection], T]) -> T:
        """Runs writing work in its turn, in a transaction. StoreError if the database fails."""
        return await self._writer.submit(Call(work, self._database.name))

    async def _execute(self, statement: Executable) -> int:
        """Executes one writing statement, as `_write`. Returns how many rows it changed."""
        return await self._write(lambda connection: connection.execute(statement).rowcount)

    async def _put(self, table: Table, values: Mapping[str, Any]) -> None:
        await self._write(lambda connection: put(connection, table, values))


def inserting(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # takes a tenth of the start of a service that does without

    return postgresql.insert(table)


def add(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Adds a row, unless there is one with the same key."""
    connection.execute(inserting(connection, table).on_conflict_do_nothing(), cleaned(values))


def put(connection: Connection, table: Table, values: Mapping[str, Any], *, keep: Sequence[str] = ()) -> None:
    """Adds a row, or replaces the one with the same primary key, except for the columns to `keep`."""
    insert = inserting(connection, table)
    key = [column.name for column in table.primary_key]
    rest = {name: insert.excluded[name] for name in values if name not in key and name not in keep}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=rest), cleaned(values))
