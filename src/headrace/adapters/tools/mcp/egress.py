"""HTTP to MCP servers that a workflow file names, by the rules for http-request nodes: the official package has none.

The package itself follows redirects only within the origin of the server, so that every request is checked here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import httpx2

from headrace.adapters.egress import Egress, EgressRefused

LARGEST_MESSAGE = 10 * 1024 * 1024  # bytes, as of a response to an http-request node


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Connects to addresses that passed the guard: a name is resolved here, and what it resolves to is connected to.
    Proxy settings in the environment are ignored, because a proxy would resolve names without the guard."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        host, port = url.host, url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._egress.addresses(host, port)
        except (EgressRefused, OSError, ValueError) as error:  # ValueError: not a valid name
            raise httpx2.ConnectError(str(error), request=request) from error
        request.headers["Accept-Encoding"] = "identity"  # a small compressed body may be a huge one
        failure: httpx2.ConnectError | None = None
        for address in addresses:
            direct = httpx2.Request(
                request.method,
                url.copy_with(host=str(address)),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                response = await self._inner.handle_async_request(direct)
            except httpx2.ConnectError as error:
                failure = error
                continue
            return await _bounded(response, request)
        raise failure or httpx2.ConnectError(f"{host} has no address", request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _bounded(response: httpx2.Response, request: httpx2.Request) -> httpx2.Response:
    """The response, whose body must not be compressed. It is also limited in size, except for a stream of events, which
    may be open for long; the events themselves are limited there."""
    if response.headers.get("content-encoding", "identity") != "identity":
        await response.aclose()
        raise httpx2.RemoteProtocolError("it sent a compressed response, which was not requested", request=request)
    if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        response.stream = _Bounded(cast("httpx2.AsyncByteStream", response.stream), request)
    return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, request: httpx2.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > LARGEST_MESSAGE:
                raise httpx2.ReadError(f"its response is larger than {LARGEST_MESSAGE} bytes", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
