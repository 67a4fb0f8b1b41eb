"""The store of knowledge bases.

A dataset or document that is removed is gone for every reader at once; what belongs to it is deleted a little at a time
by `purge`, so that other writes do not wait. A document is indexed by the process that has claimed it: what is written
with a claim that has been lost changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

from headrace.frozen import frozen
from headrace.ports.knowledge import (
    ChildChunk,
    Dataset,
    DatasetChanges,
    DatasetCounts,
    Document,
    DocumentChanges,
    DocumentFilter,
    MetadataField,
    Progress,
    Segment,
    SegmentChanges,
    SegmentFilter,
    SegmentIndex,
    Tag,
    Vector,
)
from headrace.ports.knowledge_search import KnowledgeSearch, VectorIndex
from headrace.values import Value

ChangeMetadata: TypeAlias = Callable[[str, Mapping[str, Value]], Mapping[str, Value]]
"""(document, its metadata) -> its new metadata"""


class Datasets(Protocol):
    """Datasets, the fields of their metadata, and tags. Names are unique in a workspace, those of fields in a
    dataset."""

    async def add_dataset(self, dataset: Dataset) -> bool:
        """False, and nothing is added, if the workspace has one of this name."""
        ...

    async def find_dataset(self, workspace: str | None, dataset: str) -> Dataset | None:
        """One of a workspace, or of any if it is None."""
        ...

    async def datasets(
        self, workspace: str, *, keyword: str = "", tags: Collection[str] = (), offset: int = 0, limit: int = 20
    ) -> tuple[Sequence[Dataset], int]:
        """(a page of them, how many there are), newest first; those with any of the tags, and the keyword in
        their name."""
        ...

    async def change_dataset(self, dataset: str, changes: DatasetChanges) -> bool:
        """False, and nothing changes, if there is none, or another one of the new name."""
        ...

    async def settle_dataset(self, dataset: str, changes: DatasetChanges) -> None:
        """As `change_dataset`, if its doc_form is not decided yet: of several first documents one decides."""
        ...

    async def remove_dataset(self, dataset: str) -> bool: ...

    async def count_documents(self, datasets: Collection[str]) -> Mapping[str, DatasetCounts]: ...

    async def metadata_fields(self, dataset: str) -> Sequence[MetadataField]:
        """Oldest first."""
        ...

    async def add_metadata_field(self, field: MetadataField) -> bool: ...
    async def rename_metadata_field(self, field: str, name: str) -> bool: ...
    async def remove_metadata_field(self, field: str) -> bool: ...

    async def tags(self, workspace: str) -> Sequence[Tag]: ...
    async def tags_of(self, datasets: Collection[str]) -> Mapping[str, Sequence[Tag]]: ...
    async def add_tag(self, tag: Tag) -> bool: ...
    async def rename_tag(self, workspace: str, tag: str, name: str) -> bool: ...
    async def remove_tag(self, workspace: str, tag: str) -> bool: ...

    async def bind_tags(self, dataset: str, tags: Collection[str]) -> None: ...
    async def unbind_tags(self, dataset: str, tags: Collection[str]) -> None: ...


class Documents(Protocol):
    """The documents of datasets, and who indexes them."""

    async def add_document(self, document: Document) -> Document | None:
        """Adds a document behind the others, and returns it with its position. None if the dataset is gone."""
        ...

    async def find_document(self, dataset: str, document: str) -> Document | None: ...
    async def documents(self, dataset: str, which: DocumentFilter) -> tuple[Sequence[Document], int]:
        """(a page of them, how many there are), newest first."""
        ...

    async def documents_of_batch(self, dataset: str, batch: str) -> Sequence[Document]: ...
    async def documents_by_id(self, dataset: str, documents: Collection[str]) -> Sequence[Document]: ...
    async def metadata_values(self, dataset: str) -> Mapping[str, Mapping[str, object]]:
        """The metadata of all documents, by document."""
        ...

    async def change_metadata(
        self, dataset: str, documents: Collection[str], change: ChangeMetadata, at: float
    ) -> bool:
        """Gives documents the metadata that `change` makes of what they have, while nobody else changes it. False, and
        nothing changes, if one of them is gone."""
        ...

    async def change_document(self, document: str, changes: DocumentChanges, claim: str | None = None) -> bool:
        """False, and nothing changes, if there is none, or it is not claimed by `claim`."""
        ...

    async def restart_document(self, document: str, changes: DocumentChanges) -> bool:
        """As `change_document`; a process that indexes it now loses the claim."""
        ...

    async def index_again(self, dataset: str) -> None:
        """Has the segments of all documents of a dataset indexed again."""
        ...

    async def remove_document(self, document: str) -> bool: ...

    async def claim_document(self, claim: str, seconds: float) -> Document | None:
        """Claims a document that is to be indexed now and that nobody has claimed; the oldest."""
        ...

    async def renew_claim(self, document: str, claim: str, seconds: float) -> bool:
        """False if another process has claimed it, or it is gone, paused or begun anew."""
        ...

    async def release_claim(self, document: str, claim: str, after: float = 0.0) -> None:
        """Gives up a claim; the document can be claimed again after so many seconds."""
        ...

    async def next_due(self) -> float | None:
        """In how many seconds a document is to be indexed or `purge` has something to do; None if there is nothing."""
        ...

    async def purge(self) -> bool:
        """Deletes some of what belonged to removed datasets and documents. False if there was nothing."""
        ...


class Segments(Protocol):
    """Segments, their child chunks, and what they are found by."""

    async def clear_segments(self, document: str, claim: str) -> bool:
        """Deletes some of a document's segments, with what belongs to them. False if there are none, or the claim is
        lost."""
        ...

    async def add_segments(
        self, document: str, claim: str, segments: Sequence[Segment], chunks: Sequence[ChildChunk]
    ) -> bool:
        """Adds segments of a document that is being indexed. False, and nothing is added, if the claim is lost."""
        ...

    async def waiting_segments(self, document: str, limit: int) -> Sequence[Segment]:
        """Those that are not indexed yet, in order."""
        ...

    async def index_segments(
        self, document: str, indexes: Sequence[SegmentIndex], model: str, at: float, claim: str | None = None
    ) -> bool:
        """Replaces what segments are found by, and marks them as completed. `model` is that of the vectors, "" if there
        are none. False, and nothing changes, if the claim is lost."""
        ...

    async def progress(self, documents: Collection[str]) -> Mapping[str, Progress]: ...

    async def count_segments(self, datasets: Collection[str]) -> Mapping[str, int]:
        """How many segments the documents of datasets have."""
        ...

    async def hits(self, documents: Collection[str]) -> Mapping[str, int]:
        """How often segments of a document were found."""
        ...

    async def add_hits(self, segments: Collection[str]) -> None: ...

    async def find_segment(self, document: str, segment: str) -> Segment | None: ...
    async def segments(self, document: str, which: SegmentFilter) -> tuple[Sequence[Segment], int]:
        """(a page of them, how many there are), in order."""
        ...

    async def segments_by_id(self, dataset: str, segments: Collection[str]) -> Sequence[Segment]: ...
    async def append_segments(self, segments: Sequence[Segment]) -> Sequence[Segment]:
        """Adds segments behind the others of their document, and returns them with their positions; those
        of a document that is gone are left out."""
        ...

    async def change_segment(self, segment: str, changes: SegmentChanges) -> bool: ...
    async def remove_segment(self, segment: str) -> bool: ...

    async def find_chunk(self, segment: str, chunk: str) -> ChildChunk | None: ...
    async def chunks(
        self, segment: str, *, keyword: str = "", offset: int = 0, limit: int = 20
    ) -> tuple[Sequence[ChildChunk], int]: ...
    async def chunks_of(self, segments: Collection[str]) -> Sequence[ChildChunk]: ...
    async def append_chunk(self, chunk: ChildChunk) -> ChildChunk | None:
        """Adds a chunk behind the others of its segment, and returns it with its position. None if the segment is
        gone."""
        ...

    async def replace_chunks(self, segment: str, chunks: Sequence[ChildChunk]) -> None: ...
    async def change_chunk(self, chunk: str, content: str, word_count: int, at: float) -> bool: ...
    async def remove_chunk(self, chunk: str) -> bool: ...


class EmbeddingCache(Protocol):
    """Vectors of texts that were embedded before; keys are hashes of a model and a text."""

    async def cached_vectors(self, keys: Collection[str], at: float) -> Mapping[str, Vector]: ...
    async def cache_vectors(self, vectors: Mapping[str, Vector], at: float) -> None: ...
    async def forget_vectors(self, before: float) -> None:
        """Deletes those that were last used before a time."""
        ...


@frozen
class KnowledgeStore:
    """The ports of knowledge bases of one store; `index` is the vector index that the database itself can have."""

    datasets: Datasets
    documents: Documents
    segments: Segments
    embeddings: EmbeddingCache
    search: KnowledgeSearch
    index: VectorIndex | None = None


class KnowledgeStorage(Protocol):
    """Knowledge bases of a store, without the cost of them where there are none."""

    async def is_used(self) -> bool:
        """Whether there is a dataset, or something left of one."""
        ...

    def open(self) -> KnowledgeStore: ...
