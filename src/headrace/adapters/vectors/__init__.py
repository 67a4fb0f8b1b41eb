"""Vector indexes: each implements `ports.knowledge_search.VectorIndex`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from headrace.errors import HeadraceError
from headrace.ports.knowledge_search import KnowledgeSearch, VectorIndex


def vector_index(
    database: KnowledgeSearch, kind: Literal["signs", "usearch"] = "signs", folder: Path | None = None
) -> VectorIndex:
    """An index in memory; `folder` is where one of usearch is kept. HeadraceError if its package is missing."""
    try:
        if kind == "usearch":
            from headrace.adapters.vectors.graph import UsearchIndex

            return UsearchIndex(database, folder)
        from headrace.adapters.vectors.sign_bits import SignBitIndex
    except ImportError as error:
        package, extra = ("usearch", "usearch") if kind == "usearch" else ("numpy", "knowledge")
        reason = f"Knowledge bases of high quality need {package}: install headrace[{extra}]."
        raise HeadraceError(reason) from error
    return SignBitIndex(database)
