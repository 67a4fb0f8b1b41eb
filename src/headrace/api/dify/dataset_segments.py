"""Segments of documents (chunks), and their child chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.dify.dataset_access import (
    LIMIT,
    NO_API,
    NO_DATASET,
    NO_DOCUMENT,
    NO_SEGMENT,
    PAGE,
    KnowledgeRoutes,
    page_of,
    path_uuid,
)
from headrace.api.dify.schemas import segments as schemas
from headrace.api.dify.segment_responses import attachments_of, chunk_body, segment_body
from headrace.api.http.params import keyword, texts
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response, no_content
from headrace.api.http.routing import Operation
from headrace.errors import InvalidParam, NotFound
from headrace.ports.knowledge import Dataset, Document, Segment, SegmentFilter

if TYPE_CHECKING:
    from headrace.knowledge.segments import NewSegment, SegmentUpdate

_SEGMENTS = "/datasets/{dataset_id}/documents/{document_id}/segments"
_SEGMENT = f"{_SEGMENTS}/{{segment_id}}"
_CHUNKS = f"{_SEGMENT}/child_chunks"
_CHUNK = f"{_CHUNKS}/{{child_chunk_id}}"
_KEYWORD = keyword("Text in the content")
_STATUS = texts("status", "Only segments in one of these states: waiting, indexing, completed, error")
_STATUSES = ("waiting", "indexing", "completed", "error")
NOT_COMPLETED = NotFound("Document is not completed.")
DISABLED = NotFound("Document is disabled.")
INDEXING = InvalidParam("Segment is indexing, please try again later")
NO_CHUNK = NotFound("Child chunk not found.")
_NOT_FOUND = (NO_API, NO_DATASET, NO_DOCUMENT)


class SegmentRoutes(KnowledgeRoutes):
    """`/v1/datasets/{dataset_id}/documents/{document_id}/segments...`."""

    tag = "Segments"

    @Operation("POST", _SEGMENTS, schemas.SEGMENTS, body=schemas.ADD, errors=(*_NOT_FOUND, NOT_COMPLETED, DISABLED))
    async def create_segments(self, request: Request) -> Response:
        """Add segments to a document.

        Behind those that it has. They are indexed before the response, and can be found after it.
        """
        principal, dataset, document = await self.document(request)
        body = parse(schemas.SegmentsRequest, await self.api.json(request))
        new: list[NewSegment] = [
            {
                "content": segment["content"],
                "answer": segment.get("answer"),
                "keywords": segment.get("keywords"),
                "attachment_ids": segment.get("attachment_ids"),
            }
            for segment in body["segments"]
        ]
        segments = await self.knowledge.segments.add(dataset, document, principal.id, new)
        response: schemas.Segments = {"data": await self._bodies(dataset, segments), "doc_form": document.doc_form}
        return json_response(response)

    @Operation("GET", _SEGMENTS, schemas.SEGMENT_PAGE, parameters=(PAGE, LIMIT, _STATUS, _KEYWORD), errors=_NOT_FOUND)
    async def list_segments(self, request: Request) -> Response:
        """List the segments of a document.

        In their order. A page has at most 100.
        """
        _, dataset, document = await self.document(request)
        page, limit = page_of(request)
        which = SegmentFilter(
            _KEYWORD.of(request),
            [status for status in _STATUSES if status in _STATUS.of(request)],
            (page - 1) * limit,
            limit,
        )
        segments, total = await self.knowledge.store.segments.segments(document.id, which)
        response: schemas.SegmentPage = {
            "data": await self._bodies(dataset, segments),
            "doc_form": document.doc_form,
            "total": total,
            "has_more": page * limit < total,
            "limit": limit,
            "page": page,
        }
        return json_response(response)

    @Operation("GET", _SEGMENT, schemas.SEGMENT, errors=(*_NOT_FOUND, NO_SEGMENT))
    async def get_segment(self, request: Request) -> Response:
        """Get a segment."""
        _, dataset, document, segment = await self.segment(request)
        return await self._response(dataset, document, segment)

    @Operation("POST", _SEGMENT, schemas.SEGMENT, body=schemas.CHANGE, errors=(*_NOT_FOUND, NO_SEGMENT, INDEXING))
    async def change_segment(self, request: Request) -> Response:
        """Change a segment.

        It is indexed again before the response.
        """
        principal, dataset, document, segment = await self.segment(request)
        fields = parse(schemas.SegmentChange, await self.api.json(request))["segment"]
        update = cast("SegmentUpdate", {name: value for name, value in fields.items() if value is not None})
        new_segment = await self.knowledge.segments.update(dataset, document, segment, principal.id, update)
        return await self._response(dataset, document, new_segment)

    @Operation("DELETE", _SEGMENT, {204: ()}, errors=(*_NOT_FOUND, NO_SEGMENT))
    async def remove_segment(self, request: Request) -> Response:
        """Remove a segment."""
        _, _, _, segment = await self.segment(request)
        await self.knowledge.segments.delete(segment)
        return no_content()

    # -------------------------------------------------------------------------------------------------- child chunks

    @Operation("POST", _CHUNKS, schemas.CHUNK, body=schemas.CHUNK_REQUEST, errors=(*_NOT_FOUND, NO_SEGMENT))
    async def create_child_chunk(self, request: Request) -> Response:
        """Add a child chunk to a segment.

        A search finds the segment by it.
        """
        _, dataset, document, segment = await self.segment(request)
        body = parse(schemas.ChildChunkRequest, await self.api.json(request))
        chunk = await self.knowledge.segments.add_chunk(dataset, document, segment, body["content"])
        response: schemas.OneChildChunk = {"data": chunk_body(chunk)}
        return json_response(response)

    @Operation("GET", _CHUNKS, schemas.CHUNKS, parameters=(PAGE, LIMIT, _KEYWORD), errors=(*_NOT_FOUND, NO_SEGMENT))
    async def list_child_chunks(self, request: Request) -> Response:
        """List the child chunks of a segment.

        In their order. A page has at most 100.
        """
        _, _, _, segment = await self.segment(request)
        page, limit = page_of(request)
        chunks, total = await self.knowledge.store.segments.chunks(
            segment.id,
            keyword=_KEYWORD.of(request),
            offset=(page - 1) * limit,
            limit=limit,
        )
        response: schemas.ChildChunkPage = {
            "data": [chunk_body(chunk) for chunk in chunks],
            "total": total,
            "total_pages": -(-total // limit),
            "page": page,
            "limit": limit,
        }
        return json_response(response)

    @Operation("PATCH", _CHUNK, schemas.CHUNK, body=schemas.CHUNK_REQUEST, errors=(*_NOT_FOUND, NO_SEGMENT, NO_CHUNK))
    async def change_child_chunk(self, request: Request) -> Response:
        """Change a child chunk."""
        _, dataset, document, segment = await self.segment(request)
        chunk = await self.knowledge.segments.chunk(segment, path_uuid(request, "child_chunk_id"))
        body = parse(schemas.ChildChunkRequest, await self.api.json(request))
        new_chunk = await self.knowledge.segments.update_chunk(dataset, document, segment, chunk, body["content"])
        response: schemas.OneChildChunk = {"data": chunk_body(new_chunk)}
        return json_response(response)

    @Operation("DELETE", _CHUNK, {204: ()}, errors=(*_NOT_FOUND, NO_SEGMENT, NO_CHUNK))
    async def remove_child_chunk(self, request: Request) -> Response:
        """Remove a child chunk."""
        _, _, _, segment = await self.segment(request)
        chunk = await self.knowledge.segments.chunk(segment, path_uuid(request, "child_chunk_id"))
        await self.knowledge.segments.delete_chunk(chunk)
        return no_content()

    # ------------------------------------------------------------------------------------------------------ response

    async def _response(self, dataset: Dataset, document: Document, segment: Segment) -> Response:
        response: schemas.OneSegment = {
            "data": (await self._bodies(dataset, [segment]))[0],
            "doc_form": document.doc_form,
        }
        return json_response(response)

    async def _bodies(self, dataset: Dataset, segments: Sequence[Segment]) -> list[schemas.Segment]:
        chunks = await self.knowledge.store.segments.chunks_of([segment.id for segment in segments])
        return [
            segment_body(
                segment,
                [chunk for chunk in chunks if chunk.segment == segment.id],
                await attachments_of(segment, dataset.workspace, self.api.apps.catalog),
            )
            for segment in segments
        ]
