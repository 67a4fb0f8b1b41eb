"""Workflow files in requests: what is in them, what is wrong with them, and who may send them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from json import JSONDecodeError
from typing import Any, cast

from starlette.requests import Request

from headrace.access.keys import can_access
from headrace.api.auth import Api, as_uuid
from headrace.api.http.errors import ProblemError, of_status
from headrace.content.python_json import load_json
from headrace.dsl.load import inspect
from headrace.dsl.package import text_of
from headrace.errors import Forbidden, InvalidParam, LoadError, NotFound, Problem, RequestError
from headrace.node import Flow
from headrace.ports import App, Principal

_JSON = "application/json"
_FILES = frozenset(
    {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain", "application/zip"}
)
ALL_APPS = Forbidden("Only a key for all apps of a workspace may add apps.")
EXPECTED = 'Send the workflow as application/yaml, or as application/json: {"content": "..."}.'


def refused(code: str, message: str, status: int, problems: Sequence[Problem]) -> RequestError:
    """An error with all problems; `message` has {} in place of the first fatal one."""
    fatal = [problem for problem in problems if problem.fatal]
    more = f" (and {len(fatal) - 1} more, see `details`)" if len(fatal) > 1 else ""
    return ProblemError(message.format(f"{fatal[0]}{more}"), code, status, problems)


def content_of(request: Request, body: bytes) -> str:
    """The workflow file in a body. RequestError for another kind of body, LoadError if it is not text."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in _FILES or content_type.endswith("+yaml"):
        return text_of(body, "content")
    if content_type != _JSON and not content_type.endswith("+json"):
        raise of_status(415, EXPECTED)
    try:
        fields: Any = load_json(body)
    except JSONDecodeError:
        raise of_status(400) from None
    content = cast("dict[str, Any]", fields).get("content") if isinstance(fields, dict) else None
    if not isinstance(content, str):
        raise InvalidParam(f"content: Field required, text. {EXPECTED}")
    return content.removeprefix("\ufeff")


EXAMPLE = Problem("there is no `workflow` section")
CANNOT_LOAD = "The workflow cannot be loaded: {}"
INVALID = refused("invalid_workflow", CANNOT_LOAD, 400, [EXAMPLE])


async def app_manager(api: Api, request: Request) -> Principal:
    """Who makes a request that adds apps."""
    principal = await api.principal(request, "manage")
    if principal.apps is not None:
        raise ALL_APPS
    return principal


async def inspect_file(api: Api, request: Request) -> tuple[Flow | None, Sequence[Problem], str]:
    """(the workflow of a request's file if it can be loaded, its problems, its content)."""
    raw = await api.body(request)
    try:
        content = await asyncio.to_thread(content_of, request, raw)
    except LoadError as error:
        return None, error.problems, ""
    return *await asyncio.to_thread(inspect, content, api.apps.registry, "content"), content


async def accessible_app(api: Api, principal: Principal, app_id: str) -> App:
    """An app by its id, as it is now. NotFound if there is none that the principal has access to."""
    unknown = NotFound(f"App not found with id: {app_id[:50]}")
    app = await api.apps.catalog.app(as_uuid(app_id, unknown))
    if app is None or not can_access(principal, app):
        raise unknown
    return app
