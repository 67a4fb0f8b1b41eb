"""Versions of an app's workflow: publish, list, look at, compare, pin, roll back."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from json import JSONDecodeError
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, flag
from headrace.api.http.errors import ProblemError, of_status, problem_body
from headrace.api.http.params import number
from headrace.api.http.request_body import Body
from headrace.api.http.responses import json_response
from headrace.api.http.routing import UUID_SCHEMA, Operation, parameter, tagged
from headrace.api.native.idempotency import KEY_ERRORS, KEY_PARAMETER
from headrace.api.native.schemas import versions
from headrace.api.native.schemas.common import BAD_LIMIT, NO_APP
from headrace.api.native.schemas.versions import PublishedVersion, VersionBody, VersionDetail, VersionPage
from headrace.api.native.services import NativeServices
from headrace.apps.catalog import Served
from headrace.content.python_json import load_json
from headrace.dsl.diff import diff
from headrace.dsl.package import text_of
from headrace.dsl.redaction import shown
from headrace.dsl.yaml_reader import read
from headrace.errors import InvalidParam, LoadError, NotFound, Problem, RequestError
from headrace.ports import App, Version
from headrace.times import milliseconds, whole_seconds
from headrace.values import Value

_JSON = "application/json"
_FILES = frozenset(
    {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain", "application/zip"}
)
_WANTED = 'Send the workflow as application/yaml, or as application/json: {"content": "..."}.'
_NO_FROM = "from: the id of the version to compare with is required"
_STALE = "This version cannot be loaded any more: {}"
_EXAMPLE = Problem("there is no `workflow` section")
_PAGE, _LARGEST_PAGE = 20, 100
_PAGING = [
    parameter("query", "limit", "Versions on a page", {"type": "integer", "minimum": 1, "maximum": _LARGEST_PAGE}),
    parameter("query", "before", "Only versions with a smaller number", {"type": "integer", "minimum": 1}),
]
_CURRENT = parameter("query", "current", "Make it the version that calls run", {"type": "boolean", "default": True})
_COMPARED = [
    parameter("query", "from", "A version's id", UUID_SCHEMA, required=True),
    parameter("query", "to", "Another version's id; the current version by default", UUID_SCHEMA),
]
_NAMED = 10_000  # versions whose names are remembered: to find one out, its content is read


class VersionRoutes:
    """`/workflows/{app_id}/versions...`, `/workflows/{app_id}/diff` and `/workflows/{app_id}/rollback`."""

    def __init__(self, api: Api, services: NativeServices) -> None:
        self.api = api
        self._idempotency = services.idempotency
        self._names: OrderedDict[str, str] = OrderedDict()

    def operations(self) -> list[Operation]:
        all_, one = "/workflows/{app_id}/versions", "/workflows/{app_id}/versions/{version_id}"
        no_version = NotFound(f"Workflow not found with id: {versions.ID}")
        invalid = _refused("invalid_workflow", "The workflow cannot be loaded: {}", 400, [_EXAMPLE])
        stale = _refused("version_not_loadable", _STALE, 409, [_EXAMPLE])
        earlier = RequestError("The current version is the first one.", "no_earlier_version", 409)
        return tagged(
            "Versions",
            Operation(
                "GET",
                all_,
                self.list_versions,
                "listWorkflowVersions",
                "List versions",
                versions.VERSIONS,
                parameters=_PAGING,
                errors=[BAD_LIMIT, NO_APP],
            ),
            Operation(
                "POST",
                all_,
                self.publish,
                "publishWorkflowVersion",
                "Publish a version",
                {201: versions.PUBLISHED, 200: versions.KNOWN},
                body=versions.CONTENT,
                parameters=[_CURRENT, KEY_PARAMETER],
                errors=[invalid, *KEY_ERRORS, NO_APP, of_status(415, _WANTED)],
            ),
            Operation(
                "GET",
                one,
                self.detail,
                "getWorkflowVersion",
                "Get a version",
                versions.DETAIL,
                errors=[no_version, stale],
            ),
            Operation(
                "GET",
                "/workflows/{app_id}/diff",
                self.diff,
                "diffWorkflowVersions",
                "Compare two versions",
                versions.DIFF,
                parameters=_COMPARED,
                errors=[InvalidParam(_NO_FROM), no_version, stale],
            ),
            Operation(
                "POST",
                f"{one}/pin",
                self.pin,
                "pinWorkflowVersion",
                "Make a version the current one",
                versions.VERSION,
                errors=[no_version, stale],
            ),
            Operation(
                "POST",
                "/workflows/{app_id}/rollback",
                self.roll_back,
                "rollBackWorkflow",
                "Go back one version",
                versions.ROLLED_BACK,
                parameters=[KEY_PARAMETER],
                errors=[*KEY_ERRORS, NO_APP, earlier, stale],
            ),
        )

    # ---------------------------------------------------------------------------------------------------- look at

    async def list_versions(self, request: Request) -> Response:
        """Newest first. `digest` is the SHA-256 of the content; `current` marks the version that calls run."""
        app = await self._app(request)
        limit = number(request.query_params, "limit", _PAGE, _LARGEST_PAGE)
        before = number(request.query_params, "before", None, 2**31)
        known = await self.api.apps.catalog.versions(app.id)
        page = [version for version in known if before is None or version.number < before]
        body: VersionPage = {
            "data": [await self._body(version, app) for version in page[:limit]],
            "limit": limit,
            "has_more": len(page) > limit,
        }
        return json_response(body)

    async def detail(self, request: Request) -> Response:
        """With its `content`. If the file has secret environment variables, their values are replaced by stars wherever
        they occur, the file is written anew (without its comments), and `masked` is true.
        """
        app = await self._app(request)
        version = await self._version(app, request.path_params["version_id"])
        content, masked = await _loaded(shown, version.content)
        body: VersionDetail = {**await self._body(version, app), "content": content, "masked": masked}
        return json_response(body)

    async def diff(self, request: Request) -> Response:
        """What changed from `from` to `to`: nodes and their fields, edges, variables, features, and whatever else
        differs (`app`). Layout does not count. Values of secrets are not shown, only that they differ.
        """
        app = await self._app(request)
        wanted = request.query_params.get("from")
        if not wanted:
            raise InvalidParam(_NO_FROM)
        old = await self._version(app, wanted)
        new = await self._version(app, request.query_params.get("to") or app.version)

        def compare() -> dict[str, Value]:
            before, after = (read(each.content, f"version {each.number}") for each in (old, new))
            return diff(before, after, self.api.apps.registry).tell()

        return json_response({"from": old.id, "to": new.id, **await _loaded(compare)})

    # ----------------------------------------------------------------------------------------------------- change

    async def publish(self, request: Request) -> Response:
        """Takes a workflow file as Dify exports it. If there is a version of the same content already, it returns that
        one (200). A file that cannot be loaded is refused with all its problems in `details`; those in the response's
        `problems` do not keep it from running. The version is current from then on, unless `current=false`.
        """
        served = await self.api.authenticate(request, "manage")
        body = await Body(request, self.api.options.max_body, of_status(413)).whole()

        async def make(_: str | None) -> Response:
            # a version's id follows from its content: made again, it is the same one
            current = not request.query_params.get("current", "").strip() or flag(request, "current")
            try:
                content = await asyncio.to_thread(_content, request, body)
                published = await self.api.apps.publish_version(served.app, content, current=current)
            except LoadError as error:
                message = "The workflow cannot be loaded: {}"
                raise _refused("invalid_workflow", message, 400, error.problems) from error
            version = await self._body_of(published.served)
            published_version: PublishedVersion = {**version, "problems": [problem_body(p) for p in published.problems]}
            return json_response(published_version, 201 if published.new else 200)

        return await self._idempotency.once(request, served, body, make)

    async def pin(self, request: Request) -> Response:
        """Calls run it from then on; runs that have begun continue in their version. To pin the current version changes
        nothing.
        """
        app = await self._app(request, "manage")
        version = await self._version(app, request.path_params["version_id"])
        return await self._changed(lambda: self.api.apps.pin(app, version.id))

    async def roll_back(self, request: Request) -> Response:
        """Makes the version with the next smaller number the current one, and returns it. Done twice, it goes back two:
        give an Idempotency-Key where a request may be sent again, or pin a particular version.
        """
        served = await self.api.authenticate(request, "manage")

        async def make(_: str | None) -> Response:
            return await self._changed(lambda: self.api.apps.roll_back(served.app))

        return await self._idempotency.once(request, served, b"", make)

    async def _changed(self, change: Callable[[], Any]) -> Response:
        try:
            served = cast("Served", await change())
        except LoadError as error:
            raise _refused("version_not_loadable", _STALE, 409, error.problems) from error
        return json_response(await self._body_of(served))

    # ---------------------------------------------------------------------------------------------------- finding

    async def _app(self, request: Request, permission: str | None = None) -> App:
        """The one that is named, as it is this very moment: what a key opens is remembered for a little while."""
        app = (await self.api.authenticate(request, permission)).app
        return await self.api.apps.catalog.app(app.id) or app

    async def _version(self, app: App, wanted: str) -> Version:
        unknown = NotFound(f"Workflow not found with id: {wanted}")
        version = await self.api.apps.catalog.version(as_uuid(wanted, unknown))
        if version is None or version.app != app.id:
            raise unknown
        return version

    async def _body_of(self, served: Served) -> VersionBody:
        self._remember(served.version, served.flow.name)
        return await self._body(served.version, served.app)

    def _remember(self, version: Version, name: str) -> str:
        self._names[version.id] = name
        if len(self._names) > _NAMED:
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
    """Does what reads whole files in a thread; the server answers others meanwhile. RequestError for a file that could
    be read when it was published, and cannot any more."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except LoadError as error:
        raise RequestError(f"This version cannot be loaded any more: {error}", "version_not_loadable", 409) from error


