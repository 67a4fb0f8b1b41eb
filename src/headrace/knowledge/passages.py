"""What a knowledge base finds for a workflow, in the form of Dify's `result` items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.knowledge.conditions import metadata_of
from headrace.knowledge.retrieval import Hit, Retriever, parse_settings
from headrace.ports.knowledge import Dataset
from headrace.ports.knowledge_store import Datasets
from headrace.ports.services import Passage, Retrieval
from headrace.values import Value


async def passages(
    datasets: Datasets, retriever: Retriever, dataset: Dataset, retrieval: Retrieval
) -> Sequence[Passage]:
    """The best passages of a dataset, with its own settings of retrieval where the workflow has none."""
    raw: dict[str, Value] = {
        **dataset.retrieval_model,
        **retrieval.settings,
        "top_k": retrieval.top_k,
        "score_threshold_enabled": retrieval.score_threshold is not None,
        "score_threshold": retrieval.score_threshold,
        "metadata_filtering_conditions": retrieval.conditions,
    }
    hits = await retriever.retrieve(dataset, retrieval.query, parse_settings(raw))
    names = {field.id: field.name for field in await datasets.metadata_fields(dataset.id)}
    return [_passage(dataset, hit, names) for hit in hits]


def _passage(dataset: Dataset, hit: Hit, names: Mapping[str, str]) -> Passage:
    segment, document = hit.segment, hit.document
    chunks: list[Value] = [
        {"id": chunk.id, "content": chunk.content, "position": chunk.position, "score": score}
        for chunk, score in hit.chunks
    ]
    metadata: dict[str, Value] = {
        "_source": "knowledge",
        "dataset_id": dataset.id,
        "dataset_name": dataset.name,
        "document_id": document.id,
        "document_name": document.name,
        "data_source_type": document.data_source_type,
        "segment_id": segment.id,
        "child_chunks": chunks,
        "segment_hit_count": segment.hit_count,
        "segment_word_count": segment.word_count,
        "segment_position": segment.position,
        "segment_index_node_hash": segment.index_node_hash,
        "doc_metadata": metadata_of(document, names, built_in=dataset.built_in_fields),
    }
    content = f"question:{segment.content} \nanswer:{segment.answer}" if segment.answer else segment.content
    return Passage(content, document.name, hit.score, metadata, hit.summary)
