"""What every vector index promises: those in memory over each database, and the one that PostgreSQL can have."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from headrace.adapters.vectors import vector_index
from headrace.ports.knowledge import DocumentChanges
from headrace.ports.knowledge_search import VectorIndex
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.stores.sql import SqlStorage
from tests.contracts.segments import HIDDEN, add, change, of_vector, segments

INDEXES = ["signs", "signs on PostgreSQL", "usearch", "pgvector"]


@pytest.fixture(params=INDEXES)
def index(request: pytest.FixtureRequest) -> str:
    if request.param != "pgvector":
        pytest.importorskip("numpy" if request.param.startswith("signs") else "usearch")
    return request.param


@pytest.fixture
async def store(index: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KnowledgeStore]:
    urls = {"pgvector": "pgvector_url", "signs on PostgreSQL": "postgresql_url"}
    url = request.getfixturevalue(urls[index]) if index in urls else f"sqlite:///{tmp_path}/headrace.db"
    storage = await SqlStorage.open(url)
    assert storage.knowledge is not None
    yield storage.knowledge.open()
    await storage.aclose()


@pytest.fixture
def vectors(index: str, store: KnowledgeStore) -> VectorIndex:
    return open_index(index, store)


def open_index(index: str, store: KnowledgeStore) -> VectorIndex:
    """An index as another process has it."""
    if index == "pgvector":
        assert store.index is not None
        return store.index
    return vector_index(store.search, "usearch" if index == "usearch" else "signs")


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


async def test_an_equal_vector_has_the_score_1(store: KnowledgeStore, vectors: VectorIndex) -> None:
    chance = random.Random(1)
    for number in range(20):
        numbers = [chance.gauss(0, 1) for _ in range(256)]
        length = math.hypot(*numbers)
        equal = array("f", [value / length for value in numbers])
        await add(store, f"o{number}", [of_vector(f"s{number}", equal)])
        [found] = await vectors.search("d1", "m", equal, 1)
        [scored] = await vectors.scores(equal, [found.node])
        assert (found.segment, found.score, scored.score) == (f"s{number}", 1.0, 1.0)


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
        nearest = segments(await vectors.search("d1", "m", array("f", query), 10))
        assert len({*nearest} & {*exact[:10]}) >= 9


@pytest.mark.parametrize("changes", HIDDEN, ids=str)
async def test_nothing_is_found_of_a_document_that_is_hidden(
    changes: DocumentChanges, store: KnowledgeStore, vectors: VectorIndex
) -> None:
    await add(store, "o1", [of_vector("s1", [1.0, 0.0])])

    async def match_counts() -> int:
        return len(await vectors.search("d1", "m", array("f", [1.0, 0.0]), 5))

    assert await match_counts() == 1
    await change(store, "o1", changes)
    assert await match_counts() == 0
    await change(store, "o1", {"enabled": True, "archived": False, "status": "completed"})
    assert await match_counts() == 1
    await store.segments.change_segment("s1", {"enabled": False})
    assert await match_counts() == 0


async def test_results_are_full_although_nearer_segments_are_disabled(
    store: KnowledgeStore, vectors: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.adapters.vectors.rescoring._CANDIDATES", 2)
    monkeypatch.setattr("headrace.adapters.vectors.rescoring._PER_RESULT", 1)
    monkeypatch.setattr("headrace.adapters.vectors.rescoring._MORE", 1)
    monkeypatch.setattr("headrace.adapters.vectors.graph._FEW", 1)
    monkeypatch.setattr("headrace.stores.sql.knowledge.pgvector._CANDIDATES", 1)
    nodes = {f"s{number:02}": number / 20 for number in range(20)}
    await add(store, "o1", [of_vector(name, [math.cos(angle), math.sin(angle)]) for name, angle in nodes.items()])
    for number in range(15):
        await store.segments.change_segment(f"s{number:02}", {"enabled": False})
    assert segments(await vectors.search("d1", "m", array("f", [1.0, 0.0]), 5)) == ["s15", "s16", "s17", "s18", "s19"]
