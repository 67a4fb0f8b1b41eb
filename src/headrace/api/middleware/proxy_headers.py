"""Requests through a reverse proxy: the client's address, the host and the path that it requested.

Headers of a proxy (X-Forwarded-For, -Proto, -Host, -Prefix) are trusted only if it is a trusted one. With a root path
such as `/api`, `/api/v1/info` and `/v1/info` are the same, so that it does not matter whether a proxy removes the
prefix. It matters where both readings of a path are routes, because our own paths begin like the root path: see
`ProxyHeaders._strip_root`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, cast

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

logger = logging.getLogger(__name__)

ROOT = "app_root_path"
"""In a request's scope: what clients put before our paths, "" or "/api"."""

_BEGINS = b"x-forwarded-"
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


class ProxyHeaders:
    """Wraps the API. `root` is its root path, "/api"; if "", that of X-Forwarded-Prefix. `trusted` are addresses and
    networks of proxies, ["*"] for all; `routes` are the API's. `linked`: the public URL of links is configured."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        root: str = "",
        trusted: Sequence[str] = (),
        *,
        linked: bool = True,
    ) -> None:
        self._app = app
        self._of_proxies = ProxyHeadersMiddleware(cast("Any", app), list(trusted))  # it handles -For and -Proto
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
