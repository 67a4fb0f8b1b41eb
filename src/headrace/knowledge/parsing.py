"""The segments of a document: its text is read from the stored file, cleaned and split."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid5

from headrace.content.encodings import decode
from headrace.errors import NodeError
from headrace.knowledge.process_rules import Piece, split
from headrace.knowledge.questions import ChunkWriter, Pair, pairs_of_table
from headrace.knowledge.segments import new_chunk, new_segment, text_hash
from headrace.ports.knowledge import ChildChunk, Dataset, Document, Segment
from headrace.ports.services import Documents, Files

MAX_CHUNKS = 100_000

_AT_ONCE = 200  # segments
_QUESTIONS_AT_ONCE = 4  # calls of a model


@dataclass(slots=True)
class Split:
    """Some segments of a document, with their child chunks."""

    segments: list[Segment] = field(default_factory=list[Segment])
    chunks: list[ChildChunk] = field(default_factory=list[ChildChunk])


class DocumentParser:
    """`max_chunks` is how many chunks a document may have, children included."""

    def __init__(
        self,
        files: Files,
        documents: Documents,
        writer: ChunkWriter,
        max_chunks: int = MAX_CHUNKS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._files = files
        self._documents = documents
        self._writer = writer
        self._max_chunks = max_chunks
        self._clock = clock

    async def text(self, document: Document) -> str:
        """The text of a document; of a table with questions and answers, the table. NodeError if it cannot be read."""
        file = await self._files.resolve({"transfer_method": "local_file", "upload_file_id": document.file})
        data = await self._files.read(file)
        if is_table(document):
            return await asyncio.to_thread(decode, data)
        # a text may have any name, also that of a PDF
        extension = ".txt" if file.mime_type == "text/plain" else file.extension or ""
        return await self._documents.text(data, extension=extension, mime_type=file.mime_type)

    async def splits(
        self, dataset: Dataset, document: Document, text: str, done: Collection[str]
    ) -> AsyncGenerator[Split]:
        """The segments of a document's text, some at a time. `done` are the index nodes of questions that have been
        written before. NodeError, before the first, if there are too many."""
        if is_table(document):
            pairs = await asyncio.to_thread(pairs_of_table, text)
            self._check(len(pairs))
            now = self._clock()
            segments = [
                new_segment(dataset, document, position, pair.question, pair.answer, now)
                for position, pair in enumerate(pairs, 1)
            ]
            for start in range(0, len(segments), _AT_ONCE):
                yield Split(segments[start : start + _AT_ONCE])
            return
        pieces = await asyncio.to_thread(self._pieces, document, text)
        if document.doc_form == "qa_model":
            async for written in self._questions(dataset, document, pieces, done):
                yield written
            return
        for start in range(0, len(pieces), _AT_ONCE):
            yield self._split(dataset, document, start, pieces[start : start + _AT_ONCE])

    def _pieces(self, document: Document, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        count = 0
        for piece in split(text, document.process_rule, document.doc_form, self._max_chunks + 1):
            pieces.append(piece)
            count += len(piece.children) or 1
            self._check(count)
        return pieces

    def _check(self, count: int) -> None:
        if count > self._max_chunks:
            reason = f"The document has more than {self._max_chunks:,} chunks: choose larger ones, or split it."
            raise NodeError(reason, "DocumentIndexingError")

    def _split(self, dataset: Dataset, document: Document, start: int, pieces: Sequence[Piece]) -> Split:
        result, now = Split(), self._clock()
        for position, piece in enumerate(pieces, start + 1):
            segment = new_segment(dataset, document, position, piece.content, None, now)
            result.segments.append(segment)
            result.chunks += [new_chunk(segment, number, child, now) for number, child in enumerate(piece.children, 1)]
        return result

    async def _questions(
        self, dataset: Dataset, document: Document, pieces: Sequence[Piece], done: Collection[str]
    ) -> AsyncGenerator[Split]:
        position = len(done)
        todo = [piece.content for piece in pieces if _question_node(document, piece.content, 0) not in done]
        for start in range(0, len(todo), _QUESTIONS_AT_ONCE):
            texts = todo[start : start + _QUESTIONS_AT_ONCE]
            answers = await self._ask(texts, document.doc_language)
            result = Split()
            for text, pairs in zip(texts, answers, strict=True):
                for number, pair in enumerate(pairs):
                    position += 1
                    segment = new_segment(dataset, document, position, pair.question, pair.answer, self._clock())
                    result.segments.append(replace(segment, index_node_id=_question_node(document, text, number)))
            yield result

    async def _ask(self, texts: Sequence[str], language: str) -> list[list[Pair]]:
        tasks = [asyncio.create_task(self._writer.questions(text, language)) for text in texts]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


def is_table(document: Document) -> bool:
    """Whether it is a table of questions and answers."""
    return document.doc_form == "qa_model" and document.name.lower().endswith(".csv")


def _question_node(document: Document, text: str, number: int) -> str:
    """The index node of a question that is written about a text: the same each time."""
    return str(uuid5(UUID(document.id), f"{number} {text_hash(text)}"))
