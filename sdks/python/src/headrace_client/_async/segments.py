"""Segments of documents (chunks), and their child chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from headrace_client._async.dataset_calls import AsyncDatasetResource, dataset_path
from headrace_client._async.pages import AsyncPages
from headrace_client._async.transport import Timeout
from headrace_client.dataset_models import ChildChunk, Segment
from headrace_client.response_model import Page, Payload, ResponseModel
from headrace_client.wire import parse_model, parse_object

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from headrace_client.dataset_settings import NewSegment, SegmentChanges

_M = TypeVar("_M", bound=ResponseModel)


class AsyncSegments(AsyncDatasetResource):
    """Calls for segments and child chunks."""

    async def create_segments(
        self, dataset_id: str, document_id: str, segments: Sequence[NewSegment], *, timeout: Timeout = None
    ) -> list[Segment]:
        """Adds segments to a document that is indexed."""
        path = dataset_path(dataset_id, "documents", document_id, "segments")
        body = {"segments": [dict(segment) for segment in segments]}
        return (await self._call(Page[Segment], "POST", path, body, timeout=timeout, repeat=False)).data

    def list_segments(
        self,
        dataset_id: str,
        document_id: str,
        *,
        keyword: str | None = None,
        status: Sequence[str] | None = None,
        limit: int = 20,
        page: int = 1,
    ) -> AsyncPages[Segment]:
        """The segments of a document, in their order. `status`: waiting, indexing, completed, error. A page has at most
        100."""
        params = {"keyword": keyword, "status": None if status is None else list(status), "limit": limit}
        return self._pages(Page[Segment], dataset_path(dataset_id, "documents", document_id, "segments"), params, page)

    async def get_segment(
        self, dataset_id: str, document_id: str, segment_id: str, *, timeout: Timeout = None
    ) -> Segment:
        """A segment."""
        path = dataset_path(dataset_id, "documents", document_id, "segments", segment_id)
        return await self._call_for_data(Segment, "GET", path, None, timeout)

    async def update_segment(
        self,
        dataset_id: str,
        document_id: str,
        segment_id: str,
        *,
        timeout: Timeout = None,
        **changes: Unpack[SegmentChanges],
    ) -> Segment:
        """Changes a segment, and indexes it again. `changes`: see `SegmentChanges`."""
        path = dataset_path(dataset_id, "documents", document_id, "segments", segment_id)
        return await self._call_for_data(Segment, "POST", path, {"segment": changes}, timeout)

    async def delete_segment(
        self, dataset_id: str, document_id: str, segment_id: str, *, timeout: Timeout = None
    ) -> None:
        """Deletes a segment."""
        path = dataset_path(dataset_id, "documents", document_id, "segments", segment_id)
        await self._send("DELETE", path, timeout=timeout)

    # -------------------------------------------------------------------------------------------------- child chunks

    async def create_child_chunk(
        self, dataset_id: str, document_id: str, segment_id: str, content: str, *, timeout: Timeout = None
    ) -> ChildChunk:
        """Adds a child chunk to a segment."""
        path = dataset_path(dataset_id, "documents", document_id, "segments", segment_id, "child_chunks")
        return await self._call_for_data(ChildChunk, "POST", path, {"content": content}, timeout, repeat=False)

    def list_child_chunks(
        self,
        dataset_id: str,
        document_id: str,
        segment_id: str,
        *,
        keyword: str | None = None,
        limit: int = 20,
        page: int = 1,
    ) -> AsyncPages[ChildChunk]:
        """The child chunks of a segment, in their order. A page has at most 100."""
        path = dataset_path(dataset_id, "documents", document_id, "segments", segment_id, "child_chunks")
        return self._pages(Page[ChildChunk], path, {"keyword": keyword, "limit": limit}, page)

    async def update_child_chunk(
        self,
        dataset_id: str,
        document_id: str,
        segment_id: str,
        child_chunk_id: str,
        content: str,
        *,
        timeout: Timeout = None,
    ) -> ChildChunk:
        """Changes a child chunk."""
        path = dataset_path(
            dataset_id, "documents", document_id, "segments", segment_id, "child_chunks", child_chunk_id
        )
        return await self._call_for_data(ChildChunk, "PATCH", path, {"content": content}, timeout)

    async def delete_child_chunk(
        self, dataset_id: str, document_id: str, segment_id: str, child_chunk_id: str, *, timeout: Timeout = None
    ) -> None:
        """Deletes a child chunk."""
        path = dataset_path(
            dataset_id, "documents", document_id, "segments", segment_id, "child_chunks", child_chunk_id
        )
        await self._send("DELETE", path, timeout=timeout)

    async def _call_for_data(
        self,
        kind: type[_M],
        method: str,
        path: str,
        body: Any,
        timeout: Timeout,
        *,
        repeat: bool = True,
    ) -> _M:
        """What a response has as `data`."""
        response = await self._transport.request(method, path, json=body, timeout=timeout, repeat=repeat)
        data: Any = parse_object(response).get("data")
        return parse_model(kind, Payload(cast("dict[str, Any]", data) if isinstance(data, dict) else {}, response))
