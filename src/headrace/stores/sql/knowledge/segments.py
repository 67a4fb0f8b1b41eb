"""Segments, their child chunks, and what they are found by, in a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, case, delete, func, select, update
from sqlalchemy.engine import RowMapping

from headrace.ports.knowledge import (
    ChildChunk,
    Progress,
    Segment,
    SegmentChanges,
    SegmentFilter,
    SegmentIndex,
)
from headrace.stores.encoding import clean
from headrace.stores.sql.knowledge.repository import KnowledgeRepository
from headrace.stores.sql.knowledge.rows import (
    chunk_of,
    delete_index,
    delete_segments,
    has_claim,
    indexed_keywords,
    insert_all,
    lock,
    next_version,
    pack_vector,
    page,
    parts,
    row,
    row_of,
    segment_of,
)
from headrace.stores.sql.knowledge_schema import (
    dataset_child_chunk,
    dataset_document,
    dataset_keyword,
    dataset_segment,
    dataset_text,
    dataset_vector,
)

T = TypeVar("T")

_CLEARED = 100  # segments at once
_segments = dataset_segment.c
_chunks = dataset_child_chunk.c
_IN_ORDER = (_segments.position, _segments.id)


class SqlSegments(KnowledgeRepository):
    """Implements Segments."""

    # ---------------------------------------------------------------------------------------------------- indexing

    async def clear_segments(self, document: str, claim: str) -> bool:
        def work(connection: Connection) -> bool:
            if not has_claim(connection, document, claim):
                return False
            some = select(_segments.id, _segments.dataset).where(_segments.document == document).limit(_CLEARED)
            rows = connection.execute(some).all()
            if rows:
                lock(connection, _segments.id, _segments.id.in_([stored.id for stored in rows]))
                delete_segments(connection, [stored.id for stored in rows])
                next_version(connection, rows[0].dataset)
            return bool(rows)

        return await self._write(work)

    async def add_segments(
        self, document: str, claim: str, segments: Sequence[Segment], chunks: Sequence[ChildChunk]
    ) -> bool:
        rows, chunk_rows = [row_of(segment) for segment in segments], [row_of(chunk) for chunk in chunks]

        def work(connection: Connection) -> bool:
            if not has_claim(connection, document, claim):
                return False
            insert_all(connection, dataset_segment, rows)
            insert_all(connection, dataset_child_chunk, chunk_rows)
            return True

        return await self._write(work)

    async def waiting_segments(self, document: str, limit: int) -> Sequence[Segment]:
        which = (_segments.document == clean(document), _segments.status.in_(("waiting", "indexing")))
        rows = await self._database.rows(select(dataset_segment).where(*which).order_by(*_IN_ORDER).limit(limit))
        return [segment_of(stored) for stored in rows]

    async def index_segments(
        self, document: str, indexes: Sequence[SegmentIndex], model: str, at: float, claim: str | None = None
    ) -> bool:
        rows = await asyncio.to_thread(_index_rows, indexes, model)  # packing takes half a millisecond for each vector

        def work(connection: Connection) -> bool:
            if claim is not None and not has_claim(connection, document, claim):
                return False
            lock(connection, dataset_document.c.id, dataset_document.c.id == clean(document))
            # a segment or document that was removed in the meantime is not found by anything
            statement = (
                select(_segments.id, _segments.dataset)
                .join(dataset_document, dataset_document.c.id == _segments.document)
                .where(_segments.id.in_([index.segment for index in indexes]), ~dataset_document.c.deleted)
                .order_by(_segments.id)
                .with_for_update()
            )
            present = {stored.id: stored.dataset for stored in connection.execute(statement)}
            if not present:
                return False
            delete_index(connection, list(present))
            version = next_version(connection, next(iter(present.values())))
            for table, of_table in rows:
                more = {"version": version} if table is dataset_vector else {}
                kept = (values for values in of_table if values["segment"] in present)
                insert_all(connection, table, [{**v, **more, "dataset": present[v["segment"]]} for v in kept])
            done = {"status": "completed", "error": None, "completed_at": at}
            connection.execute(update(dataset_segment).where(_segments.id.in_(list(present))).values(done))
            return True

        return await self._write(work)

    async def progress(self, documents: Collection[str]) -> Mapping[str, Progress]:
        completed = func.sum(case((_segments.status == "completed", 1), else_=0))
        statement = select(*[_segments.document, completed, func.count()])
        rows = await self._by_document(statement, documents)
        return {stored[0]: Progress(int(stored[1]), stored[2]) for stored in rows}

    async def count_segments(self, datasets: Collection[str]) -> Mapping[str, int]:
        documents = dataset_document.c
        joined = dataset_document.join(dataset_segment, _segments.document == documents.id)  # by an index of segments
        statement = select(documents.dataset, func.count()).select_from(joined).where(~documents.deleted)

        def work(connection: Connection) -> dict[str, int]:
            counts: dict[str, int] = {}
            for ids in parts(map(clean, datasets)):
                rows = connection.execute(statement.where(documents.dataset.in_(ids)).group_by(documents.dataset))
                counts.update((row[0], row[1]) for row in rows)
            return counts

        return await self._database.run(work)

    async def hits(self, documents: Collection[str]) -> Mapping[str, int]:
        statement = select(*[_segments.document, func.sum(_segments.hit_count)])
        return {stored[0]: int(stored[1]) for stored in await self._by_document(statement, documents)}

    async def _by_document(self, statement: Select[Any], documents: Collection[str]) -> list[Any]:
        def work(connection: Connection) -> list[Any]:
            rows: list[Any] = []
            for ids in parts(map(clean, documents)):
                rows += connection.execute(statement.where(_segments.document.in_(ids)).group_by(_segments.document))
            return rows

        return await self._database.run(work)

    async def add_hits(self, segments: Collection[str]) -> None:
        which = _segments.id.in_(sorted(map(clean, set(segments))))

        def work(connection: Connection) -> None:
            lock(connection, _segments.id, which)
            connection.execute(update(dataset_segment).where(which).values(hit_count=_segments.hit_count + 1))

        if segments:
            await self._write(work)

    # ---------------------------------------------------------------------------------------------------- segments

    async def find_segment(self, document: str, segment: str) -> Segment | None:
        which = (_segments.id == clean(segment), _segments.document == clean(document))
        stored = await self._database.row(select(dataset_segment).where(*which))
        return segment_of(stored) if stored else None

    async def segments(self, document: str, which: SegmentFilter) -> tuple[Sequence[Segment], int]:
        statement = select(dataset_segment).where(_segments.document == clean(document))
        if which.keyword:
            statement = statement.where(_segments.content.icontains(clean(which.keyword), autoescape=True))
        if which.statuses:
            statement = statement.where(_segments.status.in_(which.statuses))
        return await self._page(statement.order_by(*_IN_ORDER), which.offset, which.limit, segment_of)

    async def segments_by_id(self, dataset: str, segments: Collection[str]) -> Sequence[Segment]:
        which = _segments.dataset == clean(dataset)
        statement = select(dataset_segment).where(which)

        def work(connection: Connection) -> list[RowMapping]:
            stored: list[RowMapping] = []
            for ids in parts(map(clean, segments)):
                stored += connection.execute(statement.where(_segments.id.in_(ids))).mappings()
            return stored

        return [segment_of(stored) for stored in await self._database.run(work)]

    async def append_segments(self, segments: Sequence[Segment]) -> Sequence[Segment]:
        def work(connection: Connection) -> list[Segment]:
            added: list[Segment] = []
            for segment in segments:
                document = (dataset_document.c.id == segment.document, ~dataset_document.c.deleted)
                if connection.execute(select(dataset_document.c.id).where(*document).with_for_update()).first() is None:
                    continue
                last = select(func.max(_segments.position)).where(_segments.document == segment.document)
                position = (connection.execute(last).scalar() or 0) + 1
                added.append(replace(segment, position=position))
                connection.execute(dataset_segment.insert(), row_of(added[-1]))
            for document in {segment.document for segment in added}:
                _count_words(connection, document)
            return added

        return await self._write(work)

    async def change_segment(self, segment: str, changes: SegmentChanges) -> bool:
        statement = update(dataset_segment).where(_segments.id == clean(segment)).values(row(changes))

        def work(connection: Connection) -> bool:
            _lock_document_of(connection, segment)
            document = connection.execute(statement.returning(_segments.document)).scalar()
            if document is not None and "word_count" in changes:
                _count_words(connection, document)
            return document is not None

        return await self._write(work)

    async def remove_segment(self, segment: str) -> bool:
        def work(connection: Connection) -> bool:
            _lock_document_of(connection, segment)
            which = select(_segments.dataset, _segments.document).where(_segments.id == clean(segment))
            removed = connection.execute(which).first()
            if removed is None:
                return False
            delete_segments(connection, [clean(segment)])
            _count_words(connection, removed.document)
            next_version(connection, removed.dataset)
            return True

        return await self._write(work)

    # ------------------------------------------------------------------------------------------------ child chunks

    async def find_chunk(self, segment: str, chunk: str) -> ChildChunk | None:
        which = (_chunks.id == clean(chunk), _chunks.segment == clean(segment))
        stored = await self._database.row(select(dataset_child_chunk).where(*which))
        return chunk_of(stored) if stored else None

    async def chunks(
        self, segment: str, *, keyword: str = "", offset: int = 0, limit: int = 20
    ) -> tuple[Sequence[ChildChunk], int]:
        statement = select(dataset_child_chunk).where(_chunks.segment == clean(segment))
        if keyword:
            statement = statement.where(_chunks.content.icontains(clean(keyword), autoescape=True))
        return await self._page(statement.order_by(_chunks.position, _chunks.id), offset, limit, chunk_of)

    async def chunks_of(self, segments: Collection[str]) -> Sequence[ChildChunk]:
        def work(connection: Connection) -> list[RowMapping]:
            stored: list[RowMapping] = []
            for ids in parts(map(clean, segments)):
                statement = select(dataset_child_chunk).where(_chunks.segment.in_(ids))
                stored += connection.execute(statement.order_by(_chunks.segment, _chunks.position)).mappings()
            return stored

        return [chunk_of(stored) for stored in await self._database.run(work)]

    async def append_chunk(self, chunk: ChildChunk) -> ChildChunk | None:
        def work(connection: Connection) -> ChildChunk | None:
            parent = select(_segments.id).where(_segments.id == chunk.segment).with_for_update()
            if connection.execute(parent).first() is None:
                return None
            last = select(func.max(_chunks.position)).where(_chunks.segment == chunk.segment)
            added = replace(chunk, position=(connection.execute(last).scalar() or 0) + 1)
            connection.execute(dataset_child_chunk.insert(), row_of(added))
            return added

        return await self._write(work)

    async def replace_chunks(self, segment: str, chunks: Sequence[ChildChunk]) -> None:
        rows = [row_of(chunk) for chunk in chunks]

        def work(connection: Connection) -> None:
            connection.execute(delete(dataset_child_chunk).where(_chunks.segment == clean(segment)))
            insert_all(connection, dataset_child_chunk, rows)

        await self._write(work)

    async def change_chunk(self, chunk: str, content: str, word_count: int, at: float) -> bool:
        values = {"content": clean(content), "word_count": word_count, "type": "customized", "updated_at": at}
        return await self._execute(update(dataset_child_chunk).where(_chunks.id == clean(chunk)).values(values)) > 0

    async def remove_chunk(self, chunk: str) -> bool:
        def work(connection: Connection) -> bool:
            which = delete(dataset_child_chunk).where(_chunks.id == clean(chunk))
            removed = connection.execute(which.returning(_chunks.dataset, _chunks.segment)).first()
            if removed is None:
                return False
            for table in (dataset_vector, dataset_text):
                connection.execute(delete(table).where(table.c.segment == removed.segment, table.c.id == clean(chunk)))
            next_version(connection, removed.dataset)
            return True

        return await self._write(work)

    async def _page(
        self, statement: Select[Any], offset: int, limit: int, item: Callable[[RowMapping], T]
    ) -> tuple[list[T], int]:
        rows, total = await self._database.run(lambda connection: page(connection, statement, offset, limit))
        return [item(stored) for stored in rows], total


def _lock_document_of(connection: Connection, segment: str) -> None:
    document = select(_segments.document).where(_segments.id == clean(segment)).scalar_subquery()
    lock(connection, dataset_document.c.id, dataset_document.c.id == document)


def _count_words(connection: Connection, document: str) -> None:
    """Counts the words of a document again, as one of its segments has changed."""
    words = select(func.coalesce(func.sum(_segments.word_count), 0)).where(_segments.document == document)
    changed = update(dataset_document).where(dataset_document.c.id == document)
    connection.execute(changed.values(word_count=words.scalar_subquery()))


def _index_rows(indexes: Sequence[SegmentIndex], model: str) -> list[tuple[Table, list[dict[str, Any]]]]:
    """The rows of an index, by table, without their dataset."""
    vectors = [
        {
            "id": node.id,
            "segment": index.segment,
            "model": clean(model),
            "dimension": len(node.vector),
            "vector": pack_vector(node.vector),
        }
        for index in indexes
        for node in index.nodes
        if node.vector is not None
    ]
    texts = [
        {"id": node.id, "segment": index.segment, "terms": clean(node.terms)}
        for index in indexes
        for node in index.nodes
        if node.terms
    ]
    keywords = [
        {"segment": index.segment, "keyword": keyword}
        for index in indexes
        for keyword in indexed_keywords(index.keywords)
    ]
    return [(dataset_vector, vectors), (dataset_text, texts), (dataset_keyword, keywords)]
