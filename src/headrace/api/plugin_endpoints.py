"""`/e/{hook}/...`: the HTTP endpoints of plugins, at the paths that they have in Dify."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headrace.api.http.request_body import Body
from headrace.ports.plugins import EndpointRequest, EndpointResponse, Endpoints

_SANDBOX = "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts"
"""The policy of a page that a plugin serves: it has an origin of its own, not that of the console."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def routes(endpoints: Endpoints, max_body: int) -> list[Route]:
    """They need no key: the plugin authenticates its callers, and a hook is a name that cannot be guessed."""

    async def call(request: Request) -> Response:
        raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
        hook, slash, rest = raw.partition(b"/e/")[2].partition(b"/")  # the router has decoded it, slashes included
        target = (slash + rest).decode("latin-1") or "/"
        query = request.scope["query_string"].decode("latin-1")
        response = await endpoints.call(
            unquote_to_bytes(hook).decode("latin-1"),
            EndpointRequest(
                request.method,
                f"{target}?{query}" if query else target,
                str(request.url.replace(path=raw.decode("latin-1"))),
                request.headers.items(),
                await Body(request, max_body).whole(),
            ),
        )
        return _PluginResponse(response)

    paths = ("/e/{hook}", "/e/{hook}/{path:path}")
    return [Route(path, call, methods=_METHODS, include_in_schema=False) for path in paths]


async def _allowed_body(response: EndpointResponse) -> AsyncGenerator[bytes]:
    """The pieces of the body; none if the status allows no body."""
    async for piece in response.body:
        if response.status not in (204, 304):
            yield piece


class _PluginResponse(StreamingResponse):
    """The body is closed even if the client has disconnected, which stops the plugin's work on it."""

    def __init__(self, response: EndpointResponse) -> None:
        super().__init__(_allowed_body(response), response.status, {"Content-Security-Policy": _SANDBOX})
        for name, value in response.headers:
            self.headers.append(name, value)
        self._body = response.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._body):
            await super().__call__(scope, receive, send)
