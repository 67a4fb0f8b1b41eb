"""A vector index of pgvector: a table with a graph (HNSW) for each dataset, made from the rows of its vectors.

The tables are no part of the schema, as databases without the extension have none; all of them can be dropped at any
time. `vector_index` names the table of each dataset, and the version at which it was read.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import struct
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import mul
from typing import Any, cast

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from headrace.errors import HeadraceError
from headrace.ports.knowledge import Vector
from headrace.ports.knowledge_search import KnowledgeSearch, Match, StoredVector, score_of
from headrace.stores.encoding import clean
from headrace.stores.sql.database import Database
from headrace.stores.sql.failures import reason
from headrace.stores.sql.knowledge.rows import unpack_vector
from headrace.stores.sql.knowledge_schema import dataset as _datasets
from headrace.stores.sql.knowledge_schema import dataset_vector
from headrace.stores.sql.transaction import begin

OLDEST = (0, 8)  # the first version that continues a search until there are enough results
_MOST_DIMENSIONS = 4_000  # of a graph; without one, all vectors are compared
_MOST_CHANGES = 5_000  # that are made one by one: if there are more, and more than half of all, the table is made anew
_PAGE = 2_000  # vectors read at once
_CANDIDATES, _MOST_CANDIDATES = 400, 1_000  # of a graph's search
_ATTEMPTS = 3
_UNDEFINED_TABLE = "42P01"

_vectors = dataset_vector.c
_STATES = (
    "CREATE TABLE IF NOT EXISTS vector_index (dataset text, model text, dimension integer, version integer NOT NULL, "
    "relation text NOT NULL, PRIMARY KEY (dataset, model, dimension))"
)
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"
_STATE = "SELECT relation, version FROM vector_index WHERE dataset = :dataset AND model = :model AND dimension = :size"
_SET_STATE = (
    "INSERT INTO vector_index (dataset, model, dimension, version, relation) "
    "VALUES (:dataset, :model, :size, :version, :relation) "
    "ON CONFLICT (dataset, model, dimension) DO UPDATE SET version = excluded.version, relation = excluded.relation"
)
_OF = "v.dataset = :dataset AND v.model = :model AND v.dimension = :size"
SEARCH = """
SELECT v.node, v.segment, 1 - (v.embedding <=> CAST(:query AS halfvec)) AS score
FROM {relation} v
JOIN dataset_segment s ON s.id = v.segment
JOIN dataset_document d ON d.id = s.document
WHERE s.enabled AND s.status = 'completed' AND d.enabled AND d.status = 'completed' AND NOT d.archived
  AND NOT d.deleted {documents}
