"""The outermost ring of the API: CORS, version headers, and the answer to what nobody foresaw.

Plain ASGI, because what wraps responses of its own makes streams stutter and every call dearer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.api.errors import envelope, of_status

logger = logging.getLogger(__name__)

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_PREFLIGHT_SECONDS = "600"


class Edge:
    """Wraps the API. `origins` are the web origins that browsers may call from, ["*"] for all."""

    def __init__(self, app: ASGIApp, origins: Sequence[str], headers: Mapping[str, str]) -> None:
        self._app = app
        self._all = "*" in origins
        self._origins = frozenset(origins)
        self._always = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        if headers:
            self._always.append((b"access-control-expose-headers", ", ".join(headers).encode()))
        if self._all:
            self._always.append((b"access-control-allow-origin", b"*"))
        elif self._origins:
            self._always.append((b"vary", b"Origin"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        always = self._always if self._all else self._always + self._allowed(scope)
        started = False

        async def telling(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *always]
            await send(message)

        if scope["method"] == "OPTIONS" and (answer := _preflight(Headers(scope=scope))):
            await answer(scope, receive, telling)
            return
        try:
            await self._app(scope, receive, telling)
        except ClientDisconnect:
            return  # nobody is left to be answered
        except Exception:
            if started:
                raise  # the server logs it and cuts the connection: half an answer is not to pass for a whole one
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await envelope(of_status(500))(scope, receive, telling)

    def _allowed(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        origin = Headers(scope=scope).get("origin")
        return [(b"access-control-allow-origin", origin.encode())] if origin in self._origins and origin else []


def _preflight(headers: Headers) -> Response | None:
    """The answer to a browser that asks what it may send; None if it does not."""
    if "access-control-request-method" not in headers:
        return None
    allowed = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "Authorization, Content-Type"),
        "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
    }
    return Response(status_code=204, headers=allowed)
