"""Knowledge bases: datasets of documents, which are split into segments, and the store of them.

The names are Dify's. Times are seconds since the epoch; None where something has not happened.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Literal, NamedTuple, TypeAlias, TypedDict

from headrace.frozen import frozen, new_dict
from headrace.values import Value

Technique = Literal["high_quality", "economy"]
DocForm = Literal["text_model", "hierarchical_model", "qa_model"]
SearchMethod = Literal["semantic_search", "full_text_search", "hybrid_search", "keyword_search"]
IndexingStatus = Literal["waiting", "parsing", "cleaning", "splitting", "indexing", "completed", "error", "paused"]
SegmentStatus = Literal["waiting", "indexing", "completed", "error"]
MetadataType = Literal["string", "number", "time"]

UNFINISHED: Sequence[IndexingStatus] = ("waiting", "parsing", "cleaning", "splitting", "indexing")
"""The states of documents that are being indexed, or are going to be."""


@frozen
class ProcessRule:
    """How documents are cleaned and split; `rules` are Dify's (`pre_processing_rules`, `segmentation`, ...)."""

    id: str
    mode: Literal["automatic", "custom", "hierarchical"]
    rules: Mapping[str, Value] = field(default_factory=new_dict)


@frozen
class Dataset:
    """A knowledge base of a workspace. The first document decides what is None or "" until then: `technique`,
    `doc_form` and the embedding model. `retrieval_model` holds Dify's settings of retrieval; `summary_index` those of
    summaries. `process_rule` is that of the last document, which the next one has unless it brings its own. `version`
    grows with every change of the dataset's vectors."""

    id: str
    workspace: str
    name: str
    created_at: float
    updated_at: float
    description: str = ""
    permission: str = "only_me"
    provider: str = "vendor"
    technique: Technique | None = None
    doc_form: DocForm | None = None
    embedding_model: str = ""
    embedding_provider: str = ""
    retrieval_model: Mapping[str, Value] = field(default_factory=new_dict)
    summary_index: Mapping[str, Value] = field(default_factory=new_dict)
    process_rule: ProcessRule | None = None
    built_in_fields: bool = False
    enable_api: bool = True
    created_by: str = ""
    updated_by: str = ""
    version: int = 0


class DatasetChanges(TypedDict, total=False):
    """Fields of a dataset to replace."""

    name: str
    updated_at: float
    updated_by: str
    description: str
    permission: str
    technique: Technique | None
    doc_form: DocForm | None
    embedding_model: str
    embedding_provider: str
    retrieval_model: Mapping[str, Value]
    summary_index: Mapping[str, Value]
    process_rule: ProcessRule | None
    built_in_fields: bool
    enable_api: bool


class DatasetCounts(NamedTuple):
    """`available` documents are those that a search can find; `indexing` are those that are being indexed, or wait for
    it."""

    documents: int = 0
    available: int = 0
    words: int = 0
    indexing: int = 0
    paused: int = 0
    failed: int = 0


@frozen
class Document:
    """A document of a dataset. Its content is the stored `file`; `metadata` holds values by the id of their field.

    `claim` names the process that indexes it, until `claimed_until`; `attempts` counts how often that has been begun
    since the document last got further, `next_at` is when it is begun again. A document whose process dies `attempts`
    times in a row is not tried for ever.
    """

    id: str
    dataset: str
    name: str
    file: str
    batch: str
    created_at: float
    updated_at: float
    process_rule: ProcessRule
    doc_form: DocForm = "text_model"
    position: int = 0
    doc_language: str = "English"
    doc_type: str | None = None
    data_source_type: str = "upload_file"
    created_from: str = "api"
    created_by: str = ""
    status: IndexingStatus = "waiting"
    error: str | None = None
    enabled: bool = True
    disabled_at: float | None = None
    disabled_by: str | None = None
    archived: bool = False
    word_count: int = 0
    tokens: int = 0
    metadata: Mapping[str, Value] = field(default_factory=new_dict)
    need_summary: bool = False
    processing_started_at: float | None = None
    parsing_completed_at: float | None = None
    cleaning_completed_at: float | None = None
    splitting_completed_at: float | None = None
    completed_at: float | None = None
    paused_at: float | None = None
    stopped_at: float | None = None
    claim: str = ""
    claimed_until: float = 0.0
    attempts: int = 0
    next_at: float = 0.0


