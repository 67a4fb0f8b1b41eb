"""Apps: list and get them, with their graph and form; what the server is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import PurePath
from time import time

from starlette.requests import Request
from starlette.responses import Response

from headrace import __version__
from headrace.api.auth import Api, as_uuid
from headrace.api.http.errors import of_status, problem_body
from headrace.api.http.params import UUID_SCHEMA, text
from headrace.api.http.request_body import parse
from headrace.api.http.responses import encode, json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import JSON
from headrace.api.native.app_form import form_of
from headrace.api.native.app_graph import graph_of
from headrace.api.native.run_lines import elapsed_of
from headrace.api.native.schemas import apps, meta
from headrace.api.native.schemas.apps import (
    AppBody,
    AppName,
    AppSource,
    AppVersion,
    Lack,
    LastRun,
    ServedApp,
)
from headrace.api.native.schemas.common import NO_APP, NO_WORKFLOW
from headrace.api.native.schemas.meta import ServerMeta
from headrace.api.native.schemas.versions import CONTENT
from headrace.api.native.workflow_files import (
    ALL_APPS,
    CANNOT_LOAD,
    INVALID,
    accessible_app,
    app_manager,
    inspect_file,
    refused,
)
from headrace.apps.catalog import Release
from headrace.apps.requirements import lacking
from headrace.cache import Cache
from headrace.dsl.redaction import shown
from headrace.errors import InvalidParam, LoadError, NotFound
from headrace.ids import new_id
from headrace.kernel.summary import FAILED
from headrace.ports import App, ListedRun, Principal, RunActivity, Version
from headrace.times import milliseconds, whole_seconds
from headrace.values import Value

_APP = "/apps/{app_id}"
_VERSION = replace(text("version", "A version's id; the current version by default"), schema=UUID_SCHEMA)
_DAY = 24 * 3600.0
_SHOWN_RUNS = 20
_CHECKED_SECONDS = 30.0  # for which what an app lacks is not looked for again
_CACHED = 1000


class AppCatalogRoutes(Routes):
    """`/apps...` and `/meta`; `/apps/lint` is in `lint.py`."""

    tag = "Apps"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._lacks: Cache[list[Lack]] = Cache(_CACHED, _CHECKED_SECONDS)  # by version
        self._graphs: Cache[bytes] = Cache(_CACHED // 10)  # by version, which never changes

    @Operation("GET", "/meta", meta.META)
    async def get_server_meta(self, request: Request) -> Response:
        """See what the server is and has.

        Its version, its storage, its limits, and whether models are the demo provider's.
        """
        principal, options = await self.api.principal(request), self.api.options
        service = self.api.run_service
        body: ServerMeta = {
            "version": __version__,
            "console": options.console is not None,
            "models": "demo" if options.demo else "configured",
            "storage": options.storage,
            "workers": service.leases.others + 1,
            "features": ["speech_to_text", "text_to_speech"] if self.api.speech is not None else [],
            "limits": {
                "max_body": options.max_body,
                "max_file": self.api.upload_limit(""),
                "max_seconds": int(service.environment.limits.max_seconds),
            },
            "workspace": principal.workspace,
        }
        return json_response(body)

    @Operation("GET", "/apps", apps.APPS)
    async def list_apps(self, request: Request) -> Response:
        """List apps.

        All that the key may call, oldest first, each with its latest runs; only the one that the request names, where
        it names one.
        """
        await self.api.principal(request)  # counts the request
        accessible = await self.api.choices(request)
        activities = await self._activities([app.id for app in accessible])
        return json_response({"data": [await self._body(app, activities[app.id]) for app in accessible]})

    @Operation("GET", _APP, apps.APP, errors=[NO_APP])
    async def get_app(self, request: Request) -> Response:
        """Get an app.

        As in the list.
        """
        app = await self._app(request, await self.api.principal(request))
        return json_response(await self._body(app, (await self._activities([app.id]))[app.id]))

    @Operation("GET", f"{_APP}/graph", {200: apps.GRAPH, 304: ()}, parameters=[_VERSION], errors=[NO_APP, NO_WORKFLOW])
    async def get_app_graph(self, request: Request) -> Response:
        """Get an app's graph.

        Its nodes and edges at the file's own positions, without prompts, code and credentials. The ETag is the
        version's id.
        """
        release = await self._version(request)
        tag = f'"{release.version.id}"'
        if tag in (request.headers.get("if-none-match") or ""):
            return Response(status_code=304, headers={"ETag": tag})

        async def drawn() -> bytes:
            return encode(await asyncio.to_thread(graph_of, release.version, release.flow))

        body = await self._graphs.get(release.version.id, drawn)
        return Response(body, headers={"ETag": tag}, media_type=JSON)

    @Operation("GET", f"{_APP}/form", apps.FORM, parameters=[_VERSION], errors=[NO_APP, NO_WORKFLOW])
    async def get_app_form(self, request: Request) -> Response:
        """Get an app's form.

        The start node's inputs with their defaults and rules, in one shape for apps of all modes, and the features that
        a page needs to know.
        """
        return json_response(form_of((await self._version(request)).flow))

    # ----------------------------------------------------------------------------------------------------- change

    @Operation(
        "POST", "/apps", {201: apps.NEW_APP}, body=CONTENT, errors=[INVALID, ALL_APPS, of_status(413), of_status(415)]
    )
    async def create_app(self, request: Request) -> Response:
        """Serve a workflow file.

        As a new app, which `headrace serve` keeps serving; another version of an app is published under
        `/workflows/{app_id}/versions`. `problems` are those that do not keep it from running. Needs a key for all apps.
        """
        principal = await app_manager(self.api, request)
        flow, problems, content = await inspect_file(self.api, request)
        if flow is None:
            raise refused("invalid_workflow", CANNOT_LOAD, 400, problems)
        release = await self.api.apps.publish(f"upload:{new_id()}", content, principal.workspace, flow=flow)
        activity = RunActivity([], 0, 0)
        body: ServedApp = {
            **await self._body(release.app, activity),
            "problems": [problem_body(problem) for problem in problems],
        }
        return json_response(body, 201)

    @Operation("PATCH", _APP, apps.APP, body=apps.NAME, errors=[NO_APP, of_status(413)])
    async def rename_app(self, request: Request) -> Response:
        """Name an app.

        The name stays when another version becomes the current one.
        """
        app = await self._app(request, await self.api.principal(request, "manage"))
        name = " ".join(parse(AppName, await self.api.json(request))["name"].replace("\0", "").split())
        if not name or not name.isprintable():
            raise InvalidParam("name: Input should be printable characters")
        app = await self.api.apps.rename(app, name)
        return json_response(await self._body(app, (await self._activities([app.id]))[app.id]))

    @Operation("DELETE", _APP, apps.REMOVED, errors=[NO_APP])
    async def remove_app(self, request: Request) -> Response:
        """Remove an app.

        With its versions and keys; its runs stay. A file that `headrace serve` names is served again at the next start.
        """
        app = await self._app(request, await self.api.principal(request, "manage"))
        await self.api.apps.remove(app)
        return json_response({"id": app.id})

    @Operation("GET", f"{_APP}/source", apps.SOURCE, parameters=[_VERSION], errors=[NO_APP, NO_WORKFLOW])
    async def get_app_source(self, request: Request) -> Response:
        """Get the file of an app.

        Values of secret environment variables are replaced by stars. Needs the permission `manage`.
        """
        release = await self._version(request, "manage")
        content, is_masked = await asyncio.to_thread(shown, release.version.content)
        body: AppSource = {"version_id": release.version.id, "content": content, "masked": is_masked}
        return json_response(body)

    # -------------------------------------------------------------------------------------------------------- find

    async def _app(self, request: Request, principal: Principal) -> App:
        """The app that the path names, as it is now."""
        return await accessible_app(self.api, principal, request.path_params["app_id"])

    async def _version(self, request: Request, permission: str | None = None) -> Release:
        """The version that the request names: by default the current one."""
        app = await self._app(request, await self.api.principal(request, permission))
        version = _VERSION.of(request)
        if version is None:
            return await self.api.apps.version(app, app.version)
        unknown = NotFound(f"Workflow not found with id: {version[:50]}")
        return await self.api.apps.version(app, as_uuid(version, unknown))

    async def _activities(self, app_ids: list[str]) -> dict[str, RunActivity]:
        return dict(await self.api.run_service.runs.activity(app_ids, time() - _DAY, _SHOWN_RUNS))

    async def _body(self, app: App, activity: RunActivity) -> AppBody:
        try:
            release = await self.api.apps.version(app, app.version)
            version, lacks = release.version, await self._lacks_of(release)
        except LoadError as error:
            release = None
            version_record = await self.api.apps.catalog.version(app.version)
            version = version_record or Version(app.version, app.id, 0, "", "", app.created_at)
            lacks: list[Lack] = [{"kind": "version", "name": app.name, "message": str(error)}]
        failure = next((run for run in activity.last if run.status == FAILED), None)
        line = None if failure is None else await self.api.listed(release, failure)
        return {
            "id": app.id,
            "name": app.name,
            "mode": app.mode,
            "description": app.description,
            "icon": _text(app.settings.get("icon")),
            "icon_background": _text(app.settings.get("icon_background")),
            "icon_type": _text(app.settings.get("icon_type")),
            "source": PurePath(app.source).name,
            "version": _version_body(version),
            "last_runs": [_last_run(run) for run in reversed(activity.last)],
            "counts": {"runs_24h": activity.runs, "failed_24h": activity.failed},
            "last_error": None if line is None else line.error,
            "lacks": lacks,
            "lacks_checked": release is not None,
        }

    async def _lacks_of(self, release: Release) -> list[Lack]:
        async def look() -> list[Lack]:
            resources = self.api.run_service.environment.resources
            messages = await asyncio.to_thread(lacking, release.flow, resources)
            lacks: list[Lack] = [
                {"kind": spec.type, "name": spec.title or spec.id, "message": message}
                for message, spec in messages.items()
            ]
            return lacks

        return await self._lacks.get(release.version.id, look)


def _version_body(version: Version) -> AppVersion:
    return {
        "id": version.id,
        "number": version.number,
        "created_at": whole_seconds(version.created_at),
        "created_at_ms": milliseconds(version.created_at),
    }


def _last_run(run: ListedRun) -> LastRun:
    return {
        "id": run.run,
        "status": run.status,
        "elapsed_time": elapsed_of(run),
        "created_at": whole_seconds(run.created_at),
        "created_at_ms": milliseconds(run.created_at),
    }


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None
