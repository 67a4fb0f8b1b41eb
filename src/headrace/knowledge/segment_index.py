"""What segments are found by: vectors and words, or keywords alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headrace.content.words import index_terms
from headrace.knowledge.embedding import Embedder
from headrace.knowledge.keywords import keywords
from headrace.ports.knowledge import SUMMARY, ChildChunk, Dataset, IndexNode, Segment, SegmentIndex, Vector

_LONGEST = 100_000  # characters of a segment that are indexed as words
_MOST_BYTES = 1_000_000  # of words and where they are: PostgreSQL takes a megabyte
_BYTES_OF_WORD, _BYTES_OF_PLACE = 4, 2  # besides its characters; of each place where it is


class _Text(NamedTuple):
    node: str
    content: str


async def index_of(
    dataset: Dataset, segments: Sequence[Segment], chunks: Sequence[ChildChunk], embedder: Embedder
) -> list[SegmentIndex]:
    """The index of each segment, which replaces the one it has. NodeError if the embedding model fails."""
    if dataset.technique != "high_quality":
        return await asyncio.to_thread(_by_keywords, segments)
    children: dict[str, list[ChildChunk]] = defaultdict(list)
    for chunk in chunks:
        children[chunk.segment].append(chunk)
    texts = {segment.id: _texts(dataset, segment, children[segment.id]) for segment in segments}
    nodes = [text for of_segment in texts.values() for text in of_segment]
    vectors = await embedder.vectors(
        [text.content for text in nodes], dataset.embedding_provider, dataset.embedding_model
    )
    by_node = {text.node: vector for text, vector in zip(nodes, vectors, strict=True)}
    # for the child chunks of a large document this takes seconds
    return await asyncio.to_thread(_by_vectors, segments, texts, by_node)


def _by_keywords(segments: Sequence[Segment]) -> list[SegmentIndex]:
    return [SegmentIndex(segment.id, keywords=segment.keywords or keywords(segment.content)) for segment in segments]


def _by_vectors(
    segments: Sequence[Segment], texts: Mapping[str, Sequence[_Text]], vectors: Mapping[str, Vector]
) -> list[SegmentIndex]:
    return [
        SegmentIndex(
            segment.id,
            [IndexNode(text.node, vectors[text.node], words_of(text.content)) for text in texts[segment.id]],
            segment.keywords,
        )
        for segment in segments
    ]


def words_of(text: str) -> str:
    """The terms that a text is found by, with spaces between them: the first ones, if it has more than a database
    takes."""
    size = 0
    known: set[str] = set()
    terms: list[str] = []
    for term in index_terms(text[:_LONGEST]):
        size += _BYTES_OF_PLACE
        if term not in known:
            known.add(term)
            size += len(term.encode()) + _BYTES_OF_WORD
        if size > _MOST_BYTES:
            break
        terms.append(term)
    return " ".join(terms)


def _texts(dataset: Dataset, segment: Segment, chunks: Sequence[ChildChunk]) -> list[_Text]:
    """Of a parent, its children are found; of a question and its answer, the question."""
    if dataset.doc_form == "hierarchical_model":
        texts = [_Text(chunk.id, chunk.content) for chunk in chunks]
    else:
        texts = [_Text(segment.id, segment.content)]
    if segment.summary:
        texts.append(_Text(f"{segment.id}{SUMMARY}", segment.summary))
    return [text for text in texts if text.content.strip()]
