"""The documents of datasets in a database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, select, text, update
from sqlalchemy.engine import RowMapping

from headrace.ports.knowledge import Document, DocumentChanges, DocumentFilter
from headrace.ports.knowledge_store import ChangeMetadata
from headrace.stores.encoding import clean, decode_value
from headrace.stores.sql.knowledge.repository import KnowledgeRepository
from headrace.stores.sql.knowledge.rows import (
    delete_segments,
    document_of,
    lock,
    next_version,
    page,
    parts,
    row,
    row_of,
)
from headrace.stores.sql.knowledge_schema import (
    DELETED,
    OPEN,
    dataset,
    dataset_document,
    dataset_metadata,
    dataset_segment,
    dataset_tag_binding,
)
from headrace.stores.sql.leases import clock

_PURGED = 100  # segments at once
_documents = dataset_document.c
_COMPLETED = _documents.status == "completed"
_DISPLAYED: Mapping[str, ColumnElement[bool]] = {
    "queuing": _documents.status == "waiting",
    "indexing": _documents.status.in_(("parsing", "cleaning", "splitting", "indexing")),
    "paused": _documents.status == "paused",
    "error": _documents.status == "error",
    "available": and_(_COMPLETED, _documents.enabled, ~_documents.archived),
    "disabled": and_(_COMPLETED, ~_documents.enabled, ~_documents.archived),
    "archived": and_(_COMPLETED, _documents.archived),
}
_FREE_AT = case((_documents.claimed_until > _documents.next_at, _documents.claimed_until), else_=_documents.next_at)


class SqlDocuments(KnowledgeRepository):
    """Implements Documents."""

    async def add_document(self, document: Document) -> Document | None:
        values = row_of(document)

        def work(connection: Connection) -> int | None:
            which = (dataset.c.id == values["dataset"], ~dataset.c.deleted)
            if connection.execute(select(dataset.c.id).where(*which).with_for_update()).first() is None:
                return None
            last = select(func.max(_documents.position)).where(_documents.dataset == values["dataset"])
            position = (connection.execute(last).scalar() or 0) + 1
            connection.execute(dataset_document.insert(), {**values, "position": position, "deleted": False})
            return position

        position = await self._write(work)
        return None if position is None else replace(document, position=position)

    async def find_document(self, dataset: str, document: str) -> Document | None:
        which = (_documents.id == clean(document), _documents.dataset == clean(dataset), ~_documents.deleted)
        stored = await self._database.row(select(dataset_document).where(*which))
        return document_of(stored) if stored else None

    async def documents(self, dataset: str, which: DocumentFilter) -> tuple[Sequence[Document], int]:
        statement = select(dataset_document).where(_documents.dataset == clean(dataset), ~_documents.deleted)
        if which.keyword:
            statement = statement.where(_documents.name.icontains(clean(which.keyword), autoescape=True))
        if which.status in _DISPLAYED:
            statement = statement.where(_DISPLAYED[which.status])
        ordered = statement.order_by(_documents.created_at.desc(), _documents.position.desc(), _documents.id)
        rows, total = await self._database.run(lambda connection: page(connection, ordered, which.offset, which.limit))
        return [document_of(stored) for stored in rows], total

    async def documents_of_batch(self, dataset: str, batch: str) -> Sequence[Document]:
        which = (_documents.dataset == clean(dataset), _documents.batch == clean(batch), ~_documents.deleted)
        rows = await self._database.rows(select(dataset_document).where(*which).order_by(_documents.position))
        return [document_of(stored) for stored in rows]

    async def documents_by_id(self, dataset: str, documents: Collection[str]) -> Sequence[Document]:
        statement = select(dataset_document).where(_documents.dataset == clean(dataset), ~_documents.deleted)

        def work(connection: Connection) -> list[RowMapping]:
            stored: list[RowMapping] = []
            for ids in parts(map(clean, documents)):
                stored += connection.execute(statement.where(_documents.id.in_(ids))).mappings()
            return stored

        return [document_of(stored) for stored in await self._database.run(work)]

    async def metadata_values(self, dataset: str) -> Mapping[str, Mapping[str, object]]:
        statement = select(*[_documents.id, _documents.metadata])
        rows = await self._database.rows(statement.where(_documents.dataset == clean(dataset), ~_documents.deleted))
        return {stored["id"]: decode_value(stored["metadata"]) for stored in rows}

    async def change_metadata(
        self, dataset: str, documents: Collection[str], change: ChangeMetadata, at: float
    ) -> bool:
        ids = sorted({clean(document) for document in documents})

        def work(connection: Connection) -> bool:
            found: dict[str, Any] = {}
            for some in parts(ids):  # in order, so that two that change the same documents never wait for each other
                which = (_documents.dataset == clean(dataset), _documents.id.in_(some), ~_documents.deleted)
                statement = select(_documents.id, _documents.metadata).where(*which).order_by(_documents.id)
                found |= {stored.id: stored.metadata for stored in connection.execute(statement.with_for_update())}
            if len(found) < len(ids):
                return False
            for document, metadata in found.items():
                values = row({"metadata": change(document, decode_value(metadata)), "updated_at": at})
                connection.execute(update(dataset_document).where(_documents.id == document).values(values))
            return True

        return await self._write(work)

    async def change_document(self, document: str, changes: DocumentChanges, claim: str | None = None) -> bool:
        which = [_documents.id == clean(document), ~_documents.deleted]
        if claim is not None:
            which += [_documents.claim == claim, text(OPEN)]
        return await self._execute(update(dataset_document).where(*which).values(row(changes))) > 0

    async def restart_document(self, document: str, changes: DocumentChanges) -> bool:
        anew = {**row(changes), "claim": "", "claimed_until": 0.0, "attempts": 0, "next_at": 0.0}
        which = (_documents.id == clean(document), ~_documents.deleted)
        return await self._execute(update(dataset_document).where(*which).values(anew)) > 0

    async def index_again(self, dataset: str) -> None:
        split = (
            _documents.dataset == clean(dataset),
            ~_documents.deleted,
            _documents.splitting_completed_at.is_not(None),
        )
        free = {"claim": "", "claimed_until": 0.0, "attempts": 0, "next_at": 0.0}
        anew = {**free, "status": "indexing", "error": None, "completed_at": None}

        def work(connection: Connection) -> None:
            of_dataset = dataset_segment.c.dataset == clean(dataset)
            lock(connection, _documents.id, _documents.dataset == clean(dataset))
            lock(connection, dataset_segment.c.id, of_dataset)
            connection.execute(update(dataset_document).where(*split, _documents.status != "paused").values(anew))
            segments = update(dataset_segment).where(of_dataset)
            connection.execute(segments.values(status="waiting", error=None, completed_at=None))

        await self._write(work)

    async def remove_document(self, document: str) -> bool:
        which = (_documents.id == clean(document), ~_documents.deleted)
        return await self._execute(update(dataset_document).where(*which).values(deleted=True)) > 0

    # ------------------------------------------------------------------------------------------------------ claims

    async def claim_document(self, claim: str, seconds: float) -> Document | None:
        def work(connection: Connection) -> RowMapping | None:
            now = clock(connection)
            due = select(_documents.id).where(text(OPEN), ~_documents.deleted, now >= _FREE_AT)
            first = due.order_by(_documents.next_at, _documents.created_at, _documents.id).limit(1)
            claimed = {"claim": claim, "claimed_until": now + seconds, "attempts": _documents.attempts + 1}
            which = _documents.id == first.with_for_update(skip_locked=True).scalar_subquery()
            statement = update(dataset_document).where(which).values(claimed).returning(dataset_document)
            return connection.execute(statement).mappings().first()

        stored = await self._write(work)
        return document_of(stored) if stored else None

    async def renew_claim(self, document: str, claim: str, seconds: float) -> bool:
        which = (_documents.id == clean(document), _documents.claim == claim, ~_documents.deleted, text(OPEN))

        def work(connection: Connection) -> bool:
            until = clock(connection) + seconds
            return connection.execute(update(dataset_document).where(*which).values(claimed_until=until)).rowcount > 0

        return await self._write(work)

    async def release_claim(self, document: str, claim: str, after: float = 0.0) -> None:
        which = (_documents.id == clean(document), _documents.claim == claim)

        def work(connection: Connection) -> None:
            values: dict[str, Any] = {"claim": "", "claimed_until": 0.0, "next_at": clock(connection) + after}
            connection.execute(update(dataset_document).where(*which).values(values))

        await self._write(work)

    async def next_due(self) -> float | None:
        def work(connection: Connection) -> float | None:
            for table in (dataset_document, dataset):
                if connection.execute(select(table.c.id).where(text(DELETED)).limit(1)).first() is not None:
                    return 0.0
            statement = select(func.min(_FREE_AT) - clock(connection)).where(text(OPEN), ~_documents.deleted)
            seconds = connection.execute(statement).scalar()
            return None if seconds is None else max(0.0, float(seconds))

        return await self._database.run(work)

    async def purge(self) -> bool:
        return await self._write(_purge)


def _purge(connection: Connection) -> bool:
    document = connection.execute(select(_documents.id, _documents.dataset).where(text(DELETED)).limit(1)).first()
    if document is not None:
        segments = select(dataset_segment.c.id).where(dataset_segment.c.document == document.id).limit(_PURGED)
        if ids := connection.execute(segments).scalars().all():
            lock(connection, _documents.id, _documents.id == document.id)
            lock(connection, dataset_segment.c.id, dataset_segment.c.id.in_(ids))
            delete_segments(connection, ids)
            next_version(connection, document.dataset)
        else:
            connection.execute(delete(dataset_document).where(_documents.id == document.id))
        return True
    removed = connection.execute(select(dataset.c.id).where(text(DELETED)).limit(1)).scalar()
    if removed is None:
        return False
    # one that was added while the dataset was removed
    late = update(dataset_document).where(_documents.dataset == removed, ~_documents.deleted)
    if connection.execute(late.values(deleted=True)).rowcount:
        return True
    for table in (dataset_metadata, dataset_tag_binding):
        connection.execute(delete(table).where(table.c.dataset == removed))
    connection.execute(delete(dataset).where(dataset.c.id == removed))
    return True
