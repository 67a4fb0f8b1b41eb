"""INSERTs of many rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, LargeBinary

from headrace.stores.sql.schema import metadata

_NARROW, _WIDEST = 16, 256  # rows in one statement of SQLite
_ESCAPED = str.maketrans({'"': '\\"', "\\": "\\\\"})

Values = tuple[Any, ...]


def execute(connection: Connection, text: str, values: Values = ()) -> None:
    """Executes a statement of the writer with SQLite's driver itself, whose own errors it raises: SQLAlchemy takes as
    long as the statement. With PostgreSQL's by SQLAlchemy, which notices a lost connection."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.execute(text, values)
    else:
        connection.exec_driver_sql(text, values)


class BulkInsert:
    """INSERTs into a table, with `tail` after the rows; their text is kept.

    SQLite receives each value as a parameter. Texts are kept by width, and wide ones are powers of two, so that the
    driver keeps all of them prepared. PostgreSQL receives each column as an array: one text for any number of rows.
    """

    def __init__(self, table: str, columns: Sequence[str], tail: str = "") -> None:
        self._table = table
        self._names = columns
        self._tail = tail
        self._statements: dict[int, str] = {}  # by width

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(self.text, self.arrays(rows))
            return
        start = 0
        while start < len(rows):
            left = len(rows) - start
            width = left if left <= _NARROW else min(_WIDEST, 1 << left.bit_length() - 1)
            values = tuple([value for row in rows[start : start + width] for value in row])
            execute(connection, self._statements.get(width) or self._statement(width), values)
            start += width

    def _statement(self, width: int) -> str:
        row = f"({', '.join('?' * len(self._names))})"
        statement = self._statements[width] = self._insert(f"VALUES {', '.join([row] * width)}")
        return statement

    def _insert(self, rows: str) -> str:
        return f"INSERT INTO {self._table} ({', '.join(self._names)}) {rows} {self._tail}".rstrip()

    # ------------------------------------------------------------------------------------------------ PostgreSQL

    @cached_property
    def text(self) -> str:
        """The statement for PostgreSQL, whose parameters are `arrays`."""
        from sqlalchemy.dialects import postgresql  # see `repository.inserting`

        dialect = postgresql.dialect()
        types = [column.type.compile(dialect) for column in self._columns]
        marks = ["%b" if binary else "%s" for binary in self._binary]
        arrays = [f"{mark}::{type_}[]" for mark, type_ in zip(marks, types, strict=True)]
        return self._insert(f"SELECT * FROM unnest({', '.join(arrays)})")

    @cached_property
    def _columns(self) -> list[Any]:
        return [metadata.tables[self._table].c[name] for name in self._names]

    @cached_property
    def _binary(self) -> list[bool]:
        return [isinstance(column.type, LargeBinary) for column in self._columns]

    def arrays(self, rows: Sequence[Values]) -> Values:
        """The columns. All but those of bytes are text, so that their types, which are a part of the prepared
        statement, do not depend on the values."""
        columns = zip(*rows, strict=True)
        pairs = zip(columns, self._binary, strict=True)
        return tuple([list(column) if binary else _array(column) for column, binary in pairs])


def _array(values: Sequence[object]) -> str:
    """An array as PostgreSQL writes it."""
    return f"{{{','.join([_element(value) for value in values])}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    return f'"{value.translate(_ESCAPED)}"' if isinstance(value, str) else str(value)
