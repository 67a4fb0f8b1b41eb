"""Retrieval from knowledge bases in a database, with models that are stand-ins."""

from __future__ import annotations

import math
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.vectors import vector_index
from headrace.content.words import index_terms
from headrace.errors import InvalidParam, NodeError
from headrace.knowledge.embedding import Embedder
from headrace.knowledge.passages import passages, scores
from headrace.knowledge.retrieval import Hit, Retriever, Settings, parse_settings
from headrace.ports.knowledge import (
    SUMMARY,
    ChildChunk,
    Dataset,
    Document,
    IndexNode,
    MetadataField,
    ProcessRule,
    Segment,
    SegmentIndex,
    Vector,
)
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.ports.services import Passage, Retrieval
from headrace.stores.sql import SqlStorage

pytest.importorskip("numpy")

TOPICS = ("invoice", "refund", "holiday")
WEIGHTED = {
    "search_method": "hybrid_search",
    "reranking_mode": "weighted_score",
    "weights": {"vector_setting": {"vector_weight": 0.7}, "keyword_setting": {"keyword_weight": 0.3}},
}
RERANKED = {
    "reranking_enable": True,
    "reranking_mode": "reranking_model",
    "reranking_model": {"reranking_provider_name": "jina", "reranking_model_name": "r"},
}


def vector_of(text: str) -> Vector:
    """How often each topic is mentioned, and a little of everything else."""
    numbers = [text.casefold().count(topic) + 0.01 for topic in TOPICS]
    length = math.hypot(*numbers)
    return array("f", [number / length for number in numbers])


