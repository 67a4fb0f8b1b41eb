"""Signing in to the console, and out of it.

A session is a cookie that scripts cannot read and other sites cannot send. It counts only below `/api/v1/`, and only
with a header that a page of another origin cannot set: see `session_of`.
"""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from headrace.access.console import SESSION_SECONDS, ConsoleAccess, ConsoleSession
from headrace.access.keys import in_order
from headrace.api.auth import Api
from headrace.api.http.console_cookie import PATH, session_of
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response, no_content
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.api.middleware.request_context import ROOT
from headrace.errors import Unauthorized

_SESSION = f"{PATH}console/session"


class SignIn(TypedDict):
    """The token of a link that `headrace serve` or `headrace console` prints."""

    token: str


class SessionBody(TypedDict):
    """Who is signed in."""

    user: str
    permissions: list[str]
    expires_at: int


class SessionRoutes(Routes):
    """`/api/v1/console/session`."""

    tag = "Console"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._access = cast("ConsoleAccess", api.options.console)

    @Operation("POST", _SESSION, {204: ()}, body=Media(SignIn, {"token": "MTc5NTIy.c2lnbmF0dXJl"}), public=True)
    async def open_console_session(self, request: Request) -> Response:
        """Sign in by a link's token."""
        body = parse(SignIn, await self.api.json(request))
        response = no_content()
        set_session(self.api, request, self._access.sign_in(body["token"]), response)
        return response

    @Operation(
        "GET",
        _SESSION,
        Media(SessionBody, {"user": "console", "permissions": ["run", "read", "manage"], "expires_at": 1795226714}),
        public=True,
    )
    async def get_console_session(self, request: Request) -> Response:
        """See who is signed in."""
        session = session_of(request, self._access)
        if session is None:
            raise Unauthorized("Nobody is signed in to the console.")
        principal = session.principal
        return json_response(
            {
                "user": principal.id,
                "permissions": in_order(principal.permissions),
                "expires_at": session.expires_at,
            }
        )

    @Operation("DELETE", _SESSION, {204: ()}, public=True)
    async def close_console_session(self, request: Request) -> Response:
        """Sign out."""
        response = no_content()
        response.delete_cookie(self._access.cookie_name, _path(request), httponly=True, samesite="strict")
        return response


def set_session(api: Api, request: Request, session: ConsoleSession, response: Response) -> None:
    """Adds a session's cookie to a response."""
    access = cast("ConsoleAccess", api.options.console)
    response.set_cookie(
        access.cookie_name,
        access.cookie(session),
        SESSION_SECONDS,
        path=_path(request),
        secure=api.options.secure or request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def _path(request: Request) -> str:
    return f"{request.scope.get(ROOT, '')}{PATH}"
