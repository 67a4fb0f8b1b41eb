"""The HTTP API, put together: Dify's Service API under `/v1`, signed files, health, and its own documentation."""

from __future__ import annotations

import logging
from functools import partial

from starlette.applications import Starlette

from headrace.api import console, native
from headrace.api.auth import Api, ApiOptions, FileStore, Knowledge
from headrace.api.dify.annotations import AnnotationRoutes
from headrace.api.dify.app_info import AppRoutes
from headrace.api.dify.audio import AudioRoutes
from headrace.api.dify.chat import ChatRoutes
from headrace.api.dify.conversations import ConversationRoutes
from headrace.api.dify.files import FileRoutes
from headrace.api.dify.forms import FormRoutes
from headrace.api.dify.messages import MessageRoutes
from headrace.api.dify.run_list import RunListRoutes
from headrace.api.dify.runs import RunRoutes
from headrace.api.documentation import DocumentationRoutes
from headrace.api.form_page.routes import FormPage
from headrace.api.health import HealthRoutes
from headrace.api.http.routing import ApiRoute, LazyRoutes, Security
from headrace.api.mcp import authorization
from headrace.api.middleware import slashes
from headrace.api.middleware.request_context import RequestContext
from headrace.apps.catalog import Apps
from headrace.ports.services import Speech
from headrace.runs.service import RunService

__all__ = ["ApiOptions", "FileStore", "Knowledge", "create_app"]

logger = logging.getLogger(__name__)

_APP_KEY = Security(
    "AppKey",
    "`app-...`, an app's own key, printed when the app is served; or `ws-...`, a workspace's, with the app's id in the "
    "header `Headrace-App` (or the query's `app_id`) unless the path has it, or the key is for one app only",
)


def create_app(
    apps: Apps,
    run_service: RunService,
    files: FileStore,
    options: ApiOptions | None = None,
    services: native.NativeServices | None = None,
    *,
    speech: Speech | None = None,
    knowledge: Knowledge | None = None,
) -> Starlette:
    """The API as an ASGI application; with `services` the asynchronous API, too. The caller starts and stops them."""
    options = options or ApiOptions()
    api = Api(apps, run_service, files, options, speech, knowledge)
    app = Starlette()
    app.router.redirect_slashes = False
    app.middleware_stack = RequestContext(  # Starlette's own would add three wrappers
        app.router.app,
        options.cors_origins,
        options.headers,
        options.observer,
        secure=options.secure,
        limited=run_service.limiter is not None,
        prefixes=() if services is None else native.PREFIXES,
        version=native.HEADERS,
    )
    slashes.install(app)

    dify = (
        RunRoutes,
        RunListRoutes,
        AppRoutes,
        ChatRoutes,
        MessageRoutes,
        ConversationRoutes,
        AnnotationRoutes,
        AudioRoutes,
        FileRoutes,
        FormRoutes,
    )
    routes = app.router.routes
    if services is not None:  # what is polled is requested most, so it is matched first
        routes.append(
            LazyRoutes(tuple(f"{prefix}/" for prefix in native.PREFIXES), partial(_native_routes, api, services))
        )
    for subject in (*dify, HealthRoutes):
        routes += subject(api).mounted("/v1", _APP_KEY)
    of_dify = [route for route in routes if isinstance(route, ApiRoute) and route.security is not None]
    of_knowledge = LazyRoutes(("/v1/datasets", "/v1/workspaces/"), partial(_knowledge_routes, api))
    routes.append(of_knowledge)
    routes.append(FormPage(api).route())
    routes.append(LazyRoutes(("/v1/openai/",), partial(_openai_routes, api)))
    routes.append(LazyRoutes(("/mcp",), partial(_mcp_routes, api)))
    if options.issuer:
        routes += authorization.AuthorizationRoutes(api).mounted(authorization.PATH, documented=False)
    if services is not None:
        if knowledge is not None:
            routes.append(LazyRoutes(("/api/v1/knowledge/bases",), partial(_knowledge_base_routes, api)))
        routes += console.routes(api, of_dify, of_knowledge)
    routes += DocumentationRoutes(routes, options.public_url).routes()
    return app


def _native_routes(api: Api, services: native.NativeServices) -> list[ApiRoute]:
    from headrace.api.native.routes import native_routes

    return native_routes(api, services, _APP_KEY)


def _openai_routes(api: Api) -> list[ApiRoute]:
    from headrace.api.openai.calls import ModelCalls
    from headrace.api.openai.response_routes import ResponseRoutes
    from headrace.api.openai.routes import OpenAIRoutes

    calls = ModelCalls(api)
    return [
        route
        for subject in (OpenAIRoutes(api, calls), ResponseRoutes(api, calls))
        for prefix in ("/v1/openai", "/v1/openai/v1")
        for route in subject.mounted(prefix, _APP_KEY, documented=prefix == "/v1/openai")
    ]


def _mcp_routes(api: Api) -> list[ApiRoute]:
    from headrace.api.mcp.routes import McpRoutes

    return McpRoutes(api).mounted("/mcp", documented=False)


def _knowledge_routes(api: Api) -> list[ApiRoute]:
    from headrace.api.dify.knowledge_routes import knowledge_routes

    return knowledge_routes(api)


def _knowledge_base_routes(api: Api) -> list[ApiRoute]:
    from headrace.api.native.knowledge import knowledge_base_routes

    return knowledge_base_routes(api)
