"""Searches in knowledge bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.dify.dataset_access import NO_API, NO_DATASET, KnowledgeRoutes
from headrace.api.dify.schemas import segments
from headrace.api.dify.segment_responses import attachments_of, segment_base
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation
from headrace.errors import HeadraceError, RequestError
from headrace.ports.knowledge import Dataset, MetadataField
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.knowledge.retrieval import Hit

NO_PROVIDER = RequestError(
    "No valid model provider credentials found. "
    "Please go to Settings -> Model Provider to complete your provider credentials.",
    "provider_not_initialize",
    400,
)
FAILED = RequestError("The model is overloaded.", "completion_request_error", 400)


class RetrievalRoutes(KnowledgeRoutes):
    """`/v1/datasets/{dataset_id}/retrieve`."""

    tag = "Knowledge bases"

    @Operation(
        "POST",
        "/datasets/{dataset_id}/retrieve",
        segments.RETRIEVAL,
        body=segments.RETRIEVE,
        errors=(NO_PROVIDER, FAILED, NO_API, NO_DATASET),
    )
    async def retrieve_segments(self, request: Request) -> Response:
        """Search a knowledge base.

        Finds the segments that match a query best, with their scores.
        """
        from headrace.knowledge.retrieval import parse_settings

        _, dataset = await self.dataset(request, "run")
        body = parse(segments.RetrieveRequest, await self.api.json(request))
        settings = parse_settings(body.get("retrieval_model") or dataset.retrieval_model)
        try:
            hits = await self.bases.retriever().retrieve(dataset, body["query"], settings)
        except RequestError:
            raise
        except HeadraceError as error:
            raise RequestError(str(error), "completion_request_error", 400) from error
        fields = await self.knowledge.store.datasets.metadata_fields(dataset.id)
        response: segments.Retrieval = {
            "query": {"content": body["query"]},
            "records": [await self._found(dataset, hit, fields) for hit in hits],
        }
        return json_response(response)

    async def _found(self, dataset: Dataset, hit: Hit, fields: Sequence[MetadataField]) -> segments.Found:
        document = hit.document
        metadata: Mapping[str, Value] = {
            field.name: document.metadata[field.id] for field in fields if field.id in document.metadata
        }
        return {
            "segment": {
                **segment_base(hit.segment),
                "document": {
                    "id": document.id,
                    "data_source_type": document.data_source_type,
                    "name": document.name,
                    "doc_type": document.doc_type,
                    "doc_metadata": metadata or None,
                },
            },
            "child_chunks": [
                {"id": chunk.id, "content": chunk.content, "position": chunk.position, "score": score}
                for chunk, score in hit.chunks
            ],
            "score": hit.score,
            "tsne_position": None,
            "files": await attachments_of(hit.segment, dataset.workspace, self.api.apps.catalog),
            "summary": hit.summary,
        }