class DocumentChanges(TypedDict, total=False):
    """Fields of a document to replace."""

    name: str
    file: str
    batch: str
    updated_at: float
    process_rule: ProcessRule
    doc_form: DocForm
    doc_language: str
    doc_type: str | None
    status: IndexingStatus
    error: str | None
    enabled: bool
    disabled_at: float | None
    disabled_by: str | None
    archived: bool
    word_count: int
    tokens: int
    metadata: Mapping[str, Value]
    need_summary: bool
    processing_started_at: float | None
    parsing_completed_at: float | None
    cleaning_completed_at: float | None
    splitting_completed_at: float | None
    completed_at: float | None
    paused_at: float | None
    stopped_at: float | None
    attempts: int
    next_at: float


@frozen
class DocumentFilter:
    """Which documents of a dataset: `keyword` is a part of their names; `status` one of Dify's display states (queuing,
    indexing, paused, error, available, disabled, archived)."""

    keyword: str = ""
    status: str = ""
    offset: int = 0
    limit: int = 20


@frozen
class Segment:
    """A piece of a document. `answer` is that of a question (`qa_model`); `attachments` are ids of stored files."""

    id: str
    dataset: str
    document: str
    position: int
    content: str
    created_at: float
    updated_at: float
    answer: str | None = None
    word_count: int = 0
    tokens: int = 0
    keywords: Sequence[str] = ()
    attachments: Sequence[str] = ()
    index_node_id: str = ""
    index_node_hash: str = ""
    hit_count: int = 0
    enabled: bool = True
    disabled_at: float | None = None
    disabled_by: str | None = None
    status: SegmentStatus = "waiting"
    error: str | None = None
    created_by: str = ""
    updated_by: str | None = None
    indexing_at: float | None = None
    completed_at: float | None = None
    stopped_at: float | None = None
    summary: str | None = None


class SegmentChanges(TypedDict, total=False):
    """Fields of a segment to replace."""

    content: str
    answer: str | None
    word_count: int
    tokens: int
    keywords: Sequence[str]
    attachments: Sequence[str]
    index_node_hash: str
    enabled: bool
    disabled_at: float | None
    disabled_by: str | None
    status: SegmentStatus
    error: str | None
    updated_at: float
    updated_by: str | None
    indexing_at: float | None
    completed_at: float | None
    stopped_at: float | None
    summary: str | None


@frozen
class SegmentFilter:
    """Which segments of a document: `keyword` is a part of their content."""

    keyword: str = ""
    statuses: Collection[SegmentStatus] = ()
    offset: int = 0
    limit: int = 20


@frozen
class ChildChunk:
    """A piece of a segment (`hierarchical_model`); `type` says whether somebody has written it."""

    id: str
    dataset: str
    document: str
    segment: str
    position: int
    content: str
    created_at: float
    updated_at: float
    word_count: int = 0
    type: Literal["automatic", "customized"] = "automatic"


@frozen
class MetadataField:
    """A field of a dataset's metadata, of which documents have values."""

    id: str
    dataset: str
    name: str
    type: MetadataType
    created_at: float


@frozen
class Tag:
    """A word of a workspace that its datasets can be found by; `bindings` counts those that have it."""

    id: str
    workspace: str
    name: str
    created_at: float
    bindings: int = 0


Vector: TypeAlias = "array[float]"
"""An embedding: 32-bit floats, of length 1."""


@frozen
class IndexNode:
    """What a search finds: a segment, one of its child chunks, or its summary. `id` is that of the segment or the child
    chunk, or the segment's with SUMMARY behind it; `terms` is its text, cut into words for full text."""

    id: str
    vector: Vector | None = None
    terms: str = ""


SUMMARY = "/summary"


@frozen
class SegmentIndex:
    """What a segment is found by."""

    segment: str
    nodes: Sequence[IndexNode] = ()
    keywords: Sequence[str] = ()


class Progress(NamedTuple):
    """How many segments of a document are indexed."""

    completed: int
    total: int
