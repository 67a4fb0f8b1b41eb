"""How endpoints are described for `/docs` and `/openapi.json`: arguments of `add_api_route`, with examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

Operation = dict[str, Any]

KEY = (
    "`app-...`, an app's own key, printed when the app is served; or `ws-...`, a workspace's, with the app's id in the "
    "header `Headrace-App` (or the query's `app_id`) unless the path has it, or the key is for one app only"
)


def error(code: str, message: str, status: int) -> dict[str, Any]:
    return {"code": code, "message": message, "status": status}


def responses(errors: Sequence[Mapping[str, Any]], status: int = 200, **contents: Any) -> dict[int | str, Any]:
    """One good answer and the errors, each with its example. `contents`: json, stream, binary,
    audio."""
    media = {
        "json": "application/json",
        "stream": "text/event-stream",
        "binary": "application/octet-stream",
        "audio": "audio/mpeg",
    }
    bytes_ = {"schema": {"type": "string"}}
    # a schema of a stream would be read as that of each of its events
    schemas = {"json": {"schema": {"type": "object"}}, "stream": {}, "binary": bytes_, "audio": bytes_}
    good = {media[name]: {**schemas[name], "example": example} for name, example in contents.items()}
    told: dict[int | str, Any] = {status: {"description": "Done", "content": good}}
    if any(error["status"] == 401 for error in errors):  # who is to be known is to be let
        errors = (_FORBIDDEN, *errors)
    for error in errors:
        at = told.setdefault(error["status"], {"description": "Refused", "content": {}})
        content = at["content"].setdefault("application/json", {})
        content.setdefault("schema", _ERROR_SCHEMA)
        content.setdefault("examples", {})[error["code"]] = {"value": error}
    return told


_FORBIDDEN = error("forbidden", "This key lacks the permission 'run'.", 403)
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["code", "message", "status"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "status": {"type": "integer"}},
}


def parameter(
    where: str, name: str, about: str, schema: Mapping[str, Any], *, required: bool = False
) -> Mapping[str, Any]:
    return {"in": where, "name": name, "description": about, "schema": schema, "required": required or where == "path"}


def operation(
    name: str,
    tag: str,
    summary: str,
    about: str,
    responses: dict[int | str, Any],
    parameters: Sequence[Mapping[str, Any]] = (),
    body: Mapping[str, Any] | None = None,
) -> Operation:
    extra: dict[str, Any] = {"parameters": list(parameters)} if parameters else {}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": body}
    good = min(int(status) for status in responses)
    return {
        "operation_id": name,
        "tags": [tag],
        "summary": summary,
        "description": about,
        "responses": responses,
        "response_class": Response,
        "status_code": good,
        "openapi_extra": extra,
    }


IDS = (
    "Events carry an `id`, from which a stream can go on, only if the request asks for it: by "
    "`Accept: text/event-stream; ids=true`, or by sending `Last-Event-ID`."
)
_PLACE = {"type": "string", "example": "12:34"}
STARTING_POINT = (
    parameter("header", "Last-Event-ID", "Go on after this `id`, the last that came; `0`: from the start", _PLACE),
    parameter("query", "last_event_id", "The same starting point, without asking for ids", _PLACE),
)
"""Where a stream that is followed goes on."""


def add_get(router: APIRouter, path: str, endpoint: Callable[..., Any], operation: Operation) -> None:
    """Adds a GET, and with it HEAD (see `app.RawRoute`)."""
    router.add_api_route(path, endpoint, methods=["GET"], **operation)
