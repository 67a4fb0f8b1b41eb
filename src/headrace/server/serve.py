"""Serves what `main` assembles over HTTP, until the process receives a signal to stop."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from headrace.access.console import ConsoleAccess
from headrace.adapters.files import limit_for
from headrace.apps.catalog import Release
from headrace.background import background
from headrace.errors import LoadError
from headrace.factories import code_flow_of, identity_of
from headrace.main import Service, service
from headrace.server.console import console_refusal
from headrace.server.workflow_files import Watch, WorkflowFile, WorkflowFolder, publish_all
from headrace.settings import Settings
from headrace.telemetry.scrubbing import Scrubber, secrets_in

if TYPE_CHECKING:
    from headrace.server.workers import WorkerProcess

logger = logging.getLogger(__name__)


ServedFile: TypeAlias = tuple[Path, Release, str]
"""A workflow file, the app that it has become, and a key of the app."""


async def serve(
    settings: Settings,
    workflows: Sequence[WorkflowFile],
    folders: Sequence[WorkflowFolder] = (),
    *,
    on_ready: Callable[[Service, str, Sequence[ServedFile]], None],
    ready_file: Path | None = None,
    on_changed: Callable[[Service, str, ServedFile, bool], None] | None = None,
    scrubber: Scrubber | None = None,
    worker: bool = True,
    process: WorkerProcess | None = None,
) -> None:
    """Serves workflow files, those in folders, and apps that were published before, until the process receives a signal
    to stop.

    `on_ready` is called with the service, its URL and what is served, and `ready_file` written, once requests are
    accepted: with the files that were named, or all apps if none was. With `on_changed`, a file that changes is
    published again: it is called with each new version, and with True if the app is new. `scrubber` is given the
    secrets that must not be logged. Without a `worker`, runs are left to other processes. `process` is set where
    several serve on one port; all but the first list no apps. One that is started again publishes nothing at its start.
    """
    # the web side takes 0.4 s to import; `lint` and `run` do without
    from headrace.api import trigger_endpoints
    from headrace.api.app import ApiOptions, Knowledge, create_app
    from headrace.api.middleware.request_context import ProxyHeaders
    from headrace.api.native import NativeServices
    from headrace.server.serving import listen, serving_of, url_of, write_ready_file
    from headrace.server.tls import tls_of
    from headrace.server.uvicorn_server import Server
    from headrace.telemetry.setup import METRICS_PATH, Telemetry
    from headrace.telemetry.worker_metrics import WorkerMetrics
    from headrace.triggers import PluginEvents, ScheduleTimer, Webhooks, webhook_secrets

    if process is not None:
        process.end_with_parent()
    tls, identity = tls_of(settings), identity_of(settings)
    telemetry = Telemetry(settings, os.environ, scrubber or Scrubber(secrets_in(os.environ)))
    restarted = process is not None and process.restarted
    async with service(
        settings,
        limited=True,
        telemetry=telemetry,
        identity=identity,
        worker=worker,
        wait_for_database=restarted,  # as the process in whose place it was started would have outlasted the outage
    ) as running:
        first = not restarted and (process is None or process.number == 0)
        lists_apps = not workflows and not folders and first
        watch = Watch(running, workflows, folders, published=not restarted)
        # a file may be invalid by now: that must not keep a worker from starting again
        releases: list[tuple[Path, Release]] = [] if restarted else await publish_all(running, workflows, folders)
        files = [(file, release, await running.apps.working_key(release.app)) for file, release in releases]
        await running.apps.learn_names()  # other processes may serve the apps that are tools of these
        for app in await running.apps.catalog.apps() if lists_apps else []:
            try:
                release = await running.apps.current(app.id)
            except LoadError as error:
                logger.error("%s can no longer be served: %s", app.source, error)
            else:
                files.append((Path(app.source), release, await running.apps.working_key(app)))

        listener = listen(settings.host, settings.port, shared=process is not None)
        url = url_of(listener, tls)
        if not settings.public_url:
            running.public_url = url + settings.root

        refusal = console_refusal(settings)
        if refusal:
            logger.warning("%s", refusal)
        elif settings.console != "off":
            running.console = ConsoleAccess(running.secret, settings.workspace)

        def ready() -> None:
            if ready_file:
                write_ready_file(ready_file, ready_content(url, files))
            on_ready(running, url, files)

        knowledge = None
        if (bases := running.knowledge) is not None:
            knowledge = Knowledge(lambda: bases.service, lambda: bases.retriever)
        api = create_app(
            running.apps,
            running.run_service,
            running.files,
            ApiOptions(
                cors_origins=settings.cors_origins,
                ping_seconds=settings.ping_seconds,
                max_body=settings.max_body,
                limit_for=limit_for,
                ready=lambda: not running.run_service.draining,
                observer=telemetry.web,
                public_url=settings.public_url,
                secure=tls is not None or settings.public_url.startswith("https:"),
                issuer=settings.oidc_issuer,
                console=running.console,
                code_flow=code_flow_of(settings, identity),
                console_refusal=refusal,
                demo=settings.demo_model,
                storage=settings.database_kind,
            ),
            NativeServices(
                running.storage.idempotency, running.webhook_sender, running.batch_runner, running.subscriptions
            ),
            speech=running.speech,
            knowledge=knowledge,
        )

        if running.endpoints is not None:
            from headrace.api import plugin_endpoints

            api.router.routes += plugin_endpoints.routes(running.endpoints, settings.max_body)
        triggers = running.triggers
        webhooks = Webhooks(triggers, running.storage.idempotency, running.files, webhook_secrets(os.environ))
        for variable in await webhooks.unused_secrets():
            logger.warning("%s: no webhook that is served has a node of this id", variable)
        api.router.routes += trigger_endpoints.routes(webhooks, settings.max_body)
        events = PluginEvents(triggers, running.storage.idempotency, running.served_subscriptions)
        api.router.routes += trigger_endpoints.plugin_routes(events, settings.max_body)
        timer = ScheduleTimer(triggers, settings.trigger_grace)

        def on_change() -> None:
            triggers.invalidate()
            timer.wake()

        running.apps.on_change = on_change
        metrics = telemetry.route
        if metrics:
            api.add_route(METRICS_PATH, metrics.endpoint, methods=["GET"], include_in_schema=False)

        trusted, linked = settings.trusted_proxies, bool(settings.public_url)
        front = ProxyHeaders(api, api.router.routes, settings.root, trusted, linked=linked)
        async with AsyncExitStack() as stack:
            if metrics and process is not None:
                workers = WorkerMetrics(process.folder, process.number, metrics.own)
                metrics.text = workers.text
                await stack.enter_async_context(workers.answering())
            if on_changed is not None:

                async def on_published(file: Path, app: Release, new: bool) -> None:
                    await running.apps.learn_names()
                    on_changed(running, url, (file, app, await running.apps.working_key(app.app)), new)

                await stack.enter_async_context(background("watch", watch.run(on_published)))
            await stack.enter_async_context(background("schedules", timer.run()))
            await stack.enter_async_context(background("subscriptions", running.subscriptions.run()))
            await Server(front, serving_of(settings, running, ready, tls)).serve([listener])


def ready_content(url: str, files: Sequence[ServedFile]) -> dict[str, Any]:
    """What the ready file says."""
    apps = [
        {
            "file": str(file),
            "name": release.app.name,
            "mode": release.app.mode,
            "app_id": release.app.id,
            "workflow_id": release.version.id,
            "key": key,
        }
        for file, release, key in files
    ]
    return {"url": url, "apps": apps}
