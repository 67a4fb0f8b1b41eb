"""The models of knowledge bases: imported when a client's `datasets` is first used."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from headrace_client.response_model import Id, ResponseModel

# Fields that servers always send are optional where an old server may not have them.


class Tag(ResponseModel):
    """A tag for knowledge bases."""

    id: str
    name: Id = ""
    type: str | None = None
    binding_count: str | int | None = None


class MetadataField(ResponseModel):
    """A field of the documents' metadata. `count`: how many documents have a value, where that is listed."""

    id: Id = ""
    name: Id = ""
    type: Id = ""
    count: int | None = None


class MetadataFields(ResponseModel):
    """The fields of a knowledge base's metadata."""

    doc_metadata: list[MetadataField] = Field(default_factory=list)
    built_in_field_enabled: bool | None = None


class MetadataValue(ResponseModel):
    """A value in a document's metadata. A built-in field's id is "built-in"."""

    id: Id = ""
    name: Id = ""
    type: Id = ""
    value: str | float | bool | None = None


class Dataset(ResponseModel):
    """A knowledge base. `..._at` are seconds since the epoch."""

    id: str
    name: Id = ""
    description: str | None = None
    provider: str | None = None
    permission: str | None = None
    data_source_type: str | None = None
    indexing_technique: str | None = None
    app_count: int | None = None
    document_count: int | None = None
    word_count: int | None = None
    created_by: str | None = None
    author_name: str | None = None
    created_at: int | None = None
    updated_by: str | None = None
    updated_at: int | None = None
    embedding_model: str | None = None
    embedding_model_provider: str | None = None
    embedding_available: bool | None = None
    retrieval_model_dict: dict[str, Any] | None = None
    summary_index_setting: dict[str, Any] | None = None
    tags: list[Tag] | None = None
    doc_form: str | None = None
    external_knowledge_info: dict[str, Any] | None = None
    external_retrieval_model: dict[str, Any] | None = None
    doc_metadata: list[MetadataField] | None = None
    built_in_field_enabled: bool | None = None
    pipeline_id: str | None = None
    runtime_mode: str | None = None
    chunk_structure: str | None = None
    icon_info: dict[str, Any] | None = None
    is_published: bool | None = None
    total_documents: int | None = None
    total_available_documents: int | None = None
    enable_api: bool | None = None
    is_multimodal: bool | None = None
    maintainer: str | None = None
    partial_member_list: list[Any] | None = None


class _DocumentFields(ResponseModel):
    id: str
    position: int | None = None
    data_source_type: str | None = None
    data_source_info: dict[str, Any] | None = None
    dataset_process_rule_id: str | None = None
    name: Id = ""
    created_from: str | None = None
    created_by: str | None = None
    created_at: int | None = None
    tokens: int | None = None
    indexing_status: Id = ""
    error: str | None = None
    enabled: bool | None = None
    disabled_at: int | None = None
    disabled_by: str | None = None
    archived: bool | None = None
    display_status: str | None = None
    hit_count: int | None = None
    doc_form: str | None = None
    summary_index_status: str | None = None
    need_summary: bool | None = None


class Document(_DocumentFields):
    """A document. `indexing_status`: waiting, parsing, cleaning, splitting, indexing, completed, error or paused."""

    data_source_detail_dict: dict[str, Any] | None = None
    word_count: int | None = None
    doc_metadata: list[MetadataValue] | None = None


class DocumentDetail(_DocumentFields):
    """A document with its settings. `doc_metadata` is a mapping on old servers."""

    doc_type: str | None = None
    doc_metadata: list[MetadataValue] | dict[str, Any] | None = None
    dataset_process_rule: dict[str, Any] | None = None
    document_process_rule: dict[str, Any] | None = None
    doc_language: str | None = None
    completed_at: int | None = None
    updated_at: int | None = None
    indexing_latency: float | None = None
    segment_count: int | None = None
    average_segment_length: float | None = None


class IndexedDocument(ResponseModel):
    """A document that is being indexed after the response; `batch` names this indexing."""

    document: Document
    batch: Id = ""


