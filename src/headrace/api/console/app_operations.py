"""Dify's API for one app below a path that names it, so that a caller of several apps needs no header for each:
`/api/v1/apps/{app_id}/v1/chat-messages` is `/v1/chat-messages`. This is also where the console's session reaches it:
below `/v1` no cookie counts."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Receive, Scope, Send

PATH = "/api/v1/apps/{app_id}/v1/{operation:path}"
_START = "/api/v1/apps/"


class AppOperations(Route):
    """Leads to the routes of Dify's API that have a key; the id of the app is a parameter of their path."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        super().__init__(PATH, _no_endpoint, include_in_schema=False)
        self.methods = None  # every method: the routes themselves refuse what they do not accept
        self._router = Router(routes, redirect_slashes=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if not scope["path"].startswith(_START):
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # the path stays whole: it decides whether a session of the console counts
        root = scope.get("root_path", "") + _START + scope["path_params"]["app_id"]
        await self._router({**scope, "root_path": root}, receive, send)


async def _no_endpoint(_: Request) -> Response:
    raise AssertionError("`handle` leads to the endpoint")
