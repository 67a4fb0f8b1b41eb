"""A vector index of one bit a dimension.

The signs of a vector's numbers are compared with those of all others (13 MB for 100,000 vectors of 1,024 dimensions).
The exact cosine is computed for some hundred candidates only, whose vectors are read from the database: what has been
deleted or disabled is not found, whatever the bits say.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.frozen import new_dict
from headrace.ports.knowledge import Vector
from headrace.ports.knowledge_search import ChangedVector, KnowledgeSearch, Match, StoredVector

_CANDIDATES = 300  # whose cosine is computed, and at least _PER_RESULT times as many as results
_PER_RESULT = 30
_FEW_DIMENSIONS, _MORE = 384, 4  # the fewer signs there are, the less they say: this many times as many candidates
_PAGE = 2_000  # vectors read at once
_LARGEST = 1_000_000  # vectors of all datasets in memory

_Key: TypeAlias = tuple[str, str, int]
"""(dataset, model, dimension)"""


@dataclass(frozen=True, slots=True)
class _Bits:
    """The signs of a dataset's vectors at a version: a row has 64 dimensions, a column is a vector. `documents` numbers
    the documents, `owners` has the number of each vector's."""

    signs: NDArray[np.uint64]
    owners: NDArray[np.int32]
    nodes: Sequence[str] = ()
    documents: Mapping[str, int] = field(default_factory=new_dict)
    version: int = -1


