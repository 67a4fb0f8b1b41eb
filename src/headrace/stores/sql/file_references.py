"""Which stored files the database speaks of: every text and value of every table is looked through for their ids.

A file is not owned by one run: a run hands it on to conversations, messages, later runs, and as a link in plain text.
So what mentions its id keeps it.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Collection
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, LargeBinary, String, Table, select, tuple_

from headrace.stores.sql.database import Database
from headrace.stores.sql.schema import callbacks, events, exchanges, feedbacks, files, metadata, runs

MENTIONING = tuple(table for table in metadata.sorted_tables if table is not files)
"""All other tables: those that come to be are among them."""

_PAGE = 100  # rows read at once: each may be megabytes
_SECONDS = 0.05  # that a reader's thread is held
# the third group of a random UUID begins with a 4: a search for two fixed characters is quick
_UUID = re.compile(rb"-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_BEFORE, _LENGTH = 13, 36
# callers may write a UUID without its dashes, or with others; what is made of it is not
_LOOSE = re.compile(rb"[0-9a-f-]{32,}")
_STRICT_TABLES = (events, runs)
_OF_RUNS: dict[Table, Column[Any]] = {
    events: events.c.run,
    runs: runs.c.run,
    exchanges: exchanges.c.id,
    feedbacks: feedbacks.c.message,
    callbacks: callbacks.c.run,
}

Place = tuple[Any, ...]


async def scan(
    database: Database,
    table: Table,
    wanted: Collection[str],
    without: frozenset[str] = frozenset(),
    only: ColumnElement[bool] | None = None,
) -> AsyncGenerator[set[str]]:
    """The wanted ids that a table mentions, some at a time (none, mostly), for as long as it takes. Rows of the runs
    `without` are passed over; `only` says which are looked at."""
    place: Place | None = ()
    while place is not None:

        def work(connection: Connection, after: Place = place) -> tuple[set[str], Place | None]:
            return _look(connection, table, wanted, after, without, only)

        found, place = await database.run(work)
        yield found


def _look(
    connection: Connection,
    table: Table,
    wanted: Collection[str],
    after: Place,
    without: frozenset[str],
    only: ColumnElement[bool] | None,
) -> tuple[set[str], Place | None]:
    key = list(table.primary_key)
    told = [column for column in table.columns if isinstance(column.type, String | LargeBinary)]
    of = _OF_RUNS.get(table) if without else None
    found: set[str] = set()
    until = time.monotonic() + _SECONDS
    statement = select(*key, *(column.label(f"told_{column.name}") for column in told)).order_by(*key).limit(_PAGE)
    if of is not None:
        statement = statement.add_columns(of.label("of_run"))
    if only is not None:
        statement = statement.where(only)
    while True:
        page = statement.where(tuple_(*key) > after) if after else statement
        rows = connection.execute(page).all()
        for row in rows:
            if of is not None and row[-1] in without:
                continue
            for value in row[len(key) : len(key) + len(told)]:
                if value is not None:
                    found.update(_ids(value, strict=table in _STRICT_TABLES).intersection(wanted))
        if len(rows) < _PAGE:
            return found, None
        after = tuple(rows[-1][: len(key)])
        if time.monotonic() >= until:
            return found, after


def _ids(value: str | bytes, *, strict: bool) -> set[str]:
    """Whatever in a text may be the id of a stored file."""
    data = (value.encode("utf-8", "replace") if isinstance(value, str) else value).lower()
    found = {
        data[match.start() - _BEFORE : match.start() - _BEFORE + _LENGTH].decode("utf-8", "replace")
        for match in _UUID.finditer(data)
        if match.start() >= _BEFORE
    }
    if not strict:
        for match in _LOOSE.finditer(data):
            digits = match[0].replace(b"-", b"").decode()
            if len(digits) == 32:
                found.add(str(UUID(digits)))
    return found
