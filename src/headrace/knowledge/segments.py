"""Segments and child chunks as the API changes them: what is written is embedded at once.

If the embedding model fails, the segment stays, disabled and with the error, as in Dify.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, TypedDict

from headrace.errors import InvalidParam, NodeError, NotFound, RequestError
from headrace.ids import new_id
from headrace.knowledge.embedding import Embedder
from headrace.knowledge.process_rules import split_children
from headrace.knowledge.segment_index import index_of
from headrace.ports.knowledge import UNFINISHED, ChildChunk, Dataset, Document, Segment, SegmentChanges
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.ports.services import estimate_tokens

# What a segment has until it is indexed: if the process ends before, no other one continues, and the caller sees that
# the segment has to be changed again.
_NOT_INDEXED = "The segment is not indexed: change it to index it again."


class NewSegment(TypedDict, total=False):
    content: str
    answer: str | None
    keywords: Sequence[str] | None
    attachment_ids: Sequence[str] | None


class SegmentUpdate(NewSegment, total=False):
    enabled: bool | None
    regenerate_child_chunks: bool
    summary: str | None


class SegmentService:
    def __init__(self, store: KnowledgeStore, embedder: Embedder, clock: Callable[[], float]) -> None:
        self._store = store
        self._embedder = embedder
        self._clock = clock

    async def segment(self, document: Document, id_: str) -> Segment:
        segment = await self._store.segments.find_segment(document.id, id_)
        if segment is None:
            raise NotFound("Segment not found.")
        return segment

    async def add(
        self, dataset: Dataset, document: Document, by: str, items: Sequence[NewSegment]
    ) -> Sequence[Segment]:
        """Adds segments behind the others."""
        _check_indexed(document)
        segments = [self._new(dataset, document, by, item) for item in items]
        segments = await self._store.segments.append_segments(segments)
        if len(segments) < len(items):
            raise NotFound("Document not found.")
        if dataset.doc_form == "hierarchical_model":
            for segment in segments:
                await self._split(document, segment)
        await self._index(dataset, document, segments)
        return [await self.segment(document, segment.id) for segment in segments]

    async def update(
        self, dataset: Dataset, document: Document, segment: Segment, by: str, update: SegmentUpdate
    ) -> Segment:
        """Changes a segment. A disabled one has to be enabled for that."""
        _check_indexed(document)
        now, enabled = self._clock(), update.get("enabled")
        if enabled is False and segment.enabled:
            disabled: SegmentChanges = {"enabled": False, "disabled_at": now, "disabled_by": by, "updated_at": now}
            await self._change(segment, disabled)
            return await self.segment(document, segment.id)
        if not segment.enabled and not enabled:
            raise InvalidParam("Can't update disabled segment")
        content = update.get("content") or segment.content
        changes: SegmentChanges = {"enabled": True, "disabled_at": None, "disabled_by": None}
        changes |= {"status": "error", "error": _NOT_INDEXED}
        changes |= {"updated_at": now, "updated_by": by}
        if document.doc_form == "qa_model":
            changes["answer"] = update.get("answer") or segment.answer
        changes["word_count"] = len(content) + len(changes.get("answer") or "")
        if content != segment.content:
            changes |= {"content": content, "tokens": estimate_tokens(content), "index_node_hash": text_hash(content)}
        if (keywords := update.get("keywords")) is not None:
            changes["keywords"] = tuple(keywords)
        if (attachments := update.get("attachment_ids")) is not None:
            changes["attachments"] = tuple(attachments)
        if (summary := update.get("summary")) is not None:
            changes["summary"] = summary
        await self._change(segment, changes)
        segment = await self.segment(document, segment.id)
        if document.doc_form == "hierarchical_model" and update.get("regenerate_child_chunks"):
            await self._split(document, segment)
        await self._index(dataset, document, [segment])
        return await self.segment(document, segment.id)

    async def delete(self, segment: Segment) -> None:
        if not await self._store.segments.remove_segment(segment.id):
            raise NotFound("Segment not found.")

    # -------------------------------------------------------------------------------------------------- child chunks

    async def chunk(self, segment: Segment, id_: str) -> ChildChunk:
        chunk = await self._store.segments.find_chunk(segment.id, id_)
        if chunk is None:
            raise NotFound("Child chunk not found.")
        return chunk

    async def add_chunk(self, dataset: Dataset, document: Document, segment: Segment, content: str) -> ChildChunk:
        _check_indexed(document)
        chunk = await self._store.segments.append_chunk(new_chunk(segment, 0, content, self._clock(), "customized"))
        if chunk is None:
            raise NotFound("Segment not found.")
        await self._index_chunks(dataset, document, segment)
        return chunk

    async def update_chunk(
        self, dataset: Dataset, document: Document, segment: Segment, chunk: ChildChunk, content: str
    ) -> ChildChunk:
        _check_indexed(document)
        if not await self._store.segments.change_chunk(chunk.id, content, len(content), self._clock()):
            raise NotFound("Child chunk not found.")
        await self._index_chunks(dataset, document, segment)
        return await self.chunk(segment, chunk.id)

    async def delete_chunk(self, chunk: ChildChunk) -> None:
        if not await self._store.segments.remove_chunk(chunk.id):
            raise NotFound("Child chunk not found.")

    # ----------------------------------------------------------------------------------------------------- internals

    def _new(self, dataset: Dataset, document: Document, by: str, item: NewSegment) -> Segment:
        content, answer = item.get("content", ""), item.get("answer")
        if not content.strip():
            raise InvalidParam("Content is empty")
        if document.doc_form != "qa_model":
            answer = None
        elif not answer or not answer.strip():
            raise InvalidParam("Answer is empty" if answer else "Answer is required")
        now = self._clock()
        return replace(
            new_segment(dataset, document, 0, content, answer, now),
            keywords=tuple(item.get("keywords") or ()),
            attachments=tuple(item.get("attachment_ids") or ()),
            status="error",
            error=_NOT_INDEXED,
            created_by=by,
            indexing_at=now,
        )

    async def _split(self, document: Document, segment: Segment) -> None:
        """Replaces the child chunks of a segment by those of its content."""
        contents = split_children(segment.content, document.process_rule)
        now = self._clock()
        chunks = [new_chunk(segment, position, content, now) for position, content in enumerate(contents, 1)]
        await self._store.segments.replace_chunks(segment.id, chunks)

    async def _change(self, segment: Segment, changes: SegmentChanges) -> None:
        if not await self._store.segments.change_segment(segment.id, changes):
            raise NotFound("Segment not found.")

    async def _index(self, dataset: Dataset, document: Document, segments: Sequence[Segment]) -> None:
        try:
            await self._embed(dataset, document, segments)
        except NodeError as error:
            now = self._clock()
            failed: SegmentChanges = {"enabled": False, "disabled_at": now, "status": "error", "error": str(error)}
            for segment in segments:
                await self._store.segments.change_segment(segment.id, failed)

    async def _index_chunks(self, dataset: Dataset, document: Document, segment: Segment) -> None:
        try:
            await self._embed(dataset, document, [segment])
        except NodeError as error:
            raise RequestError(str(error), "child_chunk_indexing_error", 500) from error

    async def _embed(self, dataset: Dataset, document: Document, segments: Sequence[Segment]) -> None:
        """Indexes segments as they are stored; again, if they or the settings of their dataset have changed in the
        meantime."""
        ids = [segment.id for segment in segments]
        stored = await self._stored(dataset, ids)
        while True:
            indexes, model = await index_of(*stored, self._embedder), stored[0].embedding_model
            await self._store.segments.index_segments(document.id, indexes, model, self._clock())
            indexed, stored = stored, await self._stored(dataset, ids)
            if _contents(stored) == _contents(indexed):
                return

    async def _stored(self, dataset: Dataset, ids: Sequence[str]) -> _Stored:
        dataset = await self._store.datasets.find_dataset(None, dataset.id) or dataset
        segments = await self._store.segments.segments_by_id(dataset.id, ids)
        is_split = dataset.doc_form == "hierarchical_model"
        return dataset, segments, await self._store.segments.chunks_of(ids) if is_split else ()


_Stored: TypeAlias = tuple[Dataset, Sequence[Segment], Sequence[ChildChunk]]


def _contents(stored: _Stored) -> object:
    """What an index is made of."""
    dataset, segments, chunks = stored
    return (
        (dataset.technique, dataset.embedding_provider, dataset.embedding_model),
        {segment.id: (segment.content, segment.keywords, segment.summary) for segment in segments},
        {chunk.id: chunk.content for chunk in chunks},
    )


def new_segment(
    dataset: Dataset, document: Document, position: int, content: str, answer: str | None, now: float
) -> Segment:
    return Segment(
        new_id(),
        dataset.id,
        document.id,
        position,
        content,
        now,
        now,
        answer=answer,
        word_count=len(content) + len(answer or ""),
        tokens=estimate_tokens(content) if dataset.technique == "high_quality" else 0,
        index_node_id=new_id(),
        index_node_hash=text_hash(content),
        created_by=document.created_by,
    )


def new_chunk(
    segment: Segment, position: int, content: str, now: float, type_: Literal["automatic", "customized"] = "automatic"
) -> ChildChunk:
    return ChildChunk(
        new_id(), segment.dataset, segment.document, segment.id, position, content, now, now, len(content), type_
    )


def text_hash(text: str) -> str:
    """What Dify calls the hash of an index node."""
    return hashlib.sha256((text + "None").encode("utf-8", "surrogatepass")).hexdigest()


def check_editable(document: Document) -> None:
    """RequestError if the document is archived."""
    if document.archived:
        raise RequestError("The archived document is not editable.", "archived_document_immutable", 403)


def _check_indexed(document: Document) -> None:
    """RequestError unless a document's segments can be changed."""
    check_editable(document)
    if document.status in UNFINISHED:
        raise NotFound("Document is not completed.")
    if not document.enabled:
        raise NotFound("Document is disabled.")
