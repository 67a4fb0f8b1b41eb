"""How a knowledge base is searched, and how its documents are split: settings in requests and responses."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import Text
from headrace.api.http.schema import described
from headrace.ports.knowledge import SearchMethod

_MOST_HITS = 1000

Operator = Literal[
    "contains",
    "not contains",
    "start with",
    "end with",
    "is",
    "is not",
    "empty",
    "not empty",
    "in",
    "not in",
    "=",
    "≠",
    ">",
    "<",
    "≥",
    "≤",
    "before",
    "after",
]
TopK = Annotated[int, Field(ge=1, le=_MOST_HITS)]
Threshold = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1)]


class RerankingModel(TypedDict):
    reranking_provider_name: NotRequired[Text | None]
    reranking_model_name: NotRequired[Text | None]


class VectorSetting(TypedDict):
    vector_weight: NotRequired[Weight]
    embedding_provider_name: NotRequired[Text]
    embedding_model_name: NotRequired[Text]


class KeywordSetting(TypedDict):
    keyword_weight: NotRequired[Weight]


class Weights(TypedDict):
    """What similarity and keywords count in a hybrid search."""

    weight_type: NotRequired[Literal["semantic_first", "keyword_first", "customized"] | None]
    vector_setting: NotRequired[VectorSetting | None]
    keyword_setting: NotRequired[KeywordSetting | None]


class Condition(TypedDict):
    """A condition on a field of the documents' metadata."""

    name: Text
    comparison_operator: Operator
    value: NotRequired[Text | list[Text] | float | None]


class MetadataConditions(TypedDict):
    """Which documents are searched."""

    logical_operator: NotRequired[Literal["and", "or"] | None]
    conditions: NotRequired[list[Condition] | None]


@described
class RetrievalModel(TypedDict):
    """How a knowledge base is searched."""

    search_method: SearchMethod
    """`economy` bases have keyword_search only, whatever this says."""
    reranking_enable: bool
    reranking_mode: NotRequired[Literal["reranking_model", "weighted_score"] | None]
    reranking_model: NotRequired[RerankingModel | None]
    weights: NotRequired[Weights | None]
    top_k: TopK
    score_threshold_enabled: bool
    score_threshold: NotRequired[Threshold | None]
    metadata_filtering_conditions: NotRequired[MetadataConditions | None]


class RerankingModelBody(TypedDict):
    reranking_provider_name: str | None
    reranking_model_name: str | None


class VectorSettingBody(TypedDict):
    vector_weight: float
    embedding_provider_name: str
    embedding_model_name: str


class KeywordSettingBody(TypedDict):
    keyword_weight: float


class WeightsBody(TypedDict):
    weight_type: str | None
    keyword_setting: KeywordSettingBody | None
    vector_setting: VectorSettingBody | None


class RetrievalModelBody(TypedDict):
    search_method: str
    reranking_enable: bool
    reranking_mode: str | None
    reranking_model: RerankingModelBody | None
    weights: WeightsBody | None
    top_k: int
    score_threshold_enabled: bool
    score_threshold: float | None


class SummaryIndex(TypedDict):
    """Whether a model writes a summary of each chunk, by which the chunk is found, too."""

    enable: NotRequired[bool | None]
    model_name: NotRequired[Text | None]
    model_provider_name: NotRequired[Text | None]
    summary_prompt: NotRequired[Text | None]


class SummaryIndexBody(TypedDict):
    enable: bool | None
    model_name: str | None
    model_provider_name: str | None
    summary_prompt: str | None


class ExternalRetrievalModel(TypedDict):
    """Settings of bases that are elsewhere; accepted, and of no effect."""

    top_k: NotRequired[int]
    score_threshold: NotRequired[float | None]
    score_threshold_enabled: NotRequired[bool | None]


class ExternalRetrievalModelBody(TypedDict):
    top_k: int
    score_threshold: float | None
    score_threshold_enabled: bool | None


class PreProcessingRule(TypedDict):
    id: Literal["remove_stopwords", "remove_extra_spaces", "remove_urls_emails"]
    enabled: bool


@described
class Segmentation(TypedDict):
    separator: NotRequired[Text]
    max_tokens: int
    """The most characters of a chunk, in spite of its name."""
    chunk_overlap: NotRequired[int]


class Rules(TypedDict):
    pre_processing_rules: NotRequired[list[PreProcessingRule] | None]
    segmentation: NotRequired[Segmentation | None]
    parent_mode: NotRequired[Literal["full-doc", "paragraph"] | None]
    subchunk_segmentation: NotRequired[Segmentation | None]


class ProcessRule(TypedDict):
    """How a document is cleaned and split."""

    mode: Literal["automatic", "custom", "hierarchical"]
    rules: NotRequired[Rules | None]


# ----------------------------------------------------------------------------------------------------------- examples

EMBEDDING_MODEL, EMBEDDING_PROVIDER = "text-embedding-3-small", "langgenius/openai/openai"
RETRIEVAL_MODEL: RetrievalModel = {
    "search_method": "hybrid_search",
    "reranking_enable": False,
    "reranking_mode": "weighted_score",
    "weights": {
        "weight_type": "customized",
        "vector_setting": {
            "vector_weight": 0.7,
            "embedding_provider_name": EMBEDDING_PROVIDER,
            "embedding_model_name": EMBEDDING_MODEL,
        },
        "keyword_setting": {"keyword_weight": 0.3},
    },
    "top_k": 3,
    "score_threshold_enabled": False,
    "score_threshold": None,
}
RETRIEVAL_MODEL_BODY: RetrievalModelBody = {
    "search_method": "hybrid_search",
    "reranking_enable": False,
    "reranking_mode": "weighted_score",
    "reranking_model": None,
    "weights": {
        "weight_type": "customized",
        "keyword_setting": {"keyword_weight": 0.3},
        "vector_setting": {
            "vector_weight": 0.7,
            "embedding_provider_name": EMBEDDING_PROVIDER,
            "embedding_model_name": EMBEDDING_MODEL,
        },
    },
    "top_k": 3,
    "score_threshold_enabled": False,
    "score_threshold": None,
}
PROCESS_RULE: ProcessRule = {
    "mode": "custom",
    "rules": {
        "pre_processing_rules": [
            {"id": "remove_extra_spaces", "enabled": True},
            {"id": "remove_urls_emails", "enabled": False},
        ],
        "segmentation": {"separator": "\n\n", "max_tokens": 1024, "chunk_overlap": 50},
    },
}
