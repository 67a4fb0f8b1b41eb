"""Indexes documents in the background: reads, cleans and splits them, and embeds their segments.

A document belongs to the process that has claimed it, for as long as that renews the claim. Each step is recorded when
it is done, so that another process continues where one has died: a document that was not split completely is split
again, and a segment that is indexed is not indexed again. What the embedding model returned is cached.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headrace.background import Periodic, cancel
from headrace.errors import HeadraceError, NodeError, StoreError
from headrace.ids import new_id
from headrace.knowledge.embedding import BATCH, Embedder
from headrace.knowledge.parsing import DocumentParser
from headrace.knowledge.questions import ChunkWriter
from headrace.knowledge.segment_index import index_of
from headrace.ports.knowledge import Dataset, Document, DocumentChanges, Segment, SegmentFilter
from headrace.ports.knowledge_store import KnowledgeStore

logger = logging.getLogger(__name__)

LEASE_SECONDS = 30.0  # after which another process takes over the documents of one that has died
_POLL_SECONDS = 30.0  # between looks for documents that other processes have added
_AT_ONCE = 2  # documents that a process indexes
_MOST_ATTEMPTS = 5  # without getting further: a document that ends its process must not end all of them
_SUMMARIES_AT_ONCE = 4
_FORGET_SECONDS = 86_400.0
_KEEP_VECTORS = 30 * 86_400.0  # seconds without a use, after which a cached vector is deleted


class ClaimLost(Exception):
    """Another process indexes the document, or it is gone, paused or begun anew."""


@dataclass(slots=True)
class _Job:
    """A document that is being indexed here."""

    dataset: Dataset
    document: Document
    claim: str


class Indexer:
    """`run` continues until it is cancelled. `lease` is in seconds."""

    def __init__(
        self,
        store: KnowledgeStore,
        parser: DocumentParser,
        embedder: Embedder,
        writer: ChunkWriter,
        *,
        lease: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._parser = parser
        self._embedder = embedder
        self._writer = writer
        self._lease = lease
        self._clock = clock
        self._forget_at = 0.0
        self._lanes = [Periodic("indexing documents", self.work, _POLL_SECONDS) for _ in range(_AT_ONCE)]

    def wake(self) -> None:
        """There is something to index, or to delete."""
        for lane in self._lanes:
            lane.wake()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(lane.run())

    async def work(self) -> float:
        """Indexes one document, or deletes some of what was removed. Returns how many seconds to sleep."""
        due = await self._store.documents.next_due()
        if due is None:
            await self._forget_vectors()
            return _POLL_SECONDS
        if due > 0:
            return min(due, _POLL_SECONDS)
        claim = new_id()
        document = await self._store.documents.claim_document(claim, self._lease)
        if document is not None:
            await self._index(document, claim)
        elif not await self._store.documents.purge():
            return 1.0  # another process was quicker
        return 0.0

    async def _forget_vectors(self) -> None:
        """Deletes cached vectors that have not been used for long, while there is nothing else to do."""
        now = self._clock()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_SECONDS
            await self._store.embeddings.forget_vectors(now - _KEEP_VECTORS)

    # ------------------------------------------------------------------------------------------------- one document

    async def _index(self, document: Document, claim: str) -> None:
        indexing = asyncio.create_task(self._steps(document, claim))
        renewing = asyncio.create_task(self._renew(document, claim))
        pause = 0.0
        try:
            await asyncio.wait({indexing, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if indexing.done():
                await indexing
            else:
                await renewing
        except ClaimLost:
            logger.info("document %s: indexed elsewhere, or not any more", document.id)
        except StoreError:
            pause = 1.0
            raise
        except HeadraceError as error:
            await self._fail(document, claim, str(error))
        except Exception as error:
            logger.exception("document %s cannot be indexed", document.id)
            await self._fail(document, claim, f"The document cannot be indexed ({type(error).__name__}).")
        finally:
            await cancel(indexing, renewing)
            # if the process ends, another one continues at once
            await self._store.documents.release_claim(document.id, claim, pause)

    async def _renew(self, document: Document, claim: str) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            if not await self._store.documents.renew_claim(document.id, claim, self._lease):
                raise ClaimLost

    async def _fail(self, document: Document, claim: str, reason: str) -> None:
        failed: DocumentChanges = {"status": "error", "error": reason, "stopped_at": self._clock()}
        await self._store.documents.change_document(document.id, failed, claim)

    async def _steps(self, document: Document, claim: str) -> None:
        if document.attempts > _MOST_ATTEMPTS:
            raise NodeError(f"Indexing was interrupted {_MOST_ATTEMPTS} times.", "DocumentIndexingError")
        job = _Job(await self._dataset(document), document, claim)
        if document.status != "indexing":
            await self._split(job)
            # a change of how the dataset is indexed ends the claims of documents that are split, and no others
            job.dataset = await self._dataset(document)
        await self._embed(job)
        await self._record(job, {"status": "completed", "completed_at": self._clock(), "error": None, "attempts": 0})

    async def _dataset(self, document: Document) -> Dataset:
        dataset = await self._store.datasets.find_dataset(None, document.dataset)
        if dataset is None:
            raise ClaimLost
        return dataset

    async def _split(self, job: _Job) -> None:
        document = job.document
        resumed = document.status == "splitting" and document.doc_form == "qa_model"
        started = document.processing_started_at or self._clock()
        if not resumed:
            await self._record(job, {"status": "parsing", "processing_started_at": started})
        text = await self._parser.text(document)
        if not resumed:
            await self._record(job, {"status": "cleaning", "parsing_completed_at": self._clock()})
            while await self._store.segments.clear_segments(document.id, job.claim):
                pass
            await self._record(job, {"status": "splitting", "cleaning_completed_at": self._clock()})
        done = await self._segments(document) if resumed else ()
        words, tokens = sum(segment.word_count for segment in done), sum(segment.tokens for segment in done)
        nodes = frozenset(segment.index_node_id for segment in done)
        async for split in self._parser.splits(job.dataset, document, text, nodes):
            if not await self._store.segments.add_segments(document.id, job.claim, split.segments, split.chunks):
                raise ClaimLost
            words += sum(segment.word_count for segment in split.segments)
            tokens += sum(segment.tokens for segment in split.segments)
        changes: DocumentChanges = {"status": "indexing", "splitting_completed_at": self._clock(), "attempts": 0}
        await self._record(job, {**changes, "word_count": words, "tokens": tokens})

    async def _segments(self, document: Document) -> Sequence[Segment]:
        """All segments; those of a document whose questions are written by a model are few."""
        segments, _ = await self._store.segments.segments(document.id, SegmentFilter(limit=1_000_000))
        return segments

    async def _embed(self, job: _Job) -> None:
        dataset, document = job.dataset, job.document
        while segments := await self._store.segments.waiting_segments(document.id, BATCH):
            if document.need_summary and dataset.summary_index.get("enable") is True:
                segments = await self._summarized(dataset, segments)
            chunks = await self._store.segments.chunks_of([segment.id for segment in segments])
            indexes = await index_of(dataset, segments, chunks, self._embedder)
            model, now = dataset.embedding_model, self._clock()
            if not await self._store.segments.index_segments(document.id, indexes, model, now, job.claim):
                raise ClaimLost
            if document.attempts > 1:
                await self._record(job, {"attempts": 0})

    async def _summarized(self, dataset: Dataset, segments: Sequence[Segment]) -> list[Segment]:
        settings = dataset.summary_index
        provider, model, instruction = (
            str(settings.get(name) or "") for name in ("model_provider_name", "model_name", "summary_prompt")
        )
        slots = asyncio.Semaphore(_SUMMARIES_AT_ONCE)

        async def summarized(segment: Segment) -> Segment:
            if segment.summary:
                return segment
            async with slots:
                summary = await self._writer.summary(segment.content, provider, model, instruction)
            await self._store.segments.change_segment(segment.id, {"summary": summary})
            return replace(segment, summary=summary)

        tasks = [asyncio.create_task(summarized(segment)) for segment in segments]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _record(self, job: _Job, changes: DocumentChanges) -> None:
        if not await self._store.documents.change_document(job.document.id, changes, job.claim):
            raise ClaimLost
