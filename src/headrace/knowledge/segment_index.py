"""What segments are found by: vectors and words, or keywords alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from headrace.content.words import index_terms
from headrace.knowledge.embedding import Embedder
from headrace.knowledge.keywords import keywords
from headrace.ports.knowledge import SUMMARY, ChildChunk, Dataset, IndexNode, Segment, SegmentIndex

_LONGEST = 100_000  # characters of a segment that are indexed as words: PostgreSQL takes a megabyte of them


class _Text(NamedTuple):
    node: str
    content: str


async def index_of(
    dataset: Dataset, segments: Sequence[Segment], chunks: Sequence[ChildChunk], embedder: Embedder
) -> list[SegmentIndex]:
    """The index of each segment, which replaces the one it has. NodeError if the embedding model fails."""
    if dataset.technique != "high_quality":
        return [
            SegmentIndex(segment.id, keywords=segment.keywords or keywords(segment.content)) for segment in segments
        ]
    children: dict[str, list[ChildChunk]] = defaultdict(list)
    for chunk in chunks:
        children[chunk.segment].append(chunk)
    texts = {segment.id: _texts(dataset, segment, children[segment.id]) for segment in segments}
    nodes = [text for of_segment in texts.values() for text in of_segment]
    vectors = await embedder.vectors(
        [text.content for text in nodes], dataset.embedding_provider, dataset.embedding_model
    )
    by_node = {text.node: vector for text, vector in zip(nodes, vectors, strict=True)}
    return [
        SegmentIndex(
            segment.id,
            [
                IndexNode(text.node, by_node[text.node], " ".join(index_terms(text.content[:_LONGEST])))
                for text in texts[segment.id]
            ],
            segment.keywords,
        )
        for segment in segments
    ]


def _texts(dataset: Dataset, segment: Segment, chunks: Sequence[ChildChunk]) -> list[_Text]:
    """Of a parent, its children are found; of a question and its answer, the question."""
    if dataset.doc_form == "hierarchical_model":
        texts = [_Text(chunk.id, chunk.content) for chunk in chunks]
    else:
        texts = [_Text(segment.id, segment.content)]
    if segment.summary:
        texts.append(_Text(f"{segment.id}{SUMMARY}", segment.summary))
    return [text for text in texts if text.content.strip()]
