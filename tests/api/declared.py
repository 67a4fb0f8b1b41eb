"""Responses and events, held against the schemas that are declared for them: no field is missing, none is new."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from headrace.api.dify.schemas.message_events import MessageStreamEvent
from headrace.api.http.errors import body_type
from headrace.api.http.routing import ApiRoute, api_routes
from headrace.api.openapi import responses_of
from headrace.stores.memory import memory_storage


def check_response(method: str, path: str, status: int, body: Any) -> None:
    """Fails where a response to a request has another form than `/openapi.json` says."""
    route = next((route for route in _routes() if method in route.methods and route.path_regex.match(path)), None)
    if route is None:
        return
    if status >= 400 and status not in responses_of(route.operation):
        _check(_validator(body_type(route.path)), body, f"{method} {route.path} {status}")
        return
    shapes = [
        media.shape for media in responses_of(route.operation).get(status, ()) if media.type == "application/json"
    ]
    assert shapes, f"{method} {route.path} responds with {status}, which is not declared"
    _check(_validator(shapes[0]), body, f"{method} {route.path} {status}")


def check_event(name: str, body: Mapping[str, Any]) -> None:
    """Fails where an event of a stream has another form than is declared."""
    if name != "ping":
        assert name in _events(), f"{name} is not declared"
        _check(_events()[name], body, name)


def _check(validator: Draft202012Validator, body: Any, what: str) -> None:
    problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]
    assert not problems, f"{what}: {problems}"


@cache
def _routes() -> list[ApiRoute]:
    from tests.native.world import api_of, apps_of  # which needs this package

    store = memory_storage()
    api: Any = api_of(apps_of(store), store)
    return list(api_routes(api.routes))


@cache
def _validator(shape: Any) -> Draft202012Validator:
    return Draft202012Validator(_closed(TypeAdapter(shape).json_schema(mode="serialization")))


@cache
def _events() -> Mapping[str, Draft202012Validator]:
    schema = _closed(TypeAdapter(MessageStreamEvent).json_schema(mode="serialization"))
    definitions = schema["$defs"]
    validators: dict[str, Draft202012Validator] = {}
    for definition in definitions.values():
        event = definition.get("properties", {}).get("event", {})
        for name in event.get("enum", [event["const"]] if "const" in event else []):
            validators[name] = Draft202012Validator({**definition, "$defs": definitions})
    return validators


def _closed(schema: Any) -> Any:
    """The schema without leave for fields that it does not name."""
    if isinstance(schema, list):
        return [_closed(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(item) for name, item in cast("dict[str, Any]", schema).items()}
    return {"additionalProperties": False, **closed} if "properties" in closed else closed
