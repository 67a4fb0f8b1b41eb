"""Texts as vectors."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from headrace.errors import NodeError
from headrace.knowledge.embedding import Embedder, normalized
from headrace.knowledge.questions import Pair, pairs_in
from headrace.ports.knowledge import Vector
from tests.knowledge.knowledge_base import FakeEmbeddings, unavailable


class MemoryCache:
    """Implements `EmbeddingCache`."""

    def __init__(self) -> None:
        self.vectors: dict[str, Vector] = {}

    async def cached_vectors(self, keys: Any, at: float) -> Mapping[str, Vector]:
        return {key: self.vectors[key] for key in keys if key in self.vectors}

    async def cache_vectors(self, vectors: Mapping[str, Vector], at: float) -> None:
        self.vectors |= vectors

    async def forget_vectors(self, before: float) -> None: ...


@pytest.fixture
def embeddings() -> FakeEmbeddings:
    return FakeEmbeddings()


@pytest.fixture
def embedder(embeddings: FakeEmbeddings) -> Embedder:
    return Embedder(embeddings, MemoryCache(), lambda: 1.0)


async def test_vectors_have_the_length_1_and_the_order_of_the_texts(
    embedder: Embedder, embeddings: FakeEmbeddings
) -> None:
    vectors = await embedder.vectors(["aaaa", "", "aaaa", "\ud800"], "openai", "small")
    assert list(vectors[0]) == pytest.approx([0.6, 0.8])
    assert vectors[2] == vectors[0]
    assert all(math.hypot(*vector) == pytest.approx(1.0) for vector in vectors)
    assert embeddings.calls == [["aaaa", "", "\ud800"]]


async def test_a_cached_vector_is_of_the_same_model_and_kind(embedder: Embedder, embeddings: FakeEmbeddings) -> None:
    for provider, model, query in (("p", "m", False), ("p", "n", False), ("q", "m", False), ("p", "m", True)):
        for _ in range(2):
            await embedder.vectors(["a"], provider, model, query=query)
    assert len(embeddings.calls) == 4


async def test_vectors_of_different_dimensions_are_refused(
    embedder: Embedder, embeddings: FakeEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def embed(texts: Sequence[str], **_: Any) -> Sequence[Vector]:
        return [array("f", [1.0] * length) for length in (3, 2)]

    monkeypatch.setattr(embeddings, "embed", embed)
    with pytest.raises(NodeError, match=r"different dimensions: \[2, 3\]"):
        await embedder.vectors(["a", "b"], "p", "m")


async def test_a_call_that_fails_is_made_as_often_as_was_chosen(embeddings: FakeEmbeddings) -> None:
    embeddings.before = unavailable
    for attempts, calls in ((1, 1), (6, 7)):
        embedder = Embedder(embeddings, MemoryCache(), lambda: 1.0, attempts=attempts, pause=0.0)
        with pytest.raises(NodeError, match="overloaded"):
            await embedder.vectors(["a"], "p", "m")
        assert len(embeddings.calls) == calls


@pytest.mark.parametrize("numbers", [[], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_a_vector_without_a_direction_is_refused(numbers: list[float]) -> None:
    with pytest.raises(NodeError, match="without a direction"):
        normalized(array("f", numbers), "m")


async def test_too_few_vectors_are_refused() -> None:
    class Short(FakeEmbeddings):
        async def embed(
            self, texts: Sequence[str], *, provider: str, model: str, query: bool = False
        ) -> Sequence[Vector]:
            await asyncio.sleep(0)
            return []

    with pytest.raises(NodeError, match="0 vectors for 1 texts"):
        await Embedder(Short(), MemoryCache(), lambda: 1.0).vectors(["a"], "p", "m")


def test_pairs_in_an_answer() -> None:
    answer = "Sure!\nQ1: What is it?\nA1: A\nlong: one.\n\nQ2:何？ A2: 答\nQ3: no answer\nA3:\nQ4: cut"
    assert pairs_in(answer) == [Pair("What is it?", "A\nlong: one."), Pair("何？", "答")]
    assert pairs_in("") == pairs_in("nothing of the form") == []
