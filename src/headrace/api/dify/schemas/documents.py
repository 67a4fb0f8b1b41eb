"""Documents of knowledge bases."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import WITHOUT_NUL, Object, Success, Text
from headrace.api.dify.schemas.dataset_settings import (
    PROCESS_RULE,
    ProcessRule,
    RetrievalModel,
)
from headrace.api.dify.schemas.datasets import CREATED_AT, DATASET_ID, FIELD_ID, KEY_ID, FieldOfMetadata
from headrace.api.http.schema import BINARY, Media, described
from headrace.ports.knowledge import DocForm, Technique

DocumentName = Annotated[str, Field(min_length=1, max_length=255), WITHOUT_NUL]
_MOST_DOCUMENTS = 1000


@described
class DocumentSettings(TypedDict):
    """How a document is indexed. What the knowledge base has decided already must agree."""

    indexing_technique: NotRequired[Technique | None]
    doc_form: NotRequired[DocForm | None]
    doc_language: NotRequired[Text | None]
    """The language of questions that a model writes (`qa_model`)."""
    process_rule: NotRequired[ProcessRule | None]
    """Without one, that of the knowledge base's last document."""
    retrieval_model: NotRequired[RetrievalModel | None]
    embedding_model: NotRequired[Text | None]
    embedding_model_provider: NotRequired[Text | None]


class TextRequest(DocumentSettings):
    """A new document."""

    name: DocumentName
    text: Text
    original_document_id: NotRequired[Text | None]


class TextChange(DocumentSettings):
    """A new text, name or settings for a document."""

    name: NotRequired[DocumentName | None]
    text: NotRequired[Text | None]


class FileSettings(DocumentSettings):
    """The field `data` of a form with a file: this as JSON text."""

    name: NotRequired[DocumentName | None]
    original_document_id: NotRequired[Text | None]


class DocumentSelection(TypedDict):
    document_ids: Annotated[list[Text], Field(max_length=_MOST_DOCUMENTS)]


class MetadataValueBody(FieldOfMetadata):
    value: str | int | float | bool | None


@described
class Document(TypedDict):
    """A document."""

    id: str
    position: int
    data_source_type: str
    data_source_info: Object
    data_source_detail_dict: Object
    dataset_process_rule_id: str
    name: str
    created_from: str
    created_by: str
    created_at: int
    tokens: int | None
    indexing_status: str
    """waiting, parsing, cleaning, splitting, indexing, completed, error or paused."""
    error: str | None
    enabled: bool
    disabled_at: int | None
    disabled_by: str | None
    archived: bool
    display_status: str
    """queuing, indexing, available, disabled, archived, error or paused."""
    word_count: int | None
    hit_count: int
    doc_form: str
    doc_metadata: list[MetadataValueBody]
    summary_index_status: str | None
    need_summary: bool


class IndexedDocument(TypedDict):
    """A document that is being indexed; its progress is that of the `batch`."""

    document: Document
    batch: str


class DocumentPage(TypedDict):
    """Documents, newest first."""

    data: list[Document]
    has_more: bool
    limit: int
    total: int
    page: int


@described
class DocumentDetail(TypedDict):
    """A document with its settings. With metadata=only it has `id`, `doc_type` and `doc_metadata`; with without all
    others."""

    id: str
    doc_type: NotRequired[str | None]
    doc_metadata: NotRequired[list[MetadataValueBody]]
    position: NotRequired[int]
    data_source_type: NotRequired[str]
    data_source_info: NotRequired[Object]
    dataset_process_rule_id: NotRequired[str]
    dataset_process_rule: NotRequired[Object]
    document_process_rule: NotRequired[Object]
    name: NotRequired[str]
    created_from: NotRequired[str]
    created_by: NotRequired[str]
    created_at: NotRequired[int]
    tokens: NotRequired[int | None]
    indexing_status: NotRequired[str]
    error: NotRequired[str | None]
    enabled: NotRequired[bool]
    disabled_at: NotRequired[int | None]
    disabled_by: NotRequired[str | None]
    archived: NotRequired[bool]
    display_status: NotRequired[str]
    hit_count: NotRequired[int]
    doc_form: NotRequired[str]
    doc_language: NotRequired[str]
    completed_at: NotRequired[int | None]
    updated_at: NotRequired[int | None]
    indexing_latency: NotRequired[float | None]
    """Seconds from the start of processing to its end."""
    segment_count: NotRequired[int]
    average_segment_length: NotRequired[float]
    summary_index_status: NotRequired[str | None]
    need_summary: NotRequired[bool]


class IndexingStatus(TypedDict):
    """How far the indexing of a document is."""

    id: str
    indexing_status: str
    processing_started_at: int | None
    parsing_completed_at: int | None
    cleaning_completed_at: int | None
    splitting_completed_at: int | None
    completed_at: int | None
    paused_at: int | None
    error: str | None
    stopped_at: int | None
    completed_segments: int
    total_segments: int


