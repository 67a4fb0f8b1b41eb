"""Which stored files the database refers to: every text and value of every table is searched for their ids.

A file does not belong to one run: a run passes it on to conversations, messages, later runs, and as a link in plain
text. So whatever mentions its id keeps it.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, LargeBinary, String, Table, select, tuple_

from headrace.stores.encoding import inflated
from headrace.stores.sql.database import Database
from headrace.stores.sql.schema import (
    callbacks,
    dataset_vector,
    embedding_cache,
    events,
    exchanges,
    feedbacks,
    files,
    metadata,
    runs,
)

REFERENCING = tuple(table for table in metadata.sorted_tables if table not in (files, dataset_vector, embedding_cache))
"""All other tables, future ones included; but not those of numbers."""

_PAGE = 100  # rows read at once: a row may have megabytes
_SECONDS = 0.05  # that a reader's thread is occupied
# the third group of a random UUID begins with a 4: a search for two fixed characters is quick
_UUID = re.compile(rb"-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_BEFORE, _LENGTH = 13, 36
# callers may write a UUID without its dashes, or with others; Headrace itself does not
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
    files: Collection[str],
    without: frozenset[str] = frozenset(),
    only: ColumnElement[bool] | None = None,
) -> AsyncGenerator[set[str]]:
    """The wanted ids that a table mentions, some at a time, mostly none. Rows of the runs `without` are skipped; `only`
    is a condition for rows."""
    place: Place | None = ()
    while place is not None:

        def work(connection: Connection, after: Place = place) -> tuple[set[str], Place | None]:
            return _search(connection, table, files, after, without, only)

        ids, place = await database.run(work)
        yield ids


def _search(
    connection: Connection,
    table: Table,
    files: Collection[str],
    after: Place,
    without: frozenset[str],
    only: ColumnElement[bool] | None,
) -> tuple[set[str], Place | None]:
    key = list(table.primary_key)
    texts = [column for column in table.columns if isinstance(column.type, String | LargeBinary)]
    run = _OF_RUNS.get(table) if without else None
    ids: set[str] = set()
    until = time.monotonic() + _SECONDS
    statement = select(*key, *(column.label(f"text_{column.name}") for column in texts)).order_by(*key).limit(_PAGE)
    if run is not None:
        statement = statement.add_columns(run.label("of_run"))
    if only is not None:
        statement = statement.where(only)
    while True:
        page = statement.where(tuple_(*key) > after) if after else statement
        rows = connection.execute(page).all()
        for row in rows:
            if run is not None and row[-1] in without:
                continue
            for value in row[len(key) : len(key) + len(texts)]:
                if value is not None:
                    value = _readable(value) if table is events else value
                    ids.update(_ids(value, strict=table in _STRICT_TABLES).intersection(files))
        if len(rows) < _PAGE:
            return ids, None
        after = tuple(rows[-1][: len(key)])
        if time.monotonic() >= until:
            return ids, after


def _readable(value: str | bytes) -> str | bytes:
    """The text of a row of the journal. What is damaged cannot be read as a record, either."""
    if isinstance(value, str):
        return value
    with suppress(ValueError):
        return inflated(value)
    return value


def _ids(value: str | bytes, *, strict: bool) -> set[str]:
    """Everything in a text that may be the id of a stored file."""
    data = (value.encode("utf-8", "replace") if isinstance(value, str) else value).lower()
    ids = {
        data[match.start() - _BEFORE : match.start() - _BEFORE + _LENGTH].decode("utf-8", "replace")
        for match in _UUID.finditer(data)
        if match.start() >= _BEFORE
    }
    if not strict:
        for match in _LOOSE.finditer(data):
            digits = match[0].replace(b"-", b"").decode()
            if len(digits) == 32:
                ids.add(str(UUID(digits)))
    return ids
