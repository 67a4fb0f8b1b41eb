"""The fields of a knowledge base's metadata, and the values of its documents."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import as_uuid
from headrace.api.dify.dataset_access import NO_API, NO_DATASET, KnowledgeRoutes, path_uuid
from headrace.api.dify.schemas import dataset_metadata as schemas
from headrace.api.dify.schemas.documents import SUCCESS
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response, no_content, success
from headrace.api.http.routing import Operation
from headrace.errors import InvalidParam, NotFound
from headrace.ports.knowledge import MetadataField

if TYPE_CHECKING:
    from headrace.knowledge.metadata import Metadata

_FIELDS = "/datasets/{dataset_id}/metadata"
_FIELD = f"{_FIELDS}/{{metadata_id}}"
_no_field = partial(NotFound, "Metadata not found.")
_no_document = partial(InvalidParam, "Document not found.")
_TAKEN = InvalidParam("Metadata name already exists.")
_NOT_FOUND = (NO_API, NO_DATASET)


class MetadataRoutes(KnowledgeRoutes):
    """`/v1/datasets/{dataset_id}/metadata...` and `/v1/datasets/{dataset_id}/documents/metadata`."""

    tag = "Metadata"

    @property
    def metadata(self) -> Metadata:
        from headrace.knowledge.metadata import Metadata

        return Metadata(self.knowledge.store, self.clock)

    @Operation("POST", _FIELDS, {201: schemas.FIELD}, body=schemas.FIELD_REQUEST, errors=(_TAKEN, *_NOT_FOUND))
    async def create_metadata_field(self, request: Request) -> Response:
        """Create a field of metadata."""
        _, dataset = await self.dataset(request)
        body = parse(schemas.MetadataFieldRequest, await self.api.json(request))
        return json_response(_body(await self.metadata.add_field(dataset, body["name"], body["type"])), 201)

    @Operation("GET", _FIELDS, schemas.FIELDS, errors=_NOT_FOUND)
    async def list_metadata_fields(self, request: Request) -> Response:
        """List the fields of metadata.

        With the number of documents that have a value.
        """
        _, dataset = await self.dataset(request)
        counts = await self.metadata.counts(dataset)
        response: schemas.MetadataFields = {
            "doc_metadata": [
                {**_body(field), "count": counts.get(field.id, 0)}
                for field in await self.knowledge.store.datasets.metadata_fields(dataset.id)
            ],
            "built_in_field_enabled": dataset.built_in_fields,
        }
        return json_response(response)

    @Operation("GET", f"{_FIELDS}/built-in", schemas.BUILT_IN, errors=_NOT_FOUND)
    async def list_built_in_fields(self, request: Request) -> Response:
        """List the built-in fields.

        What every document has where these fields are switched on.
        """
        from headrace.knowledge.metadata import BUILT_IN_FIELDS

        await self.dataset(request)
        response: schemas.BuiltInFields = {
            "fields": [{"name": name, "type": type_} for name, type_ in BUILT_IN_FIELDS.items()]
        }
        return json_response(response)

    @Operation("POST", f"{_FIELDS}/built-in/{{action}}", SUCCESS, errors=_NOT_FOUND)
    async def switch_built_in_fields(self, request: Request) -> Response:
        """Switch the built-in fields on or off."""
        principal, dataset = await self.dataset(request)
        action = request.path_params["action"]
        if action not in ("enable", "disable"):
            raise InvalidParam("action: Input should be 'enable' or 'disable'")
        await self.metadata.switch_built_in(dataset, principal.id, on=action == "enable")
        return success()

    @Operation("PATCH", _FIELD, schemas.FIELD, body=schemas.FIELD_CHANGE, errors=(_TAKEN, *_NOT_FOUND, _no_field()))
    async def rename_metadata_field(self, request: Request) -> Response:
        """Rename a field of metadata."""
        _, dataset = await self.dataset(request)
        body = parse(schemas.MetadataFieldChange, await self.api.json(request))
        field = await self.metadata.rename_field(dataset, path_uuid(request, "metadata_id"), body["name"])
        return json_response(_body(field))

    @Operation("DELETE", _FIELD, {204: ()}, errors=(*_NOT_FOUND, _no_field()))
    async def remove_metadata_field(self, request: Request) -> Response:
        """Remove a field of metadata.

        With its values.
        """
        _, dataset = await self.dataset(request)
        await self.metadata.remove_field(dataset, path_uuid(request, "metadata_id"))
        return no_content()

    @Operation(
        "POST",
        "/datasets/{dataset_id}/documents/metadata",
        SUCCESS,
        body=schemas.OPERATIONS,
        errors=(_no_document(), *_NOT_FOUND, _no_field()),
    )
    async def change_documents_metadata(self, request: Request) -> Response:
        """Change the metadata of documents.

        All of them, or none if a document, a field or a value is not valid.
        """
        from headrace.knowledge.metadata import MetadataUpdate

        _, dataset = await self.dataset(request)
        body = parse(schemas.MetadataOperations, await self.api.json(request))
        updates = [
            MetadataUpdate(
                as_uuid(operation["document_id"], _no_document()),
                {as_uuid(entry["id"], _no_field()): entry.get("value") for entry in operation["metadata_list"]},
                bool(operation.get("partial_update")),
            )
            for operation in body["operation_data"]
        ]
        await self.metadata.update(dataset, updates)
        return success()


def _body(field: MetadataField) -> schemas.FieldOfMetadata:
    return {"id": field.id, "name": field.name, "type": field.type}
