"""The settings of knowledge bases and documents, as requests have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

IndexingTechnique = Literal["high_quality", "economy"]
DocForm = Literal["text_model", "hierarchical_model", "qa_model"]
SearchMethod = Literal["semantic_search", "full_text_search", "hybrid_search", "keyword_search"]
DocumentAction = Literal["enable", "disable", "archive", "un_archive"]
MetadataType = Literal["string", "number", "time"]
DatasourceType = Literal["local_file", "online_document", "website_crawl", "online_drive"]


class RerankingModel(TypedDict, total=False):
    reranking_provider_name: str | None
    reranking_model_name: str | None


class VectorSetting(TypedDict, total=False):
    vector_weight: float
    embedding_provider_name: str
    embedding_model_name: str


class KeywordSetting(TypedDict, total=False):
    keyword_weight: float


class Weights(TypedDict, total=False):
    """What similarity and keywords count in a hybrid search."""

    weight_type: Literal["semantic_first", "keyword_first", "customized"] | None
    vector_setting: VectorSetting | None
    keyword_setting: KeywordSetting | None


class MetadataCondition(TypedDict, total=False):
    name: str
    comparison_operator: str
    value: str | float | Sequence[str] | None


class MetadataConditions(TypedDict, total=False):
    """Which documents are searched."""

    logical_operator: Literal["and", "or"] | None
    conditions: Sequence[MetadataCondition] | None


class RetrievalModel(TypedDict, total=False):
    """How a knowledge base is searched. The server requires `search_method`, `reranking_enable`, `top_k` and
    `score_threshold_enabled`."""

    search_method: SearchMethod
    reranking_enable: bool
    reranking_mode: Literal["reranking_model", "weighted_score"] | None
    reranking_model: RerankingModel | None
    weights: Weights | None
    top_k: int
    score_threshold_enabled: bool
    score_threshold: float | None
    metadata_filtering_conditions: MetadataConditions | None


class PreProcessingRule(TypedDict):
    id: Literal["remove_extra_spaces", "remove_urls_emails", "remove_stopwords"]
    enabled: bool


class Segmentation(TypedDict, total=False):
    separator: str
    max_tokens: int
    chunk_overlap: int


class Rules(TypedDict, total=False):
    pre_processing_rules: Sequence[PreProcessingRule] | None
    segmentation: Segmentation | None
    parent_mode: Literal["full-doc", "paragraph"] | None
    subchunk_segmentation: Segmentation | None


class ProcessRule(TypedDict, total=False):
    """How a document is cleaned and split. The server requires `mode`."""

    mode: Literal["automatic", "custom", "hierarchical"]
    rules: Rules | None


class SummaryIndex(TypedDict, total=False):
    enable: bool | None
    model_name: str | None
    model_provider_name: str | None
    summary_prompt: str | None


class DatasetChanges(TypedDict, total=False):
    """Settings of a knowledge base."""

    name: str
    description: str
    indexing_technique: IndexingTechnique | None
    permission: Literal["only_me", "all_team_members", "partial_members"] | None
    embedding_model: str | None
    embedding_model_provider: str | None
    retrieval_model: RetrievalModel | None
    partial_member_list: Sequence[Mapping[str, str]] | None
    external_retrieval_model: Mapping[str, Any] | None
    external_knowledge_id: str | None
    external_knowledge_api_id: str | None


class DatasetSettings(TypedDict, total=False):
    """Settings of a new knowledge base. What is left out, its first document decides."""

    description: str
    indexing_technique: IndexingTechnique | None
    permission: Literal["only_me", "all_team_members", "partial_members"] | None
    provider: Literal["vendor", "external"]
    embedding_model: str | None
    embedding_model_provider: str | None
    retrieval_model: RetrievalModel | None
    summary_index_setting: SummaryIndex | None
    external_knowledge_api_id: str | None
    external_knowledge_id: str | None


class DocumentSettings(TypedDict, total=False):
    """How a document is indexed. The first document of a knowledge base decides what that leaves open."""

    indexing_technique: IndexingTechnique | None
    doc_form: DocForm | None
    doc_language: str | None
    process_rule: ProcessRule | None
    retrieval_model: RetrievalModel | None
    embedding_model: str | None
    embedding_model_provider: str | None


class RetrievalOptions(TypedDict, total=False):
    """Options of a search; by default, the knowledge base's own."""

    retrieval_model: RetrievalModel | None
    external_retrieval_model: Mapping[str, Any] | None
    attachment_ids: Sequence[str] | None


class NewSegment(TypedDict, total=False):
    """A segment to add. The server requires `content`: a question, in a `qa_model` document."""

    content: str
    answer: str | None
    keywords: Sequence[str] | None
    attachment_ids: Sequence[str] | None


class SegmentChanges(NewSegment, total=False):
    enabled: bool | None
    regenerate_child_chunks: bool | None
    summary: str | None


class MetadataEntry(TypedDict):
    """A value for a document; `id` and `name` are those of the field."""

    id: str
    name: str
    value: str | float | None


class DocumentMetadata(TypedDict):
    """The values of a document; others of it are removed unless `partial_update`."""

    document_id: str
    metadata_list: Sequence[MetadataEntry]
    partial_update: bool
