"""Tags of a workspace, by which its knowledge bases can be found."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from uuid import uuid4

from headrace.errors import InvalidParam, NotFound
from headrace.ports.knowledge import Tag
from headrace.ports.knowledge_store import Datasets

_name_taken = partial(InvalidParam, "Tag name already exists")
_no_tag = partial(NotFound, "Tag not found")


class Tags:
    """Creates, renames, removes and binds tags. `clock` gives seconds since the epoch."""

    def __init__(self, store: Datasets, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def create(self, workspace: str, name: str) -> Tag:
        tag = Tag(str(uuid4()), workspace, name, self._clock())
        if not await self._store.add_tag(tag):
            raise _name_taken()
        return tag

    async def rename(self, workspace: str, tag_id: str, name: str) -> Tag:
        tags = await self._store.tags(workspace)
        tag = next((tag for tag in tags if tag.id == tag_id), None)
        if tag is None:
            raise _no_tag()
        if tag.name != name and not await self._store.rename_tag(workspace, tag_id, name):
            raise _name_taken()
        return replace(tag, name=name)

    async def remove(self, workspace: str, tag_id: str) -> None:
        if not await self._store.remove_tag(workspace, tag_id):
            raise _no_tag()

    async def bind(self, workspace: str, dataset: str, tag_ids: Collection[str]) -> None:
        """Unknown tags are ignored."""
        known = {tag.id for tag in await self._store.tags(workspace)}
        await self._store.bind_tags(dataset, known.intersection(tag_ids))

    async def unbind(self, dataset: str, tag_ids: Collection[str]) -> None:
        await self._store.unbind_tags(dataset, tag_ids)
