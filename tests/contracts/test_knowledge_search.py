"""What every search in knowledge bases promises: that of the databases, and the vector index over each of them."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import AsyncIterator, Sequence

import pytest

from headrace.adapters.vectors import vector_index
from headrace.content.words import index_terms, query_terms
from headrace.ports.knowledge import Dataset, Document, DocumentChanges, IndexNode, ProcessRule, Segment, SegmentIndex
from headrace.ports.knowledge_search import Match, VectorIndex
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.stores.sql import SqlStorage

RULE = ProcessRule("rule", "automatic")
TEXTS = {
    "zh1": "请在系统中开具发票，并填写税号。",
    "zh2": "退款将在十四天内退回到付款账户。",
    "ja": "請求書は毎月の最初の営業日に発行されます。",
    "th": "ใบแจ้งหนี้จะออกในวันทำการแรกของทุกเดือน",
    "ar": "تصدر الفواتير في أول يوم عمل من كل شهر",
    "en1": "Invoices are issued on the first working day; the invoice lists every seat.",
    "en2": "Refunds are paid within 14 days.",
}


@pytest.fixture
async def store(url: str) -> AsyncIterator[KnowledgeStore]:
    storage = await SqlStorage.open(url)
    assert storage.knowledge is not None
    yield storage.knowledge.open()
    await storage.aclose()


@pytest.fixture
def vectors(store: KnowledgeStore) -> VectorIndex:
    pytest.importorskip("numpy")
    return vector_index(store.search)


async def add(store: KnowledgeStore, document: str, indexes: Sequence[SegmentIndex], dataset: str = "d1") -> None:
    """A completed document of these segments."""
    await store.datasets.add_dataset(Dataset(dataset, "default", dataset, 1.0, 1.0))
    await store.documents.add_document(Document(document, dataset, document, "file", "batch", 1.0, 1.0, RULE))
    claimed = await store.documents.claim_document("c1", 60)
    assert claimed is not None
    segments = [
        Segment(index.segment, dataset, document, position, index.segment, 1.0, 1.0)
        for position, index in enumerate(indexes, 1)
    ]
    assert await store.segments.add_segments(document, "c1", segments, [])
    assert await store.segments.index_segments(document, indexes, "m", 2.0, "c1")
    await change(store, document, {"status": "completed"})


async def change(store: KnowledgeStore, document: str, changes: DocumentChanges) -> None:
    assert await store.documents.change_document(document, changes)


def of_text(segment: str, text: str, keywords: Sequence[str] = ()) -> SegmentIndex:
    return SegmentIndex(segment, [IndexNode(segment, terms=" ".join(index_terms(text)))], keywords)


def of_vector(segment: str, numbers: Sequence[float]) -> SegmentIndex:
    return SegmentIndex(segment, [IndexNode(segment, array("f", numbers))])


def segments(matches: Sequence[Match]) -> list[str]:
    return [match.segment for match in matches]


# ----------------------------------------------------------------------------------------------------------- full text


@pytest.mark.parametrize(
    ("query", "segment"),
    [
        ("发票", "zh1"),
        ("税", "zh1"),
        ("退款多久到账", "zh2"),
        ("請求書の発行日", "ja"),
        ("ใบแจ้งหนี้", "th"),
        ("فواتير", "ar"),
        ("INVOICE", "en1"),
        ("when is a refund paid? refunds", "en2"),
    ],
)
async def test_a_query_of_any_language_finds_its_text_first(query: str, segment: str, store: KnowledgeStore) -> None:
    await add(store, "o1", [of_text(name, text) for name, text in TEXTS.items()])
    assert segments(await store.search.match_terms("d1", query_terms(query), 5))[0] == segment


async def test_full_text_is_limited_to_a_dataset_and_to_documents(store: KnowledgeStore) -> None:
    for document in ("o1", "o2", "o3"):
        await add(store, document, [of_text(f"{document}-1", "invoice"), of_text(f"{document}-2", "invoice number")])
    await add(store, "x1", [of_text("x1-1", "invoice")], dataset="d2")
    found = await store.search.match_terms("d1", ["invoice"], 10)
    assert sorted(segments(found)) == ["o1-1", "o1-2", "o2-1", "o2-2", "o3-1", "o3-2"]
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    assert len(await store.search.match_terms("d1", ["invoice"], 4)) == 4
    some = await store.search.match_terms("d1", ["invoice"], 3, ["o3", "o2", "none"])
    assert len(some) == 3
    assert not [segment for segment in segments(some) if segment.startswith("o1")]
    assert await store.search.match_terms("d1", ["invoice"], 10, []) == []
    assert await store.search.match_terms("d1", [], 10) == []
    assert await store.search.match_terms("d1", ["invoice"], 0) == []
    assert await store.search.match_terms("none", ["invoice"], 10) == []


async def test_the_words_of_query_languages_are_only_words(store: KnowledgeStore) -> None:
    await add(store, "o1", [of_text("s1", "or and not near"), of_text("s2", "it's a:b* c\"d")])
    texts = {"s1": {"or", "and", "not", "near"}, "s2": {"it", "s", "a", "b", "c", "d"}}
    for query in ("OR", "NOT near", "a:b*", "'", '"', 'c"d OR', "\0", "(", "& | !", "x" * 10_000):
        terms = query_terms(query)
        expected = [name for name, words in texts.items() if words.intersection(terms)]
        assert sorted(segments(await store.search.match_terms("d1", terms, 10))) == expected


# ------------------------------------------------------------------------------------------------------------ keywords


async def test_segments_are_ordered_by_how_many_keywords_they_have(store: KnowledgeStore) -> None:
    await add(store, "o1", [of_text("s1", "", ["发票"]), of_text("s2", "", ["发票", "税率"]), of_text("s3", "", ["x"])])
    assert await store.search.match_keywords("d1", ["税率", "发票", "other"], 5) == [
        Match("s2", "s2", 2.0),
        Match("s1", "s1", 1.0),
    ]
    assert segments(await store.search.match_keywords("d1", ["发票"], 1)) == ["s1"]
    assert await store.search.match_keywords("d1", ["发票"], 5, ["none"]) == []
    assert await store.search.match_keywords("d1", [], 5) == []


# ------------------------------------------------------------------------------------------------------------- vectors


async def test_vectors_are_found_by_their_cosine(store: KnowledgeStore, vectors: VectorIndex) -> None:
    await add(store, "o1", [of_vector("s1", [1.0, 0.0]), of_vector("s2", [0.6, 0.8])])
    await add(store, "o2", [of_vector("s3", [-1.0, 0.0]), of_vector("s4", [1.0, 0.0, 0.0])])
    matches = await vectors.search("d1", "m", array("f", [1.0, 0.0]), 5)
    assert segments(matches) == ["s1", "s2", "s3"]
    assert [match.score for match in matches] == pytest.approx([1.0, 0.6, -1.0], abs=0.001)
    assert segments(await vectors.search("d1", "m", array("f", [1.0, 0.0]), 5, ["o2"])) == ["s3"]
    assert segments(await vectors.search("d1", "m", array("f", [1.0, 0.0]), 1)) == ["s1"]
    assert await vectors.search("d1", "m", array("f", [1.0, 0.0]), 0) == []
    assert await vectors.search("d1", "other", array("f", [1.0, 0.0]), 5) == []
    assert await vectors.search("none", "m", array("f", [1.0, 0.0]), 5) == []


async def test_an_index_follows_what_others_change(store: KnowledgeStore, vectors: VectorIndex) -> None:
    query = array("f", [1.0, 0.0])
    assert await vectors.search("d1", "m", query, 5) == []
    await add(store, "o1", [of_vector("s1", [1.0, 0.0]), of_vector("s2", [0.0, 1.0])])
    assert segments(await vectors.search("d1", "m", query, 5)) == ["s1", "s2"]
    await store.segments.index_segments("o1", [of_vector("s1", [-1.0, 0.0])], "m", 3.0)
    assert segments(await vectors.search("d1", "m", query, 5)) == ["s2", "s1"]
    await add(store, "o2", [of_vector("s3", [0.8, 0.6])])
    assert segments(await vectors.search("d1", "m", query, 5)) == ["s3", "s2", "s1"]
    assert await store.segments.remove_segment("s2")
    assert segments(await vectors.search("d1", "m", query, 5)) == ["s3", "s1"]
    assert await store.documents.remove_document("o1")
    assert segments(await vectors.search("d1", "m", query, 5)) == ["s3"]


async def test_of_many_vectors_the_nearest_are_found(store: KnowledgeStore, vectors: VectorIndex) -> None:
    chance = random.Random(7)

    def unit() -> list[float]:
        numbers = [chance.gauss(0, 1) for _ in range(400)]  # the last word of signs is not full
        length = math.hypot(*numbers)
        return [number / length for number in numbers]

    def cosine(left: Sequence[float], right: Sequence[float]) -> float:
        return sum(one * other for one, other in zip(left, right, strict=True))

    stored = {f"s{number}": unit() for number in range(1_000)}
    await add(store, "o1", [of_vector(*item) for item in stored.items()])
    for query in (unit() for _ in range(5)):
        exact = sorted(stored, key=lambda name: -cosine(stored[name], query))
        found = segments(await vectors.search("d1", "m", array("f", query), 10))
        assert len({*found} & {*exact[:10]}) >= 9


# -------------------------------------------------------------------------------------------- what can not be found


HIDDEN: Sequence[DocumentChanges] = [
    {"enabled": False},
    {"archived": True},
    {"status": "error"},
    {"status": "indexing"},
]


@pytest.mark.parametrize("changes", HIDDEN, ids=str)
async def test_nothing_is_found_of_a_document_that_is_hidden(
    changes: DocumentChanges, store: KnowledgeStore, vectors: VectorIndex
) -> None:
    index = SegmentIndex("s1", [IndexNode("s1", array("f", [1.0, 0.0]), "invoice")], ["invoice"])
    await add(store, "o1", [index])

    async def found() -> list[int]:
        by_vector = await vectors.search("d1", "m", array("f", [1.0, 0.0]), 5)
        by_terms = await store.search.match_terms("d1", ["invoice"], 5)
        return [len(by_vector), len(by_terms), len(await store.search.match_keywords("d1", ["invoice"], 5))]

    assert await found() == [1, 1, 1]
    await change(store, "o1", changes)
    assert await found() == [0, 0, 0]
    await change(store, "o1", {"enabled": True, "archived": False, "status": "completed"})
    assert await found() == [1, 1, 1]
    await store.segments.change_segment("s1", {"enabled": False})
    assert await found() == [0, 0, 0]


async def test_results_are_full_although_nearer_segments_are_disabled(
    store: KnowledgeStore, vectors: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.adapters.vectors.sign_bits._CANDIDATES", 2)
    monkeypatch.setattr("headrace.adapters.vectors.sign_bits._PER_RESULT", 1)
    monkeypatch.setattr("headrace.adapters.vectors.sign_bits._MORE", 1)
    nodes = {f"s{number:02}": number / 20 for number in range(20)}
    await add(store, "o1", [of_vector(name, [math.cos(angle), math.sin(angle)]) for name, angle in nodes.items()])
    for number in range(15):
        await store.segments.change_segment(f"s{number:02}", {"enabled": False})
    assert segments(await vectors.search("d1", "m", array("f", [1.0, 0.0]), 5)) == ["s15", "s16", "s17", "s18", "s19"]