class IndexingStatuses(TypedDict):
    data: list[IndexingStatus]


class DownloadUrl(TypedDict):
    url: str


# -------------------------------------------------------------------------------------------------------- examples

DOCUMENT_ID = "a8e0fa5d-1c2b-4f6e-8a6d-4b7c1d2e3f40"
FILE_ID = "a1b2c3d4-5678-90ab-cdef-1234567890ab"
RULE_ID = "7d1c9b0e-6f2a-4c3d-9e8f-0a1b2c3d4e5f"
BATCH = "20261121020514783921"
_FILE: Object = {
    "upload_file": {
        "id": FILE_ID,
        "name": "pump.md",
        "size": 2048,
        "extension": "md",
        "mime_type": "text/markdown",
        "created_by": KEY_ID,
        "created_at": CREATED_AT,
    }
}
_DOCUMENT: Document = {
    "id": DOCUMENT_ID,
    "position": 1,
    "data_source_type": "upload_file",
    "data_source_info": {"upload_file_id": FILE_ID},
    "data_source_detail_dict": _FILE,
    "dataset_process_rule_id": RULE_ID,
    "name": "pump.md",
    "created_from": "api",
    "created_by": KEY_ID,
    "created_at": CREATED_AT,
    "tokens": 0,
    "indexing_status": "completed",
    "error": None,
    "enabled": True,
    "disabled_at": None,
    "disabled_by": None,
    "archived": False,
    "display_status": "available",
    "word_count": 1890,
    "hit_count": 4,
    "doc_form": "text_model",
    "doc_metadata": [{"id": FIELD_ID, "name": "language", "type": "string", "value": "en"}],
    "summary_index_status": None,
    "need_summary": False,
}
_DETAIL: DocumentDetail = {
    "id": DOCUMENT_ID,
    "doc_type": None,
    "doc_metadata": _DOCUMENT["doc_metadata"],
    "position": 1,
    "data_source_type": "upload_file",
    "data_source_info": _FILE,
    "dataset_process_rule_id": RULE_ID,
    "dataset_process_rule": {**PROCESS_RULE},
    "document_process_rule": {"id": RULE_ID, "dataset_id": DATASET_ID, **PROCESS_RULE},
    "name": "pump.md",
    "created_from": "api",
    "created_by": KEY_ID,
    "created_at": CREATED_AT,
    "tokens": 0,
    "indexing_status": "completed",
    "error": None,
    "enabled": True,
    "disabled_at": None,
    "disabled_by": None,
    "archived": False,
    "display_status": "available",
    "hit_count": 4,
    "doc_form": "text_model",
    "doc_language": "English",
    "completed_at": CREATED_AT + 2,
    "updated_at": CREATED_AT + 2,
    "indexing_latency": 1.62,
    "segment_count": 4,
    "average_segment_length": 472.5,
    "summary_index_status": None,
    "need_summary": False,
}
_STATUS: IndexingStatus = {
    "id": DOCUMENT_ID,
    "indexing_status": "indexing",
    "processing_started_at": CREATED_AT,
    "parsing_completed_at": CREATED_AT,
    "cleaning_completed_at": CREATED_AT + 1,
    "splitting_completed_at": CREATED_AT + 1,
    "completed_at": None,
    "paused_at": None,
    "error": None,
    "stopped_at": None,
    "completed_segments": 1,
    "total_segments": 4,
}

TEXT = Media(
    TextRequest,
    {
        "name": "pump.md",
        "text": "The pump starts when the valve is open.",
        "indexing_technique": "high_quality",
        "doc_form": "text_model",
        "process_rule": PROCESS_RULE,
    },
)
TEXT_CHANGE = Media(TextChange, {"name": "pump.md", "text": "The pump starts when both valves are open."})
FILE: Media[Any] = Media(
    None,
    type="multipart/form-data",
    schema={
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "data": {
                "type": "string",
                "description": "How it is indexed, as JSON text: the fields of a document by text, without `text`",
                "examples": ['{"indexing_technique": "high_quality", "process_rule": {"mode": "automatic"}}'],
            },
        },
    },
)
FILE_CHANGE: Media[Any] = Media(None, type=FILE.type, schema={**(FILE.schema or {}), "required": []})
IDS = Media(DocumentSelection, {"document_ids": [DOCUMENT_ID]})
INDEXED = Media(IndexedDocument, {"document": _DOCUMENT, "batch": BATCH})
DOCUMENTS = Media(DocumentPage, {"data": [_DOCUMENT], "has_more": False, "limit": 20, "total": 1, "page": 1})
DETAIL = Media(DocumentDetail, _DETAIL)
STATUSES = Media(IndexingStatuses, {"data": [_STATUS]})
URL = Media(DownloadUrl, {"url": f"https://headrace.example.com/files/{FILE_ID}/file-preview?sign=..."})
ZIP: Media[Any] = Media(None, "...", "application/zip", BINARY)
SUCCESS = Media(Success, {"result": "success"})
