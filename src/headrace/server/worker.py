"""Drives runs without serving an API, until the process receives a signal to stop."""

from __future__ import annotations

import os
from collections.abc import Callable

from starlette.applications import Starlette

from headrace.adapters.files import limit_for
from headrace.api.auth import Api, ApiOptions
from headrace.api.health import HealthRoutes
from headrace.main import service
from headrace.server.serving import listen, serving_of, url_of
from headrace.server.uvicorn_server import Server
from headrace.settings import Settings
from headrace.telemetry.scrubbing import Scrubber
from headrace.telemetry.setup import METRICS_PATH, Telemetry


async def work(settings: Settings, scrubber: Scrubber, on_ready: Callable[[str | None], None], *, probes: bool) -> None:
    """Drives the runs that other processes accept. With `probes`, `/healthz`, `/readyz` and `/metrics` are served at
    the address of the settings. `on_ready` is called with its URL, or None, once runs are claimed."""
    telemetry = Telemetry(settings, os.environ, scrubber)
    async with service(settings, limited=True, telemetry=telemetry, serves=False) as running:
        await running.apps.learn_names()
        options = ApiOptions(limit_for=limit_for, ready=lambda: not running.run_service.draining)
        app = Starlette()
        app.router.routes += HealthRoutes(Api(running.apps, running.run_service, running.files, options)).mounted("")
        if telemetry.route:
            app.add_route(METRICS_PATH, telemetry.route.endpoint, methods=["GET"])
        listeners = [listen(settings.host, settings.port)] if probes else []
        url = url_of(listeners[0]) if listeners else None
        await Server(app, serving_of(settings, running, lambda: on_ready(url))).serve(listeners)
