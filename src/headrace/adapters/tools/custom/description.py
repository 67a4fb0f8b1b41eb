"""The description of an API, whose operations are tools: OpenAPI 3, Swagger 2, or the manifest of an OpenAI plugin."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from referencing import Registry, Resource
from referencing.exceptions import NoSuchResource, Unresolvable

from headrace.adapters.config_files import read_yaml
from headrace.adapters.tools.configuration import Auth
from headrace.adapters.tools.schemas import MOST_REFERENCES, PARAMETER_TYPES, inlined
from headrace.errors import HeadraceError
from headrace.frozen import frozen
from headrace.ports.services import ParameterType, ToolParameter, ToolSpec

Schema = Mapping[str, Any]
logger = logging.getLogger(__name__)

METHODS = ("get", "post", "put", "delete", "patch", "head")
_PLACES = ("path", "query", "header", "cookie")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@frozen
class Parameter:
    """A parameter of a request; `place` is path, query, header or cookie."""

    name: str
    place: str
    required: bool
    default: Any = None


@frozen
class Body:
    """An object that is a request's body."""

    content_type: str
    properties: Mapping[str, Schema]
    required: frozenset[str]


@frozen
class Operation:
    """An operation of an API. `url` has its path parameters in braces; `public`: it needs no key."""

    spec: ToolSpec
    method: str
    url: str
    parameters: Sequence[Parameter]
    body: Body | None
    public: bool


