"""The HTTP API, put together: Dify's Service API under `/v1`, signed files, health, and its own documentation."""

from __future__ import annotations

import asyncio
import logging

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from headrace.api import native
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
from headrace.api.http.routing import OperationList, Security, mounted
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

_APP_KEY = Security(
    "AppKey",
    "`app-...`, an app's own key, printed when the app is served; or `ws-...`, a workspace's, with the app's id in the "
    "header `Headrace-App` (or the query's `app_id`) unless the path has it, or the key is for one app only",
)
_READY_SECONDS = 2.0  # within which the journal must have answered
_PROBE_SECONDS = 0.5  # an answer holds for so long: whoever asks often does not make it write often


def create_app(
    apps: Apps,
    run_service: RunService,
    files: FileStore,
    options: ApiOptions | None = None,
    parts: native.NativeServices | None = None,
    *,
    speech: Speech | None = None,
) -> Starlette:
    """The API as an ASGI application; with the asynchronous one if it is given its parts. It starts and stops nothing:
    that is for whoever made them."""
    options = options or ApiOptions()
    api = Api(apps, run_service, files, options, speech)
    app = Starlette()
    app.router.redirect_slashes = False
    app.add_middleware(
        Edge, origins=options.cors_origins, headers=options.headers, watch=options.watch, secure=options.secure
    )
    if run_service.limiter is not None:
        app.add_middleware(Limiting)
    errors.install(app)
    slashes.install(app)

    v1 = OperationList()
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
    routes = app.router.routes
    routes += mounted("/v1", v1.operations, _APP_KEY)
    if parts is not None:
        app.add_middleware(Stability, prefixes=native.PREFIXES, headers=native.HEADERS)
        routes += native.routes(api, parts, _APP_KEY)
        # what is polled is requested most, and is to be found first
        routes.sort(key=lambda route: getattr(route, "path", "") != native.POLLED)
    public = OperationList()
    app_routes.add_open_to(public)
    file_routes.add_signed_to(public)
    HealthRoutes(api).add_to(public)
    routes += mounted("", public.operations)
    routes += DocumentationRoutes(routes, options.public_url).routes()
    return app


class HealthRoutes:
    """For whoever keeps the process running: is it alive, and is it to be sent requests?"""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._probing: asyncio.Task[str | None] | None = None  # one for all who ask meanwhile, and for a moment after
        self._probed_at = 0.0

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/healthz", self.lives, methods=["GET"], **run_docs.HEALTH)
        router.add_api_route("/readyz", self.ready, methods=["GET"], **run_docs.READY)

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
