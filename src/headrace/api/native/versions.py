"""Versions of an app's workflow: publish, list, get, compare, pin, roll back."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.http.errors import of_status, problem_body
from headrace.api.http.params import UUID_SCHEMA, boolean, integer, text
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.idempotency import KEY_ERRORS, KEY_PARAMETER
from headrace.api.native.schemas import versions
from headrace.api.native.schemas.common import NO_APP
from headrace.api.native.schemas.versions import PublishedVersion, VersionBody, VersionDetail, VersionPage
from headrace.api.native.services import NativeServices
from headrace.api.native.workflow_files import CANNOT_LOAD, EXAMPLE, EXPECTED, INVALID, content_of, refused
from headrace.apps.catalog import Release
from headrace.dsl.diff import diff
from headrace.dsl.redaction import shown
from headrace.dsl.yaml_reader import read
from headrace.errors import InvalidParam, LoadError, NotFound, RequestError
from headrace.ports import App, Version
from headrace.times import milliseconds, whole_seconds
from headrace.values import Value

_NO_FROM = "from: the id of the version to compare with is required"
_STALE = "This version can no longer be loaded: {}"
_LIMIT = integer("limit", "Versions on a page", 20, 100)
_BEFORE = integer("before", "Only versions with a smaller number", None, 2**31)
_CURRENT = boolean("current", "Make it the version that calls run", default=True)
_FROM = replace(text("from", "A version's id"), schema=UUID_SCHEMA, required=True)
_TO = replace(text("to", "Another version's id; the current version by default"), schema=UUID_SCHEMA)
_CACHED_NAMES = 10_000  # of versions: to get one, its content is parsed


_VERSIONS, _VERSION = "/workflows/{app_id}/versions", "/workflows/{app_id}/versions/{version_id}"
_NO_VERSION = NotFound(f"Workflow not found with id: {versions.ID}")
_NOT_LOADABLE = refused("version_not_loadable", _STALE, 409, [EXAMPLE])
_NO_EARLIER = RequestError("The current version is the first one.", "no_earlier_version", 409)


class VersionRoutes(Routes):
    """`/workflows/{app_id}/versions...`, `/workflows/{app_id}/diff` and `/workflows/{app_id}/rollback`."""

    tag = "Versions"

    def __init__(self, api: Api, services: NativeServices) -> None:
        super().__init__(api)
        self._idempotency = services.idempotency
        self._names: OrderedDict[str, str] = OrderedDict()

    # --------------------------------------------------------------------------------------------------------- get

    @Operation("GET", _VERSIONS, versions.VERSIONS, parameters=(_LIMIT, _BEFORE), errors=[NO_APP])
    async def list_workflow_versions(self, request: Request) -> Response:
        """List versions.

        Newest first. `digest` is the SHA-256 of the content; `current` marks the version that calls run.
        """
        app = await self._app(request)
        limit, before = _LIMIT.of(request), _BEFORE.of(request)
        versions = await self.api.apps.catalog.versions(app.id)
        page = [version for version in versions if before is None or version.number < before]
        body: VersionPage = {
            "data": [await self._body(version, app) for version in page[:limit]],
            "limit": limit,
            "has_more": len(page) > limit,
        }
        return json_response(body)

    @Operation("GET", _VERSION, versions.DETAIL, errors=[_NO_VERSION, _NOT_LOADABLE])
    async def get_workflow_version(self, request: Request) -> Response:
        """Get a version.

        With its `content`. If the file has secret environment variables, their values are replaced by stars wherever
        they occur, the file is written anew (without its comments), and `masked` is true.
        """
        app = await self._app(request)
        version = await self._version(app, request.path_params["version_id"])
        content, is_masked = await _loaded(shown, version.content)
        body: VersionDetail = {**await self._body(version, app), "content": content, "masked": is_masked}
        return json_response(body)

    @Operation(
        "GET",
        "/workflows/{app_id}/diff",
        versions.DIFF,
        parameters=(_FROM, _TO),
        errors=[InvalidParam(_NO_FROM), _NO_VERSION, _NOT_LOADABLE],
    )
    async def diff_workflow_versions(self, request: Request) -> Response:
        """Compare two versions.

        What changed from `from` to `to`: nodes and their fields, edges, variables, features, and whatever else differs
        (`app`). Layout does not count. Values of secrets are not shown, only that they differ.
        """
        app = await self._app(request)
        old_id = _FROM.of(request)
        if old_id is None:
            raise InvalidParam(_NO_FROM)
        old = await self._version(app, old_id)
        new = await self._version(app, _TO.of(request) or app.version)

        def compare() -> dict[str, Value]:
            before, after = (read(version.content, f"version {version.number}") for version in (old, new))
            return diff(before, after, self.api.apps.registry).to_json()

        return json_response({"from": old.id, "to": new.id, **await _loaded(compare)})

    # ----------------------------------------------------------------------------------------------------- change

    @Operation(
        "POST",
        _VERSIONS,
        {201: versions.PUBLISHED, 200: versions.KNOWN},
        parameters=[_CURRENT, KEY_PARAMETER],
        body=versions.CONTENT,
        errors=[INVALID, *KEY_ERRORS, NO_APP, of_status(415, EXPECTED)],
    )
    async def publish_workflow_version(self, request: Request) -> Response:
        """Publish a version.

        Takes a workflow file as Dify exports it. If there is a version of the same content already, it returns that one
        (200). A file that cannot be loaded is refused with all its problems in `details`; those in the response's
        `problems` do not keep it from running. The version is current from then on, unless `current=false`.
        """
        release = await self.api.authenticate(request, "manage")
        body = await self.api.body(request)

        async def handle(_: str | None) -> Response:
            # a version's id is derived from its content: published again, it is the same one
            current = _CURRENT.of(request)
            try:
                content = await asyncio.to_thread(content_of, request, body)
                publication = await self.api.apps.publish_version(release.app, content, current=current)
            except LoadError as error:
                raise refused("invalid_workflow", CANNOT_LOAD, 400, error.problems) from error
            version = await self._body_of(publication.release)
            published_version: PublishedVersion = {
                **version,
                "problems": [problem_body(p) for p in publication.problems],
            }
            return json_response(published_version, 201 if publication.new else 200)

        return await self._idempotency.once(request, release, body, handle)

    @Operation("POST", f"{_VERSION}/pin", versions.VERSION, errors=[_NO_VERSION, _NOT_LOADABLE])
    async def pin_workflow_version(self, request: Request) -> Response:
        """Make a version the current one.

        Calls run it from then on; runs that have begun continue in their version. To pin the current version changes
        nothing.
        """
        app = await self._app(request, "manage")
        version = await self._version(app, request.path_params["version_id"])
        return await self._changed(lambda: self.api.apps.pin(app, version.id))

    @Operation(
        "POST",
        "/workflows/{app_id}/rollback",
        versions.ROLLED_BACK,
        parameters=[KEY_PARAMETER],
        errors=[*KEY_ERRORS, NO_APP, _NO_EARLIER, _NOT_LOADABLE],
    )
    async def roll_back_workflow(self, request: Request) -> Response:
        """Go back one version.

        Makes the version with the next smaller number the current one, and returns it. Done twice, it goes back two:
        give an Idempotency-Key where a request may be sent again, or pin a particular version.
        """
        release = await self.api.authenticate(request, "manage")

        async def handle(_: str | None) -> Response:
            return await self._changed(lambda: self.api.apps.roll_back(release.app))

        return await self._idempotency.once(request, release, b"", handle)

    async def _changed(self, change: Callable[[], Any]) -> Response:
        try:
            release = cast("Release", await change())
        except LoadError as error:
            raise refused("version_not_loadable", _STALE, 409, error.problems) from error
        return json_response(await self._body_of(release))

    # -------------------------------------------------------------------------------------------------------- find

    async def _app(self, request: Request, permission: str | None = None) -> App:
        """The app that the request names, as it is now: what a key gives access to is cached."""
        app = (await self.api.authenticate(request, permission)).app
        return await self.api.apps.catalog.app(app.id) or app

    async def _version(self, app: App, version_id: str) -> Version:
        unknown = NotFound(f"Workflow not found with id: {version_id}")
        version = await self.api.apps.catalog.version(as_uuid(version_id, unknown))
        if version is None or version.app != app.id:
            raise unknown
        return version

    async def _body_of(self, release: Release) -> VersionBody:
        self._remember(release.version, release.flow.name)
        return await self._body(release.version, release.app)

    def _remember(self, version: Version, name: str) -> str:
        self._names[version.id] = name
        if len(self._names) > _CACHED_NAMES:
            self._names.popitem(last=False)
        return name

    async def _body(self, version: Version, app: App) -> VersionBody:
        name = self._names.get(version.id)
        if name is None:
            name = self._remember(version, await asyncio.to_thread(_name, version.content))
        return {
            "id": version.id,
            "number": version.number,
            "digest": version.digest,
            "created_at": whole_seconds(version.created_at),
            "created_at_ms": milliseconds(version.created_at),
            "current": version.id == app.version,
            "name": name,
        }


async def _loaded(work: Callable[..., Any], *arguments: Any) -> Any:
    """Parses whole files in a thread, so that other requests need not wait. RequestError for a file that could be
    loaded when it was published, and no longer can."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except LoadError as error:
        raise RequestError(_STALE.format(error), "version_not_loadable", 409) from error


def _name(content: str) -> str:
    """The app's name in a version; the same as `Flow.name`."""
    try:
        app = read(content, "version").value.get("app")
    except LoadError:
        app = None
    name = cast("dict[str, Value]", app).get("name") if isinstance(app, dict) else None
    return "Untitled" if name in (None, "") else str(name)
