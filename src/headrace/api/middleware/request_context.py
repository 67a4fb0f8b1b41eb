"""The outermost middleware of the API: CORS, version headers, request ids, and the response to unexpected errors.

Plain ASGI, because Starlette's BaseHTTPMiddleware delays streams and makes every call slower.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.api.http.deprecation import DEPRECATION
from headrace.api.http.errors import envelope, of_status
from headrace.ids import new_id

logger = logging.getLogger(__name__)

_SECURITY = ((b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))
_DEFAULTS = (  # for JSON; a file or a page sets its own
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_EXPOSED = ("X-Request-Id", "Retry-After", "ETag", "Content-Disposition", "WWW-Authenticate")  # to scripts of web pages
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_PREFLIGHT_SECONDS = "600"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

TRACE: ContextVar[str | None] = ContextVar("trace", default=None)
"""The W3C `traceparent` of the request being handled, if it has one."""


class RequestObserver(Protocol):
    """Is notified of every request. Its methods must neither fail nor wait."""

    def on_request(self, scope: Scope, request: str) -> None:
        """The request has arrived; `request` is its id."""
        ...

    def on_headers(self, scope: Scope, head: Message) -> None:
        """The head of its response is being sent."""
        ...

    def on_done(self, scope: Scope) -> None:
        """It has ended, possibly because the client disconnected."""
        ...


class RequestContext:
    """Wraps the API. `origins` are the web origins that browsers may call from, ["*"] for all; `secure`: clients reach
    it by HTTPS, and must continue to do so. Responses to paths at or below `prefixes` also have `version` headers."""

    def __init__(
        self,
        app: ASGIApp,
        origins: Sequence[str],
        headers: Mapping[str, str],
        observer: RequestObserver | None = None,
        *,
        secure: bool = False,
        prefixes: Sequence[str] = (),
        version: Mapping[str, str] | None = None,
    ) -> None:
        self._app = app
        self._observer = observer
        self._all = "*" in origins
        self._origins = frozenset(origins)
        self._always = [*_raw(headers, _EXPOSED), *_SECURITY]
        self._prefixes = tuple(f"{prefix}/" for prefix in prefixes)
        self._version = _raw(version or {})
        if secure:
            self._always.append((b"strict-transport-security", b"max-age=31536000"))
        if self._all:
            self._always.append((b"access-control-allow-origin", b"*"))
        elif self._origins:
            self._always.append((b"vary", b"Origin"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        always = self._always if self._all else self._always + self._allowed(scope)
        if f"{scope['path']}/".startswith(self._prefixes):
            always = always + self._version
        started, observer = False, self._observer
        request, trace = _ids(scope)
        TRACE.set(trace)
        if observer:
            observer.on_request(scope, request)

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = message.get("headers", ())
                names = {name for name, _ in own}
                defaults = [header for header in _DEFAULTS if header[0] not in names]
                named = [(b"x-request-id", request.encode()), *scope.get(DEPRECATION, ())]
                message["headers"] = [*own, *named, *defaults, *always]
                if observer:
                    observer.on_headers(scope, message)
            await send(message)

        try:
            if scope["method"] == "OPTIONS" and (answer := _preflight(Headers(scope=scope))):
                await answer(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return  # no client is left to respond to
        except Exception:
            if started:
                raise  # the server logs it and cuts the connection: half a response must not pass for a whole one
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await envelope(of_status(500), scope["path"])(scope, receive, send_with_headers)
        finally:
            if observer:
                observer.on_done(scope)

    def _allowed(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        origin = Headers(scope=scope).get("origin")
        return [(b"access-control-allow-origin", origin.encode())] if origin in self._origins and origin else []


def _raw(headers: Mapping[str, str], exposed: Sequence[str] = ()) -> list[tuple[bytes, bytes]]:
    """The headers, which scripts of web pages may read."""
    names = ", ".join([*headers, *exposed])
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return [*raw, (b"access-control-expose-headers", names.encode())]


def _ids(scope: Scope) -> tuple[str, str | None]:
    """(the request's id, its traceparent), as the client sends them; a new id if there is no valid one."""
    request = trace = None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            request = value.decode()
        elif name == b"traceparent" and _TRACEPARENT.fullmatch(value):
            trace = value.decode()
    return request or new_id(), trace


def _preflight(headers: Headers) -> Response | None:
    """The response to a CORS preflight; None if the request is not one."""
    if "access-control-request-method" not in headers:
        return None
    allowed = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "Authorization, Content-Type"),
        "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
    }
    return Response(status_code=204, headers=allowed)
