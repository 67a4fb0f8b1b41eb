"""What a knowledge base finds for a workflow, in the form of Dify's `result` items."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from headrace.knowledge.conditions import metadata_of
from headrace.knowledge.keywords import similarities
from headrace.knowledge.retrieval import Hit, Retriever, parse_settings
from headrace.ports.knowledge import Dataset
from headrace.ports.knowledge_store import Datasets
from headrace.ports.services import Passage, Retrieval
from headrace.ports.services.embeddings import Rerank
from headrace.values import Value


async def passages(
    datasets: Datasets, retriever: Retriever, dataset: Dataset, retrieval: Retrieval
) -> Sequence[Passage]:
    """The best passages of a dataset, with its own settings of retrieval where the workflow has none."""
    raw: dict[str, Value] = dict(dataset.retrieval_model)
    if not retrieval.by_own_settings:
        raw |= {
            **retrieval.settings,
            "top_k": retrieval.top_k,
            "score_threshold_enabled": retrieval.score_threshold is not None,
            "score_threshold": retrieval.score_threshold,
        }
    raw["metadata_filtering_conditions"] = retrieval.conditions
    hits = await retriever.retrieve(dataset, retrieval.query, parse_settings(raw))
    names = {field.id: field.name for field in await datasets.metadata_fields(dataset.id)}
    return [_passage(dataset, hit, names) for hit in hits]


async def scores(
    query: str, passages: Sequence[Passage], settings: Mapping[str, Value], rerank: Rerank
) -> Sequence[float]:
    """The scores of passages of several datasets: those of a rerank model, or the weighted sum of the score that each
    has and of its keywords' similarity; of the keywords alone, if no weights are set."""
    texts = [passage.content for passage in passages]
    chosen = parse_settings(settings)
    if chosen.rerank_model and chosen.weights is None:
        return await rerank.rerank(query, texts, provider=chosen.rerank_provider, model=chosen.rerank_model)
    meaning, words = chosen.weights or (0.0, 1.0)
    similar = await asyncio.to_thread(similarities, query, texts)
    own = [passage.score or 0.0 for passage in passages]
    return [meaning * score + words * other for score, other in zip(own, similar, strict=True)]


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
