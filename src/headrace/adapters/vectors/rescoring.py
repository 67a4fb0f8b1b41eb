"""What the vector indexes in memory have in common.

An index ranks the vectors of a dataset roughly. The exact cosine is computed for some hundred candidates only, whose
vectors are read from the database: what has been deleted or disabled is not found, whatever the index says.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.frozen import new_dict
from headrace.ports.knowledge import Vector
from headrace.ports.knowledge_search import ChangedVector, KnowledgeSearch, Match, StoredVector, score_of

_CANDIDATES = 300  # whose cosine is computed, and at least _PER_RESULT times as many as results
_PER_RESULT = 30
_FEW_DIMENSIONS, _MORE = 384, 4  # the fewer dimensions, the rougher a ranking: this many times as many candidates
_LARGEST = 1_000_000  # vectors of all datasets in memory
PAGE = 2_000  # vectors read at once

Key: TypeAlias = tuple[str, str, int]
"""(dataset, model, dimension)"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What an index has of a dataset at a version. `nodes` has a vector's node at its position, "" where it was
    deleted; `documents` numbers the documents, `owners` has the number of each vector's."""

    owners: NDArray[np.int32]
    nodes: Sequence[str] = ()
    documents: Mapping[str, int] = field(default_factory=new_dict)
    version: int = -1


C = TypeVar("C", bound=Contents)


class RescoringIndex(ABC, Generic[C]):
    """Implements VectorIndex."""

    def __init__(self, database: KnowledgeSearch) -> None:
        self.database = database
        self._cache: OrderedDict[Key, C] = OrderedDict()
        self._updating: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    @abstractmethod
    async def load(self, key: Key) -> C:
        """What there is of a dataset before its vectors are read."""

    @abstractmethod
    async def update(self, contents: C, key: Key, version: int) -> C:
        """The contents with what has changed since they were read, and without what is gone."""

    @abstractmethod
    def ranked(
        self, contents: C, query: NDArray[np.float32], visible: NDArray[np.bool_] | None, size: int
    ) -> AsyncIterator[Sequence[int]]:
        """The positions of the visible vectors (None: all), about `size` at a time, probably the most similar first."""

    async def search(
        self, dataset: str, model: str, vector: Vector, limit: int, documents: Collection[str] | None = None
    ) -> Sequence[Match]:
        """See VectorIndex.search."""
        if limit < 1:
            return []
        contents = await self._contents((dataset, model, len(vector)))
        hidden_documents = await self.database.hidden_documents(dataset)
        query = np.array(vector, dtype=np.float32)
        visible = await asyncio.to_thread(_visible, contents, hidden_documents, documents)
        size = max(_CANDIDATES, _PER_RESULT * limit) * (_MORE if len(vector) < _FEW_DIMENSIONS else 1)
        matches: list[Match] = []
        async for positions in self.ranked(contents, query, visible, size):
            vectors = await self.database.vectors([contents.nodes[position] for position in positions])
            matches += await self._findable(_scored(query, vectors), limit)
            if len(matches) >= limit:
                break
        return sorted(matches, key=_best_first)[:limit]

    async def scores(self, vector: Vector, nodes: Collection[str]) -> Sequence[Match]:
        """See VectorIndex.scores."""
        return _scored(np.array(vector, dtype=np.float32), await self.database.vectors(nodes))

    async def pages(self, contents: C, key: Key) -> AsyncIterator[Sequence[ChangedVector]]:
        """The vectors that were written since the contents were read."""
        after = (contents.version + 1, "")
        while page := await self.database.vectors_after(*key, after, PAGE):
            yield page
            after = (page[-1].version, page[-1].node)

    async def _findable(self, matches: list[Match], limit: int) -> list[Match]:
        """The best of the matches that can be found."""
        matches.sort(key=_best_first)
        scores: list[Match] = []
        for start in range(0, len(matches), 2 * limit):
            some = matches[start : start + 2 * limit]
            findable = await self.database.findable([match.segment for match in some])
            scores += [match for match in some if match.segment in findable]
            if len(scores) >= limit:
                break
        return scores

    async def _contents(self, key: Key) -> C:
        """The contents of a dataset, as its vectors are now."""
        async with self._updating[key]:
            contents = self._cache.get(key) or await self.load(key)
            version = await self.database.version(key[0])
            if contents.version != version:
                contents = await self.update(contents, key, version)
            self._cache[key] = contents
            self._cache.move_to_end(key)
        self._forget(key)
        return contents

    def _forget(self, key_in_use: Key) -> None:
        """Drops the datasets whose last search is the longest ago, while there are too many vectors in memory."""
        total = sum(len(contents.nodes) for contents in self._cache.values())
        for key in list(self._cache):
            if total <= _LARGEST:
                return
            if key != key_in_use:
                total -= len(self._cache.pop(key).nodes)


def numbers(rows: Sequence[StoredVector | ChangedVector], dimension: int) -> NDArray[np.float16]:
    """The vectors of rows, one in a line."""
    return np.frombuffer(b"".join(row.data for row in rows), dtype="<f2").reshape(len(rows), dimension)


def _visible(
    contents: Contents, hidden: Collection[str], documents: Collection[str] | None
) -> NDArray[np.bool_] | None:
    """Which vectors are of documents that may be found; None for all."""
    if not hidden and documents is None:
        return None
    allowed_documents = contents.documents.keys() if documents is None else contents.documents.keys() & set(documents)
    flags = np.zeros(len(contents.documents), np.bool_)
    flags[[contents.documents[document] for document in allowed_documents - set(hidden)]] = True
    return flags[contents.owners]


def _scored(query: NDArray[np.float32], rows: Sequence[StoredVector]) -> list[Match]:
    """The cosine of each vector of the query's dimension, at most 1."""
    rows = [row for row in rows if len(row.data) == 2 * len(query)]
    vectors = numbers(rows, len(query)).astype(np.float32)
    # a vector of 16-bit floats is not quite as long as the one that it is of: an equal one is to have the score 1
    lengths = (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)).astype(np.float64)
    cosines = np.divide(vectors @ query, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    scores: list[float] = cosines.tolist()
    return [Match(row.node, row.segment, score_of(score)) for row, score in zip(rows, scores, strict=True)]


def _best_first(match: Match) -> tuple[float, str]:
    return -match.score, match.node