def _content(request: Request, body: bytes) -> str:
    """The workflow file in a body. RequestError for another kind of body, LoadError where it is no text."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared in _FILES or declared.endswith("+yaml"):
        return text_of(body, "content")
    if declared != _JSON and not declared.endswith("+json"):
        raise of_status(415, _WANTED)
    try:
        parsed: Any = load_json(body)
    except JSONDecodeError:
        raise of_status(400) from None
    content = cast("dict[str, Any]", parsed).get("content") if isinstance(parsed, dict) else None
    if not isinstance(content, str):
        raise InvalidParam(f"content: Field required, text. {_WANTED}")
    return content.removeprefix("\ufeff")


def _name(content: str) -> str:
    """What a version calls its app, as `Flow.name` has it."""
    try:
        app = read(content, "version").value.get("app")
    except LoadError:
        app = None
    name = cast("dict[str, Value]", app).get("name") if isinstance(app, dict) else None
    return "Untitled" if name in (None, "") else str(name)


def _refused(code: str, message: str, status: int, problems: Sequence[Problem]) -> RequestError:
    """An error with all problems; `message` has {} where the first fatal one stands."""
    fatal = [problem for problem in problems if problem.fatal]
    more = f" (and {len(fatal) - 1} more, see `details`)" if len(fatal) > 1 else ""
    return ProblemError(message.format(f"{fatal[0]}{more}"), code, status, problems)
