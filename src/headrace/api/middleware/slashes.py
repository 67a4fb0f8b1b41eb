"""Paths with a slash too many or too few, as Dify's server (Werkzeug) handles them.

Several at the beginning count as one. Elsewhere the client is redirected to the path with single slashes (308, which
keeps the method and the body), if a route has it; so is `/v1` to `/v1/`. A slash at the end that no route has is 404.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from headrace.api.middleware.request_context import ROOT

_SLASHES = re.compile("/{2,}")


def install(app: Starlette) -> None:
    """Makes an app handle paths that no route has in this way."""

    async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("//"):
            await app.router({**scope, "path": "/" + path.lstrip("/")}, receive, send)
            return
        for candidate in _candidates(path):
            if any(route.matches({**scope, "path": candidate})[0] is Match.FULL for route in app.router.routes):
                query = scope["query_string"].decode("latin-1")
                url = quote(scope.get(ROOT, "") + candidate) + (f"?{query}" if query else "")
                await RedirectResponse(url, 308)(scope, receive, send)
                return
        raise HTTPException(404)

    app.router.default = not_found


def _candidates(path: str) -> Iterable[str]:
    short_path = _SLASHES.sub("/", path)
    if short_path != path:
        yield short_path
    if not short_path.endswith("/"):
        yield f"{short_path}/"
