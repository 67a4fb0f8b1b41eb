"""The base of the ports of a database, and rows as all databases accept them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import RowMapping
from sqlalchemy.sql.expression import Executable

from headrace.stores.encoding import clean, decode_value, encode_value
from headrace.stores.sql.database import Database
from headrace.stores.sql.writer import Call, Writer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

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
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def values_of(item: DataclassInstance, *encoded: str) -> dict[str, Any]:
    """An object's fields as a row's values, some of them encoded. `asdict` would take files among them apart."""
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return values | {name: encode_value(values[name]) for name in encoded}


def decoded(row: RowMapping, *names: str) -> dict[str, Any]:
    """A row's values, some of which are encoded (`values_of`)."""
    return {**row, **{name: decode_value(row[name]) for name in names}}


def cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values, with texts that every database accepts."""
    return {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}


def add(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Adds a row, unless there is one with the same key."""
    connection.execute(inserting(connection, table).on_conflict_do_nothing(), cleaned(values))


def put(connection: Connection, table: Table, values: Mapping[str, Any], *, keep: Sequence[str] = ()) -> None:
    """Adds a row, or replaces the one with the same primary key, except for the columns to `keep`."""
    insert = inserting(connection, table)
    key = [column.name for column in table.primary_key]
    rest = {name: insert.excluded[name] for name in values if name not in key and name not in keep}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=rest), cleaned(values))
