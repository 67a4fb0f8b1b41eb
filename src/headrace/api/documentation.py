"""The API's own documentation: `/docs`, `/redoc` and `/openapi.json`, right behind a proxy, too.

The pages find the description beside themselves, wherever that is. Their policy lets in the one script that they
hold, by its digest, and what they load from the CDN.
"""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from headrace.api.http.json import encode
from headrace.api.middleware.proxy_headers import ROOT

_BESIDE = "openapi.json"
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_CDN = "https://cdn.jsdelivr.net"


class DocumentationRoutes:
    """`public_url` is where callers reach the API, if that is known: the description says so."""

    def __init__(self, app: FastAPI, public_url: str = "") -> None:
        self._app = app
        self._public_url = public_url.rstrip("/")
        self._described: dict[str, bytes] = {}  # by root path

    def add_to(self, app: FastAPI) -> None:
        for path, endpoint in (("/openapi.json", self.describe), ("/docs", self.docs), ("/redoc", self.redoc)):
            app.add_route(path, endpoint, methods=["GET"], include_in_schema=False)

    async def describe(self, request: Request) -> Response:
        where = self._public_url or request.scope.get(ROOT, "")
        body = self._described.get(where)
        if body is None:
            described = self._app.openapi()
            body = encode({**described, "servers": [{"url": where}]} if where else described)
            if len(self._described) < 100:  # what a proxy names is not ours to count on
                self._described[where] = body
        return Response(body, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        return self._page(get_swagger_ui_html(openapi_url=_BESIDE, title=self._app.title))

    async def redoc(self, request: Request) -> Response:
        return self._page(get_redoc_html(openapi_url=_BESIDE, title=self._app.title, with_google_fonts=False))

    def _page(self, page: HTMLResponse) -> Response:
        digests = (hashlib.sha256(script).digest() for script in _SCRIPT.findall(bytes(page.body)))
        scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
        public = urlsplit(self._public_url)
        called = f" {public.scheme}://{public.netloc}" if self._public_url else ""
        page.headers["Content-Security-Policy"] = "; ".join(
            (
                "default-src 'none'",
                f"script-src {_CDN} {scripts}",
                f"style-src {_CDN} 'unsafe-inline'",
                f"img-src 'self' data: {_CDN} https://fastapi.tiangolo.com https://cdn.redoc.ly",
                f"font-src {_CDN} data:",
                f"connect-src 'self'{called}",
                "worker-src blob:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )
        return page
