"""Knowledge bases: create, list, change, remove and search them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.dify.dataset_access import LIMIT, NO_API, NO_DATASET, PAGE, KnowledgeRoutes, page_of
from headrace.api.dify.dataset_responses import dataset_bodies
from headrace.api.dify.schemas import datasets as schemas
from headrace.api.http.params import boolean, keyword, texts
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response, no_content
from headrace.api.http.routing import Operation
from headrace.errors import InvalidParam, RequestError
from headrace.ports.knowledge import Dataset, DatasetChanges
from headrace.values import Value

_KEYWORD = keyword("Text in the name")
_TAGS = texts("tag_ids", "Only knowledge bases with one of these tags")
_ALL = boolean("include_all", "Accepted, and of no effect: a key opens all knowledge bases of its workspace")
NAME_TAKEN = RequestError(
    "The dataset name already exists. Please modify your dataset name.", "dataset_name_duplicate", 409
)
NO_EMBEDDING = InvalidParam(
    "No Embedding Model available. Please configure a valid provider in the Settings -> Model Provider."
)
_EXTERNAL = InvalidParam("provider: Input should be 'vendor': sources elsewhere are settings of the server")


class DatasetRoutes(KnowledgeRoutes):
    """`/v1/datasets` and `/v1/datasets/{dataset_id}`."""

    tag = "Knowledge bases"

    @Operation("POST", "/datasets", schemas.DATASET, body=schemas.CREATE, errors=(NO_EMBEDDING, NAME_TAKEN))
    async def create_dataset(self, request: Request) -> Response:
        """Create a knowledge base.

        It is empty; documents follow. What it does not say here, its first document decides.
        """
        principal = await self.api.knowledge_principal(request)
        body = parse(schemas.DatasetRequest, await self.api.json(request))
        if body.get("provider", "vendor") != "vendor":
            raise _EXTERNAL
        changes = _changes({**body})
        if setting := body.get("summary_index_setting"):
            changes["summary_index"] = {**setting}
        dataset = await self.knowledge.create(principal.workspace, principal.id, body["name"], changes)
        return await self._response(dataset)

    @Operation("GET", "/datasets", schemas.DATASETS, parameters=(PAGE, LIMIT, _KEYWORD, _TAGS, _ALL))
    async def list_datasets(self, request: Request) -> Response:
        """List knowledge bases.

        Newest first. A page has at most 100.
        """
        principal = await self.api.knowledge_principal(request)
        page, limit = page_of(request)
        _ALL.of(request)
        datasets, total = await self.knowledge.store.datasets.datasets(
            principal.workspace,
            keyword=_KEYWORD.of(request),
            tags=_TAGS.of(request),
            offset=(page - 1) * limit,
            limit=limit,
        )
        response: schemas.DatasetPage = {
            "data": await dataset_bodies(self.knowledge, datasets),
            "has_more": page * limit < total,
            "limit": limit,
            "total": total,
            "page": page,
        }
        return json_response(response)

    @Operation("GET", "/datasets/{dataset_id}", schemas.DATASET, errors=(NO_API, NO_DATASET))
    async def get_dataset(self, request: Request) -> Response:
        """Get a knowledge base."""
        _, dataset = await self.dataset(request)
        return await self._response(dataset)

    @Operation(
        "PATCH",
        "/datasets/{dataset_id}",
        schemas.DATASET,
        body=schemas.CHANGE,
        errors=(NO_EMBEDDING, NO_API, NO_DATASET),
    )
    async def change_dataset(self, request: Request) -> Response:
        """Change a knowledge base.

        What the request does not name stays. Another embedding model, or `high_quality` instead of `economy`, indexes
        all documents again.
        """
        principal, dataset = await self.dataset(request)
        body = parse(schemas.DatasetChange, await self.api.json(request))
        new_dataset = await self.knowledge.update(dataset, principal.id, _changes({**body}))
        return await self._response(new_dataset, members=True)

    @Operation("DELETE", "/datasets/{dataset_id}", {204: ()}, errors=(NO_API, NO_DATASET))
    async def remove_dataset(self, request: Request) -> Response:
        """Remove a knowledge base.

        With all its documents. Their files stay until they are no longer needed.
        """
        _, dataset = await self.dataset(request)
        await self.knowledge.delete(dataset)
        return no_content()

    # ------------------------------------------------------------------------------------------------------ response

    async def _response(self, dataset: Dataset, *, members: bool = False) -> Response:
        [body] = await dataset_bodies(self.knowledge, [dataset])
        return json_response({**body, "partial_member_list": []} if members else body)


_FIELDS = {
    "name": "name",
    "description": "description",
    "permission": "permission",
    "indexing_technique": "technique",
    "embedding_model": "embedding_model",
    "embedding_model_provider": "embedding_provider",
    "retrieval_model": "retrieval_model",
}


def _changes(body: Mapping[str, Value]) -> DatasetChanges:
    """The fields of a request that are set, by the names of the store."""
    changes = {name: body[field] for field, name in _FIELDS.items() if body.get(field) is not None}
    return cast("DatasetChanges", changes)
