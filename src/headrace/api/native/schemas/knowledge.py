"""Knowledge bases and their documents as the console shows them: with what their indexing has come to."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict

from headrace.api.dify.schemas.documents import DocumentName
from headrace.api.http.schema import Media, Uuid, closed, described
from headrace.api.native.schemas.common import Seconds, one_of
from headrace.ports.knowledge import DocForm, Technique

DATASET_ID = "6f1d2c3b-4a59-4687-b7c8-d9e0f1a2b3c4"
DOCUMENT_ID = "a8e0fa5d-1c2b-4f6e-8a6d-4b7c1d2e3f40"


@described
class KnowledgeBase(TypedDict):
    """A knowledge base, with the numbers of its documents by state."""

    id: Uuid
    name: str
    description: str
    technique: Technique | None
    """Null until the first document decides it."""
    doc_form: DocForm | None
    embedding_provider: str
    embedding_model: str
    embedding_available: bool
    """Whether the embedding model can be called, if there is one."""
    documents: int
    available_documents: int
    """Those that a search can find."""
    indexing_documents: int
    paused_documents: int
    failed_documents: int
    chunks: int
    words: int
    created_at: Seconds
    updated_at: Seconds


class KnowledgeBasePage(TypedDict):
    """Knowledge bases, newest first."""

    data: list[KnowledgeBase]
    total: int
    page: int
    limit: int


@described
class KnowledgeDocument(TypedDict):
    """A document, with how far its indexing is."""

    id: Uuid
    name: str
    status: Annotated[str, one_of("queuing", "indexing", "paused", "error", "available", "disabled", "archived")]
    error: str | None
    enabled: bool
    archived: bool
    doc_form: DocForm
    words: int
    tokens: int
    hits: int
    """How often a search has found its chunks."""
    chunks: int
    indexed_chunks: int
    created_at: Seconds
    updated_at: Seconds


class KnowledgeDocumentPage(TypedDict):
    """Documents, newest first."""

    data: list[KnowledgeDocument]
    total: int
    page: int
    limit: int


@closed
class DocumentChange(TypedDict):
    """Another name for a document."""

    name: DocumentName


# ----------------------------------------------------------------------------------------------------------- examples

_BASE: KnowledgeBase = {
    "id": DATASET_ID,
    "name": "Manuals",
    "description": "",
    "technique": "high_quality",
    "doc_form": "text_model",
    "embedding_provider": "langgenius/openai/openai",
    "embedding_model": "text-embedding-3-small",
    "embedding_available": True,
    "documents": 12,
    "available_documents": 10,
    "indexing_documents": 1,
    "paused_documents": 0,
    "failed_documents": 1,
    "chunks": 348,
    "words": 120_400,
    "created_at": 1795226714,
    "updated_at": 1795226714,
}
_DOCUMENT: KnowledgeDocument = {
    "id": DOCUMENT_ID,
    "name": "pump.md",
    "status": "indexing",
    "error": None,
    "enabled": True,
    "archived": False,
    "doc_form": "text_model",
    "words": 1890,
    "tokens": 450,
    "hits": 0,
    "chunks": 4,
    "indexed_chunks": 1,
    "created_at": 1795226714,
    "updated_at": 1795226714,
}
BASE = Media(KnowledgeBase, _BASE)
BASES = Media(KnowledgeBasePage, {"data": [_BASE], "total": 1, "page": 1, "limit": 20})
DOCUMENT = Media(KnowledgeDocument, _DOCUMENT)
DOCUMENTS = Media(KnowledgeDocumentPage, {"data": [_DOCUMENT], "total": 1, "page": 1, "limit": 20})
CHANGE = Media(DocumentChange, {"name": "Pump, 2nd edition"})