class Description:
    """A description that has been read; an operation is parsed when it is first used. HeadraceError if the file is
    not the description of an API."""

    def __init__(self, path: Path, server: str = "") -> None:
        self._path = path
        content = read_yaml(path)
        if "api" in content and "paths" not in content:
            self._path, content = _described_by(path, content)
        self._content = content
        self._swagger = "swagger" in content
        self._server = (server or _server(content, self._swagger)).rstrip("/")
        if not isinstance(content.get("paths"), dict):
            raise HeadraceError(f"{path} is not an OpenAPI or Swagger description: it has no `paths`")
        if not self._server:
            raise HeadraceError(f"{path} does not say on which server the API is; set `server` in tools.yaml")
        self._uri = self._path.resolve().as_uri()
        registry: Registry[Any] = Registry(retrieve=self._retrieve)  # pyright: ignore[reportCallIssue]
        self._registry = registry.with_resource(self._uri, Resource.opaque(content))
        self._operation_parts: dict[str, tuple[str, str, Schema, Schema]] = {}
        for name, operation in self._operations():
            if name in self._operation_parts:
                logger.warning(
                    "%s: %s %s has the name of another operation: %s", path, operation[1], operation[0], name
                )
            self._operation_parts.setdefault(name, operation)
        self._operations_by_id: dict[str, Operation] = {}

    def __iter__(self) -> Iterator[Operation]:
        """The operations, without those about which the description is wrong."""
        for name in self._operation_parts:
            try:
                operation = self.operation(name)
            except HeadraceError as error:
                logger.warning("an operation is not listed as a tool: %s", error)
                continue
            if operation is not None:
                yield operation

    def operation(self, name: str) -> Operation | None:
        """The operation of a tool's name. HeadraceError if the description is wrong about it."""
        if name not in self._operations_by_id and name in self._operation_parts:
            try:
                self._operations_by_id[name] = self._operation(name, *self._operation_parts[name])
            except (AttributeError, KeyError, TypeError) as error:  # a list, an object or a name is expected there
                raise HeadraceError(f"{self._path}: the operation {name!r} is malformed: {error!r}") from error
        return self._operations_by_id.get(name)

    @property
    def auth(self) -> Auth | None:
        """How the API takes its key, as far as the description says."""
        where = self._content if self._swagger else _mapping(self._content.get("components"))
        schemes = _mapping(where.get("securityDefinitions" if self._swagger else "securitySchemes"))
        for scheme in map(self._resolved, schemes.values()):
            match scheme.get("type"), scheme.get("in"):
                case "apiKey", ("header" | "query") as place:
                    return Auth(type=place, name=str(scheme.get("name") or ""))
                case ("basic", _) | ("http", _) if "basic" in (scheme["type"], scheme.get("scheme")):
                    return Auth(type="header", prefix="basic")
                case (("http" | "oauth2" | "openIdConnect"), _):
                    return Auth(type="header", prefix="bearer")
                case _:
                    pass
        return None

    # ------------------------------------------------------------------------------------------------- operations

    def _operations(self) -> Iterator[tuple[str, tuple[str, str, Schema, Schema]]]:
        """The operations by the name of their tool: path, method, the path's item, the operation."""
        for path, item in self._content["paths"].items():
            path, item = str(path), self._resolved(item)
            for method in METHODS:
                operation = item.get(method)
                if isinstance(operation, dict):
                    operation = cast("dict[str, Any]", operation)
                    yield _name(path, method, operation), (path, method, item, operation)

    def _operation(self, name: str, path: str, method: str, item: Schema, operation: Schema) -> Operation:
        parameters = [
            self._inlined(parameter) for parameter in (*_items(item, "parameters"), *_items(operation, "parameters"))
        ]
        body = self._body(operation, parameters)
        parameters_by_name = {
            parameter["name"]: parameter for parameter in parameters if parameter.get("in") in _PLACES
        }
        tool_parameters = {
            key: _tool_parameter(key, parameter, bool(parameter.get("required")))
            for key, parameter in parameters_by_name.items()
        }
        if body is not None:
            for key, schema in body.properties.items():
                tool_parameters.setdefault(key, _tool_parameter(key, schema, key in body.required))
        description = operation.get("description") or operation.get("summary") or ""
        return Operation(
            ToolSpec(name, operation.get("summary") or name, description, tuple(tool_parameters.values())),
            method,
            self._server + path,
            [
                Parameter(key, parameter["in"], bool(parameter.get("required")), _schema(parameter).get("default"))
                for key, parameter in parameters_by_name.items()
            ],
            body,
            public=operation.get("security") == [],
        )

    def _body(self, operation: Schema, parameters: Sequence[Schema]) -> Body | None:
        if self._swagger:
            consumes = [*_items(operation, "consumes"), *_items(self._content, "consumes")]
            fields = {parameter["name"]: parameter for parameter in parameters if parameter.get("in") == "formData"}
            if fields:
                files = any(field.get("type") == "file" for field in fields.values())
                form = next((type_ for type_ in consumes if type_ in _FORMS), _FORMS[files])
                return Body(form, fields, frozenset(key for key, field in fields.items() if field.get("required")))
            schema = next((_schema(parameter) for parameter in parameters if parameter.get("in") == "body"), None)
            return None if schema is None else _object_body(consumes[0] if consumes else "application/json", schema)
        content = self._resolved(operation.get("requestBody")).get("content")
        if not isinstance(content, dict) or not content:
            return None
        content_type, media = next(iter(cast("dict[str, Any]", content).items()))  # the first, as in Dify
        return _object_body(content_type, self._inlined(_mapping(media).get("schema") or {}))

    # ------------------------------------------------------------------------------------------------- references

    def _retrieve(self, uri: str) -> Resource[Any]:
        """Another file of the description; nothing is fetched over the network."""
        parts = urlsplit(uri)
        if parts.scheme != "file":
            raise NoSuchResource(uri)
        return Resource.opaque(read_yaml(Path(unquote(parts.path))))

    def _resolved(self, value: Any) -> dict[str, Any]:
        """The object that a value is, or refers to."""
        value = _mapping(value)
        reference = value.get("$ref")
        return self._lookup(reference, self._uri)[0] if isinstance(reference, str) else value

    def _lookup(self, reference: str, base: str) -> tuple[dict[str, Any], str]:
        """(the object that a reference of a file names, the file that it is in)."""
        try:
            resolution = self._registry.resolver(base).lookup(reference)
        except Unresolvable as error:
            message = f"{self._path}: the reference {reference!r} leads to nothing here"
            raise HeadraceError(message) from error
        return _mapping(resolution.contents), urldefrag(urljoin(base, reference)).url

    def _inlined(self, value: Any) -> dict[str, Any]:
        """An object with what its references name in place of them."""
        return inlined(lambda depth, references: self._copy(_mapping(value), self._uri, depth, references))

    def _copy(self, value: Any, base: str, depth: int, references: Iterator[int]) -> Any:
        if isinstance(value, list):
            return [self._copy(item, base, depth, references) for item in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        value = cast("dict[str, Any]", value)
        reference = value.get("$ref")
        if not isinstance(reference, str):
            return {str(key): self._copy(item, base, depth, references) for key, item in value.items()}
        if not depth or next(references) > MOST_REFERENCES:
            return {}
        target, where = self._lookup(reference, base)
        return self._copy(target, where, depth - 1, references)


def _described_by(path: Path, manifest: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """(file, content) of the description that a plugin's manifest names, which is to be in the same folder."""
    api = _mapping(manifest.get("api"))
    if api.get("type", "openapi") != "openapi":
        raise HeadraceError(f"{path}: an API of type {api['type']!r} is not supported, only openapi")
    url = str(api.get("url") or "")
    file = path.parent / (urlsplit(url).path.rpartition("/")[2] or "openapi.yaml")
    if not file.is_file():
        raise HeadraceError(f"{path}: save the description of the API ({url}) as {file.name} next to it")
    return file, read_yaml(file)


def _server(content: Mapping[str, Any], swagger: bool) -> str:
    if swagger and content.get("host"):
        schemes = cast("list[str]", content.get("schemes") or ["https"])
        scheme = "https" if "https" in schemes else schemes[0]
        return f"{scheme}://{content['host']}{content.get('basePath') or ''}"
    servers = content.get("servers")
    first = _mapping(cast("list[Any]", servers)[0]) if isinstance(servers, list) and servers else {}
    url = str(first.get("url") or "")
    for name, variable in _mapping(first.get("variables")).items():
        url = url.replace(f"{{{name}}}", str(_mapping(variable).get("default", "")))
    return url if urlsplit(url).scheme in ("http", "https") else ""


def _name(path: str, method: str, operation: Schema) -> str:
    """The name of an operation's tool; without an id, made of the path and the method, as in Dify."""
    if operation_id := operation.get("operationId"):
        return str(operation_id)
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '', path.strip('/').replace('/', '_'))}_{method}"


