"""Tags, by which knowledge bases can be found."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import as_uuid
from headrace.api.dify.dataset_access import NO_API, NO_DATASET, KnowledgeRoutes
from headrace.api.dify.schemas import datasets as schemas
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response, no_content
from headrace.api.http.routing import Operation
from headrace.errors import InvalidParam, NotFound
from headrace.ports.knowledge import Dataset, Tag

if TYPE_CHECKING:
    from headrace.knowledge.tags import Tags

_no_tag = partial(NotFound, "Tag not found")
_no_target = partial(NotFound, "Dataset not found")
_TAKEN = InvalidParam("Tag name already exists")
_NO_TAGS = InvalidParam("tag_ids: Tag IDs is required.")


class DatasetTagRoutes(KnowledgeRoutes):
    """`/v1/datasets/tags...` and `/v1/datasets/{dataset_id}/tags`."""

    tag = "Tags"

    @Operation("POST", "/datasets/tags", schemas.TAG, body=schemas.TAG_REQUEST, errors=(_TAKEN,))
    async def create_knowledge_tag(self, request: Request) -> Response:
        """Create a tag."""
        principal = await self.api.knowledge_principal(request)
        body = parse(schemas.TagRequest, await self.api.json(request))
        tag = await self.tags.create(principal.workspace, body["name"])
        return json_response(_body(tag))

    @Operation("GET", "/datasets/tags", schemas.TAGS)
    async def list_knowledge_tags(self, request: Request) -> Response:
        """List tags."""
        principal = await self.api.knowledge_principal(request)
        tags = await self.knowledge.store.datasets.tags(principal.workspace)
        return json_response([_body(tag) for tag in tags])

    @Operation("PATCH", "/datasets/tags", schemas.TAG, body=schemas.TAG_CHANGE, errors=(_TAKEN, _no_tag()))
    async def change_knowledge_tag(self, request: Request) -> Response:
        """Rename a tag."""
        principal = await self.api.knowledge_principal(request)
        body = parse(schemas.TagChange, await self.api.json(request))
        tag = await self.tags.rename(principal.workspace, as_uuid(body["tag_id"], _no_tag()), body["name"])
        return json_response(_body(tag))

    @Operation("DELETE", "/datasets/tags", {204: ()}, body=schemas.TAG_REMOVAL, errors=(_no_tag(),))
    async def remove_knowledge_tag(self, request: Request) -> Response:
        """Remove a tag.

        The knowledge bases that have it stay.
        """
        principal = await self.api.knowledge_principal(request)
        body = parse(schemas.TagRemoval, await self.api.json(request))
        await self.tags.remove(principal.workspace, as_uuid(body["tag_id"], _no_tag()))
        return no_content()

    @Operation("POST", "/datasets/tags/binding", {204: ()}, body=schemas.TAG_BINDING, errors=(_NO_TAGS, _no_target()))
    async def bind_knowledge_tags(self, request: Request) -> Response:
        """Give a knowledge base tags.

        Tags that it has already, and unknown ones, change nothing.
        """
        principal = await self.api.knowledge_principal(request)
        body = parse(schemas.TagBinding, await self.api.json(request))
        dataset = await self._target(principal.workspace, body["target_id"])
        await self.tags.bind(principal.workspace, dataset.id, body["tag_ids"])
        return no_content()

    @Operation(
        "POST", "/datasets/tags/unbinding", {204: ()}, body=schemas.TAG_UNBINDING, errors=(_NO_TAGS, _no_target())
    )
    async def unbind_knowledge_tags(self, request: Request) -> Response:
        """Take tags from a knowledge base."""
        principal = await self.api.knowledge_principal(request)
        body = parse(schemas.TagUnbinding, await self.api.json(request))
        tag = body.get("tag_id")
        tags = body.get("tag_ids") or ([tag] if tag else [])
        if not tags:
            raise _NO_TAGS
        dataset = await self._target(principal.workspace, body["target_id"])
        await self.tags.unbind(dataset.id, tags)
        return no_content()

    @Operation("GET", "/datasets/{dataset_id}/tags", schemas.BOUND_TAGS, errors=(NO_API, NO_DATASET))
    async def list_dataset_tags(self, request: Request) -> Response:
        """List the tags of a knowledge base."""
        _, dataset = await self.dataset(request)
        tags = (await self.knowledge.store.datasets.tags_of([dataset.id])).get(dataset.id, ())
        response: schemas.BoundTags = {
            "data": [{"id": tag.id, "name": tag.name} for tag in tags],
            "total": len(tags),
        }
        return json_response(response)

    @property
    def tags(self) -> Tags:
        from headrace.knowledge.tags import Tags

        return Tags(self.knowledge.store.datasets, self.clock)

    async def _target(self, workspace: str, dataset_id: str) -> Dataset:
        try:
            return await self.knowledge.dataset(workspace, as_uuid(dataset_id, _no_target()))
        except NotFound:
            raise _no_target() from None


def _body(tag: Tag) -> schemas.Tag:
    return {"id": tag.id, "name": tag.name, "type": "knowledge", "binding_count": str(tag.bindings)}
