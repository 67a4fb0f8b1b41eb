"""Metadata of documents, and pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import WITHOUT_NUL, Object, Text
from headrace.api.dify.schemas.datasets import DATASET_ID, FIELD_ID, KEY_ID, FieldOfMetadata
from headrace.api.dify.schemas.documents import BATCH, DOCUMENT_ID, FILE_ID
from headrace.api.http.schema import Media, described

MetadataType = Literal["string", "number", "time"]
MetadataName = Annotated[str, Field(min_length=1, max_length=255), WITHOUT_NUL]
MetadataValue = Text | float | None
_MOST_DOCUMENTS = 1000
_MOST_FILES = 100


class MetadataFieldRequest(TypedDict):
    """A new field of the documents' metadata."""

    type: MetadataType
    name: MetadataName


class MetadataFieldChange(TypedDict):
    name: MetadataName


@described
class MetadataField(FieldOfMetadata):
    count: int
    """How many documents have a value."""


class MetadataFields(TypedDict):
    doc_metadata: list[MetadataField]
    built_in_field_enabled: bool


class BuiltInField(TypedDict):
    name: str
    type: str


class BuiltInFields(TypedDict):
    fields: list[BuiltInField]


@described
class MetadataEntry(TypedDict):
    """A value of a document; `name` must be that of the field."""

    id: Text
    name: Text
    value: NotRequired[MetadataValue]


@described
class MetadataOperation(TypedDict):
    document_id: Text
    metadata_list: list[MetadataEntry]
    partial_update: NotRequired[bool | None]
    """Whether the other values of the document stay."""


class MetadataOperations(TypedDict):
    operation_data: Annotated[list[MetadataOperation], Field(max_length=_MOST_DOCUMENTS)]


# ------------------------------------------------------------------------------------------------------- pipelines

DatasourceType = Literal["online_document", "local_file", "website_crawl", "online_drive"]


class PipelineFile(TypedDict):
    """A file for a pipeline."""

    id: str
    name: str
    size: int
    extension: str
    mime_type: str | None
    created_by: str
    created_at: str | None


class DatasourceCredential(TypedDict):
    id: str
    name: str
    type: str
    is_default: bool


class DatasourcePlugin(TypedDict):
    """A datasource node of a pipeline."""

    node_id: str
    plugin_id: str
    provider_name: str
    datasource_type: str
    title: str
    user_input_variables: list[Mapping[str, Any]]
    credentials: list[DatasourceCredential]


class DatasourceRun(TypedDict):
    inputs: Object
    datasource_type: DatasourceType
    credential_id: NotRequired[Text | None]
    is_published: bool


class LocalFile(TypedDict):
    """A file by its id: `reference`, or `related_id`. `name` is the document's, by default that of the file."""

    reference: NotRequired[Text]
    related_id: NotRequired[Text]
    name: NotRequired[Annotated[str, Field(max_length=255), WITHOUT_NUL] | None]


class PipelineRun(TypedDict):
    """Input for a pipeline: files, by their ids (`reference`)."""

    inputs: Object
    datasource_type: DatasourceType
    datasource_info_list: Annotated[list[LocalFile], Field(min_length=1, max_length=_MOST_FILES)]
    start_node_id: Text
    is_published: bool
    response_mode: Literal["streaming", "blocking"]


class PipelineDataset(TypedDict):
    id: str
    name: str
    description: str | None
    chunk_structure: str


class PipelineDocument(TypedDict):
    id: str
    position: int
    data_source_type: str
    data_source_info: Object
    name: str
    indexing_status: str
    error: str | None
    enabled: bool


class PipelineResult(TypedDict):
    """The documents that a pipeline made; their progress is that of the `batch`."""

    batch: str
    dataset: PipelineDataset
    documents: list[PipelineDocument]


# -------------------------------------------------------------------------------------------------------- examples

_FIELD: FieldOfMetadata = {"id": FIELD_ID, "name": "language", "type": "string"}

FIELD_REQUEST = Media(MetadataFieldRequest, {"type": "string", "name": "language"})
FIELD_CHANGE = Media(MetadataFieldChange, {"name": "language"})
FIELD = Media(FieldOfMetadata, _FIELD)
FIELDS = Media(MetadataFields, {"doc_metadata": [{**_FIELD, "count": 2}], "built_in_field_enabled": False})
BUILT_IN = Media(
    BuiltInFields,
    {"fields": [{"name": "document_name", "type": "string"}, {"name": "upload_date", "type": "time"}]},
)
OPERATIONS = Media(
    MetadataOperations,
    {
        "operation_data": [
            {
                "document_id": DOCUMENT_ID,
                "metadata_list": [{"id": FIELD_ID, "name": "language", "value": "en"}],
                "partial_update": True,
            }
        ]
    },
)
PIPELINE_FILE = Media(
    PipelineFile,
    {
        "id": FILE_ID,
        "name": "pump.md",
        "size": 2048,
        "extension": "md",
        "mime_type": "text/markdown",
        "created_by": KEY_ID,
        "created_at": "2026-11-21T02:05:14Z",
    },
)
DATASOURCES = Media(
    list[DatasourcePlugin],
    [
        {
            "node_id": "local_file",
            "plugin_id": "langgenius/file",
            "provider_name": "file",
            "datasource_type": "local_file",
            "title": "File",
            "user_input_variables": [],
            "credentials": [],
        }
    ],
)
DATASOURCE_RUN = Media(
    DatasourceRun,
    {"inputs": {}, "datasource_type": "local_file", "credential_id": None, "is_published": True},
)
PIPELINE_RUN = Media(
    PipelineRun,
    {
        "inputs": {},
        "datasource_type": "local_file",
        "datasource_info_list": [{"reference": FILE_ID, "name": "pump.md"}],
        "start_node_id": "local_file",
        "is_published": True,
        "response_mode": "blocking",
    },
)
PIPELINE_RESULT = Media(
    PipelineResult,
    {
        "batch": BATCH,
        "dataset": {
            "id": DATASET_ID,
            "name": "Manuals",
            "description": "Manuals of all products",
            "chunk_structure": "text_model",
        },
        "documents": [
            {
                "id": DOCUMENT_ID,
                "position": 1,
                "data_source_type": "upload_file",
                "data_source_info": {"upload_file_id": FILE_ID},
                "name": "pump.md",
                "indexing_status": "waiting",
                "error": None,
                "enabled": True,
            }
        ],
    },
)
