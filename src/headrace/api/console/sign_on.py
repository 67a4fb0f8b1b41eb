"""Signing in to the console at the identity provider, with a browser.

The first request sends the browser there, with a cookie that binds the response to this browser. The response is a
navigation from another site, so that this cookie cannot be SameSite=Strict as the session's is.
"""

from __future__ import annotations

import hmac
import logging
from typing import cast

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from typing_extensions import TypedDict

from headrace.access.console import ATTEMPT_SECONDS, ConsoleAccess
from headrace.api.auth import Api
from headrace.api.console.pages import CONSOLE
from headrace.api.console.sessions import set_session
from headrace.api.http.console_cookie import PATH
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.api.middleware.request_context import ROOT
from headrace.errors import RequestError, Unauthorized

logger = logging.getLogger(__name__)

_SIGN_IN = f"{PATH}console/sign-in"
_CALLBACK = f"{_SIGN_IN}/callback"
_LONGEST = 4096  # characters of a code


class SignInOptions(TypedDict):
    """How people may sign in, besides a link."""

    openid_connect: bool


class SignOnRoutes(Routes):
    """`/api/v1/console/sign-in...`."""

    tag = "Console"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._access = cast("ConsoleAccess", api.options.console)
        self._cookie = f"{self._access.cookie_name}_sign_in"

    @Operation("GET", f"{_SIGN_IN}/options", Media(SignInOptions, {"openid_connect": True}), public=True)
    async def get_sign_in_options(self, request: Request) -> Response:
        """See how to sign in."""
        return json_response({"openid_connect": self.api.options.code_flow is not None})

    @Operation("GET", _SIGN_IN, {303: ()}, public=True)
    async def begin_sign_in(self, request: Request) -> Response:
        """Sign in at the identity provider."""
        flow = self.api.options.code_flow
        if flow is None:
            raise Unauthorized("Nobody can sign in at an identity provider: HEADRACE_OIDC_CLIENT_ID is not set.")
        try:
            url, attempt = await flow.begin(self._redirect_uri(request))
        except RequestError as error:
            return self._failed(request, error)
        response = RedirectResponse(url, 303, {"Cache-Control": "no-store"})
        response.set_cookie(
            self._cookie,
            self._access.attempt_cookie(attempt),
            ATTEMPT_SECONDS,
            path=self._path(request),
            secure=self.api.options.secure or request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return response

    @Operation("GET", _CALLBACK, {303: ()}, public=True)
    async def complete_sign_in(self, request: Request) -> Response:
        """Come back from the identity provider."""
        flow, query = self.api.options.code_flow, request.query_params
        attempt = self._access.attempt_of(request.cookies.get(self._cookie, ""))
        code, state = query.get("code", ""), query.get("state", "")
        try:
            if flow is None or attempt is None or not hmac.compare_digest(state.encode(), attempt.state.encode()):
                raise Unauthorized("The response is not to a request of this browser.")
            if not 0 < len(code) <= _LONGEST:
                raise Unauthorized(f"The identity provider returned no code: {query.get('error', '')[:100]!a}")
            principal = await flow.complete(code, attempt, self._redirect_uri(request))
            response = RedirectResponse(request.scope.get(ROOT, "") + CONSOLE, 303, {"Cache-Control": "no-store"})
            set_session(self.api, request, self._access.session(principal), response)
        except RequestError as error:
            response = self._failed(request, error)
        response.delete_cookie(self._cookie, self._path(request), httponly=True, samesite="lax")
        return response

    def _failed(self, request: Request, error: RequestError) -> Response:
        """Back to the page that signs in, which says so: the client is a browser."""
        logger.info("a sign-in to the console failed: %s", error)
        address = f"{request.scope.get(ROOT, '')}{CONSOLE}?sign-in=failed"
        return RedirectResponse(address, 303, {"Cache-Control": "no-store"})

    def _redirect_uri(self, request: Request) -> str:
        return (self.api.options.public_url or str(request.base_url)).rstrip("/") + _CALLBACK

    def _path(self, request: Request) -> str:
        return f"{request.scope.get(ROOT, '')}{_SIGN_IN}"
