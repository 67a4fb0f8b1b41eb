"""The HTTP API, put together: Dify's Service API under `/v1`, signed files, health, and its own documentation."""

from __future__ import annotations

import asyncio
import logging
from functools import cached_property
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from headrace import __version__
from headrace.api import native, openapi
from headrace.api.auth import Api, ApiOptions, FileStore
from headrace.api.dify import run_docs
from headrace.api.dify.annotations import AnnotationRoutes
from headrace.api.dify.app_info import AppRoutes
from headrace.api.dify.audio import AudioRoutes
from headrace.api.dify.chat import ChatRoutes
from headrace.api.dify.conversations import ConversationRoutes
from headrace.api.dify.files import FileRoutes
from headrace.api.dify.messages import MessageRoutes
from headrace.api.dify.runs import RunRoutes
from headrace.api.documentation import DocumentationRoutes
from headrace.api.http import errors
from headrace.api.http.json import encode
from headrace.api.middleware import slashes
from headrace.api.middleware.api_version import Stability
from headrace.api.middleware.rate_limit_headers import Limiting
from headrace.api.middleware.request_context import Edge
from headrace.api.openai.routes import OpenAIRoutes
from headrace.apps.catalog import Apps
from headrace.errors import StoreError
from headrace.ports.services import Speech
from headrace.runs.service import RunService

__all__ = ["ApiOptions", "FileStore", "create_app"]

logger = logging.getLogger(__name__)

_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}  # FastAPI's own: 10 us a request
_READY_SECONDS = 2.0  # within which the journal must have answered
_PROBE_SECONDS = 0.5  # an answer holds for so long: whoever asks often does not make it write often


class RawRoute(APIRoute):
    """A route whose endpoint takes the request and makes the response by itself; FastAPI only documents it."""

    def get_route_handler(self) -> Any:
        return self.endpoint

    @cached_property
    def _begins(self) -> str:
        return self.path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # most routes are ruled out by how their path begins, which is much cheaper than a regular expression
        if not scope["path"].startswith(self._begins) and not scope.get("root_path"):
            return Match.NONE, {}
        match, child = super().matches(scope)
        if match is Match.PARTIAL and self._takes(scope):
            match = Match.FULL
        return match, child

    def _takes(self, scope: Scope) -> bool:
        """Whether a request's method is one of the route's: where GET is, HEAD is too, as in Dify."""
        methods = self.methods or ()
        return scope["method"] in methods or (scope["method"] == "HEAD" and "GET" in methods)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # past FastAPI's own handling, which opens stacks for dependencies that these endpoints do not have
        if not self._takes(scope):
            await super().handle(scope, receive, send)
            return
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def create_app(
    apps: Apps,
    run_service: RunService,
    files: FileStore,
    options: ApiOptions | None = None,
    parts: native.Polling | None = None,
    *,
    speech: Speech | None = None,
) -> FastAPI:
    """The API as an ASGI application; with the asynchronous one if it is given its parts. It starts and stops nothing:
    that is for whoever made them."""
    options = options or ApiOptions()
    api = Api(apps, run_service, files, options, speech)
    app = FastAPI(
        title="Headrace",
        version=__version__,
        description=run_docs.DESCRIPTION,
        redirect_slashes=False,
        openapi_url=None,  # `documentation` sees to it
        telemetry=_NO_TELEMETRY,
    )
    app.add_middleware(
        Edge, origins=options.cors_origins, headers=options.headers, watch=options.watch, secure=options.secure
    )
    if run_service.limiter is not None:
        app.add_middleware(Limiting)
    errors.install(app)
    slashes.install(app)

    key = HTTPBearer(scheme_name="App key", description=openapi.KEY)
    v1 = APIRouter(prefix="/v1", route_class=RawRoute, dependencies=[Depends(key)])  # documents; `auth` checks
    file_routes = FileRoutes(api)
    RunRoutes(api).add_to(v1)
    app_routes = AppRoutes(api)
    app_routes.add_to(v1)
    ChatRoutes(api).add_to(v1)
    OpenAIRoutes(api).add_to(v1)
    MessageRoutes(api).add_to(v1)
    ConversationRoutes(api).add_to(v1)
    AnnotationRoutes(api).add_to(v1)
    AudioRoutes(api).add_to(v1)
    file_routes.add_to(v1)
    app.router.routes.extend(v1.routes)  # not include_router, which looks for the route twice a request
    if parts is not None:
        app.add_middleware(Stability, prefixes=native.PREFIXES, headers=native.HEADERS)
        told = native.PREFIXES[0]
        polled = [
            APIRouter(
                prefix=prefix, route_class=RawRoute, dependencies=[Depends(key)], include_in_schema=prefix == told
            )
            for prefix in native.PREFIXES
        ]
        native.add_routes(polled, api, parts)
        for router in polled:
            app.router.routes.extend(router.routes)
        # what is asked for again and again is to be found first
        app.router.routes.sort(key=lambda route: getattr(route, "path", "") != f"{told}{native.POLLED}")

    rest = APIRouter(route_class=RawRoute)
    app_routes.add_open_to(rest)
    file_routes.add_signed_to(rest)
    health = HealthRoutes(api)
    openapi.add_get(rest, "/healthz", health.lives, run_docs.HEALTH)
    openapi.add_get(rest, "/readyz", health.ready, run_docs.READY)
    app.router.routes.extend(rest.routes)
    DocumentationRoutes(app, options.public_url).add_to(app)
    return app


class HealthRoutes:
    """For whoever keeps the process running: is it alive, and is it to be sent requests?"""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._probing: asyncio.Task[str | None] | None = None  # one for all who ask meanwhile, and for a moment after
        self._probed_at = 0.0

    async def lives(self, request: Request) -> Response:
        return Response(b'{"status": "ok"}', media_type="application/json")

    async def ready(self, request: Request) -> Response:
        problem = await self._problem() if self.api.options.ready() else "The server is shutting down."
        if problem is None:
            return Response(b'{"status": "ready"}', media_type="application/json")
        told = {"code": "service_unavailable", "message": problem, "status": "not ready"}
        return Response(encode(told), 503, {"Retry-After": "1"}, "application/json")

    async def _problem(self) -> str | None:
        """Why this process is not to be sent requests; None where it is."""
        now = asyncio.get_running_loop().time()
        if self._probing is None or (self._probing.done() and now - self._probed_at > _PROBE_SECONDS):
            self._probing, self._probed_at = asyncio.create_task(self._probe(), name="readyz"), now
        done, _ = await asyncio.wait({self._probing}, timeout=_READY_SECONDS)
        return self._probing.result() if done else f"The journal has not answered within {_READY_SECONDS:g} s."

    async def _probe(self) -> str | None:
        """Why the journal cannot be read or written; None where it can."""
        journal = self.api.run_service.world.journal
        try:
            await journal.read("readyz")
            await journal.probe()
        except StoreError as error:
            logger.log(error.level, "the journal does not answer: %s", error)
            return f"The journal cannot be read or written: {error.reason}"
        except Exception:  # whatever keeps it from answering, this process is not ready
            logger.exception("the journal does not answer")
            return "The journal does not answer."
        return None
