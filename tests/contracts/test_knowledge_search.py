"""What the searches of every database promise."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headrace.content.words import query_terms
from headrace.ports.knowledge import DocumentChanges, IndexNode, SegmentIndex
from headrace.ports.knowledge_search import Match
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.stores.sql import SqlStorage
from tests.contracts.segments import HIDDEN, add, change, of_text, segments

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
    matches = await store.search.match_terms("d1", ["invoice"], 10)
    assert sorted(segments(matches)) == ["o1-1", "o1-2", "o2-1", "o2-2", "o3-1", "o3-2"]
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
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


# -------------------------------------------------------------------------------------------- what can not be found


@pytest.mark.parametrize("changes", HIDDEN, ids=str)
async def test_nothing_is_found_of_a_document_that_is_hidden(changes: DocumentChanges, store: KnowledgeStore) -> None:
    await add(store, "o1", [SegmentIndex("s1", [IndexNode("s1", terms="invoice")], ["invoice"])])

    async def match_counts() -> list[int]:
        by_terms = await store.search.match_terms("d1", ["invoice"], 5)
        return [len(by_terms), len(await store.search.match_keywords("d1", ["invoice"], 5))]

    assert await match_counts() == [1, 1]
    await change(store, "o1", changes)
    assert await match_counts() == [0, 0]
    await change(store, "o1", {"enabled": True, "archived": False, "status": "completed"})
    assert await match_counts() == [1, 1]
    await store.segments.change_segment("s1", {"enabled": False})
    assert await match_counts() == [0, 0]
