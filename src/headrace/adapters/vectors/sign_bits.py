"""A vector index of one bit a dimension.

The signs of a vector's numbers are compared with those of all others (13 MB for 100,000 vectors of 1,024 dimensions).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.adapters.vectors.rescoring import Contents, Key, RescoringIndex, numbers
from headrace.ports.knowledge_search import ChangedVector


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bits(Contents):
    """The signs of vectors: a row has 64 dimensions, a column is a vector."""

    signs: NDArray[np.uint64]


class SignBitIndex(RescoringIndex[_Bits]):
    """Implements VectorIndex."""

    async def load(self, key: Key) -> _Bits:
        """See RescoringIndex.load."""
        return _Bits(np.empty(0, np.int32), signs=_no_signs(key[2]))

    async def update(self, contents: _Bits, key: Key, version: int) -> _Bits:
        """See RescoringIndex.update."""
        documents = dict(contents.documents)
        new_rows: dict[str, int] = {}
        signs: list[NDArray[np.uint64]] = []
        owners: list[int] = []
        async for page in self.pages(contents, key):
            signs.append(await asyncio.to_thread(_signs, page, key[2]))
            for row in page:
                new_rows[row.node] = len(owners)
                owners.append(documents.setdefault(row.document, len(documents)))
        present = await self.database.vector_nodes(*key)
        old = [at for at, node in enumerate(contents.nodes) if node in present and node not in new_rows]
        new = [(node, at) for node, at in new_rows.items() if node in present]
        new_signs = np.concatenate([*signs, _no_signs(key[2])], axis=1)[:, [at for _, at in new]]
        return _Bits(
            np.concatenate([contents.owners[old], np.array([owners[at] for _, at in new], np.int32)]),
            [*(contents.nodes[at] for at in old), *(node for node, _ in new)],
            documents,
            version,
            signs=np.concatenate([contents.signs[:, old], new_signs], axis=1),
        )

    async def ranked(
        self, contents: _Bits, query: NDArray[np.float32], visible: NDArray[np.bool_] | None, size: int
    ) -> AsyncIterator[Sequence[int]]:
        """See RescoringIndex.ranked."""
        positions = await asyncio.to_thread(_nearest, contents, query, visible)
        for start in range(0, len(positions), size):
            yield positions[start : start + size].tolist()


def _no_signs(dimension: int) -> NDArray[np.uint64]:
    return np.empty((-(-dimension // 64), 0), np.uint64)


def _signs(page: Sequence[ChangedVector], dimension: int) -> NDArray[np.uint64]:
    """The signs of vectors, 64 in a word; the last word is filled up with zeros."""
    return _packed(numbers(page, dimension) > 0)


def _packed(positive: NDArray[np.bool_]) -> NDArray[np.uint64]:
    bits = np.packbits(positive, axis=1)
    return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64).T)


def _nearest(bits: _Bits, query: NDArray[np.float32], visible: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """The positions of the visible vectors, those with the most signs of the query first."""
    distances = np.zeros(len(bits.nodes), np.uint16)
    for signs, sign in zip(bits.signs, _packed(query[np.newaxis] > 0), strict=True):  # a row fits into the caches
        distances += np.bitwise_count(signs ^ sign)
    if visible is None:
        return np.argsort(distances, kind="stable")  # a radix sort, as the numbers are small
    positions = np.flatnonzero(visible)
    return positions[np.argsort(distances[positions], kind="stable")]