class Topics:
    """An embedding model, and a rerank model that prefers short texts."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.failure: NodeError | None = None

    def missing(self, provider: str) -> str | None:
        return None

    async def embed(self, texts: Sequence[str], *, provider: str, model: str, query: bool = False) -> Sequence[Vector]:
        if self.failure is not None:
            raise self.failure
        self.queries += texts if query else ()
        return [vector_of(text) for text in texts]

    async def rerank(self, query: str, texts: Sequence[str], *, provider: str, model: str) -> Sequence[float]:
        return [1 / len(text) for text in texts]


class Base:
    """A knowledge base of one document a text."""

    def __init__(self, store: KnowledgeStore) -> None:
        self.store = store
        self.models = Topics()
        embedder = Embedder(self.models, store.embeddings, lambda: 1.0)
        self.retriever = Retriever(store, embedder, self.models, vector_index)
        self.dataset = Dataset("d1", "default", "Manual", 1.0, 1.0, technique="high_quality", embedding_model="m")

    async def add(self, *segments: Segment, chunks: Sequence[ChildChunk] = (), **more: Any) -> None:
        await self.store.datasets.add_dataset(self.dataset)
        document = segments[0].document
        rule = ProcessRule("r", "custom")
        await self.store.documents.add_document(
            Document(document, "d1", f"{document}.md", "file", "batch", 1.0, 1.0, rule, **more)
        )
        assert await self.store.documents.claim_document("c", 60) is not None
        assert await self.store.segments.add_segments(document, "c", segments, chunks)
        indexes = [SegmentIndex(segment.id, nodes_of(segment, chunks), segment.keywords) for segment in segments]
        assert await self.store.segments.index_segments(document, indexes, "m", 1.0, "c")
        assert await self.store.documents.change_document(document, {"status": "completed"})

    async def find(self, query: str, raw: Mapping[str, Any] | None = None) -> Sequence[Hit]:
        return await self.retriever.retrieve(self.dataset, query, parse_settings(raw or {}))


def nodes_of(segment: Segment, chunks: Sequence[ChildChunk]) -> list[IndexNode]:
    texts = {chunk.id: chunk.content for chunk in chunks if chunk.segment == segment.id} or {
        segment.id: segment.content
    }
    if segment.summary:
        texts[segment.id + SUMMARY] = segment.summary
    return [IndexNode(node, vector_of(text), " ".join(index_terms(text))) for node, text in texts.items()]


def segment(id_: str, content: str, document: str = "o1", **more: Any) -> Segment:
    return Segment(id_, "d1", document, int(id_[1:]), content, 1.0, 1.0, **more)


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.segment.id for hit in hits]


@pytest.fixture
async def base(tmp_path: Path) -> AsyncIterator[Base]:
    storage = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    assert storage.knowledge is not None
    yield Base(storage.knowledge.open())
    await storage.aclose()


@pytest.fixture
async def filled(base: Base) -> Base:
    await base.add(
        segment("s1", "Invoice invoice: how an invoice is made, with every detail of it", keywords=["invoice"]),
        segment("s2", "Refund of an invoice", keywords=["refund", "invoice"]),
        segment("s3", "Holiday", keywords=["holiday"]),
    )
    return base


# ------------------------------------------------------------------------------------------------------------- methods


async def test_semantic_search_is_ordered_by_cosine(filled: Base) -> None:
    hits = await filled.find("invoice", {"search_method": "semantic_search", "top_k": 2})
    assert ids(hits) == ["s1", "s2"]
    assert hits[0].score == pytest.approx(1.0, abs=0.001)
    assert hits[1].score == pytest.approx(0.71, abs=0.01)
    assert filled.models.queries == ["invoice"]


async def test_a_threshold_leaves_out_what_is_less_similar(filled: Base) -> None:
    enabled = {"top_k": 3, "score_threshold_enabled": True, "score_threshold": 0.9}
    assert ids(await filled.find("invoice", enabled)) == ["s1"]
    assert len(await filled.find("invoice", {**enabled, "score_threshold_enabled": False})) == 3


async def test_full_text_search_finds_words_alone_and_needs_no_model(filled: Base) -> None:
    filled.models.failure = NodeError("no", "InvokeServerUnavailableError")
    raw = {"search_method": "full_text_search", "score_threshold_enabled": True, "score_threshold": 0.99}
    assert ids(await filled.find("the DETAIL of a holiday", raw)) in (["s3", "s1", "s2"], ["s1", "s3", "s2"])
    assert await filled.find("nothing similar", raw) == []


async def test_hybrid_search_weighs_meaning_and_keywords(filled: Base) -> None:
    hits = await filled.find("refund invoice", {**WEIGHTED, "top_k": 3})
    assert ids(hits) == ["s2", "s1", "s3"]
    assert hits[0].score == pytest.approx(1.0, abs=0.01)
    words = {**WEIGHTED, "weights": {"vector_setting": {"vector_weight": 0}, "keyword_setting": {"keyword_weight": 1}}}
    by_words = await filled.find("holiday", {**words, "top_k": 3})
    assert (by_words[0].segment.id, by_words[0].score) == ("s3", pytest.approx(1.0))
    assert {hit.score for hit in by_words[1:]} == {0.0}
    threshold = {"score_threshold_enabled": True, "score_threshold": 0.5}
    assert ids(await filled.find("holiday", {**WEIGHTED, **threshold})) == ["s3"]


async def test_a_segment_that_only_full_text_finds_is_scored_by_its_cosine(filled: Base) -> None:
    hits = await filled.find("detail", {"search_method": "hybrid_search", "top_k": 3})
    assert sorted(ids(hits)) == ["s1", "s2", "s3"]
    assert all(-1 <= (hit.score or 0) <= 1.001 for hit in hits)


@pytest.mark.parametrize("method", ["semantic_search", "full_text_search", "hybrid_search"])
async def test_a_rerank_model_orders_the_results(method: str, filled: Base) -> None:
    hits = await filled.find("invoice", {**RERANKED, "search_method": method, "top_k": 2})
    assert ids(hits)[0] == ("s3" if method == "hybrid_search" else "s2")  # the shortest of what was found
    enabled = {"score_threshold_enabled": True, "score_threshold": 0.9}
    assert await filled.find("invoice", {**RERANKED, **enabled, "search_method": method}) == []


async def test_an_economical_base_is_searched_by_keywords_whatever_is_asked_for(base: Base) -> None:
    base.dataset = Dataset("d1", "default", "Manual", 1.0, 1.0, technique="economy")
    await base.add(
        segment("s1", "x", keywords=["invoice"]), segment("s2", "y", keywords=["Refund", "refund", "invoice"])
    )
    base.models.failure = NodeError("no", "InvokeServerUnavailableError")
    hits = await base.find("How is a refund of an invoice made?", {"search_method": "semantic_search"})
    assert [(hit.segment.id, hit.score) for hit in hits] == [("s2", None), ("s1", None)]
    assert ids(await base.find("refund", {"top_k": 1})) == ["s2"]
    assert await base.find("the of a") == []


@pytest.mark.parametrize("query", ["", " \n", "\0"])
async def test_a_query_without_words_finds_nothing_by_text(query: str, filled: Base) -> None:
    assert await filled.find(query, {"search_method": "full_text_search"}) == []


async def test_the_error_of_a_model_is_that_of_the_retrieval(filled: Base) -> None:
    filled.models.failure = NodeError("The key is wrong.", "InvokeAuthorizationError")
    with pytest.raises(NodeError, match="The key is wrong"):
        await filled.find("invoice")


# ------------------------------------------------------------------------------------------- parents, questions, counts


async def test_a_parent_is_found_once_with_its_best_child(base: Base) -> None:
    parents = (segment("s1", "a parent"), segment("s2", "another"))
    children = [
        ChildChunk(id_, "d1", "o1", parent, position, text, 1.0, 1.0)
        for position, (id_, parent, text) in enumerate(
            (("k1", "s1", "refund"), ("k2", "s1", "invoice"), ("k3", "s2", "invoice refund")), 1
        )
    ]
    await base.add(*parents, chunks=children)
    hits = await base.find("invoice", {"top_k": 3})
    assert ids(hits) == ["s1", "s2"]
    assert [(chunk.id, round(score, 1)) for chunk, score in hits[0].chunks] == [("k2", 1.0), ("k1", 0.0)]
    assert hits[0].score == hits[0].chunks[0][1]


async def test_a_summary_finds_its_segment(base: Base) -> None:
    await base.add(segment("s1", "holiday", summary="of an invoice"), segment("s2", "refund"))
    hits = await base.find("invoice", {"top_k": 1})
    assert [(hit.segment.id, hit.summary) for hit in hits] == [("s1", "of an invoice")]
    hits = await base.find("holiday", {"top_k": 1})
    assert [(hit.segment.id, hit.summary) for hit in hits] == [("s1", None)]


async def test_hits_are_counted(filled: Base) -> None:
    await filled.find("invoice", {"top_k": 1})
    await filled.find("invoice", {"top_k": 2})
    assert await filled.store.segments.hits(["o1"]) == {"o1": 3}


async def test_conditions_choose_the_documents_first(filled: Base) -> None:
    assert await filled.store.datasets.add_metadata_field(MetadataField("m1", "d1", "year", "number", 1.0))
    await filled.add(segment("s4", "invoice", "o2"), metadata={"m1": 2024})

    def where(*conditions: tuple[str, str, Any]) -> dict[str, Any]:
        names = ("name", "comparison_operator", "value")
        return {"metadata_filtering_conditions": {"conditions": [dict(zip(names, c, strict=True)) for c in conditions]}}

    for method in ("semantic_search", "full_text_search", "hybrid_search"):
        raw = {"search_method": method, "top_k": 3}
        assert ids(await filled.find("invoice", {**raw, **where(("year", ">", 2023))})) == ["s4"]
        assert "s4" not in ids(await filled.find("invoice", {**raw, **where(("year", "empty", None))}))
        assert await filled.find("invoice", {**raw, **where(("year", "<", 2000))}) == []
    assert ids(await filled.find("invoice", where(("document_name", "is", "o2.md")))) == ["s4"]


async def test_passages_are_those_of_dify(base: Base) -> None:
    await base.store.datasets.add_dataset(base.dataset)
    assert await base.store.datasets.add_metadata_field(MetadataField("m1", "d1", "year", "number", 1.0))
    await base.add(segment("s1", "What is an invoice?", answer="A bill.", word_count=19), metadata={"m1": 2024})
    query = Retrieval("d1", "invoice", 2, 0.5, {}, None)
    (passage,) = await passages(base.store.datasets, base.retriever, base.dataset, query)
    assert passage.content == "question:What is an invoice? \nanswer:A bill."
    assert passage.title == "o1.md"
    assert passage.score == pytest.approx(1.0, abs=0.001)
    assert passage.metadata == {
        "_source": "knowledge",
        "dataset_id": "d1",
        "dataset_name": "Manual",
        "document_id": "o1",
        "document_name": "o1.md",
        "data_source_type": "upload_file",
        "segment_id": "s1",
        "child_chunks": [],
        "segment_hit_count": 0,
        "segment_word_count": 19,
        "segment_position": 1,
        "segment_index_node_hash": "",
        "doc_metadata": {"year": 2024},
    }
    assert await passages(base.store.datasets, base.retriever, base.dataset, Retrieval("d1", "holiday", 2, 0.5)) == []


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("raw", "settings"),
    [
        ({}, Settings()),
        (WEIGHTED, Settings("hybrid_search", weights=(0.7, 0.3))),
        ({**RERANKED, "top_k": 9}, Settings(top_k=9, rerank_provider="jina", rerank_model="r")),
        ({**RERANKED, "reranking_enable": False}, Settings()),
        ({"reranking_model": None, "reranking_enable": True, "weights": None, "top_k": None}, Settings()),
        ({"score_threshold_enabled": True, "score_threshold": 0}, Settings(threshold=0.0)),
        ({"score_threshold_enabled": True, "score_threshold": None}, Settings()),
        ({**WEIGHTED, "reranking_mode": "reranking_model"}, Settings("hybrid_search")),
    ],
)
def test_settings_are_read_as_dify_does(raw: Mapping[str, Any], settings: Settings) -> None:
    assert parse_settings(raw) == settings


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(InvalidParam, match="search_method 'magic' is not one of semantic_search"):
        parse_settings({"search_method": "magic"})


@pytest.mark.parametrize("weight", ["much", [1], {"x": 1}, "nan", float("inf")])
def test_a_weight_that_is_no_number_is_an_error(weight: Any) -> None:
    weights = {"vector_setting": {"vector_weight": weight}, "keyword_setting": {"keyword_weight": 0.3}}
    with pytest.raises(InvalidParam, match=r"^vector_weight has to be a number\.$"):
        parse_settings({**WEIGHTED, "weights": weights})


async def test_passages_of_several_bases_have_scores_of_one_kind() -> None:
    texts = {"the pump starts with the float": 0.2, "oil": 0.9, "a pump": None}
    passages = [Passage(text, "", score) for text, score in texts.items()]
    model = {"reranking_provider_name": "p", "reranking_model_name": "m"}
    reranked = {"reranking_enable": True, "reranking_mode": "reranking_model", "reranking_model": model}
    assert await scores("float", passages, reranked, Topics()) == [1 / len(text) for text in texts]
    weights = {"vector_setting": {"vector_weight": 0.5}, "keyword_setting": {"keyword_weight": 0.5}}
    weighted = {"reranking_enable": True, "reranking_mode": "weighted_score", "weights": weights}
    first, second, third = await scores("float", passages, weighted, Topics())
    assert (second, third) == (0.45, 0.0)
    assert 0.1 < first < 0.6
    by_keywords = await scores("float", passages, {}, Topics())
    assert by_keywords[0] > by_keywords[1] == by_keywords[2] == 0.0
