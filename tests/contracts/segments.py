"""Documents whose segments can be found, for the contracts of searches."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from headrace.content.words import index_terms
from headrace.ports.knowledge import Dataset, Document, DocumentChanges, IndexNode, ProcessRule, Segment, SegmentIndex
from headrace.ports.knowledge_search import Match
from headrace.ports.knowledge_store import KnowledgeStore

RULE = ProcessRule("rule", "automatic")
HIDDEN: Sequence[DocumentChanges] = [
    {"enabled": False},
    {"archived": True},
    {"status": "error"},
    {"status": "indexing"},
]


async def add(store: KnowledgeStore, document: str, indexes: Sequence[SegmentIndex], dataset: str = "d1") -> None:
    """A completed document of these segments."""
    await store.datasets.add_dataset(Dataset(dataset, "default", dataset, 1.0, 1.0))
    await store.documents.add_document(Document(document, dataset, document, "file", "batch", 1.0, 1.0, RULE))
    claimed = await store.documents.claim_document("c1", 60)
    assert claimed is not None
    segments = [
        Segment(index.segment, dataset, document, position, index.segment, 1.0, 1.0)
        for position, index in enumerate(indexes, 1)
    ]
    assert await store.segments.add_segments(document, "c1", segments, [])
    assert await store.segments.index_segments(document, indexes, "m", 2.0, "c1")
    await change(store, document, {"status": "completed"})


async def change(store: KnowledgeStore, document: str, changes: DocumentChanges) -> None:
    assert await store.documents.change_document(document, changes)


def of_text(segment: str, text: str, keywords: Sequence[str] = ()) -> SegmentIndex:
    return SegmentIndex(segment, [IndexNode(segment, terms=" ".join(index_terms(text)))], keywords)


def of_vector(segment: str, numbers: Sequence[float]) -> SegmentIndex:
    return SegmentIndex(segment, [IndexNode(segment, array("f", numbers))])


def segments(matches: Sequence[Match]) -> list[str]:
    return [match.segment for match in matches]
