"""The console's pages: static files that a build makes, and `/`, which leads browsers there.

Every path below `/console` that is not a file of the build gets `index.html`, because the pages have addresses of their
own (`/console/runs/...`).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from headrace.api.auth import Api, ApiOptions
from headrace.api.middleware.request_context import ROOT
from headrace.cache import FileState, file_state

CONSOLE = "/console"
STATIC = Path(__file__).with_name("static")
_INDEX = "index.html"
_ASSETS = "assets/"  # named by their content, so that they never change
_NO_BUILD = "This Headrace was installed without the console's pages."
_OFF = "The console is off."


def page_routes(api: Api) -> list[BaseRoute]:
    """The routes of the pages; where the console is off, a sentence that says so."""
    options = api.options
    if options.console is None:

        async def off(_: Request) -> Response:
            return Response(f"{options.console_refusal or _OFF}\n", media_type="text/plain")

        return [_BrowserRoute(path, off, include_in_schema=False) for path in ("/", CONSOLE)]

    async def redirect(request: Request) -> Response:
        return RedirectResponse(request.scope.get(ROOT, "") + CONSOLE, 303)

    files = ConsolePages(STATIC, options)
    return [
        Route(CONSOLE, files.page, include_in_schema=False),
        Route(f"{CONSOLE}/{{path:path}}", files.page, include_in_schema=False),
        _BrowserRoute("/", redirect, include_in_schema=False),
    ]


class ConsolePages:
    """The files of a build in a folder, which need not be there."""

    def __init__(self, folder: Path, options: ApiOptions) -> None:
        self._folder = folder
        self._policy = _policy(options.public_url)
        self._build: tuple[FileState | None, FileState | None] = (None, None)
        self._files: frozenset[str] = frozenset()

    def _names(self) -> frozenset[str]:
        """The names of the files, read again after a build: a path is only compared with them, and never opened as it
        is."""
        build = file_state(self._folder / _INDEX), file_state(self._folder / _ASSETS)
        if build != self._build:
            self._build = build
            self._files = frozenset(
                file.relative_to(self._folder).as_posix() for file in self._folder.rglob("*") if file.is_file()
            )
        return self._files

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("path", "")
        files = self._names()
        if name.startswith(_ASSETS) and name not in files:
            raise HTTPException(404)  # a page in place of a script would only hide that it is missing
        if _INDEX not in files:
            return Response(f"{_NO_BUILD}\n", media_type="text/plain")
        file = name if name in files else _INDEX
        caching = "public, max-age=31536000, immutable" if file.startswith(_ASSETS) else "no-cache"
        headers = {"Content-Security-Policy": self._policy, "Cache-Control": caching}
        return FileResponse(self._folder / file, headers=headers)


class _BrowserRoute(Route):
    """A page for browsers only: other clients get the 404 that they would get without it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["path"] != self.path or scope["method"] not in ("GET", "HEAD") or not _is_browser(scope):
            return Match.NONE, {}
        return super().matches(scope)


def _is_browser(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _policy(public_url: str) -> str:
    """Nothing from elsewhere, except the links of files, which lead to the public URL."""
    parts = urlsplit(public_url)
    files = f" {parts.scheme}://{parts.netloc}" if public_url else ""
    return "; ".join(
        (
            "default-src 'self'",
            f"img-src 'self' data: blob:{files}",
            f"media-src 'self' blob:{files}",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )
