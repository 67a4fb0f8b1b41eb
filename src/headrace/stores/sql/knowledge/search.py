"""Search in knowledge bases in a database: full text, keywords, and the vectors that an index is made from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import (
    Connection,
    Double,
    Label,
    Select,
    Text,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    table,
    text,
    tuple_,
)

from headrace.ports.knowledge_search import ChangedVector, Match, StoredVector
from headrace.stores.encoding import clean
from headrace.stores.sql.knowledge.rows import indexed_keywords, parts
from headrace.stores.sql.knowledge_schema import (
    dataset,
    dataset_document,
    dataset_keyword,
    dataset_segment,
    dataset_text,
    dataset_vector,
)
from headrace.stores.sql.repository import SqlRepository

_Statement: TypeAlias = "Select[*tuple[Any, ...]]"
_documents, _segments, _texts = dataset_document.c, dataset_segment.c, dataset_text.c
_keywords, _vectors, _datasets = dataset_keyword.c, dataset_vector.c, dataset.c
_FINDABLE = and_(
    _segments.enabled,
    _segments.status == "completed",
    _documents.enabled,
    _documents.status == "completed",
    ~_documents.archived,
    ~_documents.deleted,
)


class SqlKnowledgeSearch(SqlRepository):
    """Implements KnowledgeSearch."""

    async def match_terms(
        self, dataset: str, terms: Sequence[str], limit: int, documents: Collection[str] | None = None
    ) -> Sequence[Match]:
        if not terms or limit < 1:
            return []

        def work(connection: Connection) -> list[Match]:
            statement = _terms_of_sqlite(terms) if connection.dialect.name == "sqlite" else _terms_of_postgresql(terms)
            statement = statement.where(_texts.dataset == clean(dataset), _FINDABLE)
            return _matches(connection, statement, limit, documents)

        return await self._database.run(work)

    async def match_keywords(
        self, dataset: str, keywords: Sequence[str], limit: int, documents: Collection[str] | None = None
    ) -> Sequence[Match]:
        if not keywords or limit < 1:
            return []
        hits = func.count().label("score")
        statement = (
            select(_segments.id, _segments.id.label("segment"), hits, _segments.document)
            .join_from(dataset_keyword, dataset_segment, _segments.id == _keywords.segment)
            .join(dataset_document, _documents.id == _segments.document)
            .where(_keywords.dataset == clean(dataset), _keywords.keyword.in_(indexed_keywords(keywords)), _FINDABLE)
            .group_by(_segments.id, _segments.document, _segments.position)
            .order_by(hits.desc(), _segments.document, _segments.position)
        )
        return await self._database.run(lambda connection: _matches(connection, statement, limit, documents))

    async def hidden_documents(self, dataset: str) -> Collection[str]:
        visible = (_documents.enabled, _documents.status == "completed", ~_documents.archived, ~_documents.deleted)
        statement = select(_documents.id).where(_documents.dataset == clean(dataset), ~and_(*visible))
        return await self._database.run(lambda connection: frozenset(connection.execute(statement).scalars()))

    async def version(self, dataset: str) -> int:
        statement = select(_datasets.version).where(_datasets.id == clean(dataset))
        return await self._database.run(lambda connection: connection.execute(statement).scalar() or 0)

    async def vectors_after(
        self, dataset: str, model: str, dimension: int, after: tuple[int, str], limit: int
    ) -> Sequence[ChangedVector]:
        statement = (
            select(_vectors.id, _segments.document, _vectors.vector, _vectors.version)
            .join(dataset_segment, _segments.id == _vectors.segment)
            .where(*_of(dataset, model, dimension), tuple_(_vectors.version, _vectors.id) > after)
            .order_by(_vectors.version, _vectors.id)
            .limit(limit)
        )
        return await self._database.run(
            lambda connection: [ChangedVector(*row) for row in connection.execute(statement)]
        )

    async def vector_nodes(self, dataset: str, model: str, dimension: int) -> Collection[str]:
        statement = select(_vectors.id).where(*_of(dataset, model, dimension))
        return await self._database.run(lambda connection: frozenset(connection.execute(statement).scalars()))

    async def vectors(self, nodes: Collection[str]) -> Sequence[StoredVector]:
        statement = select(_vectors.id, _vectors.segment, _vectors.vector)

        def work(connection: Connection) -> list[StoredVector]:
            rows = (connection.execute(statement.where(_vectors.id.in_(ids))) for ids in parts(nodes))
            return [StoredVector(*row) for some in rows for row in some]

        return await self._database.run(work)

    async def findable(self, segments: Collection[str]) -> Collection[str]:
        statement = select(_segments.id).join(dataset_document, _documents.id == _segments.document).where(_FINDABLE)

        def work(connection: Connection) -> set[str]:
            rows = (connection.execute(statement.where(_segments.id.in_(ids))) for ids in parts(segments))
            return {id_ for some in rows for id_ in some.scalars()}

        return await self._database.run(work)


def _of(dataset: str, model: str, dimension: int) -> tuple[Any, ...]:
    return _vectors.dataset == clean(dataset), _vectors.model == clean(model), _vectors.dimension == dimension


def _matches(
    connection: Connection, statement: _Statement, limit: int, documents: Collection[str] | None
) -> list[Match]:
    """The first rows (node, segment, score, document) that are of some documents."""
    if documents is None:
        rows: Iterable[Any] = connection.execute(statement.limit(limit))
    else:
        allowed = frozenset(documents)
        rows = islice((row for row in connection.execute(statement) if row.document in allowed), limit)
    return [Match(row.id, row.segment, float(row.score)) for row in rows]


# ------------------------------------------------------------------------------------------------------ full text


def _terms_of_sqlite(terms: Sequence[str]) -> _Statement:
    """FTS5 ranks by BM25, which is the lower, the better."""
    score: Label[float] = literal_column("-bm25(dataset_text_index)", Double).label("score")
    query = " OR ".join(f'"{clean(term)}"' for term in terms)
    return (
        select(_texts.id, _texts.segment, score, _segments.document)
        .select_from(table("dataset_text_index"))
        .join(dataset_text, literal_column("dataset_text_index.rowid") == _texts.number)
        .join(dataset_segment, _segments.id == _texts.segment)
        .join(dataset_document, _documents.id == _segments.document)
        .where(literal_column("dataset_text_index").op("MATCH")(bindparam("query", query, Text)))
        .order_by(score.desc(), _texts.number)
    )


def _terms_of_postgresql(terms: Sequence[str]) -> _Statement:
    words = func.to_tsvector(text("'simple'::regconfig"), _texts.terms)
    query = func.to_tsquery(text("'simple'::regconfig"), " | ".join(f"'{clean(term)}'" for term in terms))
    score = func.ts_rank(words, query, 1).label("score")  # 1: longer texts count a little less
    return (
        select(_texts.id, _texts.segment, score, _segments.document)
        .select_from(dataset_text)
        .join(dataset_segment, _segments.id == _texts.segment)
        .join(dataset_document, _documents.id == _segments.document)
        .where(words.op("@@")(query))
        .order_by(score.desc(), _texts.number)
    )
