"""What the calls for knowledge bases share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic_core import to_json

from headrace_client._async.core import AsyncResource, encode_segment
from headrace_client._async.pages import AsyncPages
from headrace_client._async.transport import Timeout
from headrace_client.file_inputs import File, to_file
from headrace_client.response_model import Page, Payload, ResponseModel
from headrace_client.wire import parse_array, parse_model, parse_object

_M = TypeVar("_M", bound=ResponseModel)


def dataset_path(dataset_id: str, *segments: str) -> str:
    """The path of a knowledge base, or of what is in it. UsageError if an id would change the path."""
    return "/".join(("/v1/datasets", *(encode_segment(segment) for segment in (dataset_id, *segments))))


class AsyncDatasetResource(AsyncResource):
    """The base class of the calls for knowledge bases."""

    async def _call(
        self,
        kind: type[_M],
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        timeout: Timeout,
        repeat: bool = True,
    ) -> _M:
        """The JSON object of a response as a model. `repeat`: whether to retry even if the server may have received the
        request."""
        response = await self._transport.request(method, path, json=body, params=params, timeout=timeout, repeat=repeat)
        return parse_model(kind, parse_object(response))

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout: Timeout, repeat: bool = True
    ) -> None:
        await self._transport.request(method, path, json=body, timeout=timeout, repeat=repeat)

    async def _list(
        self, kind: type[Page[_M]], path: str, timeout: Timeout, params: Mapping[str, Any] | None = None
    ) -> list[_M]:
        """The JSON array of a response."""
        response = await self._transport.request("GET", path, params=params, timeout=timeout)
        return parse_model(kind, parse_array(response)).data

    def _pages(self, kind: type[Page[_M]], path: str, params: Mapping[str, Any], first: int) -> AsyncPages[_M]:
        async def fetch(number: Any) -> Page[_M]:
            payload = await self._transport.get(path, {**params, "page": number})
            return parse_model(kind, Payload({"page": number, **payload}, payload.response))

        return AsyncPages(fetch, _next_page, first)

    async def _upload(
        self,
        kind: type[_M],
        path: str,
        file: Any,
        filename: str | None,
        fields: Mapping[str, Any] | None,
        timeout: Timeout,
    ) -> _M:
        """Sends a file and, as JSON text, what else the request has."""
        value = to_file(file)
        part = (File(value.content, filename, value.mime_type) if filename else value).part()
        data = {} if fields is None else {"data": to_json(fields).decode()}
        try:
            response = await self._transport.request(
                "POST",
                path,
                form=lambda: {"data": data, "files": {"file": part.rewind()}},
                timeout=timeout,
                repeat=False,
            )
        finally:
            part.close()
        return parse_model(kind, parse_object(response))


def _next_page(page: Page[Any]) -> int | None:
    """The number of the page that follows, by whether the server says that there is one, or by its total."""
    number, total, limit = page.page or 1, page.total, page.limit
    has_more = page.has_more if page.has_more is not None else bool(total and limit and number * limit < total)
    return number + 1 if has_more else None
