"""Segments of documents, child chunks, and what a search finds."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import WITHOUT_NUL, Object, Text
from headrace.api.dify.schemas.dataset_settings import RETRIEVAL_MODEL, ExternalRetrievalModel, RetrievalModel
from headrace.api.dify.schemas.datasets import CREATED_AT, KEY_ID
from headrace.api.dify.schemas.documents import DOCUMENT_ID
from headrace.api.http.schema import Media, described

_MOST_SEGMENTS = 1000
_MOST_ATTACHMENTS = 10

Content = Annotated[str, Field(min_length=1), WITHOUT_NUL]
Keywords = Annotated[list[Text], Field(max_length=100)]
Attachments = Annotated[list[Text], Field(max_length=_MOST_ATTACHMENTS)]
Query = Annotated[str, Field(max_length=250), WITHOUT_NUL]


@described
class NewSegment(TypedDict):
    content: Content
    """A question, in a `qa_model` document."""
    answer: NotRequired[Text | None]
    keywords: NotRequired[Keywords | None]
    attachment_ids: NotRequired[Attachments | None]


class SegmentsRequest(TypedDict):
    """Segments to add to a document."""

    segments: Annotated[list[NewSegment], Field(min_length=1, max_length=_MOST_SEGMENTS)]


@described
class SegmentFields(TypedDict):
    content: NotRequired[Text | None]
    answer: NotRequired[Text | None]
    keywords: NotRequired[Keywords | None]
    enabled: NotRequired[bool | None]
    regenerate_child_chunks: NotRequired[bool | None]
    """Whether the child chunks are split again from the new content."""
    attachment_ids: NotRequired[Attachments | None]
    summary: NotRequired[Text | None]


class SegmentChange(TypedDict):
    """Fields of a segment to change."""

    segment: SegmentFields


class ChildChunkRequest(TypedDict):
    content: Content


class ChildChunk(TypedDict):
    """A piece of a segment, by which the segment is found."""

    id: str
    segment_id: str
    content: str
    position: int
    word_count: int
    type: str
    created_at: int
    updated_at: int


class Attachment(TypedDict):
    """An image of a segment."""

    id: str
    name: str
    size: int
    extension: str
    mime_type: str
    source_url: str


class SegmentBase(TypedDict):
    id: str
    position: int
    document_id: str
    content: str
    sign_content: str | None
    answer: str | None
    word_count: int
    tokens: int
    keywords: list[str]
    index_node_id: str | None
    index_node_hash: str | None
    hit_count: int
    enabled: bool
    disabled_at: int | None
    disabled_by: str | None
    status: str
    created_by: str
    created_at: int
    indexing_at: int | None
    completed_at: int | None
    error: str | None
    stopped_at: int | None


class Segment(SegmentBase):
    """A piece of a document (a chunk)."""

    updated_at: int
    updated_by: str | None
    child_chunks: list[ChildChunk]
    attachments: list[Attachment]
    summary: str | None


class Segments(TypedDict):
    data: list[Segment]
    doc_form: str


class SegmentPage(Segments):
    """Segments, in their order."""

    total: int
    has_more: bool
    limit: int
    page: int


class OneSegment(TypedDict):
    data: Segment
    doc_form: str


class OneChildChunk(TypedDict):
    data: ChildChunk


class ChildChunkPage(TypedDict):
    """Child chunks, in their order."""

    data: list[ChildChunk]
    total: int
    total_pages: int
    page: int
    limit: int


# ------------------------------------------------------------------------------------------------------- retrieval


@described
class RetrieveRequest(TypedDict):
    """What to search a knowledge base for."""

    query: Query
    retrieval_model: NotRequired[RetrievalModel | None]
    """Instead of the knowledge base's own settings."""
    attachment_ids: NotRequired[Attachments | None]
    external_retrieval_model: NotRequired[ExternalRetrievalModel | None]


class FoundDocument(TypedDict):
    id: str
    data_source_type: str
    name: str
    doc_type: str | None
    doc_metadata: Object | None


