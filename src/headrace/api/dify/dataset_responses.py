"""Knowledge bases and what is in them, as Dify's API returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from headrace.api.dify.schemas import dataset_settings as settings
from headrace.api.dify.schemas import datasets, documents
from headrace.ports import Catalog, StoredFile
from headrace.ports.knowledge import Dataset, DatasetCounts, Document, MetadataField, Tag
from headrace.times import whole_seconds
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.knowledge.service import KnowledgeService

_DEFAULT_TOP_K = 4
_KNOWLEDGE = "knowledge"
_BUILT_IN = "built-in"  # the id of fields that every document has


async def dataset_bodies(service: KnowledgeService, datasets: Sequence[Dataset]) -> list[datasets.Dataset]:
    """Knowledge bases with their counts, tags and fields."""
    ids = [dataset.id for dataset in datasets]
    counts, tags = await service.store.datasets.count_documents(ids), await service.store.datasets.tags_of(ids)
    return [
        _dataset(
            dataset,
            counts.get(dataset.id, DatasetCounts()),
            tags.get(dataset.id, ()),
            await service.store.datasets.metadata_fields(dataset.id),
            available=service.embedding_available(dataset),
        )
        for dataset in datasets
    ]


def _dataset(
    dataset: Dataset, counts: DatasetCounts, tags: Sequence[Tag], fields: Sequence[MetadataField], *, available: bool
) -> datasets.Dataset:
    return {
        "id": dataset.id,
        "name": dataset.name,
        "description": dataset.description,
        "provider": dataset.provider,
        "permission": dataset.permission,
        "data_source_type": "upload_file" if counts.documents else None,
        "indexing_technique": dataset.technique,
        "app_count": 0,
        "document_count": counts.documents,
        "word_count": counts.words,
        "created_by": dataset.created_by,
        "author_name": None,
        "created_at": int(dataset.created_at),
        "updated_by": dataset.updated_by or None,
        "updated_at": int(dataset.updated_at),
        "embedding_model": dataset.embedding_model or None,
        "embedding_model_provider": dataset.embedding_provider or None,
        "embedding_available": available,
        "retrieval_model_dict": _retrieval_model(dataset),
        "summary_index_setting": _summary_index(dataset.summary_index),
        "tags": [{"id": tag.id, "name": tag.name, "type": _KNOWLEDGE} for tag in tags],
        "doc_form": dataset.doc_form,
        "external_knowledge_info": None,
        "external_retrieval_model": None,
        "doc_metadata": [{"id": field.id, "name": field.name, "type": field.type} for field in fields],
        "built_in_field_enabled": dataset.built_in_fields,
        "pipeline_id": None,
        "runtime_mode": "general",
        "chunk_structure": None,
        "icon_info": None,
        "is_published": False,
        "total_documents": counts.documents,
        "total_available_documents": counts.available,
        "enable_api": dataset.enable_api,
        "is_multimodal": False,
        "maintainer": None,
    }


def _retrieval_model(dataset: Dataset) -> settings.RetrievalModelBody:
    # what is stored was checked by its shape when it came
    retrieval_model = cast("settings.RetrievalModel", dict(dataset.retrieval_model))
    reranking, weights = retrieval_model.get("reranking_model"), retrieval_model.get("weights")
    method = (
        "keyword_search" if dataset.technique == "economy" else retrieval_model.get("search_method", "semantic_search")
    )
    return {
        "search_method": method,
        "reranking_enable": retrieval_model.get("reranking_enable", False),
        "reranking_mode": retrieval_model.get("reranking_mode"),
        "reranking_model": None
        if reranking is None
        else {
            "reranking_provider_name": reranking.get("reranking_provider_name"),
            "reranking_model_name": reranking.get("reranking_model_name"),
        },
        "weights": None if weights is None else _weights(weights),
        "top_k": retrieval_model.get("top_k", _DEFAULT_TOP_K),
        "score_threshold_enabled": retrieval_model.get("score_threshold_enabled", False),
        "score_threshold": retrieval_model.get("score_threshold"),
    }


def _weights(weights: settings.Weights) -> settings.WeightsBody:
    vector, keyword = weights.get("vector_setting"), weights.get("keyword_setting")
    return {
        "weight_type": weights.get("weight_type"),
        "keyword_setting": None if keyword is None else {"keyword_weight": keyword.get("keyword_weight", 0.0)},
        "vector_setting": None
        if vector is None
        else {
            "vector_weight": vector.get("vector_weight", 0.0),
            "embedding_provider_name": vector.get("embedding_provider_name", ""),
            "embedding_model_name": vector.get("embedding_model_name", ""),
        },
    }


def _summary_index(settings: Mapping[str, Value]) -> settings.SummaryIndexBody | None:
    if not settings:
        return None
    setting = cast("settings.SummaryIndex", dict(settings))
    return {
        "enable": setting.get("enable"),
        "model_name": setting.get("model_name"),
        "model_provider_name": setting.get("model_provider_name"),
        "summary_prompt": setting.get("summary_prompt"),
    }


# --------------------------------------------------------------------------------------------------------- documents


def display_status(document: Document) -> str:
    """The state of a document in one word."""
    match document.status:
        case "waiting":
            return "queuing"
        case "paused" | "error":
            return document.status
        case "completed":
            if document.archived:
                return "archived"
            return "available" if document.enabled else "disabled"
        case _:
            return "indexing"


async def document_bodies(
    service: KnowledgeService, catalog: Catalog, dataset: Dataset, documents: Sequence[Document]
) -> list[documents.Document]:
    """Documents with their files, hits and metadata."""
    hits = await service.store.segments.hits([document.id for document in documents])
    fields = await service.store.datasets.metadata_fields(dataset.id)
    return [
        _document(dataset, document, fields, await catalog.find_file(document.file), hits.get(document.id, 0))
        for document in documents
    ]


def _document(
    dataset: Dataset, document: Document, fields: Sequence[MetadataField], file: StoredFile | None, hits: int
) -> documents.Document:
    return {
        "id": document.id,
        "position": document.position,
        "data_source_type": document.data_source_type,
        "data_source_info": {"upload_file_id": document.file},
        "data_source_detail_dict": file_detail(file, document),
        "dataset_process_rule_id": document.process_rule.id,
        "name": document.name,
        "created_from": document.created_from,
        "created_by": document.created_by,
        "created_at": int(document.created_at),
        "tokens": document.tokens,
        "indexing_status": document.status,
        "error": document.error,
        "enabled": document.enabled,
        "disabled_at": whole_seconds(document.disabled_at),
        "disabled_by": document.disabled_by,
        "archived": document.archived,
        "display_status": display_status(document),
        "word_count": document.word_count,
        "hit_count": hits,
        "doc_form": document.doc_form,
        "doc_metadata": metadata_values(dataset, document, fields),
        "summary_index_status": None,
        "need_summary": document.need_summary,
    }


def file_detail(file: StoredFile | None, document: Document) -> Mapping[str, Value]:
    """The uploaded file of a document; {} if it is gone."""
    if file is None:
        return {}
    return {
        "upload_file": {
            "id": file.id,
            "name": document.name,
            "size": file.file.size,
            "extension": (file.file.extension or "").lstrip("."),
            "mime_type": file.file.mime_type or "",
            "created_by": document.created_by,
            "created_at": int(file.created_at),
        }
    }


def metadata_values(
    dataset: Dataset, document: Document, fields: Sequence[MetadataField]
) -> list[documents.MetadataValueBody]:
    """The values of a document's metadata, and those that every document has where they are switched on."""
    from headrace.knowledge.metadata import BUILT_IN_FIELDS

    bodies: list[documents.MetadataValueBody] = [
        {"id": field.id, "name": field.name, "type": field.type, "value": _scalar(document.metadata[field.id])}
        for field in fields
        if field.id in document.metadata
    ]
    if dataset.built_in_fields:
        values = (
            document.name,
            document.created_by,
            int(document.created_at),
            int(document.updated_at),
            "file_upload",
        )
        for (name, type_), value in zip(BUILT_IN_FIELDS.items(), values, strict=True):
            bodies.append({"id": _BUILT_IN, "name": name, "type": type_, "value": value})
    return bodies


def _scalar(value: Value) -> str | int | float | bool | None:
    return value if isinstance(value, str | int | float | bool) else None


def status_body(document: Document, completed: int, total: int) -> documents.IndexingStatus:
    return {
        "id": document.id,
        "indexing_status": document.status,
        "processing_started_at": whole_seconds(document.processing_started_at),
        "parsing_completed_at": whole_seconds(document.parsing_completed_at),
        "cleaning_completed_at": whole_seconds(document.cleaning_completed_at),
        "splitting_completed_at": whole_seconds(document.splitting_completed_at),
        "completed_at": whole_seconds(document.completed_at),
        "paused_at": whole_seconds(document.paused_at),
        "error": document.error,
        "stopped_at": whole_seconds(document.stopped_at),
        "completed_segments": completed,
        "total_segments": total,
    }