ORDER BY {distance} LIMIT :limit
"""
# without statistics of tables that have just been filled, PostgreSQL would rather sort all vectors than use the graph
GRAPH_SETTINGS = ("hnsw.iterative_scan = strict_order", "enable_sort = off")
DISTANCE = "v.embedding <=> CAST(:query AS halfvec)"


class PgvectorIndex:
    """Implements VectorIndex. The first search builds what is missing, which takes about a millisecond a vector."""

    def __init__(self, database: Database, search: KnowledgeSearch) -> None:
        self._database = database
        self._search = search
        self._prepared = False

    async def search(
        self, dataset: str, model: str, vector: Vector, limit: int, documents: Collection[str] | None = None
    ) -> Sequence[Match]:
        """See VectorIndex.search. HeadraceError if the extension is missing."""
        if limit < 1:
            return []
        key = {"dataset": clean(dataset), "model": clean(model), "size": len(vector)}
        query: dict[str, Any] = {"query": f"[{','.join(map(repr, vector))}]", "limit": limit}
        if documents is not None:
            query["documents"] = [clean(document) for document in documents]
        for attempt in range(1, _ATTEMPTS + 1):
            relation, version, current = await self._database.run(lambda connection: _state(connection, key))
            if relation is None or version != current:
                await self._prepare()
                relation = await self._database.write_long(lambda connection: _update(connection, key))
            if relation is None:
                return []
            try:
                return await self._database.run(lambda connection, of=relation: _nearest(connection, of, query))
            except _Replaced:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError

    async def _prepare(self) -> None:
        if not self._prepared:
            await self._database.write_long(_prepare)
            self._prepared = True

    async def scores(self, vector: Vector, nodes: Collection[str]) -> Sequence[Match]:
        """See VectorIndex.scores."""
        stored = await self._search.vectors(nodes)
        return await asyncio.to_thread(_scored, vector, stored)


class _Replaced(HeadraceError):
    """Another process has replaced the table."""


def _scored(vector: Vector, rows: Sequence[StoredVector]) -> list[Match]:
    vectors = [(row, unpack_vector(row.data)) for row in rows if len(row.data) == 2 * len(vector)]
    return [Match(row.node, row.segment, score_of(_cosine(vector, numbers))) for row, numbers in vectors]


def _cosine(left: Vector, right: Vector) -> float:
    lengths = math.hypot(*left) * math.hypot(*right)
    return sum(map(mul, left, right)) / lengths if lengths else 0.0


def _match(node: str, segment: str, cosine: float) -> Match:
    return Match(node, segment, score_of(cosine))


# --------------------------------------------------------------------------------------------------------- searching


def _state(connection: Connection, key: dict[str, Any]) -> tuple[str | None, int, int]:
    """(the table of a dataset, its version, the dataset's version)."""
    current = _version(connection, key)
    if not connection.execute(text("SELECT to_regclass('vector_index') IS NOT NULL")).scalar():
        return None, 0, current
    state = connection.execute(text(_STATE), key).first()
    return (None, 0, current) if state is None else (state.relation, state.version, current)


def _version(connection: Connection, key: dict[str, Any]) -> int:
    return connection.execute(select(_datasets.c.version).where(_datasets.c.id == key["dataset"])).scalar() or 0


def _nearest(connection: Connection, relation: str, query: dict[str, Any]) -> list[Match]:
    candidates = min(_MOST_CANDIDATES, max(_CANDIDATES, 2 * query["limit"]))
    begin(connection)
    try:
        matches: list[Match] = []
        if "documents" not in query:
            for setting in (*GRAPH_SETTINGS, f"hnsw.ef_search = {candidates}"):
                connection.execute(text(f"SET LOCAL {setting}"))
            statement = text(SEARCH.format(relation=relation, documents="", distance=DISTANCE))
            matches = [_match(*row) for row in connection.execute(statement, query)]
        if len(matches) < query["limit"]:  # few documents, or few that can be found: all vectors are compared
            connection.execute(text("SET LOCAL enable_sort = on"))
            only = "AND s.document = ANY(:documents)" if "documents" in query else ""
            # the graph has no order by a sum
            statement = text(SEARCH.format(relation=relation, documents=only, distance=f"({DISTANCE}) + 0"))
            matches = [_match(*row) for row in connection.execute(statement, query)]
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == _UNDEFINED_TABLE:
            raise _Replaced("The vector index was replaced while it was searched.") from error
        raise
    finally:
        connection.exec_driver_sql("ROLLBACK")
    return sorted(matches, key=lambda match: (-match.score, match.node))


# ---------------------------------------------------------------------------------------------------------- updating


def _prepare(connection: Connection) -> None:
    """HeadraceError if the extension is missing."""
    connection.execute(text(_LOCK), {"key": "vector_index"})  # of two that create a table at once, one fails
    _require_extension(connection)
    connection.execute(text(_STATES))


def _update(connection: Connection, key: dict[str, Any]) -> str | None:
    """Makes the table of a dataset what its vectors are now. Returns its name; None if there are no vectors."""
    connection.execute(text("SET LOCAL lock_timeout = 0"))  # another process may be building it, which takes a while
    connection.execute(text(_LOCK), {"key": f"vector_index {key['dataset']}"})
    _drop_unused(connection)
    if not connection.execute(text(f"SELECT EXISTS (SELECT FROM dataset_vector v WHERE {_OF})"), key).scalar():
        return None
    state = connection.execute(text(_STATE), key).first()
    version = _version(connection, key)
    if state is not None and state.version == version:
        return state.relation
    if state is not None and not _is_behind(connection, key, state.version):
        relation = str(state.relation)
        _change(connection, key, relation, state.version)
    else:
        relation = f"vector_index_{secrets.token_hex(8)}"
        _build(connection, key, relation)
        _drop(connection, [state.relation] if state else [])
    connection.execute(text(_SET_STATE), {**key, "version": version, "relation": relation})
    return relation


def _require_extension(connection: Connection) -> None:
    needs = "HEADRACE_VECTOR_INDEX=pgvector needs the extension vector, version 0.8 or later, in the database"
    try:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
    except DBAPIError as error:
        raise HeadraceError(f"{needs}: {reason(error)}") from error
    version = str(connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).scalar())
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise HeadraceError(f"{needs}: it is {version}. ALTER EXTENSION vector UPDATE may help.")


