"""Versions of an app's workflow: publish, list, look at, compare, pin, roll back."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from json import JSONDecodeError
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, flag
from headrace.api.http.errors import of_status
from headrace.api.http.json import encode
from headrace.api.http.request_body import Body
from headrace.api.http.routing import OperationList
from headrace.api.native import version_docs as operations
from headrace.api.native.services import Polling
from headrace.api.openapi import add_get
from headrace.apps.catalog import Served
from headrace.content.python_json import load_json
from headrace.dsl.diff import diff
from headrace.dsl.package import text_of
from headrace.dsl.redaction import shown
from headrace.dsl.yaml_reader import read
from headrace.errors import InvalidParam, LoadError, NotFound, Problem, RequestError
from headrace.ports import App, Version
from headrace.times import times
from headrace.values import Value

_JSON = "application/json"
_FILES = frozenset(
    {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain", "application/zip"}
)
_WANTED = 'Send the workflow as application/yaml, or as application/json: {"content": "..."}.'
_PAGE, _LARGEST_PAGE = 20, 100
_NAMED = 10_000  # versions whose names are remembered: to find one out, its content is read


class VersionRoutes:
    """`/workflows/{app_id}/versions...`, `/workflows/{app_id}/diff` and `/workflows/{app_id}/rollback`."""

    def __init__(self, api: Api, parts: Polling) -> None:
        self.api = api
        self._idempotency = parts.idempotency
        self._names: OrderedDict[str, str] = OrderedDict()

    def add_to(self, router: OperationList) -> None:
        add_get(router, "/workflows/{app_id}/versions", self.listed, operations.LIST)
        router.add_api_route("/workflows/{app_id}/versions", self.publish, methods=["POST"], **operations.PUBLISH)
        add_get(router, "/workflows/{app_id}/versions/{version_id}", self.detail, operations.DETAIL)
        router.add_api_route(
            "/workflows/{app_id}/versions/{version_id}/pin", self.pin, methods=["POST"], **operations.PIN
        )
        add_get(router, "/workflows/{app_id}/diff", self.diff, operations.DIFF)
        router.add_api_route("/workflows/{app_id}/rollback", self.roll_back, methods=["POST"], **operations.ROLL_BACK)

    # ---------------------------------------------------------------------------------------------------- look at

    async def listed(self, request: Request) -> Response:
        app = await self._app(request)
        limit = _number(request, "limit", _LARGEST_PAGE) or _PAGE
        before = _number(request, "before", 2**31)
        known = await self.api.apps.catalog.versions(app.id)
        page = [each for each in known if before is None or each.number < before]
        told = {
            "data": [await self._wire(each, app) for each in page[:limit]],
            "limit": limit,
            "has_more": len(page) > limit,
        }
        return _answer(told)

    async def detail(self, request: Request) -> Response:
        app = await self._app(request)
        version = await self._version(app, request.path_params["version_id"])
        content, masked = await _loaded(shown, version.content)
        return _answer({**await self._wire(version, app), "content": content, "masked": masked})

    async def diff(self, request: Request) -> Response:
        app = await self._app(request)
        wanted = request.query_params.get("from")
        if not wanted:
            raise InvalidParam("from: the id of the version to compare with is required")
        old = await self._version(app, wanted)
        new = await self._version(app, request.query_params.get("to") or app.version)

        def compare() -> dict[str, Value]:
            before, after = (read(each.content, f"version {each.number}") for each in (old, new))
            return diff(before, after, self.api.apps.registry).tell()

        return _answer({"from": old.id, "to": new.id, **await _loaded(compare)})

    # ----------------------------------------------------------------------------------------------------- change

    async def publish(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "manage")
        body = await Body(request, self.api.options.max_body, of_status(413)).whole()

        async def make(_: str | None) -> Response:
            # a version's id follows from its content: made again, it is the same one
            current = not request.query_params.get("current", "").strip() or flag(request, "current")
            try:
                content = await asyncio.to_thread(_content, request, body)
                published = await self.api.apps.publish_version(served.app, content, current=current)
            except LoadError as error:
                message = f"The workflow cannot be loaded: {_first(error.problems)}"
                return _refused("invalid_workflow", message, 400, error.problems)
            told = await self._wire_of(published.served)
            told["problems"] = [_problem(each) for each in published.problems]
            return _answer(told, 201 if published.new else 200)

        return await self._idempotency.once(request, served, body, make)

    async def pin(self, request: Request) -> Response:
        app = await self._app(request, "manage")
        version = await self._version(app, request.path_params["version_id"])
        return await self._changed(lambda: self.api.apps.pin(app, version.id))

    async def roll_back(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "manage")

        async def make(_: str | None) -> Response:
            return await self._changed(lambda: self.api.apps.roll_back(served.app))

        return await self._idempotency.once(request, served, b"", make)

    async def _changed(self, change: Callable[[], Any]) -> Response:
        try:
            served = cast("Served", await change())
        except LoadError as error:
            return _stale(error)
        return _answer(await self._wire_of(served))

    # ---------------------------------------------------------------------------------------------------- finding

    async def _app(self, request: Request, permission: str | None = None) -> App:
        """The one that is named, as it is this very moment: what a key opens is remembered for a little while."""
        app = (await self.api.authenticate(request, permission)).app
        return await self.api.apps.catalog.app(app.id) or app

    async def _version(self, app: App, wanted: str) -> Version:
        unknown = NotFound(f"Workflow not found with id: {wanted}")
        found = await self.api.apps.catalog.version(as_uuid(wanted, unknown))
        if found is None or found.app != app.id:
            raise unknown
        return found

    async def _wire_of(self, served: Served) -> dict[str, Value]:
        self._remember(served.version, served.flow.name)
        return await self._wire(served.version, served.app)

    def _remember(self, version: Version, name: str) -> str:
        self._names[version.id] = name
        if len(self._names) > _NAMED:
            self._names.popitem(last=False)
        return name

    async def _wire(self, version: Version, app: App) -> dict[str, Value]:
        name = self._names.get(version.id)
        if name is None:
            name = self._remember(version, await asyncio.to_thread(_name, version.content))
        return {
            "id": version.id,
            "number": version.number,
            "digest": version.digest,
            **times(created_at=version.created_at),
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


def _number(request: Request, name: str, most: int) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:18]) <= most:
        raise InvalidParam(f"{name}: Input should be an integer from 1 to {most}, not {text[:50]!r}")
    return int(text)


def _first(problems: Sequence[Problem]) -> str:
    fatal = [each for each in problems if each.fatal]
    more = f" (and {len(fatal) - 1} more, see `details`)" if len(fatal) > 1 else ""
    return f"{fatal[0]}{more}"


def _problem(problem: Problem) -> dict[str, Value]:
    return {
        "message": problem.message,
        "line": problem.line,
        "node": problem.node,
        "field": problem.field,
        "fatal": problem.fatal,
    }


def _refused(code: str, message: str, status: int, problems: Sequence[Problem]) -> Response:
    """The envelope of every error, with all the problems beside it."""
    told = {"code": code, "message": message, "status": status, "details": [_problem(each) for each in problems]}
    return _answer(told, status)


def _stale(error: LoadError) -> Response:
    message = f"This version cannot be loaded any more: {_first(error.problems)}"
    return _refused("version_not_loadable", message, 409, error.problems)


def _answer(value: Mapping[str, Value], status: int = 200) -> Response:
    return Response(encode(value), status, media_type=_JSON)
