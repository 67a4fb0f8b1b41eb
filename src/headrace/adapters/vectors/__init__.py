"""Vector indexes: each implements `ports.knowledge_search.VectorIndex`."""

from __future__ import annotations

from headrace.errors import HeadraceError
from headrace.ports.knowledge_search import KnowledgeSearch, VectorIndex


def vector_index(database: KnowledgeSearch) -> VectorIndex:
    """The index that is installed. HeadraceError if none is."""
    try:
        from headrace.adapters.vectors.sign_bits import SignBitIndex
    except ImportError as error:
        reason = "Knowledge bases of high quality need numpy: install headrace[knowledge]."
        raise HeadraceError(reason) from error
    return SignBitIndex(database)
