"""The session of a request from the console's pages."""

from __future__ import annotations

from starlette.requests import Request

from headrace.access.console import ConsoleAccess, ConsoleSession
from headrace.api.http.request_body import header

PATH = "/api/v1/"
"""Below which a session counts."""
_HEADER, _SITE = b"x-headrace-console", b"sec-fetch-site"


def session_of(request: Request, access: ConsoleAccess) -> ConsoleSession | None:
    """The session that a request's cookie names; None if it has none that counts.

    Pages of other origins cannot add the header without a preflight, which is never answered with leave to send
    cookies; a browser also says which site a request comes from.
    """
    if not request.scope["path"].startswith(PATH) or header(request, _HEADER) != "1":
        return None
    if header(request, _SITE) not in (None, "same-origin"):
        return None
    cookie = request.cookies.get(access.cookie_name)
    return access.session_of(cookie) if cookie else None