class SignBitIndex:
    """Implements VectorIndex."""

    def __init__(self, database: KnowledgeSearch) -> None:
        self._database = database
        self._cache: OrderedDict[_Key, _Bits] = OrderedDict()
        self._updating: defaultdict[_Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def search(
        self, dataset: str, model: str, vector: Vector, limit: int, documents: Collection[str] | None = None
    ) -> Sequence[Match]:
        """See VectorIndex.search."""
        if limit < 1:
            return []
        bits = await self._bits((dataset, model, len(vector)))
        hidden = await self._database.hidden_documents(dataset)
        query = np.array(vector, dtype=np.float32)
        ranked = await asyncio.to_thread(_ranked, bits, query, hidden, documents)
        matches: list[Match] = []
        size = max(_CANDIDATES, _PER_RESULT * limit) * (_MORE if len(vector) < _FEW_DIMENSIONS else 1)
        for start in range(0, len(ranked), size):
            positions: list[int] = ranked[start : start + size].tolist()
            stored = await self._database.vectors([bits.nodes[position] for position in positions])
            matches += await self._findable(_scored(query, stored), limit)
            if len(matches) >= limit:
                break
        return sorted(matches, key=_best_first)[:limit]

    async def scores(self, vector: Vector, nodes: Collection[str]) -> Sequence[Match]:
        """See VectorIndex.scores."""
        return _scored(np.array(vector, dtype=np.float32), await self._database.vectors(nodes))

    async def _findable(self, matches: list[Match], limit: int) -> list[Match]:
        """The best of the matches that can be found."""
        matches.sort(key=_best_first)
        found: list[Match] = []
        for start in range(0, len(matches), 2 * limit):
            some = matches[start : start + 2 * limit]
            findable = await self._database.findable([match.segment for match in some])
            found += [match for match in some if match.segment in findable]
            if len(found) >= limit:
                break
        return found

    async def _bits(self, key: _Key) -> _Bits:
        """The bits of a dataset, as its vectors are now."""
        async with self._updating[key]:
            version = await self._database.version(key[0])
            bits = self._cache.get(key)
            if bits is None or bits.version != version:
                bits = self._cache[key] = await self._updated(bits or _empty(key[2]), key, version)
            self._cache.move_to_end(key)
        self._forget(key)
        return bits

    async def _updated(self, bits: _Bits, key: _Key, version: int) -> _Bits:
        """The bits with what has changed since they were read, and without what is gone."""
        documents = dict(bits.documents)
        changed: dict[str, int] = {}
        signs: list[NDArray[np.uint64]] = []
        owners: list[int] = []
        after = (bits.version, "")
        while page := await self._database.vectors_after(*key, after, _PAGE):
            signs.append(await asyncio.to_thread(_signs, page, key[2]))
            for row in page:
                changed[row.node] = len(owners)
                owners.append(documents.setdefault(row.document, len(documents)))
            after = (page[-1].version, page[-1].node)
        present = await self._database.vector_nodes(*key)
        old = [at for at, node in enumerate(bits.nodes) if node in present and node not in changed]
        new = [(node, at) for node, at in changed.items() if node in present]
        added = np.concatenate([*signs, _empty(key[2]).signs], axis=1)[:, [at for _, at in new]]
        return _Bits(
            np.concatenate([bits.signs[:, old], added], axis=1),
            np.concatenate([bits.owners[old], np.array([owners[at] for _, at in new], np.int32)]),
            [*(bits.nodes[at] for at in old), *(node for node, _ in new)],
            documents,
            version,
        )

    def _forget(self, used: _Key) -> None:
        """Drops the datasets whose last search is the longest ago, while there are too many vectors in memory."""
        total = sum(len(bits.nodes) for bits in self._cache.values())
        for key in list(self._cache):
            if total <= _LARGEST:
                return
            if key != used:
                total -= len(self._cache.pop(key).nodes)


def _empty(dimension: int) -> _Bits:
    return _Bits(np.empty((-(-dimension // 64), 0), np.uint64), np.empty(0, np.int32))


def _signs(page: Sequence[ChangedVector], dimension: int) -> NDArray[np.uint64]:
    """The signs of vectors, 64 in a word; the last word is filled up with zeros."""
    numbers = np.frombuffer(b"".join(row.data for row in page), dtype="<f2").reshape(len(page), dimension)
    return _packed(numbers > 0)


def _packed(positive: NDArray[np.bool_]) -> NDArray[np.uint64]:
    packed = np.packbits(positive, axis=1)
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64).T)


def _ranked(
    bits: _Bits, query: NDArray[np.float32], hidden: Collection[str], documents: Collection[str] | None
) -> NDArray[np.int64]:
    """The positions of the vectors that may be found, those with the most signs of the query first."""
    distances = np.zeros(len(bits.nodes), np.uint16)
    for signs, sign in zip(bits.signs, _packed(query[np.newaxis] > 0), strict=True):  # a row fits into the caches
        distances += np.bitwise_count(signs ^ sign)
    visible = _visible(bits, hidden, documents)
    if visible is None:
        return np.argsort(distances, kind="stable")  # a radix sort, as the numbers are small
    positions = np.flatnonzero(visible)
    return positions[np.argsort(distances[positions], kind="stable")]


def _visible(bits: _Bits, hidden: Collection[str], documents: Collection[str] | None) -> NDArray[np.bool_] | None:
    """Which vectors are of documents that may be found; None for all."""
    if not hidden and documents is None:
        return None
    allowed = bits.documents.keys() if documents is None else bits.documents.keys() & set(documents)
    numbers = [bits.documents[document] for document in allowed - set(hidden)]
    flags = np.zeros(len(bits.documents), np.bool_)
    flags[numbers] = True
    return flags[bits.owners]


def _scored(query: NDArray[np.float32], rows: Sequence[StoredVector]) -> list[Match]:
    """The cosine of each vector of the query's dimension."""
    rows = [row for row in rows if len(row.data) == 2 * len(query)]
    vectors = np.frombuffer(b"".join(row.data for row in rows), dtype="<f2").reshape(len(rows), len(query))
    scores: list[float] = (vectors.astype(np.float32) @ query).tolist()
    return [Match(row.node, row.segment, score) for row, score in zip(rows, scores, strict=True)]


def _best_first(match: Match) -> tuple[float, str]:
    return -match.score, match.node
