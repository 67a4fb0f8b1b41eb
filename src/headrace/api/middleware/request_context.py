"""What wraps the whole API: CORS, version headers, request ids, rate limits, errors; headers of proxies.

Plain ASGI, because Starlette's BaseHTTPMiddleware delays streams and makes every call slower. One wrapper instead of
one for each of these, because each is a call for every message.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, cast

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from headrace.api.http.deprecation import DEPRECATION
from headrace.api.http.errors import envelope, error_response, of_status
from headrace.api.middleware.rate_limit_headers import headers_of
from headrace.ids import new_id
from headrace.rate_limits import CURRENT_CALL, Call

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

ROOT = "app_root_path"
"""In a request's scope: what clients put before our paths, "" or "/api"."""

_BEGINS = b"x-forwarded-"
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")

CALLER: ContextVar[str | None] = ContextVar("caller", default=None)
"""The id of the principal that the request being handled is from, once that is known."""

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
    it by HTTPS, and must continue to do so; `limited`: responses to calls that a limit applied to have its headers.
    Responses to paths at or below `prefixes` also have `version` headers."""

    def __init__(
        self,
        app: ASGIApp,
        origins: Sequence[str],
        headers: Mapping[str, str],
        observer: RequestObserver | None = None,
        *,
        secure: bool = False,
        limited: bool = False,
        prefixes: Sequence[str] = (),
        version: Mapping[str, str] | None = None,
    ) -> None:
        self._app = app
        self._observer = observer
        self._limited = limited
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
        call = Call() if self._limited else None
        CURRENT_CALL.set(call)
        if observer:
            observer.on_request(scope, request)

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = message.get("headers", ())
                if call is not None and call.limits:
                    own = [*own, *headers_of(call.limits)]
                names = {name for name, _ in own}
                defaults = [header for header in _DEFAULTS if header[0] not in names]
                headers = [(b"x-request-id", request.encode()), *scope.get(DEPRECATION, ())]
                message["headers"] = [*own, *headers, *defaults, *always]
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
        except Exception as error:
            if started:
                raise  # the server logs it and cuts the connection: half a response must not pass for a whole one
            response = error_response(Request(scope), error)
            if response is None:
                logger.exception("%s %s failed", scope["method"], scope["path"])
                response = envelope(of_status(500), scope["path"])
            await response(scope, receive, send_with_headers)
        finally:
            CURRENT_CALL.set(None)
            if observer:
                observer.on_done(scope)

    def _allowed(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        origin = Headers(scope=scope).get("origin")
        return [(b"access-control-allow-origin", origin.encode())] if origin in self._origins and origin else []


def _raw(headers: Mapping[str, str], exposed_names: Sequence[str] = ()) -> list[tuple[bytes, bytes]]:
    """The headers, which scripts of web pages may read."""
    names = ", ".join([*headers, *exposed_names])
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
    cors_headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "Authorization, Content-Type"),
        "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
    }
    return Response(status_code=204, headers=cors_headers)


class ProxyHeaders:
    """Requests through a reverse proxy: the client's address, the host and the path that it requested.

    Headers of a proxy (X-Forwarded-For, -Proto, -Host, -Prefix) are trusted only if it is a trusted one. With a root
    path such as `/api`, `/api/v1/info` and `/v1/info` are the same, so that it does not matter whether a proxy removes
    the prefix. It matters where both readings of a path are routes, because our own paths begin like the root path: see
    `_strip_root`.

    Wraps the API. `root` is its root path, "/api"; if "", that of X-Forwarded-Prefix. `trusted` are addresses and
    networks of proxies, ["*"] for all; `routes` are the API's. `linked`: the public URL of links is configured."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        root: str = "",
        proxies: Sequence[str] = (),
        *,
        linked: bool = True,
    ) -> None:
        self._app = app
        self._of_proxies = ProxyHeadersMiddleware(cast("Any", app), list(proxies))  # it handles -For and -Proto
        self._routes = routes
        self._root = root
        self._linked = linked
        self._firsts = {getattr(route, "path", "").split("/")[1] for route in routes if getattr(route, "path", "")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = self._root
        forwarded = stripped = False
        if (scope["client"] or ("",))[0] in self._of_proxies.trusted_hosts:
            prefix: str | None = None
            for name, value in scope["headers"]:
                if name.startswith(_BEGINS):
                    forwarded = True
                    if name == b"x-forwarded-host":
                        self._rename(scope, value)
                    elif name == b"x-forwarded-prefix":
                        prefix = _last(value).rstrip("/")
            if prefix is not None and _PREFIX.fullmatch(prefix):
                root, stripped = root or prefix, True
        scope[ROOT] = root
        if root and scope["path"].startswith(root):
            self._strip_root(scope, root, forwarded=forwarded, stripped=stripped)
        app = cast("ASGIApp", self._of_proxies) if forwarded else self._app
        await app(scope, receive, send)

    def _rename(self, scope: Scope, value: bytes) -> None:
        """Replaces the host that the proxy sent by the one that the client requested."""
        host = _last(value)
        if not _HOST.fullmatch(host):
            return
        rest = [header for header in scope["headers"] if header[0] != b"host"]
        scope["headers"] = [(b"host", host.encode()), *rest]
        if not self._linked:
            self._linked = True
            logger.warning(
                "a proxy forwards requests for %s: set HEADRACE_PUBLIC_URL, or links to files will not lead there", host
            )

    def _strip_root(self, scope: Scope, root: str, *, forwarded: bool, stripped: bool) -> None:
        """Removes the root path, if it is there.

        This can be ambiguous: with the root `/api`, `/api/v1/workflows/X/run` is Dify's `/v1/...` behind a proxy that
        leaves the prefix, and ours behind one that removes it. The latter sends X-Forwarded-Prefix; a client that calls
        without a proxy sends none of these headers. What is not a route in that reading is read the other way.
        """
        path: str = scope["path"]
        cut = path[len(root) :]
        if cut and not cut.startswith("/"):
            return  # /apis
        cut = cut or "/"
        if root.split("/")[1] in self._firsts:
            first, other = (cut, path) if forwarded and not stripped else (path, cut)
            if (other if self._is_route(scope, other) and not self._is_route(scope, first) else first) == path:
                return
        scope["path"] = cut
        scope["raw_path"] = scope["raw_path"].removeprefix(root.encode()) or b"/"

    def _is_route(self, scope: Scope, path: str) -> bool:
        request = {"type": "http", "path": path, "method": scope["method"], "root_path": "", "headers": ()}
        enough = {Match.FULL, Match.PARTIAL} if scope["method"] == "OPTIONS" else {Match.FULL}
        return any(route.matches(request)[0] in enough for route in self._routes)


def _last(value: bytes) -> str:
    """What the nearest proxy added: those before it, and the client, may have added values, too."""
    return value.decode("latin-1").rpartition(",")[2].strip()