class IndexingStatus(ResponseModel):
    """How far the indexing of a document is."""

    id: str
    indexing_status: str
    processing_started_at: float | None = None
    parsing_completed_at: float | None = None
    cleaning_completed_at: float | None = None
    splitting_completed_at: float | None = None
    completed_at: float | None = None
    paused_at: float | None = None
    error: str | None = None
    stopped_at: float | None = None
    completed_segments: int | None = None
    total_segments: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the document is completed, or in error. One that is paused may go on."""
        return self.indexing_status in ("completed", "error")


class ChildChunk(ResponseModel):
    """A piece of a segment, by which the segment is found. `score`: in a search's result."""

    id: str
    segment_id: str | None = None
    content: Id = ""
    position: int | None = None
    word_count: int | None = None
    type: str | None = None
    created_at: int | None = None
    updated_at: int | None = None
    score: float | None = None


class Attachment(ResponseModel):
    """A file of a segment."""

    id: str
    name: Id = ""
    size: int | None = None
    extension: str | None = None
    mime_type: str | None = None
    source_url: str | None = None


class _SegmentFields(ResponseModel):
    id: str
    position: int | None = None
    document_id: Id = ""
    content: Id = ""
    sign_content: str | None = None
    answer: str | None = None
    word_count: int | None = None
    tokens: int | None = None
    keywords: list[str] | None = None
    index_node_id: str | None = None
    index_node_hash: str | None = None
    hit_count: int | None = None
    enabled: bool | None = None
    disabled_at: int | None = None
    disabled_by: str | None = None
    status: str | None = None
    created_by: str | None = None
    created_at: int | None = None
    indexing_at: int | None = None
    completed_at: int | None = None
    error: str | None = None
    stopped_at: int | None = None


class Segment(_SegmentFields):
    """A piece of a document (a chunk)."""

    updated_at: int | None = None
    updated_by: str | None = None
    child_chunks: list[ChildChunk] | None = None
    attachments: list[Attachment] | None = None
    summary: str | None = None


class RetrievedDocument(ResponseModel):
    """The document of a segment that a search found."""

    id: str
    data_source_type: str | None = None
    name: Id = ""
    doc_type: str | None = None
    doc_metadata: dict[str, Any] | None = None


class RetrievedSegment(_SegmentFields):
    document: RetrievedDocument | None = None


class RetrievedRecord(ResponseModel):
    """A segment that a search found. `score` is None where keywords found it."""

    segment: RetrievedSegment
    child_chunks: list[ChildChunk] | None = None
    score: float | None = None
    tsne_position: dict[str, Any] | None = None
    files: list[Attachment] | None = None
    summary: str | None = None


class Retrieved(ResponseModel):
    """What a search found, best first."""

    query: dict[str, Any] | None = None
    records: list[RetrievedRecord] = Field(default_factory=list)


class Model(ResponseModel):
    """A model that a knowledge base can use."""

    model: str
    label: dict[str, str] | None = None
    model_type: str | None = None
    features: list[str] | None = None
    fetch_from: str | None = None
    model_properties: dict[str, Any] | None = None
    status: str | None = None
    deprecated: bool | None = None
    load_balancing_enabled: bool | None = None
    has_invalid_load_balancing_configs: bool | None = None


class ModelProvider(ResponseModel):
    """A provider with its models of the requested type."""

    provider: str
    label: dict[str, str] | None = None
    icon_small: dict[str, str] | None = None
    icon_small_dark: dict[str, str] | None = None
    status: str | None = None
    models: list[Model] = Field(default_factory=list)
    tenant_id: str | None = None


class PipelineFile(ResponseModel):
    """A file that was uploaded for a pipeline; its `id` is a `reference` of `run_pipeline`."""

    id: str
    name: Id = ""
    size: int | None = None
    extension: str | None = None
    mime_type: str | None = None
    created_by: str | None = None
    created_at: str | None = None


class DatasourcePlugin(ResponseModel):
    """A datasource of a pipeline; a run of the pipeline starts at its `node_id`."""

    node_id: Id = ""
    plugin_id: str | None = None
    provider_name: str | None = None
    datasource_type: str | None = None
    title: str | None = None
    user_input_variables: list[dict[str, Any]] | None = None
    credentials: list[dict[str, Any]] | None = None


class PipelineRun(ResponseModel):
    """A run of a published pipeline: its documents, which are being indexed. For a run of a draft, what it returned is
    in `data`."""

    batch: str | None = None
    dataset: dict[str, Any] | None = None
    documents: list[Document] | None = None
    task_id: str | None = None
    workflow_run_id: str | None = None
    data: dict[str, Any] | None = None
