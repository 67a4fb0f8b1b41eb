"""Dify's API below other paths. This is where the console's session reaches it: below `/v1` no cookie counts.

`/api/v1/apps/{app_id}/v1/chat-messages` is `/v1/chat-messages` for the app that the path names, so that a caller of
several apps needs no header for each; `/api/v1/knowledge/v1/datasets` is `/v1/datasets`.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Receive, Scope, Send

OF_AN_APP = "/api/v1/apps/{app_id}"
OF_KNOWLEDGE = "/api/v1/knowledge"


class DifyOperations(Route):
    """Leads to routes of Dify's API that have a key; what the start of the path names is a parameter of theirs."""

    def __init__(self, start: str, routes: Sequence[BaseRoute]) -> None:
        super().__init__(f"{start}/v1/{{operation:path}}", _no_endpoint, include_in_schema=False)
        self.methods = None  # every method: the routes themselves refuse what they do not accept
        self._prefix = start.partition("{")[0]
        self._router = Router(routes, redirect_slashes=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if not scope["path"].startswith(self._prefix):
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # the path stays whole: it decides whether a session of the console counts
        operation: str = scope["path_params"]["operation"]
        root = scope["path"].removesuffix(f"/v1/{operation}")
        await self._router({**scope, "root_path": root}, receive, send)


async def _no_endpoint(_: Request) -> Response:
    raise AssertionError("`handle` leads to the endpoint")
