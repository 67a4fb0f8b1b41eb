"""Paths with a slash too many or too few, as Dify's server (Werkzeug) takes them.

Those at the beginning count for one. Of others the merged path is where the caller is sent (308, which keeps the method
and the body), if there is anything; so is `/v1/` for `/v1`. A slash at the end that no route has is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.api.middleware.proxy_headers import ROOT

_SLASHES = re.compile("/{2,}")


def install(app: Starlette) -> None:
    """Makes an app look so at paths that no route has."""
    app.router.default = _elsewhere(app)


def _elsewhere(app: Starlette) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("//"):
            await app.router({**scope, "path": "/" + path.lstrip("/")}, receive, send)
            return
        for meant in _meant(path):
            if any(route.matches({**scope, "path": meant})[0] is Match.FULL for route in app.router.routes):
                query = scope["query_string"].decode("latin-1")
                url = quote(scope.get(ROOT, "") + meant) + (f"?{query}" if query else "")
                await RedirectResponse(url, 308)(scope, receive, send)
                return
        raise HTTPException(404)

    return answer


def _meant(path: str) -> Iterable[str]:
    merged = _SLASHES.sub("/", path)
    if merged != path:
        yield merged
    if not merged.endswith("/"):
        yield f"{merged}/"
