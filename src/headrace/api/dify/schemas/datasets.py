"""Knowledge bases and their tags; models that they can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import WITHOUT_NUL, Text
from headrace.api.dify.schemas.dataset_settings import (
    EMBEDDING_MODEL,
    EMBEDDING_PROVIDER,
    RETRIEVAL_MODEL,
    RETRIEVAL_MODEL_BODY,
    ExternalRetrievalModel,
    ExternalRetrievalModelBody,
    RetrievalModel,
    RetrievalModelBody,
    SummaryIndex,
    SummaryIndexBody,
)
from headrace.api.http.schema import Media, described
from headrace.ports.knowledge import Technique

Permission = Literal["only_me", "all_team_members", "partial_members"]
DatasetName = Annotated[str, Field(min_length=1, max_length=40), WITHOUT_NUL]
Description = Annotated[str, Field(max_length=400), WITHOUT_NUL]
TagName = Annotated[str, Field(min_length=1, max_length=50), WITHOUT_NUL]


@described
class DatasetRequest(TypedDict):
    """A new knowledge base."""

    name: DatasetName
    description: NotRequired[Description]
    indexing_technique: NotRequired[Technique | None]
    """Without one, the first document decides it."""
    permission: NotRequired[Permission | None]
    """Stored and returned: a knowledge key opens all knowledge bases of its workspace."""
    provider: NotRequired[Literal["vendor", "external"]]
    embedding_model: NotRequired[Text | None]
    embedding_model_provider: NotRequired[Text | None]
    retrieval_model: NotRequired[RetrievalModel | None]
    summary_index_setting: NotRequired[SummaryIndex | None]
    external_knowledge_api_id: NotRequired[Text | None]
    external_knowledge_id: NotRequired[Text | None]


class PartialMember(TypedDict):
    user_id: NotRequired[Text]


class DatasetChange(TypedDict):
    """Fields of a knowledge base to change."""

    name: NotRequired[DatasetName | None]
    description: NotRequired[Description | None]
    indexing_technique: NotRequired[Technique | None]
    permission: NotRequired[Permission | None]
    embedding_model: NotRequired[Text | None]
    embedding_model_provider: NotRequired[Text | None]
    retrieval_model: NotRequired[RetrievalModel | None]
    partial_member_list: NotRequired[list[PartialMember] | None]
    external_retrieval_model: NotRequired[ExternalRetrievalModel | None]
    external_knowledge_id: NotRequired[Text | None]
    external_knowledge_api_id: NotRequired[Text | None]


class DatasetTag(TypedDict):
    id: str
    name: str
    type: str


class ExternalKnowledge(TypedDict):
    external_knowledge_id: str | None
    external_knowledge_api_id: str | None
    external_knowledge_api_name: str | None
    external_knowledge_api_endpoint: str | None


class FieldOfMetadata(TypedDict):
    id: str
    name: str
    type: str


class IconInfo(TypedDict):
    icon_type: str | None
    icon: str | None
    icon_background: str | None
    icon_url: str | None


@described
class Dataset(TypedDict):
    """A knowledge base."""

    id: str
    name: str
    description: str | None
    provider: str
    permission: str
    data_source_type: str | None
    indexing_technique: str | None
    app_count: int
    document_count: int
    word_count: int
    created_by: str
    author_name: str | None
    created_at: int
    updated_by: str | None
    updated_at: int
    embedding_model: str | None
    embedding_model_provider: str | None
    embedding_available: bool | None
    """Whether the embedding model has a provider and credentials."""
    retrieval_model_dict: RetrievalModelBody
    summary_index_setting: SummaryIndexBody | None
    tags: list[DatasetTag]
    doc_form: str | None
    external_knowledge_info: ExternalKnowledge | None
    external_retrieval_model: ExternalRetrievalModelBody | None
    doc_metadata: list[FieldOfMetadata]
    built_in_field_enabled: bool
    pipeline_id: str | None
    runtime_mode: str | None
    chunk_structure: str | None
    icon_info: IconInfo | None
    is_published: bool
    total_documents: int
    total_available_documents: int
    enable_api: bool
    is_multimodal: bool
    maintainer: str | None
    partial_member_list: NotRequired[list[str]]


class DatasetPage(TypedDict):
    """Knowledge bases, newest first."""

    data: list[Dataset]
    has_more: bool
    limit: int
    total: int
    page: int


# ------------------------------------------------------------------------------------------------------------ tags


class TagRequest(TypedDict):
    name: TagName


class TagChange(TypedDict):
    tag_id: Text
    name: TagName


class TagRemoval(TypedDict):
    tag_id: Text


class TagBinding(TypedDict):
    """Tags for a knowledge base (`target_id`)."""

    tag_ids: Annotated[list[Text], Field(min_length=1)]
    target_id: Text


@described
class TagUnbinding(TypedDict):
    """Tags to take from a knowledge base (`target_id`)."""

    tag_ids: NotRequired[list[Text]]
    tag_id: NotRequired[Text | None]
    """One tag, as old clients name it."""
    target_id: Text


@described
class Tag(TypedDict):
    """A tag for knowledge bases."""

    id: str
    name: str
    type: str
    binding_count: str | None
    """How many knowledge bases have it, as text."""


class BoundTag(TypedDict):
    id: str
    name: str


class BoundTags(TypedDict):
    """The tags of a knowledge base."""

    data: list[BoundTag]
    total: int


# ---------------------------------------------------------------------------------------------------------- models


class Label(TypedDict):
    en_US: str
    zh_Hans: str


class ModelBody(TypedDict):
    """A model that can be named in a request."""

    model: str
    label: Label
    model_type: str
    features: list[str]
    fetch_from: str
    model_properties: Mapping[str, str | int]
    status: str
    deprecated: bool
    load_balancing_enabled: bool
    has_invalid_load_balancing_configs: bool


class ModelProvider(TypedDict):
    """A provider with its models."""

    provider: str
    label: Label
    icon_small: Label | None
    icon_small_dark: Label | None
    status: str
    models: list[ModelBody]
    tenant_id: str


class ModelProviders(TypedDict):
    data: list[ModelProvider]


# -------------------------------------------------------------------------------------------------------- examples

DATASET_ID = "c42e2a6e-40b3-4330-96f8-f1e4d768e8c9"
TAG_ID = "8d0d2c5c-0f57-4a52-a3f5-1f2c0b8d8a11"
KEY_ID = "3f6f2b1c-5d0f-4a52-9d0a-0b8a4a3c1e77"
FIELD_ID = "0b1d4b3a-6a7e-4a2f-9c8e-5d0f3a6b7c21"
CREATED_AT = 1795226714
_DATASET: Dataset = {
    "id": DATASET_ID,
    "name": "Manuals",
    "description": "Manuals of all products",
    "provider": "vendor",
    "permission": "only_me",
    "data_source_type": "upload_file",
    "indexing_technique": "high_quality",
    "app_count": 0,
    "document_count": 3,
    "word_count": 41200,
    "created_by": KEY_ID,
    "author_name": None,
    "created_at": CREATED_AT,
    "updated_by": KEY_ID,
    "updated_at": CREATED_AT,
    "embedding_model": EMBEDDING_MODEL,
    "embedding_model_provider": EMBEDDING_PROVIDER,
    "embedding_available": True,
    "retrieval_model_dict": RETRIEVAL_MODEL_BODY,
    "summary_index_setting": None,
    "tags": [{"id": TAG_ID, "name": "product", "type": "knowledge"}],
    "doc_form": "text_model",
    "external_knowledge_info": None,
    "external_retrieval_model": None,
    "doc_metadata": [{"id": FIELD_ID, "name": "language", "type": "string"}],
    "built_in_field_enabled": False,
    "pipeline_id": None,
    "runtime_mode": "general",
    "chunk_structure": None,
    "icon_info": None,
    "is_published": False,
    "total_documents": 3,
    "total_available_documents": 3,
    "enable_api": True,
    "is_multimodal": False,
    "maintainer": None,
}
_TAG: Tag = {"id": TAG_ID, "name": "product", "type": "knowledge", "binding_count": "2"}
_MODEL: ModelBody = {
    "model": EMBEDDING_MODEL,
    "label": {"en_US": EMBEDDING_MODEL, "zh_Hans": EMBEDDING_MODEL},
    "model_type": "text-embedding",
    "features": [],
    "fetch_from": "predefined-model",
    "model_properties": {},
    "status": "active",
    "deprecated": False,
    "load_balancing_enabled": False,
    "has_invalid_load_balancing_configs": False,
}

CREATE = Media(
    DatasetRequest,
    {
        "name": "Manuals",
        "indexing_technique": "high_quality",
        "embedding_model": EMBEDDING_MODEL,
        "embedding_model_provider": EMBEDDING_PROVIDER,
        "retrieval_model": RETRIEVAL_MODEL,
    },
)
CHANGE = Media(DatasetChange, {"name": "Manuals", "description": "Manuals of all products"})
DATASET = Media(Dataset, _DATASET)
DATASETS = Media(DatasetPage, {"data": [_DATASET], "has_more": False, "limit": 20, "total": 1, "page": 1})
TAG_REQUEST = Media(TagRequest, {"name": "product"})
TAG_CHANGE = Media(TagChange, {"tag_id": TAG_ID, "name": "product"})
TAG_REMOVAL = Media(TagRemoval, {"tag_id": TAG_ID})
TAG_BINDING = Media(TagBinding, {"tag_ids": [TAG_ID], "target_id": DATASET_ID})
TAG_UNBINDING = Media(TagUnbinding, {"tag_ids": [TAG_ID], "target_id": DATASET_ID})
TAG = Media(Tag, _TAG)
TAGS = Media(list[Tag], [_TAG])
BOUND_TAGS = Media(BoundTags, {"data": [{"id": TAG_ID, "name": "product"}], "total": 1})
MODELS = Media(
    ModelProviders,
    {
        "data": [
            {
                "provider": EMBEDDING_PROVIDER,
                "label": {"en_US": "openai", "zh_Hans": "openai"},
                "icon_small": None,
                "icon_small_dark": None,
                "status": "active",
                "models": [_MODEL],
                "tenant_id": "default",
            }
        ]
    },
)
