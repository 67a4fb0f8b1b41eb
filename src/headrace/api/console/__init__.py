"""The console: its pages, its sessions, and Dify's operations for it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from headrace.api.auth import Api
from headrace.api.console.dify_operations import OF_AN_APP, OF_KNOWLEDGE, DifyOperations
from headrace.api.console.pages import page_routes
from headrace.api.console.sessions import SessionRoutes
from headrace.api.console.sign_on import SignOnRoutes

__all__ = ["routes"]


def routes(api: Api, dify: Sequence[BaseRoute], knowledge: BaseRoute) -> list[BaseRoute]:
    """The console's routes. `dify` are those of Dify's API, which it calls for the app in view, `knowledge` those of
    its API of knowledge bases."""
    sessions: list[BaseRoute] = []
    if api.options.console is not None:
        sessions = [
            route for part in (SessionRoutes, SignOnRoutes) for route in part(api).mounted("", documented=False)
        ]
    operations = DifyOperations(OF_AN_APP, dify), DifyOperations(OF_KNOWLEDGE, [knowledge])
    return [*operations, *sessions, *page_routes(api)]
