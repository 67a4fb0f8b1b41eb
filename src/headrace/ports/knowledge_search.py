"""Search in knowledge bases: by terms and keywords in the database, by meaning through a vector index.

Only what can be found is returned: segments that are enabled, of documents that are completed, enabled and not
archived. `documents` limits a search to some of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from headrace.ports.knowledge import Vector


class Match(NamedTuple):
    """A node (see IndexNode) that a search found; the higher the score, the better."""

    node: str
    segment: str
    score: float


def score_of(cosine: float) -> float:
    """A cosine as a score, from -1 to 1. It is rounded to what 16-bit floats have, so that equal vectors have 1."""
    return min(1.0, max(-1.0, round(cosine, 6)))


class StoredVector(NamedTuple):
    """`data` holds little-endian 16-bit floats."""

    node: str
    segment: str
    data: bytes


class ChangedVector(NamedTuple):
    """A vector as of StoredVector; `version` is the dataset's when it was written."""

    node: str
    document: str
    data: bytes
    version: int


class KnowledgeSearch(Protocol):
    """The searches of a database, and what a vector index is made from."""

    async def match_terms(
        self, dataset: str, terms: Sequence[str], limit: int, documents: Collection[str] | None = None
    ) -> Sequence[Match]:
        """The nodes whose texts have any of the terms, best first; rare terms count more."""
        ...

    async def match_keywords(
        self, dataset: str, keywords: Sequence[str], limit: int, documents: Collection[str] | None = None
    ) -> Sequence[Match]:
        """The segments that have any of the keywords, most of them first."""
        ...

    async def hidden_documents(self, dataset: str) -> Collection[str]:
        """The documents that cannot be found now."""
        ...

    async def version(self, dataset: str) -> int:
        """Grows with every change of the dataset's vectors."""
        ...

    async def vectors_after(
        self, dataset: str, model: str, dimension: int, after: tuple[int, str], limit: int
    ) -> Sequence[ChangedVector]:
        """The vectors behind (version, node), in this order."""
        ...

    async def vector_nodes(self, dataset: str, model: str, dimension: int) -> Collection[str]:
        """The nodes that have a vector."""
        ...

    async def vectors(self, nodes: Collection[str]) -> Sequence[StoredVector]:
        """The vectors of nodes, also of those that cannot be found; without those that have been deleted."""
        ...

    async def findable(self, segments: Collection[str]) -> Collection[str]:
        """Those of the segments that can be found now."""
        ...


class VectorIndex(Protocol):
    """Finds the vectors that are most similar to one. It is made from the database, and follows its changes."""

    async def search(
        self, dataset: str, model: str, vector: Vector, limit: int, documents: Collection[str] | None = None
    ) -> Sequence[Match]:
        """The nodes with the highest cosine, best first. HeadraceError if a package is missing."""
        ...

    async def scores(self, vector: Vector, nodes: Collection[str]) -> Sequence[Match]:
        """The cosine of some nodes that have a vector of the same dimension."""
        ...
