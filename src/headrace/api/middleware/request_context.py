"""The outermost ring of the API: CORS, version headers, request ids, and the answer to what nobody foresaw.

Plain ASGI, because what wraps responses of its own makes streams stutter and every call dearer.
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

from headrace.api.http.errors import envelope, of_status
from headrace.ids import new_id

logger = logging.getLogger(__name__)

_SECURITY = ((b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))
_UNLESS_TOLD = (  # right for JSON; a file or a page says what is right for it
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
"""The W3C `traceparent` of the request that is being answered, if it has one."""


class Watch(Protocol):
    """Hears of every request. Nothing of it may fail or wait."""

    def asked(self, scope: Scope, request: str) -> None:
        """It has come in; `request` is its id."""
        ...

    def answering(self, scope: Scope, head: Message) -> None:
        """The head of its answer goes out."""
        ...

    def answered(self, scope: Scope) -> None:
        """It is over, also if nobody was left to be answered."""
        ...


class Edge:
    """Wraps the API. `origins` are the web origins that browsers may call from, ["*"] for all; `secure`: they reach it
    by HTTPS, and are to go on so."""

    def __init__(
        self,
        app: ASGIApp,
        origins: Sequence[str],
        headers: Mapping[str, str],
        watch: Watch | None = None,
        *,
        secure: bool = False,
    ) -> None:
        self._app = app
        self._watch = watch
        self._all = "*" in origins
        self._origins = frozenset(origins)
        self._always = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._always.append((b"access-control-expose-headers", ", ".join([*headers, *_EXPOSED]).encode()))
        self._always += _SECURITY
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
        started, watch = False, self._watch
        request, trace = _ids(scope)
        TRACE.set(trace)
        if watch:
            watch.asked(scope, request)

        async def telling(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = message.get("headers", ())
                names = {name for name, _ in own}
                unless = [each for each in _UNLESS_TOLD if each[0] not in names]
                message["headers"] = [*own, (b"x-request-id", request.encode()), *unless, *always]
                if watch:
                    watch.answering(scope, message)
            await send(message)

        try:
            if scope["method"] == "OPTIONS" and (answer := _preflight(Headers(scope=scope))):
                await answer(scope, receive, telling)
            else:
                await self._app(scope, receive, telling)
        except ClientDisconnect:
            return  # nobody is left to be answered
        except Exception:
            if started:
                raise  # the server logs it and cuts the connection: half an answer is not to pass for a whole one
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await envelope(of_status(500), scope["path"])(scope, receive, telling)
        finally:
            if watch:
                watch.answered(scope)

    def _allowed(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        origin = Headers(scope=scope).get("origin")
        return [(b"access-control-allow-origin", origin.encode())] if origin in self._origins and origin else []


def _ids(scope: Scope) -> tuple[str, str | None]:
    """(the request's id, its traceparent), as the caller gives them; an id is made where there is none that is fit."""
    request = trace = None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            request = value.decode()
        elif name == b"traceparent" and _TRACEPARENT.fullmatch(value):
            trace = value.decode()
    return request or new_id(), trace


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
