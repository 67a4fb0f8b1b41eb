"""A knowledge base on a real database and real files; the model that embeds is a stand-in."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.adapters.documents import DocumentReader
from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.files import FileStore
from headrace.errors import NodeError
from headrace.knowledge.embedding import Embedder
from headrace.knowledge.indexing import Indexer
from headrace.knowledge.parsing import DocumentParser
from headrace.knowledge.questions import ChunkWriter
from headrace.knowledge.service import DocumentSettings, KnowledgeService
from headrace.ports.knowledge import Dataset, Document, Progress, Segment, SegmentFilter, Vector
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.ports.services import ChatChunk, ChatRequest
from headrace.stores.sql import SqlStorage

ECONOMY: DocumentSettings = {"technique": "economy"}
GOOD: DocumentSettings = {
    "technique": "high_quality",
    "embedding_model": "small",
    "embedding_provider": "langgenius/openai/openai",
}
RULE: Any = {
    "mode": "custom",
    "rules": {
        "pre_processing_rules": [{"id": "remove_extra_spaces", "enabled": True}],
        "segmentation": {"separator": "\n", "max_tokens": 100, "chunk_overlap": 0},
    },
}
PARENTS: Any = {
    "mode": "hierarchical",
    "rules": {
        "pre_processing_rules": [],
        "segmentation": {"separator": "\n\n", "max_tokens": 500},
        "parent_mode": "paragraph",
        "subchunk_segmentation": {"separator": "\n", "max_tokens": 100},
    },
}


@dataclass
class FakeEmbeddings:
    """Implements `Embeddings`. `before` is called with each batch, and may raise."""

    calls: list[list[str]] = field(default_factory=list[list[str]])
    before: Callable[[Sequence[str]], None] = lambda texts: None
    blocked: asyncio.Event | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)

    def missing(self, provider: str) -> str | None:
        return "provider_not_initialize: none" if provider == "unknown" else None

    async def embed(self, texts: Sequence[str], *, provider: str, model: str, query: bool = False) -> Sequence[Vector]:
        self.calls.append(list(texts))
        self.started.set()
        self.before(texts)
        if self.blocked is not None:
            await self.blocked.wait()
        return [array("f", [3.0, float(len(text))]) for text in texts]


@dataclass
class FakeModels:
    """Implements `Models`: answers what `answer` makes of the last message."""

    answer: Callable[[str], str] = lambda text: f"Q1: What? A1: {text}"
    requests: list[ChatRequest] = field(default_factory=list[ChatRequest])

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk]:
        self.requests.append(request)
        yield ChatChunk(self.answer(request.messages[-1].text))

    def missing(self, provider: str) -> str | None:
        return None


@dataclass
class KnowledgeBase:
    storage: SqlStorage
    store: KnowledgeStore
    service: KnowledgeService
    parser: DocumentParser
    embeddings: FakeEmbeddings
    embedder: Embedder
    models: FakeModels
    writer: ChunkWriter

    def indexer(self, store: KnowledgeStore | None = None) -> Indexer:
        return Indexer(store or self.store, self.parser, self.embedder, self.writer)

    async def dataset(self, name: str = "Manual") -> Dataset:
        return await self.service.create("default", "key", name, {})

    async def add(self, dataset: Dataset, text: str, name: str = "a.md", **settings: Any) -> Document:
        chosen: Any = {**ECONOMY, "process_rule": RULE, **settings}
        return await self.service.add_document(dataset, "key", text.encode(), name, "text/plain", chosen)

    async def index(self) -> None:
        """Indexes all that there is to index now."""
        indexer = self.indexer()
        while await self.store.documents.next_due() == 0.0:
            await indexer.work()

    async def current(self, document: Document) -> Document:
        stored = await self.store.documents.find_document(document.dataset, document.id)
        assert stored is not None
        return stored

    async def segments(self, document: Document) -> Sequence[Segment]:
        return (await self.store.segments.segments(document.id, SegmentFilter(limit=100_000)))[0]

    async def progress(self, document: Document) -> Progress:
        return (await self.store.segments.progress([document.id])).get(document.id, Progress(0, 0))

    async def end_claims(self) -> None:
        """The time of all claims is over, as if their processes had died long ago."""
        statement = "UPDATE dataset_document SET claimed_until = 0"
        await self.storage.database.write(lambda connection: connection.exec_driver_sql(statement))

    async def rows(self, table: str, column: str = "id") -> list[str]:
        """A column of a table, in order."""

        def work(connection: Any) -> list[str]:
            return [row[0] for row in connection.exec_driver_sql(f"SELECT {column} FROM {table} ORDER BY {column}")]

        return await self.storage.database.run(work)


@asynccontextmanager
async def knowledge_base(url: str, folder: Path) -> AsyncGenerator[KnowledgeBase]:
    storage = await SqlStorage.open(url)
    try:
        assert storage.knowledge is not None
        store = storage.knowledge.open()
        files = FileStore(FileBlobStore(folder / "files"), storage.catalog, b"secret", None, "http://x.example")  # type: ignore[arg-type]
        embeddings, models = FakeEmbeddings(), FakeModels()
        embedder = Embedder(embeddings, store.embeddings, lambda: 1000.0, attempts=6, pause=0.0)
        writer = ChunkWriter(models, "openai/gpt")
        parser = DocumentParser(files, DocumentReader(), writer)
        service = KnowledgeService(store, files, embedder, wake=lambda: None)
        yield KnowledgeBase(storage, store, service, parser, embeddings, embedder, models, writer)
    finally:
        await storage.aclose()


def unavailable(texts: Sequence[str]) -> None:
    raise NodeError("The model is overloaded.", "InvokeServerUnavailableError")
