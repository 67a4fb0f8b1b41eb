"""How rows are written: work for the writer's thread, and statements that both databases take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from headrace.stores.encoding import clean
from headrace.stores.sql.database import Database
from headrace.stores.sql.failures import write_error
from headrace.stores.sql.writer import Writer

T = TypeVar("T")

NARROW, WIDEST = 16, 256  # rows in one statement


@dataclass(slots=True)
class Call:
    """Anything else to be written, in its turn."""

    work: Callable[[Connection], object]
    name: str
    key: None = None

    def refused(self, error: Exception) -> Exception:
        return write_error(self.name, error)


class SqlRepository:
    """Base of the ports of a database: reads from the database, writes through the writer."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def _write(self, work: Callable[[Connection], T]) -> T:
        """Runs writing work in its turn, in a transaction. StoreError where the database fails."""
        return await self._writer.submit(Call(work, self._database.name))


def inserting(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values, its texts as every database takes them."""
    return {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}


def add(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Adds a row; where one like it is there already, that one stays."""
    connection.execute(inserting(connection, table).on_conflict_do_nothing(), cleaned(values))


def put(connection: Connection, table: Table, values: Mapping[str, Any], *, keep: Sequence[str] = ()) -> None:
    """Adds a row, or replaces the one of the same primary key, but for the columns to `keep`."""
    insert = inserting(connection, table)
    key = [column.name for column in table.primary_key]
    rest = {name: insert.excluded[name] for name in values if name not in key and name not in keep}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=rest), cleaned(values))


class Statements:
    """INSERTs of many rows, each width made once. Wide ones are powers of two, so that the driver keeps them all
    prepared."""

    def __init__(self, table: str, columns: Sequence[str], tail: str = "") -> None:
        self._head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
        self._columns = len(columns)
        self._tail = tail
        self._made: dict[int, str] = {}

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        start = 0
        while start < len(rows):
            left = len(rows) - start
            width = left if left <= NARROW else min(WIDEST, 1 << left.bit_length() - 1)
            values = tuple([value for row in rows[start : start + width] for value in row])
            connection.exec_driver_sql(self._made.get(width) or self._make(connection, width), values)
            start += width

    def _make(self, connection: Connection, width: int) -> str:
        mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        row = f"({', '.join([mark] * self._columns)})"
        made = self._made[width] = f"{self._head}{', '.join([row] * width)} {self._tail}".rstrip()
        return made
