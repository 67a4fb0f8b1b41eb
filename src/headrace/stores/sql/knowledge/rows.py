"""Rows of knowledge bases as objects, and what several of their ports do."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, delete, func, select, update
from sqlalchemy.engine import RowMapping

from headrace.ports.knowledge import ChildChunk, Dataset, Document, ProcessRule, Segment, Vector
from headrace.stores.encoding import clean, cleaned, decode_value, encode_value
from headrace.stores.sql import knowledge_schema as tables
from headrace.values import Value

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_ENCODED = frozenset(
    {"retrieval_model", "summary_index", "process_rule", "metadata", "keywords", "attachments"}
)  # fields that are stored as JSON
_AT_ONCE = 500  # values in one statement
_LONGEST_KEYWORD = 500  # characters: a row of PostgreSQL's index has 2,700 bytes, ids included


def row_of(item: DataclassInstance) -> dict[str, Any]:
    return row({field.name: getattr(item, field.name) for field in fields(item)})


def row(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as a row's values."""
    return cleaned({name: _encoded(value) if name in _ENCODED else value for name, value in changes.items()})


def _encoded(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, ProcessRule):
        return encode_value(asdict(value))
    return encode_value(list(cast("Iterable[Value]", value)) if isinstance(value, tuple) else cast("Value", value))


def _values(stored: RowMapping) -> dict[str, Any]:
    values = {str(name): value for name, value in stored.items() if name != "deleted"}
    for name in _ENCODED & values.keys():
        if (value := values[name]) is not None:
            decoded = decode_value(value)
            values[name] = ProcessRule(**decoded) if name == "process_rule" else decoded
    return values


def dataset_of(stored: RowMapping) -> Dataset:
    return Dataset(**_values(stored))


def document_of(stored: RowMapping) -> Document:
    return Document(**_values(stored))


def segment_of(stored: RowMapping) -> Segment:
    values = _values(stored)
    for name in ("keywords", "attachments"):
        values[name] = tuple(values[name])
    return Segment(**values)


def chunk_of(stored: RowMapping) -> ChildChunk:
    return ChildChunk(**stored)


# ---------------------------------------------------------------------------------------------------- statements


def parts(values: Iterable[str]) -> Iterable[Sequence[str]]:
    """Values in parts that fit into one statement."""
    ordered = sorted(set(values))
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]


def indexed_keywords(keywords: Iterable[str]) -> Sequence[str]:
    """Keywords as they are stored and searched for: long ones are cut."""
    return sorted({clean(keyword)[:_LONGEST_KEYWORD] for keyword in keywords})


def page(connection: Connection, statement: Select[Any], offset: int, limit: int) -> tuple[Sequence[RowMapping], int]:
    """(the rows of a page, how many rows there are)."""
    total = connection.execute(select(func.count()).select_from(statement.order_by(None).subquery())).scalar_one()
    rows = connection.execute(statement.offset(max(0, offset)).limit(max(0, limit))).mappings().all()
    return rows, total


def insert_all(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(table.insert(), list(rows))


def lock(connection: Connection, id_: Column[str], *which: ColumnElement[bool]) -> None:
    """Locks rows in the order of their ids, so that no two transactions wait for each other. Documents come before
    their segments, and these before their dataset."""
    connection.execute(select(id_).where(*which).order_by(id_).with_for_update()).all()


def next_version(connection: Connection, dataset: str) -> int:
    """Counts a change of a dataset's vectors; 0 if it is gone."""
    changed = update(tables.dataset).where(tables.dataset.c.id == dataset)
    statement = changed.values(version=tables.dataset.c.version + 1).returning(tables.dataset.c.version)
    return connection.execute(statement).scalar() or 0


_INDEX = (tables.dataset_vector, tables.dataset_text, tables.dataset_keyword)


def delete_index(connection: Connection, segments: Sequence[str]) -> None:
    """Deletes what segments are found by."""
    for table in _INDEX:
        connection.execute(delete(table).where(table.c.segment.in_(segments)))


def delete_segments(connection: Connection, segments: Sequence[str]) -> None:
    """Deletes segments, with all that belongs to them."""
    connection.execute(delete(tables.dataset_segment).where(tables.dataset_segment.c.id.in_(segments)))
    chunks = tables.dataset_child_chunk
    connection.execute(delete(chunks).where(chunks.c.segment.in_(segments)))
    delete_index(connection, segments)


def has_claim(connection: Connection, document: str, claim: str) -> bool:
    """Whether a document is claimed by `claim`, and still to be indexed; nobody changes that before the end of the
    transaction."""
    documents = tables.dataset_document
    claimed = (documents.c.id == document, documents.c.claim == claim, ~documents.c.deleted)
    unfinished = documents.c.status.not_in(("completed", "error", "paused"))
    return connection.execute(select(documents.c.id).where(*claimed, unfinished).with_for_update()).first() is not None


# ------------------------------------------------------------------------------------------------------- vectors


def pack_vector(vector: Vector) -> bytes:
    """A vector as 16-bit floats."""
    return struct.pack(f"<{len(vector)}e", *vector)


def unpack_vector(data: bytes) -> Vector:
    return array("f", struct.unpack(f"<{len(data) // 2}e", data))
