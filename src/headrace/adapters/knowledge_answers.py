"""What the servers of knowledge bases answer: results, and what they say of a knowledge base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from headrace.adapters.models.failures import Failure
from headrace.ports.services import DatasetDescription, Passage
from headrace.values import Value

ERROR = "KnowledgeRetrievalNodeError"


def records(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: Any = answer.get("records")
    if not isinstance(found, list):
        raise Failure("the knowledge server's answer has no list of records.", ERROR)
    entries = cast("list[Any]", found)
    if not all(is_object(entry) for entry in entries):
        raise Failure("the knowledge server sent a record that is not an object.", ERROR)
    return entries


def field_names(body: Mapping[str, Any]) -> list[str]:
    """The names of the metadata fields of a knowledge base."""
    fields: Any = body.get("doc_metadata")
    entries = cast("list[Any]", fields) if isinstance(fields, list) else []
    return [name for field in entries if is_object(field) and (name := _text(field.get("name")))]


def description(body: Mapping[str, Any], remote_id: str) -> DatasetDescription:
    return DatasetDescription(
        str(body.get("name") or remote_id),
        _text(body.get("description")),
        _text(body["indexing_technique"]) if "indexing_technique" in body else None,
        (_text(body.get("embedding_model_provider")), _text(body.get("embedding_model"))),
        # the documents of an external base are elsewhere; old versions do not count those that can be found
        body.get("provider") == "external" or body.get("total_available_documents") != 0,
    )


def external_passage(record: Mapping[str, Any], dataset: str) -> Passage:
    metadata = record.get("metadata")
    own: dict[str, Any] = metadata if is_object(metadata) else {}
    title = _text(record.get("title"))
    passage_metadata: dict[str, Value] = {
        "_source": "knowledge",
        "dataset_id": dataset,
        "dataset_name": dataset,
        "document_id": _text(own.get("document_id")) or title,
        "document_name": title,
        "data_source_type": "external",
        "doc_metadata": own,
    }
    return Passage(_text(record.get("content")), title, _number(record.get("score")), passage_metadata)


def dify_passage(record: Mapping[str, Any], dataset: str, name: str) -> Passage:
    segment = record.get("segment")
    if not is_object(segment):
        raise Failure("the knowledge server sent a record without a segment.", ERROR)
    document: Any = segment.get("document")
    document = document if is_object(document) else {}
    title = _text(document.get("name"))
    content = _text(segment.get("sign_content")) or _text(segment.get("content"))
    if answer := _text(segment.get("answer")):
        content = f"question:{content} \nanswer:{answer}"
    children = record.get("child_chunks")
    files = record.get("files")
    metadata: dict[str, Value] = {
        "_source": "knowledge",
        "dataset_id": dataset,
        "dataset_name": name,
        "document_id": document.get("id") or segment.get("document_id"),
        "document_name": title,
        "data_source_type": document.get("data_source_type"),
        "segment_id": segment.get("id"),
        "child_chunks": children if isinstance(children, list) else [],
        "segment_hit_count": segment.get("hit_count"),
        "segment_word_count": segment.get("word_count"),
        "segment_position": segment.get("position"),
        "segment_index_node_hash": segment.get("index_node_hash"),
        "doc_metadata": document.get("doc_metadata"),
    }
    return Passage(
        content,
        title,
        _number(record.get("score")),
        metadata,
        _text(record.get("summary")) or None,
        [file for file in cast("list[Any]", files) if is_object(file)] if isinstance(files, list) else (),
    )


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
