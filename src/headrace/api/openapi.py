"""The OpenAPI description of the API, written from its routes when it is first requested."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from starlette.routing import BaseRoute

from headrace import __version__
from headrace.api.http.errors import body_of, body_type, of_status
from headrace.api.http.params import PATH_PARAMETERS, Query
from headrace.api.http.routing import ApiRoute, Contents, Operation, api_routes
from headrace.api.http.schema import JSON, Media, adapter
from headrace.errors import Forbidden, RequestError, Unauthorized

TITLE = "Headrace"
_DESCRIPTION = """Workflows exported from Dify, served through Dify's Service API.

Every request has the header `Authorization: Bearer KEY`: an app's own key (`app-...`), a workspace's (`ws-...`), or a
token of an identity provider. Errors are always `{"code": ..., "message": ..., "status": ...}`."""

_STRING: Mapping[str, Any] = {"type": "string"}

Json = dict[str, Any]


def document(routes: Iterable[BaseRoute]) -> Json:
    """The description of all documented routes."""
    ours = [route for route in api_routes(routes) if route.include_in_schema]
    schemas = _Schemas(ours)
    paths: dict[str, Json] = {}
    for route in ours:
        paths.setdefault(route.path_format, {})[route.operation.method.lower()] = _operation(route, schemas)
    securities = {route.security.name: route.security for route in ours if route.security}
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": security.description}
                for name, security in securities.items()
            },
        },
    }


def _operation(route: ApiRoute, schemas: _Schemas) -> Json:
    operation = route.operation
    first, *others = route.name.split("_")
    summary, *paragraphs = (inspect.getdoc(route.endpoint) or "").split("\n\n")
    deprecation = operation.deprecated.note if operation.deprecated else ""
    description: Json = {
        "operationId": first + "".join(word.capitalize() for word in others),
        "tags": [route.tag],
        "summary": summary.removesuffix("."),
        "description": "\n\n".join(
            " ".join(paragraph.split()) for paragraph in [*paragraphs, operation.note, deprecation] if paragraph
        ),
        "parameters": _parameters(route),
        "responses": _responses(route, schemas),
        "security": [{route.security.name: []}] if route.security else [],
    }
    if operation.body:
        content = {media.type: schemas.content(media, "validation") for media in listed(operation.body)}
        description["requestBody"] = {"required": operation.body_required, "content": content}
    return description | ({"deprecated": True} if operation.deprecated else {})


def _parameters(route: ApiRoute) -> list[Json]:
    names = {parameter.name for parameter in route.operation.parameters if parameter.where == "path"}
    in_path = [PATH_PARAMETERS[name] for name in route.param_convertors if name not in names]
    return [
        {
            "in": parameter.where,
            "name": parameter.name,
            "description": parameter.description,
            "schema": parameter.schema,
            "required": parameter.required,
        }
        for parameter in (*in_path, *route.operation.parameters)
    ]


def _responses(route: ApiRoute, schemas: _Schemas) -> Json:
    responses: dict[str, Json] = {}
    for status, contents in responses_of(route.operation).items():
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if contents:
            responses[str(status)]["content"] = {
                media.type: schemas.content(media, "serialization") for media in contents
            }
    for error in _errors(route):
        response = responses.setdefault(str(error.status), {"description": HTTPStatus(error.status).phrase})
        content = response.setdefault("content", {}).setdefault(JSON, schemas.content(Media(body_type(route.path))))
        content.setdefault("examples", {})[error.code] = {"value": body_of(error, route.path)}
    return dict(sorted(responses.items()))


def _errors(route: ApiRoute) -> Iterator[RequestError]:
    """Those that an operation declares, and those that follow from its security, body and parameters."""
    operation = route.operation
    if route.security:
        yield Unauthorized("Access token is invalid")
        if route.security.has_permissions:
            yield Forbidden("This key lacks the permission 'run'.")
    if operation.body:
        yield of_status(413)
        if any(media.type == JSON for media in listed(operation.body)):
            yield of_status(400)
            if operation.body_required:
                yield of_status(415)
    for parameter in operation.parameters:
        if isinstance(parameter, Query) and parameter.error is not None:
            yield parameter.error
    yield from operation.errors


def responses_of(operation: Operation) -> Mapping[int, Sequence[Media[Any]]]:
    """What an operation returns, by status."""
    response = operation.response
    by_status = response if isinstance(response, Mapping) else {200: response}
    return {status: listed(contents) for status, contents in by_status.items()}


def listed(contents: Contents) -> Sequence[Media[Any]]:
    return [contents] if isinstance(contents, Media) else contents


class _Schemas:
    """The JSON schemas of all shapes, as components."""

    def __init__(self, routes: Sequence[ApiRoute]) -> None:
        shapes: dict[tuple[Any, JsonSchemaMode], None] = {}
        for route in routes:
            shapes[body_type(route.path), "serialization"] = None
            for media in listed(route.operation.body):
                shapes[media.shape, "validation"] = None
            for contents in responses_of(route.operation).values():
                shapes |= {(media.shape, "serialization"): None for media in contents}
        adapters: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [
            (shape, mode, adapter(shape)) for shape, mode in shapes if shape is not None
        ]
        self._schemas, definitions = TypeAdapter.json_schemas(
            adapters, ref_template="#/components/schemas/{model}", schema_generator=_Untitled
        )
        self.components = definitions.get("$defs", {})

    def content(self, media: Media[Any], mode: JsonSchemaMode = "serialization") -> Json:
        schema = media.schema or _STRING
        content: Json = {"schema": schema if media.shape is None else self._schemas[media.shape, mode]}
        if media.examples:
            content["examples"] = {name: {"value": example} for name, example in media.examples.items()}
        elif media.example is not None:
            content["example"] = media.example
        return content


class _Untitled(GenerateJsonSchema):
    """Without titles, which only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
