"""Knowledge bases as a process has them: their parts, put together when they are first needed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.background import Periodic, background
from headrace.errors import HeadraceError
from headrace.ports.services import Documents, Files, Models, Passage, Retrieval
from headrace.settings import Settings
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.adapters.models import PluginModels
    from headrace.adapters.models.embeddings import EmbeddingClient
    from headrace.adapters.models.rerank import RerankClient
    from headrace.adapters.models.slots import Slot
    from headrace.knowledge.embedding import Embedder
    from headrace.knowledge.indexing import Indexer
    from headrace.knowledge.retrieval import Retriever
    from headrace.knowledge.service import KnowledgeService
    from headrace.ports.knowledge import Dataset
    from headrace.ports.knowledge_search import KnowledgeSearch, VectorIndex
    from headrace.ports.knowledge_store import KnowledgeStorage, KnowledgeStore

_LOOK_SECONDS = 30.0  # between looks for the first knowledge base, which another process may have made
_ATTEMPTS = 6  # of a call of the embedding model while a document is indexed


class KnowledgeBases:
    """A process that has no knowledge bases imports none of their parts."""

    def __init__(
        self,
        storage: KnowledgeStorage,
        files: Files,
        documents: Documents,
        models: Models,
        plugins: PluginModels,
        settings: Settings,
        environ: Mapping[str, str],
        slot: Slot,
    ) -> None:
        self._storage = storage
        self._files = files
        self._documents = documents
        self._models = models
        self._plugins = plugins
        self._settings = settings
        self._environ = environ
        self._slot = slot
        self._clients: list[EmbeddingClient | RerankClient] = []
        self._looking = Periodic("looking for knowledge bases", self._look, _LOOK_SECONDS)
        self._indexer: Indexer | None = None
        self._wanted = False

    @property
    def store(self) -> KnowledgeStore:
        return self._storage.open()

    @cached_property
    def service(self) -> KnowledgeService:
        from headrace.knowledge.service import KnowledgeService

        demo = "demo/demo" if self._settings.demo_model else ""
        default = self._settings.embedding_model or demo
        return KnowledgeService(self.store, self._files, self.embedder, wake=self._wake, default_embedding=default)

    @cached_property
    def embedder(self) -> Embedder:
        """For those who wait for the answer; the indexer is more patient."""
        from headrace.knowledge.embedding import Embedder

        return Embedder(self._embeddings, self.store.embeddings, time.time)

    @cached_property
    def _embeddings(self) -> EmbeddingClient:
        from headrace.adapters.models.embeddings import EmbeddingClient

        client = EmbeddingClient(self._environ, self._plugins, demo=self._settings.demo_model, slot=self._slot)
        self._clients.append(client)
        return client

    @cached_property
    def rerank(self) -> RerankClient:
        from headrace.adapters.models.rerank import RerankClient

        client = RerankClient(self._environ, self._plugins, demo=self._settings.demo_model, slot=self._slot)
        self._clients.append(client)
        return client

    @cached_property
    def retriever(self) -> Retriever:
        from headrace.knowledge.retrieval import Retriever

        return Retriever(self.store, self.embedder, self.rerank, self._open_index)

    def _open_index(self, search: KnowledgeSearch) -> VectorIndex:
        kind = self._settings.vector_index
        if kind == "pgvector":
            if self.store.index is None:
                raise HeadraceError("HEADRACE_VECTOR_INDEX=pgvector needs a database on PostgreSQL.")
            return self.store.index
        from headrace.adapters.vectors import vector_index

        return vector_index(search, kind, self._settings.data / "vectors")

    async def passages(self, dataset: Dataset, retrieval: Retrieval) -> Sequence[Passage]:
        """What a dataset has for a workflow, best first."""
        from headrace.knowledge.passages import passages

        return await passages(self.store.datasets, self.retriever, dataset, retrieval)

    async def scores(self, query: str, passages: Sequence[Passage], settings: Mapping[str, Value]) -> Sequence[float]:
        """The scores that put the passages of several datasets into one order."""
        from headrace.knowledge.passages import scores

        return await scores(query, passages, settings, self.rerank)

    async def is_used(self) -> bool:
        """Whether there is a dataset, or something left of one."""
        return self._wanted or await self._storage.is_used()

    @asynccontextmanager
    async def running(self, *, index: bool) -> AsyncGenerator[None]:
        """Indexes documents until the block ends, unless that is left to other processes."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close_clients)
            if index:
                await stack.enter_async_context(background("indexing", self._looking.run()))
            yield

    async def _close_clients(self) -> None:
        for client in self._clients:
            await client.aclose()

    def _wake(self) -> None:
        self._wanted = True
        self._looking.wake()
        if self._indexer is not None:
            self._indexer.wake()

    async def _look(self) -> None:
        if not await self.is_used():
            return
        from headrace.knowledge.embedding import Embedder
        from headrace.knowledge.indexing import Indexer
        from headrace.knowledge.parsing import DocumentParser
        from headrace.knowledge.questions import ChunkWriter

        writer = ChunkWriter(self._models, self._settings.summary_model)
        parser = DocumentParser(self._files, self._documents, writer, self._settings.max_chunks)
        embedder = Embedder(self._embeddings, self.store.embeddings, time.time, attempts=_ATTEMPTS)
        self._indexer = Indexer(self.store, parser, embedder, writer)
        await self._indexer.run()
