"""Retrieval from a knowledge base: by meaning, by full text, by both, or by keywords.

The settings are Dify's `retrieval_model`. What was found are nodes (segments, child chunks, summaries); a segment is
returned once, with the best score of its nodes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast, get_args

from headrace.content.words import query_terms
from headrace.errors import InvalidParam, NodeError
from headrace.frozen import frozen
from headrace.knowledge.conditions import Conditions, metadata_of, parse_conditions
from headrace.knowledge.embedding import Embedder
from headrace.knowledge.keywords import keywords, similarities
from headrace.ports.knowledge import SUMMARY, ChildChunk, Dataset, Document, SearchMethod, Segment, Vector
from headrace.ports.knowledge_search import KnowledgeSearch, Match, VectorIndex
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.ports.services.embeddings import Rerank

DEFAULT_TOP_K = 4
_FEWEST, _MOST = 50, 200  # candidates of each search that hybrid search compares: a larger top_k does not change them


@frozen
class Settings:
    """How to search. `rerank_provider` and `rerank_model` are "" where no model orders the results; `weights` are those
    of meaning and of keywords."""

    method: SearchMethod = "semantic_search"
    top_k: int = DEFAULT_TOP_K
    threshold: float | None = None
    rerank_provider: str = ""
    rerank_model: str = ""
    weights: tuple[float, float] | None = None
    conditions: Conditions | None = None


@frozen
class Hit:
    """A segment that was found. `chunks` are its child chunks that were found, with their scores, best first. The
    score is None where a search has none."""

    segment: Segment
    document: Document
    score: float | None
    chunks: Sequence[tuple[ChildChunk, float]] = ()
    summary: str | None = None


@frozen
class _Candidate:
    """A node that a search has found, with the text that it is found by."""

    match: Match
    segment: Segment
    text: str
    chunk: ChildChunk | None = None


class Retriever:
    """`open_index` is called when a vector index is first needed."""

    def __init__(
        self,
        store: KnowledgeStore,
        embedder: Embedder,
        rerank: Rerank | None,
        open_index: Callable[[KnowledgeSearch], VectorIndex],
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._rerank = rerank
        self._open_index = open_index

    async def retrieve(self, dataset: Dataset, query: str, settings: Settings) -> Sequence[Hit]:
        """The best segments, whose hits are counted. NodeError if a model fails; HeadraceError if a package is
        missing."""
        if not query.strip() or settings.top_k < 1:
            return []
        documents = await self._documents(dataset, settings.conditions)
        if documents is not None and not documents:
            return []
        if settings.method == "keyword_search" or dataset.technique != "high_quality":
            hits = await self._by_keywords(dataset, query, settings.top_k, documents)
        else:
            candidates = await self._candidates(dataset, await self._search(dataset, query, settings, documents))
            hits = await self._hits(dataset, await self._ordered(candidates, query, settings))
        await self._store.segments.add_hits([hit.segment.id for hit in hits])
        return hits

    async def _documents(self, dataset: Dataset, conditions: Conditions | None) -> Collection[str] | None:
        """The documents that meet the conditions; None if there are no conditions."""
        if conditions is None:
            return None
        names = {item.id: item.name for item in await self._store.datasets.metadata_fields(dataset.id)}
        ids = await self._store.documents.metadata_values(dataset.id)
        return {
            document.id
            for document in await self._store.documents.documents_by_id(dataset.id, ids.keys())
            if conditions.holds(metadata_of(document, names))
        }

    # ---------------------------------------------------------------------------------------------------- searches

    async def _by_keywords(
        self, dataset: Dataset, query: str, limit: int, documents: Collection[str] | None
    ) -> list[Hit]:
        chosen = await asyncio.to_thread(keywords, query)  # the first call may read a dictionary
        words = list(dict.fromkeys((*chosen, *(word.casefold() for word in chosen))))
        matches = await self._store.search.match_keywords(dataset.id, words, limit, documents)
        return await self._hits(dataset, await self._candidates(dataset, matches), scored=False)

    async def _search(
        self, dataset: Dataset, query: str, settings: Settings, documents: Collection[str] | None
    ) -> Sequence[Match]:
        """What is found by meaning, by full text, or by both; with both, every score is a cosine."""
        is_hybrid = settings.method == "hybrid_search"
        limit = min(_MOST, max(_FEWEST, settings.top_k)) if is_hybrid else settings.top_k
        by_terms: Sequence[Match] = ()
        if settings.method != "semantic_search":
            by_terms = await self._store.search.match_terms(dataset.id, query_terms(query), limit, documents)
        if settings.method == "full_text_search":
            return by_terms
        index = self._index
        vector = await self._vector(dataset, query)
        by_meaning = await index.search(dataset.id, dataset.embedding_model, vector, limit, documents)
        known = {match.node for match in by_meaning}
        others = [match.node for match in by_terms if match.node not in known]
        return [*by_meaning, *await index.scores(vector, others)]

    @cached_property
    def _index(self) -> VectorIndex:
        return self._open_index(self._store.search)

    async def _vector(self, dataset: Dataset, query: str) -> Vector:
        provider, model = dataset.embedding_provider, dataset.embedding_model
        return (await self._embedder.vectors([query], provider, model, query=True))[0]

    # ------------------------------------------------------------------------------------------------------- order

    async def _ordered(self, candidates: Sequence[_Candidate], query: str, settings: Settings) -> list[_Candidate]:
        """The nodes with their final scores, best first: at most `top_k`, none below the threshold."""
        scores = [node.match.score for node in candidates]
        threshold = settings.threshold
        if settings.method == "hybrid_search" and settings.weights is not None:
            meaning, words = settings.weights
            similar = await asyncio.to_thread(similarities, query, [node.text for node in candidates])
            scores = [meaning * score + words * other for score, other in zip(scores, similar, strict=True)]
        elif settings.rerank_model:
            scores = await self._reranked(candidates, query, settings)
        elif settings.method == "full_text_search":
            threshold = None  # it is one of cosines
        ordered = [
            replace(node, match=node.match._replace(score=score))
            for node, score in zip(candidates, scores, strict=True)
            if threshold is None or score >= threshold
        ]
        return sorted(ordered, key=lambda node: -node.match.score)[: settings.top_k]

    async def _reranked(self, candidates: Sequence[_Candidate], query: str, settings: Settings) -> Sequence[float]:
        if self._rerank is None:
            raise NodeError("No rerank models are available here.", "InvokeAuthorizationError")
        if not candidates:
            return []
        texts = [node.text for node in candidates]
        provider, model = settings.rerank_provider, settings.rerank_model
        return await self._rerank.rerank(query, texts, provider=provider, model=model)

    # ------------------------------------------------------------------------------------------------------ results

    async def _candidates(self, dataset: Dataset, matches: Sequence[Match]) -> list[_Candidate]:
        """The texts of nodes; without those that have just been deleted."""
        ids = {match.segment for match in matches}
        segments = {segment.id: segment for segment in await self._store.segments.segments_by_id(dataset.id, ids)}
        parents = {match.segment for match in matches if match.node not in (match.segment, match.segment + SUMMARY)}
        chunks = {chunk.id: chunk for chunk in await self._store.segments.chunks_of(parents)} if parents else {}
        candidates: list[_Candidate] = []
        for match in matches:
            segment, chunk = segments.get(match.segment), chunks.get(match.node)
            if segment is None:
                continue
            if chunk is not None:
                candidates.append(_Candidate(match, segment, chunk.content, chunk))
            elif match.node == segment.id:
                candidates.append(_Candidate(match, segment, segment.content))
            elif match.node == segment.id + SUMMARY and segment.summary:
                candidates.append(_Candidate(match, segment, segment.summary))
        return candidates

    async def _hits(self, dataset: Dataset, candidates: Sequence[_Candidate], *, scored: bool = True) -> list[Hit]:
        """The segments of the nodes, each once, in the order of their best nodes."""
        ids = {node.segment.document for node in candidates}
        documents = {document.id: document for document in await self._store.documents.documents_by_id(dataset.id, ids)}
        by_segment: dict[str, list[_Candidate]] = {}
        for node in candidates:
            by_segment.setdefault(node.segment.id, []).append(node)
        hits: list[Hit] = []
        for nodes in by_segment.values():
            segment = nodes[0].segment
            if (document := documents.get(segment.document)) is not None:
                score = nodes[0].match.score if scored else None
                chunks = [(node.chunk, node.match.score) for node in nodes if node.chunk is not None]
                has_summary = any(node.match.node == segment.id + SUMMARY for node in nodes)
                hits.append(Hit(segment, document, score, chunks, segment.summary if has_summary else None))
        return hits


def parse_settings(raw: Mapping[str, Any]) -> Settings:
    """Dify's `retrieval_model`. InvalidParam for a method or an operator that is not known, or a weight that is no
    number."""
    method = raw.get("search_method") or "semantic_search"
    if method not in get_args(SearchMethod):
        raise InvalidParam(f"search_method '{method}' is not one of {', '.join(get_args(SearchMethod))}.")
    model = _mapping(raw.get("reranking_model") if raw.get("reranking_enable") else None)
    weights = _mapping(raw.get("weights") if raw.get("reranking_mode") == "weighted_score" else None)
    top_k, threshold = raw.get("top_k"), raw.get("score_threshold")
    return Settings(
        method=method,
        top_k=DEFAULT_TOP_K if top_k is None else int(top_k),
        threshold=float(threshold) if raw.get("score_threshold_enabled") and threshold is not None else None,
        rerank_provider=str(model.get("reranking_provider_name") or ""),
        rerank_model=str(model.get("reranking_model_name") or ""),
        weights=_weights(weights),
        conditions=parse_conditions(raw.get("metadata_filtering_conditions")),
    )


def _weights(weights: Mapping[str, Any]) -> tuple[float, float] | None:
    if not weights:
        return None
    meaning = _mapping(weights.get("vector_setting")).get("vector_weight")
    words = _mapping(weights.get("keyword_setting")).get("keyword_weight")
    return _weight("vector_weight", meaning), _weight("keyword_weight", words)


def _weight(name: str, value: Any) -> float:
    try:
        weight = float(value or 0.0)
    except (TypeError, ValueError):
        weight = math.nan
    if not math.isfinite(weight):
        raise InvalidParam(f"{name} has to be a number.")
    return weight


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