def _object_body(content_type: str, schema: Schema) -> Body:
    parts = [schema, *map(_mapping, _items(schema, "allOf"))]
    properties = {name: _mapping(schema) for part in parts for name, schema in _mapping(part.get("properties")).items()}
    return Body(content_type, properties, frozenset(name for part in parts for name in _items(part, "required")))


def _tool_parameter(name: str, description: Schema, required: bool) -> ToolParameter:
    """A parameter or property as one of a tool."""
    schema = _schema(description)
    type_ = _type(schema)
    options = [option for option in _items(schema, "enum") if isinstance(option, str)] if type_ == "string" else ()
    return ToolParameter(
        name,
        type_,
        required=required,
        default=schema.get("default"),
        options=tuple(options),
        label=name,
        description=str(description.get("description") or schema.get("description") or ""),
        input_schema=dict(schema) if type_ in ("any", "array", "object") else None,
    )


def _type(schema: Schema) -> ParameterType:
    if schema.get("format") == "binary" or schema.get("type") == "file":
        return "file"
    items = _mapping(schema.get("items"))
    type_ = schema.get("type")
    if type_ == "array" and (items.get("format") == "binary" or items.get("type") == "file"):
        return "files"
    return PARAMETER_TYPES.get(type_, "any") if isinstance(type_, str) else "any"


def _schema(schema: Schema) -> Schema:
    """The schema of a parameter, which in Swagger 2 is the parameter itself."""
    return _mapping(schema["schema"]) if "schema" in schema else schema


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _items(schema: Schema, name: str) -> list[Any]:
    """A list of a description; none where it is left empty, or something else (`required: true` of a property)."""
    value = schema.get(name)
    return cast("list[Any]", value) if isinstance(value, list) else []