class FoundSegment(SegmentBase):
    document: FoundDocument


class FoundChildChunk(TypedDict):
    id: str
    content: str
    position: int
    score: float


@described
class Found(TypedDict):
    """A segment that a search found."""

    segment: FoundSegment
    child_chunks: list[FoundChildChunk]
    score: float | None
    """null where keywords found it."""
    tsne_position: Object | None
    files: list[Attachment]
    summary: str | None


class QueryBody(TypedDict):
    content: str


class Retrieval(TypedDict):
    """What a search found, best first."""

    query: QueryBody
    records: list[Found]


# -------------------------------------------------------------------------------------------------------- examples

SEGMENT_ID = "5f1d1a0c-7b1e-4a0f-8d7e-3c2b1a0f9e8d"
CHUNK_ID = "b3c4d5e6-f7a8-4b9c-8d0e-1f2a3b4c5d6e"
_BASE: SegmentBase = {
    "id": SEGMENT_ID,
    "position": 1,
    "document_id": DOCUMENT_ID,
    "content": "The pump starts when the valve is open.",
    "sign_content": "The pump starts when the valve is open.",
    "answer": None,
    "word_count": 39,
    "tokens": 0,
    "keywords": ["pump", "valve"],
    "index_node_id": SEGMENT_ID,
    "index_node_hash": "9c0d2c6a4f1b8e7d",
    "hit_count": 4,
    "enabled": True,
    "disabled_at": None,
    "disabled_by": None,
    "status": "completed",
    "created_by": KEY_ID,
    "created_at": CREATED_AT,
    "indexing_at": CREATED_AT + 1,
    "completed_at": CREATED_AT + 2,
    "error": None,
    "stopped_at": None,
}
_CHUNK: ChildChunk = {
    "id": CHUNK_ID,
    "segment_id": SEGMENT_ID,
    "content": "The pump starts",
    "position": 1,
    "word_count": 15,
    "type": "customized",
    "created_at": CREATED_AT,
    "updated_at": CREATED_AT,
}
_SEGMENT: Segment = {
    **_BASE,
    "updated_at": CREATED_AT,
    "updated_by": None,
    "child_chunks": [],
    "attachments": [],
    "summary": None,
}
_FOUND: Found = {
    "segment": {
        **_BASE,
        "document": {
            "id": DOCUMENT_ID,
            "data_source_type": "upload_file",
            "name": "pump.md",
            "doc_type": None,
            "doc_metadata": {"language": "en"},
        },
    },
    "child_chunks": [],
    "score": 0.71,
    "tsne_position": None,
    "files": [],
    "summary": None,
}

ADD = Media(
    SegmentsRequest, {"segments": [{"content": "The pump starts when the valve is open.", "keywords": ["pump"]}]}
)
CHANGE = Media(SegmentChange, {"segment": {"content": "The pump starts when both valves are open.", "enabled": True}})
CHUNK_REQUEST = Media(ChildChunkRequest, {"content": "The pump starts"})
SEGMENTS = Media(Segments, {"data": [_SEGMENT], "doc_form": "text_model"})
SEGMENT_PAGE = Media(
    SegmentPage,
    {"data": [_SEGMENT], "doc_form": "text_model", "total": 1, "has_more": False, "limit": 20, "page": 1},
)
SEGMENT = Media(OneSegment, {"data": _SEGMENT, "doc_form": "text_model"})
CHUNK = Media(OneChildChunk, {"data": _CHUNK})
CHUNKS = Media(ChildChunkPage, {"data": [_CHUNK], "total": 1, "total_pages": 1, "page": 1, "limit": 20})
RETRIEVE = Media(RetrieveRequest, {"query": "When does the pump start?", "retrieval_model": RETRIEVAL_MODEL})
RETRIEVAL = Media(Retrieval, {"query": {"content": "When does the pump start?"}, "records": [_FOUND]})
