"""A vector index of usearch: a graph (HNSW) of vectors of one byte a dimension.

A search visits some thousand vectors, however many there are; an index of a million takes about 1.2 GB of memory. It is
built in about a millisecond of processor time for each vector, and therefore kept in files.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from headrace.adapters.vectors.index_files import IndexFiles
from headrace.adapters.vectors.rescoring import Contents, Key, RescoringIndex, numbers
from headrace.ports.knowledge_search import ChangedVector, KnowledgeSearch

_SAVED_AFTER = 1_000  # changes
_FEW = 2_000  # visible vectors, all of which are compared
_GROWTH = 8  # times as many vectors are asked for, if too few of them can be found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph(Contents):
    """A vector's key in the graph is its position. `lock` is held by whoever uses the graph; `unsaved` counts the
    changes since it was saved."""

    graph: Any
    lock: threading.Lock
    unsaved: int = 0


class UsearchIndex(RescoringIndex[_Graph]):
    """Implements VectorIndex. Without a `folder` nothing is kept in files."""

    def __init__(self, database: KnowledgeSearch, folder: Path | None) -> None:
        super().__init__(database)
        self._files = IndexFiles(folder) if folder else None

    async def load(self, key: Key) -> _Graph:
        """See RescoringIndex.load."""
        empty = _empty(key[2])
        saved_count = await asyncio.to_thread(self._files.load, key, empty.graph.load) if self._files else None
        if saved_count is None:
            return _empty(key[2])  # one that could not be read completely is of no use
        return replace(
            empty,
            owners=saved_count.owners,
            nodes=list(saved_count.nodes),
            documents=saved_count.documents,
            version=saved_count.version,
        )

    async def update(self, contents: _Graph, key: Key, version: int) -> _Graph:
        """See RescoringIndex.update. The graph itself is changed: what is found by a position stays the same."""
        documents, nodes, owners = dict(contents.documents), list(contents.nodes), contents.owners.tolist()
        positions = {node: position for position, node in enumerate(nodes) if node}
        present = await self.database.vector_nodes(*key)
        old_positions = [position for node, position in positions.items() if node not in present]
        unsaved = contents.unsaved + len(old_positions)
        async for page in self.pages(contents, key):
            rows = [row for row in page if row.node in present]
            old_positions += [positions[row.node] for row in rows if row.node in positions]
            for position, row in enumerate(rows, len(nodes)):
                positions[row.node] = position
                nodes.append(row.node)
                owners.append(documents.setdefault(row.document, len(documents)))
            unsaved += len(rows)
            await asyncio.to_thread(_add, contents, rows, len(nodes) - len(rows), key[2])
        await asyncio.to_thread(_remove, contents, old_positions)
        for position in old_positions:
            nodes[position] = ""
        if nodes.count("") > len(nodes) / 2:  # what has been removed is still in the way
            return await self.update(_empty(key[2]), key, version)
        new_contents = replace(
            contents,
            owners=np.array(owners, np.int32),
            nodes=nodes,
            documents=documents,
            version=version,
            unsaved=unsaved,
        )
        if self._files is not None and unsaved >= _SAVED_AFTER:
            await asyncio.to_thread(self._files.save, key, new_contents, contents.graph.save)
            new_contents = replace(new_contents, unsaved=0)
        return new_contents

    async def ranked(
        self, contents: _Graph, query: NDArray[np.float32], visible: NDArray[np.bool_] | None, size: int
    ) -> AsyncIterator[Sequence[int]]:
        """See RescoringIndex.ranked."""
        total = len(contents.nodes)
        if visible is not None and np.count_nonzero(visible) <= _FEW:
            yield [position for position in np.flatnonzero(visible).tolist() if contents.nodes[position]]
            return
        seen_nodes: set[int] = set()
        while len(seen_nodes) < total:
            size = min(size, total)
            positions = [at for at in await asyncio.to_thread(_nearest, contents, query, size) if at < total]
            fresh = [at for at in positions if at not in seen_nodes and (visible is None or visible[at])]
            seen_nodes.update(positions)
            yield fresh
            if size == total:
                return
            size *= _GROWTH


def _empty(dimension: int) -> _Graph:
    graph = Index(ndim=dimension, metric="cos", dtype="i8", connectivity=24, expansion_add=200)
    return _Graph(np.empty(0, np.int32), graph=graph, lock=threading.Lock())


def _bytes(vectors: NDArray[np.floating[Any]]) -> NDArray[np.int8]:
    """Vectors in bytes, whose directions are as good as the same. (usearch itself divides the numbers of all by the
    same one, so that those of long vectors are 3 or 4.)"""
    largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-6)
    return np.rint(vectors.astype(np.float32) / largest * 127).astype(np.int8)


def _add(contents: _Graph, rows: Sequence[ChangedVector], first: int, dimension: int) -> None:
    if rows:
        with contents.lock:
            contents.graph.add(np.arange(first, first + len(rows)), _bytes(numbers(rows, dimension)))


def _remove(contents: _Graph, positions: Sequence[int]) -> None:
    if positions:
        with contents.lock:
            contents.graph.remove(np.array(positions, np.uint64))


def _nearest(contents: _Graph, query: NDArray[np.float32], count: int) -> list[int]:
    with contents.lock:
        matches = contents.graph.search(_bytes(query[np.newaxis])[0], count, exact=count == len(contents.nodes))
    return matches.keys.astype(np.int64).tolist()
