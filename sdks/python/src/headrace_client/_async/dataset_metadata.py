"""The metadata of documents, and the tags of knowledge bases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headrace_client._async.dataset_calls import AsyncDatasetResource, dataset_path
from headrace_client._async.transport import Timeout
from headrace_client.dataset_models import MetadataField, MetadataFields, Tag
from headrace_client.models import Result
from headrace_client.response_model import Page
from headrace_client.wire import parse_model

if TYPE_CHECKING:
    from headrace_client.dataset_settings import DocumentMetadata, MetadataType


class AsyncDatasetMetadata(AsyncDatasetResource):
    """Calls for metadata and tags."""

    async def create_metadata_field(
        self, dataset_id: str, name: str, type: MetadataType = "string", *, timeout: Timeout = None
    ) -> MetadataField:
        """Adds a field to the documents' metadata. `type`: string, number or time."""
        path, body = dataset_path(dataset_id, "metadata"), {"type": type, "name": name}
        return await self._call(MetadataField, "POST", path, body, timeout=timeout, repeat=False)

    async def get_metadata_fields(self, dataset_id: str, *, timeout: Timeout = None) -> MetadataFields:
        """The fields of the documents' metadata, and whether the built-in ones are switched on."""
        return await self._call(MetadataFields, "GET", dataset_path(dataset_id, "metadata"), timeout=timeout)

    async def rename_metadata_field(
        self, dataset_id: str, metadata_id: str, name: str, *, timeout: Timeout = None
    ) -> MetadataField:
        """Renames a field."""
        path = dataset_path(dataset_id, "metadata", metadata_id)
        # a repeated request would say that the name exists
        return await self._call(MetadataField, "PATCH", path, {"name": name}, timeout=timeout, repeat=False)

    async def delete_metadata_field(self, dataset_id: str, metadata_id: str, *, timeout: Timeout = None) -> None:
        """Deletes a field and the documents' values of it."""
        await self._send("DELETE", dataset_path(dataset_id, "metadata", metadata_id), timeout=timeout)

    async def get_built_in_fields(self, dataset_id: str, *, timeout: Timeout = None) -> list[MetadataField]:
        """The fields that every document has where they are switched on."""
        path = dataset_path(dataset_id, "metadata", "built-in")
        fields: list[dict[str, Any]] = (await self._transport.get(path, timeout=timeout)).get("fields") or []
        return [parse_model(MetadataField, field) for field in fields]

    async def switch_built_in_fields(self, dataset_id: str, *, on: bool, timeout: Timeout = None) -> Result:
        """Switches the built-in fields on or off."""
        path = dataset_path(dataset_id, "metadata", "built-in", "enable" if on else "disable")
        return await self._call(Result, "POST", path, timeout=timeout)

    async def update_document_metadata(
        self, dataset_id: str, documents: Sequence[DocumentMetadata], *, timeout: Timeout = None
    ) -> Result:
        """Sets the metadata of documents."""
        path = dataset_path(dataset_id, "documents", "metadata")
        body = {"operation_data": [dict(document) for document in documents]}
        return await self._call(Result, "POST", path, body, timeout=timeout)

    # --------------------------------------------------------------------------------------------------------- tags

    async def create_tag(self, name: str, *, timeout: Timeout = None) -> Tag:
        """Creates a tag for knowledge bases."""
        return await self._call(Tag, "POST", "/v1/datasets/tags", {"name": name}, timeout=timeout, repeat=False)

    async def get_tags(self, *, timeout: Timeout = None) -> list[Tag]:
        """The tags of the key's workspace."""
        return await self._list(Page[Tag], "/v1/datasets/tags", timeout)

    async def rename_tag(self, tag_id: str, name: str, *, timeout: Timeout = None) -> Tag:
        """Renames a tag."""
        body = {"tag_id": tag_id, "name": name}
        return await self._call(Tag, "PATCH", "/v1/datasets/tags", body, timeout=timeout, repeat=False)

    async def delete_tag(self, tag_id: str, *, timeout: Timeout = None) -> None:
        """Deletes a tag; the knowledge bases that have it stay."""
        await self._send("DELETE", "/v1/datasets/tags", {"tag_id": tag_id}, timeout=timeout)

    async def bind_tags(self, dataset_id: str, tag_ids: Sequence[str], *, timeout: Timeout = None) -> None:
        """Gives a knowledge base tags."""
        body = {"target_id": dataset_id, "tag_ids": list(tag_ids)}
        await self._send("POST", "/v1/datasets/tags/binding", body, timeout=timeout)

    async def unbind_tags(self, dataset_id: str, tag_ids: Sequence[str], *, timeout: Timeout = None) -> None:
        """Takes tags from a knowledge base."""
        body = {"target_id": dataset_id, "tag_ids": list(tag_ids)}
        await self._send("POST", "/v1/datasets/tags/unbinding", body, timeout=timeout)

    async def get_dataset_tags(self, dataset_id: str, *, timeout: Timeout = None) -> list[Tag]:
        """The tags of a knowledge base."""
        return (await self._call(Page[Tag], "GET", dataset_path(dataset_id, "tags"), timeout=timeout)).data
