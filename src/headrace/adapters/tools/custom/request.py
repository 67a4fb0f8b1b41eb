"""The request that calls an operation of an API, with its parameters in their places."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote, urlencode

from headrace.adapters.tools.configuration import Auth
from headrace.adapters.tools.custom.description import Body, Operation, Schema
from headrace.errors import NodeError
from headrace.ports.services import Files, HttpRequest, Part
from headrace.values import File, Value, to_json

_MULTIPART, _FORM = "multipart/form-data", "application/x-www-form-urlencoded"
_KEY = "key"  # Dify's default name of a query parameter with a key


async def request_of(
    operation: Operation,
    parameters: Mapping[str, Value],
    auth: Auth | None,
    key: str,
    files: Files,
    idempotency_key: str,
) -> HttpRequest:
    """The request. A header `Idempotency-Key` that the operation declares has the call's own unless one is given.
    NodeError with kind ToolParameterError if a required parameter is missing."""
    url, query, cookies = operation.url, list[tuple[str, str]](), list[str]()
    headers: dict[str, str] = {}
    if auth is not None and key and auth.type == "query":
        query.append((auth.name or _KEY, key))
    elif auth is not None and key and auth.type == "header":
        headers[auth.name or "Authorization"] = _with_prefix(auth, key)
    for parameter in operation.parameters:
        value = parameters.get(parameter.name)
        value = parameter.default if value is None else value
        if value is None and parameter.place == "header" and parameter.name.lower() == "idempotency-key":
            value = idempotency_key
        if value is None and parameter.required:
            raise NodeError(f"Missing required parameter {parameter.name}", "ToolParameterError")
        if parameter.place == "path":
            if (text := _text(value)) in (".", ".."):  # it would lead to another path, and no encoding prevents that
                raise NodeError(f"The path parameter {parameter.name} must not be {text!r}", "ToolParameterError")
            url = url.replace(f"{{{parameter.name}}}", quote(text, safe=""))
        elif value is None or value == "":
            continue
        elif parameter.place == "query":
            query += [(parameter.name, _text(item)) for item in _items(value)]
        elif parameter.place == "header":
            headers[parameter.name] = _text(value)
        else:
            cookies.append(f"{parameter.name}={quote(_text(value), safe='')}")
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    if query:
        url += ("&" if "?" in url else "?") + urlencode(query)
    content, parts = None, list[Part]()
    if operation.body is not None:
        content, parts = await _body(operation, operation.body, parameters, files)
        if not parts:
            headers["Content-Type"] = operation.body.content_type
    return HttpRequest(operation.method.upper(), url, list(headers.items()), content, parts)


def _with_prefix(auth: Auth, key: str) -> str:
    match auth.prefix:
        case "bearer":
            return f"Bearer {key}"
        case "basic":
            return f"Basic {basic_credentials(key)}"
        case "custom":
            return key


def basic_credentials(key: str) -> str:
    """What follows `Basic`: a key with a colon is a user's name and password, any other is encoded already."""
    return base64.b64encode(key.encode()).decode() if ":" in key else key


async def _body(
    operation: Operation, body: Body, parameters: Mapping[str, Value], files: Files
) -> tuple[bytes | None, list[Part]]:
    """(content, parts): one of them is empty."""
    fields: dict[str, Any] = {}
    parts: list[Part] = []
    for name, schema in body.properties.items():
        value = parameters.get(name)
        if value is None and "default" in schema:
            value = schema["default"]
        if value is None:
            if name in body.required:
                message = f"Missing required parameter {name} in operation {operation.spec.name}"
                raise NodeError(message, "ToolParameterError")
        elif attachments := [item for item in _items(value) if isinstance(item, File)]:
            parts += [Part(name, await files.read(file), file.filename or name, file.mime_type) for file in attachments]
        else:
            fields[name] = coerced(schema, to_json(value))
    if parts or body.content_type == _MULTIPART:
        return None, [*(Part(name, _text(item).encode()) for name, item in _pairs(fields)), *parts]
    if body.content_type == _FORM:
        return urlencode([(name, _text(item)) for name, item in _pairs(fields)]).encode(), []
    return json.dumps(fields, ensure_ascii=False).encode(), []


def coerced(schema: Schema, value: Value) -> Value:
    """A value in the type that a schema wants, if it can be had; else as it is."""
    for option in cast("Sequence[Schema]", schema.get("anyOf") or schema.get("oneOf") or ()):
        result = coerced(option, value)
        if _is(option, result):
            return result
    try:
        match schema.get("type"):
            case "integer":
                return int(value)
            case "number":
                return float(value) if "." in str(value) else int(value)
            case "string":
                return value if isinstance(value, str) else _text(value)
            case "boolean":
                return {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower(), value)
            case "object" | "array" if isinstance(value, str):
                return json.loads(value)
            case _:
                return value
    except (OverflowError, TypeError, ValueError, RecursionError):
        return value


def _is(schema: Schema, value: Value) -> bool:
    types: Mapping[str, type | tuple[type, ...]] = {
        "integer": int,
        "number": (int, float),
        "string": str,
        "boolean": bool,
        "object": dict,
        "array": list,
        "null": type(None),
    }
    type_ = schema.get("type")
    return isinstance(type_, str) and isinstance(value, types.get(type_, ()))


def _items(value: Value) -> list[Value]:
    return cast("list[Value]", value) if isinstance(value, list) else [value]


def _pairs(fields: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """The fields of a form, in which a list is a field for each item."""
    return [(name, item) for name, value in fields.items() for item in _items(value)]


def _text(value: Value) -> str:
    """A value in a URL, a header or a form."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return json.dumps(to_json(value), ensure_ascii=False)
        case None:
            return ""
        case _:
            return str(value)
