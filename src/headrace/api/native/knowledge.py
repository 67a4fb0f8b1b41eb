"""Knowledge bases beyond Dify's API: the state of their indexing in one response, and pausing, resuming and renaming
documents. Everything else is Dify's, below `/api/v1/knowledge/v1`."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.dify.dataset_access import LIMIT, NO_DATASET, NO_DOCUMENT, PAGE, KnowledgeRoutes, page_of
from headrace.api.dify.dataset_documents import ARCHIVED, KEYWORD, STATUS
from headrace.api.dify.dataset_responses import display_status
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response
from headrace.api.http.routing import ApiRoute, Operation, Security
from headrace.api.native.schemas import knowledge as schemas
from headrace.errors import RequestError
from headrace.ports.knowledge import Dataset, DatasetCounts, Document, DocumentFilter, Progress

PREFIX = "/api/v1/knowledge"
KNOWLEDGE_ACCESS = Security(
    "KnowledgeAccess",
    "`ws-...`, a key for all apps of its workspace, with the permission `read`, or `manage` to change something; "
    "or `dataset-...`, a knowledge key",
)
_BASE = "/bases/{dataset_id}"
_DOCUMENTS = f"{_BASE}/documents"
_DOCUMENT = f"{_DOCUMENTS}/{{document_id}}"
_NOT_INDEXING = RequestError("The document is not being indexed.", "document_indexing", 400)
_NOT_PAUSED = RequestError("The document is neither paused nor in error.", "document_indexing", 400)


class KnowledgeBaseRoutes(KnowledgeRoutes):
    """`/bases...`."""

    tag = "Knowledge bases"

    @Operation("GET", "/bases", schemas.BASES, parameters=(PAGE, LIMIT, KEYWORD))
    async def list_knowledge_bases(self, request: Request) -> Response:
        """List knowledge bases with the state of their documents.

        Newest first. A page has at most 100.
        """
        principal = await self.api.knowledge_principal(request)
        page, limit = page_of(request)
        datasets, total = await self.knowledge.store.datasets.datasets(
            principal.workspace,
            keyword=KEYWORD.of(request),
            offset=(page - 1) * limit,
            limit=limit,
        )
        body: schemas.KnowledgeBasePage = {
            "data": await self._bases(datasets),
            "total": total,
            "page": page,
            "limit": limit,
        }
        return json_response(body)

    @Operation("GET", _BASE, schemas.BASE, errors=(NO_DATASET,))
    async def get_knowledge_base(self, request: Request) -> Response:
        """Get a knowledge base with the state of its documents."""
        _, dataset = await self.dataset(request)
        return json_response((await self._bases([dataset]))[0])

    @Operation("GET", _DOCUMENTS, schemas.DOCUMENTS, parameters=(PAGE, LIMIT, KEYWORD, STATUS), errors=(NO_DATASET,))
    async def list_knowledge_documents(self, request: Request) -> Response:
        """List the documents of a knowledge base with their progress.

        Newest first. A page has at most 100.
        """
        _, dataset = await self.dataset(request)
        page, limit = page_of(request)
        keyword = KEYWORD.of(request)
        which = DocumentFilter(keyword, STATUS.of(request) or "", (page - 1) * limit, limit)
        documents, total = await self.knowledge.store.documents.documents(dataset.id, which)
        body: schemas.KnowledgeDocumentPage = {
            "data": await self._documents(documents),
            "total": total,
            "page": page,
            "limit": limit,
        }
        return json_response(body)

    @Operation("GET", _DOCUMENT, schemas.DOCUMENT, errors=(NO_DATASET, NO_DOCUMENT))
    async def get_knowledge_document(self, request: Request) -> Response:
        """Get a document with its progress."""
        _, _, document = await self.document(request)
        return await self._response(document)

    @Operation("PATCH", _DOCUMENT, schemas.DOCUMENT, body=schemas.CHANGE, errors=(ARCHIVED, NO_DATASET, NO_DOCUMENT))
    async def rename_knowledge_document(self, request: Request) -> Response:
        """Rename a document.

        It stays indexed as it is.
        """
        _, dataset, document = await self.document(request)
        name = parse(schemas.DocumentChange, await self.api.json(request))["name"]
        return await self._response(await self.knowledge.rename_document(dataset, document, name))

    @Operation("POST", f"{_DOCUMENT}/pause", schemas.DOCUMENT, errors=(_NOT_INDEXING, NO_DATASET, NO_DOCUMENT))
    async def pause_knowledge_document(self, request: Request) -> Response:
        """Pause the indexing of a document.

        Its chunks that are indexed stay so.
        """
        _, dataset, document = await self.document(request)
        return await self._response(await self.knowledge.pause(dataset, document))

    @Operation("POST", f"{_DOCUMENT}/resume", schemas.DOCUMENT, errors=(_NOT_PAUSED, NO_DATASET, NO_DOCUMENT))
    async def resume_knowledge_document(self, request: Request) -> Response:
        """Continue to index a document.

        One that was paused, or that has failed; its chunks that are indexed already are left as they are.
        """
        _, dataset, document = await self.document(request)
        return await self._response(await self.knowledge.resume(dataset, document))

    # ------------------------------------------------------------------------------------------------------ response

    async def _bases(self, datasets: Sequence[Dataset]) -> list[schemas.KnowledgeBase]:
        service, ids = self.knowledge, [dataset.id for dataset in datasets]
        counts = await service.store.datasets.count_documents(ids)
        chunks = await service.store.segments.count_segments(ids)
        return [
            _base(
                dataset,
                counts.get(dataset.id, DatasetCounts()),
                chunks.get(dataset.id, 0),
                available=service.embedding_available(dataset),
            )
            for dataset in datasets
        ]

    async def _response(self, document: Document) -> Response:
        return json_response((await self._documents([document]))[0])

    async def _documents(self, documents: Sequence[Document]) -> list[schemas.KnowledgeDocument]:
        segments, ids = self.knowledge.store.segments, [document.id for document in documents]
        progress, hits = await segments.progress(ids), await segments.hits(ids)
        return [
            _document(document, progress.get(document.id, Progress(0, 0)), hits.get(document.id, 0))
            for document in documents
        ]


def _base(dataset: Dataset, counts: DatasetCounts, chunks: int, *, available: bool) -> schemas.KnowledgeBase:
    return {
        "id": dataset.id,
        "name": dataset.name,
        "description": dataset.description,
        "technique": dataset.technique,
        "doc_form": dataset.doc_form,
        "embedding_provider": dataset.embedding_provider,
        "embedding_model": dataset.embedding_model,
        "embedding_available": available,
        "documents": counts.documents,
        "available_documents": counts.available,
        "indexing_documents": counts.indexing,
        "paused_documents": counts.paused,
        "failed_documents": counts.failed,
        "chunks": chunks,
        "words": counts.words,
        "created_at": int(dataset.created_at),
        "updated_at": int(dataset.updated_at),
    }


def _document(document: Document, progress: Progress, hits: int) -> schemas.KnowledgeDocument:
    return {
        "id": document.id,
        "name": document.name,
        "status": display_status(document),
        "error": document.error,
        "enabled": document.enabled,
        "archived": document.archived,
        "doc_form": document.doc_form,
        "words": document.word_count,
        "tokens": document.tokens,
        "hits": hits,
        "chunks": progress.total,
        "indexed_chunks": progress.completed,
        "created_at": int(document.created_at),
        "updated_at": int(document.updated_at),
    }


def knowledge_base_routes(api: Api) -> list[ApiRoute]:
    return KnowledgeBaseRoutes(api).mounted(PREFIX, KNOWLEDGE_ACCESS)