def _is_behind(connection: Connection, key: dict[str, Any], version: int) -> bool:
    """Whether so much has changed that a new table is built sooner."""
    counted = f"SELECT count(*), count(*) FILTER (WHERE v.version > :version) FROM dataset_vector v WHERE {_OF}"
    total, changed = connection.execute(text(counted), {**key, "version": version}).one()
    return changed > max(_MOST_CHANGES, total / 2)


def _build(connection: Connection, key: dict[str, Any], relation: str) -> None:
    columns = f"node text PRIMARY KEY, segment text NOT NULL, embedding halfvec({key['size']}) NOT NULL"
    connection.execute(text(f"CREATE TABLE {relation} ({columns})"))
    for rows in _pages(connection, key, -1):
        _copy(connection, relation, rows)
    connection.execute(text(f"CREATE INDEX ON {relation} (segment)"))
    if key["size"] <= _MOST_DIMENSIONS:
        graph = "USING hnsw (embedding halfvec_cosine_ops) WITH (ef_construction = 128)"
        connection.execute(text(f"CREATE INDEX ON {relation} {graph}"))
    connection.execute(text(f"ANALYZE {relation}"))


def _change(connection: Connection, key: dict[str, Any], relation: str, version: int) -> None:
    gone = f"DELETE FROM {relation} i WHERE NOT EXISTS (SELECT FROM dataset_vector v WHERE v.id = i.node AND {_OF})"
    connection.execute(text(gone), key)
    connection.execute(text(f"CREATE TEMPORARY TABLE changed_vector (LIKE {relation}) ON COMMIT DROP"))
    for rows in _pages(connection, key, version):
        _copy(connection, "changed_vector", rows)
    connection.execute(text(f"DELETE FROM {relation} i USING changed_vector c WHERE c.node = i.node"))
    connection.execute(text(f"INSERT INTO {relation} SELECT * FROM changed_vector"))


def _pages(connection: Connection, key: dict[str, Any], version: int) -> Iterator[Sequence[Any]]:
    """The vectors of a dataset that were written after a version."""
    of = (_vectors.dataset == key["dataset"], _vectors.model == key["model"], _vectors.dimension == key["size"])
    statement = select(_vectors.id, _vectors.segment, _vectors.vector).where(*of, _vectors.version > version)
    last = ""
    while rows := connection.execute(statement.where(_vectors.id > last).order_by(_vectors.id).limit(_PAGE)).all():
        yield rows
        last = rows[-1].id


def _copy(connection: Connection, relation: str, rows: Iterable[Any]) -> None:
    """Copies rows in PostgreSQL's binary format, where a vector's numbers are those of `dataset_vector`, with their
    bytes the other way round."""
    cursor = cast("Any", connection.connection.driver_connection).cursor()
    with cursor.copy(f"COPY {relation} (node, segment, embedding) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        for node, segment, vector in rows:
            numbers = array("H", vector)
            numbers.byteswap()
            embedding = struct.pack(">hh", len(numbers), 0) + numbers.tobytes()
            fields = (field if isinstance(field, bytes) else field.encode() for field in (node, segment, embedding))
            copy.write(struct.pack(">h", 3) + b"".join(struct.pack(">i", len(field)) + field for field in fields))
        copy.write(struct.pack(">h", -1))


def _drop(connection: Connection, relations: Iterable[str]) -> None:
    for relation in relations:
        connection.execute(text(f"DROP TABLE IF EXISTS {relation}"))


def _drop_unused(connection: Connection) -> None:
    """Drops the tables of datasets that are gone, or have vectors of another model now."""
    of = "v.dataset = i.dataset AND v.model = i.model AND v.dimension = i.dimension"
    unused = f"DELETE FROM vector_index i WHERE NOT EXISTS (SELECT FROM dataset_vector v WHERE {of}) RETURNING relation"
    _drop(connection, connection.execute(text(unused)).scalars().all())
