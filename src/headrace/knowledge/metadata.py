"""The fields of a knowledge base's metadata, and the values that its documents have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import uuid4

from headrace.errors import InvalidParam, NotFound
from headrace.frozen import frozen
from headrace.ports.knowledge import Dataset, DatasetChanges, MetadataField, MetadataType
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.values import Value

BUILT_IN_FIELDS: Mapping[str, MetadataType] = {
    "document_name": "string",
    "uploader": "string",
    "upload_date": "time",
    "last_update_date": "time",
    "source": "string",
}
"""What every document has, by name, where a knowledge base has these fields switched on."""

_name_taken = partial(InvalidParam, "Metadata name already exists.")
_built_in = partial(InvalidParam, "Metadata name already exists in Built-in fields.")
_no_field = partial(NotFound, "Metadata not found.")
_no_document = partial(InvalidParam, "Document not found.")


@frozen
class MetadataUpdate:
    """New values of a document, by the ids of their fields; without `partial` they replace all that it has."""

    document: str
    values: Mapping[str, Value]
    partial: bool = False


class Metadata:
    """`clock` gives seconds since the epoch."""

    def __init__(self, store: KnowledgeStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def add_field(self, dataset: Dataset, name: str, type_: MetadataType) -> MetadataField:
        if name in BUILT_IN_FIELDS:
            raise _built_in()
        field = MetadataField(str(uuid4()), dataset.id, name, type_, self._clock())
        if not await self._store.datasets.add_metadata_field(field):
            raise _name_taken()
        return field

    async def rename_field(self, dataset: Dataset, field_id: str, name: str) -> MetadataField:
        field = await self._field(dataset, field_id)
        if name in BUILT_IN_FIELDS:
            raise _built_in()
        if field.name != name and not await self._store.datasets.rename_metadata_field(field.id, name):
            raise _name_taken()
        return replace(field, name=name)

    async def remove_field(self, dataset: Dataset, field_id: str) -> None:
        """Removes a field; the values of documents are no longer shown."""
        await self._store.datasets.remove_metadata_field((await self._field(dataset, field_id)).id)

    async def counts(self, dataset: Dataset) -> Mapping[str, int]:
        """How many documents have a value, by the field's id."""
        counts: dict[str, int] = {}
        for values in (await self._store.documents.metadata_values(dataset.id)).values():
            for field in values:
                counts[field] = counts.get(field, 0) + 1
        return counts

    async def switch_built_in(self, dataset: Dataset, by: str, *, on: bool) -> None:
        changes: DatasetChanges = {"built_in_fields": on, "updated_by": by, "updated_at": self._clock()}
        await self._store.datasets.change_dataset(dataset.id, changes)

    async def update(self, dataset: Dataset, updates: Sequence[MetadataUpdate]) -> None:
        """Gives documents their values; all of them, or none if one is not valid. A value of None removes it."""
        fields = {field.id: field for field in await self._store.datasets.metadata_fields(dataset.id)}
        for update in updates:
            for field_id, value in update.values.items():
                if field_id not in fields:
                    raise _no_field()
                _check(fields[field_id], value)

        def changed(document: str, metadata: Mapping[str, Value]) -> Mapping[str, Value]:
            for update in updates:
                if update.document == document:
                    values = {**(metadata if update.partial else {}), **update.values}
                    metadata = {field: value for field, value in values.items() if value is not None}
            return metadata

        documents = {update.document for update in updates}
        if not await self._store.documents.change_metadata(dataset.id, documents, changed, self._clock()):
            raise _no_document()

    async def _field(self, dataset: Dataset, field_id: str) -> MetadataField:
        fields = await self._store.datasets.metadata_fields(dataset.id)
        field = next((field for field in fields if field.id == field_id), None)
        if field is None:
            raise _no_field()
        return field


def _check(field: MetadataField, value: Value) -> None:
    """InvalidParam for a value that is not of the field's type. A time is a number of seconds since the epoch."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if value is None or (isinstance(value, str) if field.type == "string" else is_number):
        return
    expected = {"string": "a string", "number": "a number", "time": "a time, in seconds since the epoch"}[field.type]
    raise InvalidParam(f"{field.name}: Input should be {expected}")
