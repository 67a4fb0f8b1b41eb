"""The knowledge bases that workflows query: those of their workspace, and those of other servers.

A workflow names a base by an id of the Dify that it comes from. `HEADRACE_KNOWLEDGE_IDS` maps it to one of here with
`id in the file=local:ID`; an id that the workspace has itself needs no entry. All others are left to the other servers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from headrace.errors import HeadraceError, NodeError
from headrace.ids import canonical_id
from headrace.ports.catalog import App
from headrace.ports.services import DatasetDescription, Knowledge, Passage, Retrieval
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.ports.knowledge import Dataset
    from headrace.ports.knowledge_store import KnowledgeStore

ERROR = "KnowledgeRetrievalNodeError"
_LOCAL = "local:"


class Bases(Protocol):
    """The knowledge bases of this installation; nothing is opened while there are none."""

    async def is_used(self) -> bool: ...

    @property
    def store(self) -> KnowledgeStore: ...

    async def passages(self, dataset: Dataset, retrieval: Retrieval) -> Sequence[Passage]: ...

    async def scores(
        self, query: str, passages: Sequence[Passage], settings: Mapping[str, Value]
    ) -> Sequence[float]: ...


def split_ids(entries: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(the ids that entries map to bases of here, the entries for other servers)."""
    local: dict[str, str] = {}
    others: list[str] = []
    for entry in entries:
        name, _, target = (part.strip() for part in entry.rpartition("="))
        if not target.startswith(_LOCAL):
            others.append(entry)
        elif not name or (id_ := canonical_id(target.removeprefix(_LOCAL))) is None:
            raise HeadraceError(f"HEADRACE_KNOWLEDGE_IDS: '{entry}' is not 'id in the file=local:ID'.")
        else:
            local[name] = id_
    return local, others


class KnowledgeRouter:
    """Implements ports.services.Knowledge. `find_app` gives an app, whose workspace is searched."""

    def __init__(
        self,
        bases: Bases,
        others: Knowledge,
        ids: Mapping[str, str],
        find_app: Callable[[str], Awaitable[App | None]],
    ) -> None:
        self._bases = bases
        self._others = others
        self._ids = ids
        self._find_app = find_app

    def missing(self, dataset: str) -> str | None:
        """See Knowledge.missing. An id that may be one of here is looked up when it is queried."""
        return None if self._local_id(dataset) is not None else self._others.missing(dataset)

    async def retrieve(self, retrieval: Retrieval) -> Sequence[Passage]:
        """See Knowledge.retrieve."""
        dataset = await self._dataset(retrieval.dataset, retrieval.app)
        if dataset is None:
            return await self._others.retrieve(retrieval)
        try:
            return await self._bases.passages(dataset, retrieval)
        except HeadraceError as error:
            raise NodeError(f"Knowledge base '{dataset.name}': {error}", ERROR) from error

    async def fields(self, dataset: str, app: str = "") -> Sequence[str]:
        """See Knowledge.fields."""
        local = await self._dataset(dataset, app)
        if local is None:
            return await self._others.fields(dataset)
        return [field.name for field in await self._bases.store.datasets.metadata_fields(local.id)]

    async def describe(self, dataset: str, app: str = "") -> DatasetDescription:
        """See Knowledge.describe."""
        local = await self._dataset(dataset, app)
        if local is None:
            return await self._others.describe(dataset)
        counts = (await self._bases.store.datasets.count_documents([local.id])).get(local.id)
        embedding = (local.embedding_provider, local.embedding_model)
        found = counts is not None and counts.available > 0
        return DatasetDescription(local.name, local.description, local.technique or "", embedding, found)

    async def scores(
        self, query: str, passages: Sequence[Passage], settings: Mapping[str, Value]
    ) -> Sequence[float | None]:
        """See Knowledge.scores."""
        by_keywords = all(passage.score is None for passage in passages)  # nothing else tells them apart
        if not (settings.get("reranking_enable") or by_keywords):
            return [passage.score for passage in passages]
        try:
            return await self._bases.scores(query, passages, settings)
        except HeadraceError as error:
            raise NodeError(str(error), ERROR) from error

    async def _dataset(self, dataset: str, app: str) -> Dataset | None:
        """One of the workspace of an app. NodeError if neither the workspace has the one that the map names, nor any
        server has one with this id."""
        local_id = self._local_id(dataset)
        if local_id is None or not await self._bases.is_used():
            local = None
        else:
            owner = await self._find_app(app)
            local = await self._bases.store.datasets.find_dataset(owner.workspace, local_id) if owner else None
        if local is None and dataset in self._ids:
            raise NodeError(f"Knowledge base '{dataset}': the workspace has none with the id {local_id}.", ERROR)
        if local is None and local_id is not None and self._others.missing(dataset) is not None:
            raise NodeError(f"Knowledge base '{dataset}': the workspace has none with this id.", ERROR)
        return local

    def _local_id(self, dataset: str) -> str | None:
        return self._ids.get(dataset) or canonical_id(dataset)
