"""trigger-webhook: a run for each HTTP request to the node's URL.

Facts (Dify 1.10 and later): the request is checked and converted before the run is queued (`accept`), as the node
declares it. Values of JSON bodies are checked, those of queries and forms are converted; what is not declared is kept
in `_webhook_raw` only. The editor offers the status codes 200 to 399; the API of Dify sends any that a file has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, cast

import orjson
from pydantic import BeforeValidator, Field

from headrace.frozen import frozen
from headrace.node import Config, Context, OutputType, Result, null_means_default
from headrace.nodes.start import system_outputs
from headrace.nodes.trigger import Trigger
from headrace.values import DEEPEST_INPUT, INTEGERS, Value, nests_deeper

ParameterType = Literal[
    "string",
    "number",
    "boolean",
    "object",
    "file",
    "array[string]",
    "array[number]",
    "array[boolean]",
    "array[object]",
]
_JSON, _FORM, _MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
_TEXT, _BINARY = "text/plain", "application/octet-stream"
_CHECKS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
}
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SHOWN = 200  # characters of a value in a message
_NO_BODY = frozenset({204, 205, 304})
_SUCCESS: Mapping[str, Value] = {"status": "success", "message": "Webhook processed successfully"}


class BadWebhook(Exception):
    """A request that is not as the node declares it. The message is for the sender."""


class Parameter(Config):
    """A header, a parameter of the query, or a field of the body."""

    name: str
    type: ParameterType = "string"
    required: bool = False

    _null = null_means_default("type", "required")


class WebhookConfig(Config):
    method: Annotated[
        Literal["get", "post", "put", "patch", "delete", "head"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = "get"
    content_type: Literal[
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain",
        "application/octet-stream",
    ] = "application/json"
    headers: list[Parameter] = Field(default_factory=list[Parameter])
    params: list[Parameter] = Field(default_factory=list[Parameter])
    body: list[Parameter] = Field(default_factory=list[Parameter])
    status_code: int = Field(200, ge=200, le=599)
    response_body: str = ""

    _null = null_means_default("method", "content_type", "headers", "params", "body", "status_code", "response_body")


@frozen
class WebhookRequest:
    """A request to a webhook. `content` are the fields of a form, or the bytes of a text, or for a binary body whatever
    stands for the file, None if it is empty; `files` are those of a form."""

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    content: Value = b""
    files: Mapping[str, Value] = field(default_factory=dict[str, Value])


class TriggerWebhook(Trigger[WebhookConfig]):
    type = "trigger-webhook"
    kind: ClassVar[str] = "webhook"
    notes: ClassVar[str] = "with checks of signatures and of repeated deliveries, see triggers.md"

    def outputs_schema(self) -> Mapping[str, OutputType]:
        config = self.config
        headers = {_underscored(header.name): OutputType("string", nullable=True) for header in config.headers}
        whole = {_TEXT: "string", _BINARY: "file"}.get(config.content_type)
        fields = [*config.params, *config.body]
        types = {field.name: OutputType(field.type, nullable=not field.required) for field in fields}
        if whole is not None:
            types |= {field.name: OutputType(whole, nullable=not field.required) for field in config.body}
        return {**headers, **types, "_webhook_raw": OutputType("object")}

    # ------------------------------------------------------------------------------------------------------ requests

    def check_head(self, method: str, content_type: str | None) -> None:
        """BadWebhook for another method or content type than the node's, which needs no body."""
        expected = self.config.method.upper()
        if method.upper() != expected:
            raise BadWebhook(f"HTTP method mismatch. Expected {expected}, got {method.upper()}")
        media_type = (content_type or _JSON).partition(";")[0].strip().lower()
        if media_type != self.config.content_type:
            raise BadWebhook(f"Content-type mismatch. Expected {self.config.content_type}, got {media_type}")

    def accept(self, request: WebhookRequest) -> dict[str, Value]:
        """The inputs of a run, from a request whose head was checked. BadWebhook if the rest is not as declared."""
        self._check_headers(request.headers)
        data: dict[str, Value] = {
            "method": request.method,
            "headers": dict(request.headers),
            "query_params": self._fields(self.config.params, request.query, "parameter", converted=True),
            "body": self._body(request),
            "files": dict(request.files),
        }
        return {
            "webhook_data": data,
            "webhook_headers": data["headers"],
            "webhook_query_params": data["query_params"],
            "webhook_body": data["body"],
        }

    def _check_headers(self, headers: Mapping[str, str]) -> None:
        names = {_underscored(name).lower() for name in headers}
        for header in self.config.headers:
            if header.required and _underscored(header.name).lower() not in names:
                raise BadWebhook(f"Required header missing: {header.name}")

    def _body(self, request: WebhookRequest) -> Mapping[str, Value]:
        config, content = self.config, request.content
        if config.content_type in (_FORM, _MULTIPART):
            fields = [field for field in config.body if field.type != "file" or config.content_type == _FORM]
            return self._fields(fields, content, "body parameter", converted=True)
        if config.content_type == _JSON:
            return self._fields(config.body, _json_object(content), "body parameter", converted=False)
        if not content and any(field.required for field in config.body):
            raise BadWebhook(f"Required body content missing for {config.content_type} request")
        return {"raw": content.decode("utf-8", "replace") if config.content_type == _TEXT else content}

    def _fields(
        self, parameters: Iterable[Parameter], values: Mapping[str, Value], what: str, *, converted: bool
    ) -> dict[str, Value]:
        fields = dict(values)
        for parameter in parameters:
            name = parameter.name
            if name not in values:
                if parameter.required:
                    raise BadWebhook(f"Required {what} missing: {name}")
                continue
            try:
                fields[name] = (_converted if converted else _checked)(values[name], parameter)
            except ValueError as error:
                raise BadWebhook(f"Parameter '{name}' validation failed: {error}") from None
        return fields

    def answer(self) -> tuple[int, Value]:
        """(the status, the body) of the response to a request that has started a run; the body is None where the status
        allows none."""
        status, text = self.config.status_code, self.config.response_body
        if status in _NO_BODY:
            return status, None
        if text.strip().startswith(("{", "[")):
            try:
                return status, orjson.loads(text)
            except orjson.JSONDecodeError:
                pass
        return status, {"message": text} if text else _SUCCESS

    # ----------------------------------------------------------------------------------------------------------- run

    async def run(self, ctx: Context) -> Result:
        outputs = self._outputs(_mapping(ctx.inputs, "webhook_data"))
        return Result({**outputs, **system_outputs(ctx)}, ctx.inputs)

    def _outputs(self, data: Mapping[str, Value]) -> dict[str, Value]:
        config = self.config
        headers = {_underscored(name).lower(): value for name, value in _mapping(data, "headers").items()}
        query, body, files = (_mapping(data, part) for part in ("query_params", "body", "files"))
        outputs: dict[str, Value] = {
            _underscored(header.name): headers.get(_underscored(header.name).lower()) for header in config.headers
        }
        outputs |= {parameter.name: query.get(parameter.name) for parameter in config.params}
        for parameter in config.body:
            if config.content_type == _TEXT:
                outputs[parameter.name] = str(body.get("raw") or "")
            elif config.content_type == _BINARY:
                outputs[parameter.name] = body.get("raw")
            else:
                outputs[parameter.name] = (files if parameter.type == "file" else body).get(parameter.name)
        return {**outputs, "_webhook_raw": data}


def _mapping(holder: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    value = holder.get(name)
    return cast("Mapping[str, Value]", value) if isinstance(value, dict) else {}


def _underscored(name: str) -> str:
    return name.replace("-", "_")


def _json_object(content: bytes) -> Mapping[str, Value]:
    """A JSON body; an empty one has no fields."""
    if not content.strip():
        return {}
    try:
        fields: Any = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadWebhook(f"Invalid JSON body: {error}") from None
    if not isinstance(fields, dict):
        raise BadWebhook(f"Invalid JSON body: expected an object, got {type(fields).__name__}")
    if nests_deeper(fields, DEEPEST_INPUT):
        raise BadWebhook(f"Invalid JSON body: it is nested more than {DEEPEST_INPUT} levels deep")
    return cast("Mapping[str, Value]", fields)


def _converted(value: Value, parameter: Parameter) -> Value:
    """A text of a query or a form as its declared type. ValueError if it is not of that type."""
    match parameter.type:
        case "string":
            return value
        case "number":
            return _number(value)
        case "boolean":
            if value.lower() not in _WORDS:
                raise ValueError(f"Cannot convert '{value[:_SHOWN]}' to boolean")
            return _WORDS[value.lower()]
        case _:
            raise ValueError(f"Unsupported type '{parameter.type}' for form data parameter '{parameter.name}'")


def _number(text: str) -> int | float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise ValueError(f"Cannot convert '{text[:_SHOWN]}' to number")
    return int(number) if number.is_integer() and int(number) in INTEGERS else number


def _checked(value: Value, parameter: Parameter) -> Value:
    """A value of a JSON body. ValueError if it is not of the declared type; as in Dify, booleans are numbers."""
    item, is_list = parameter.type.removeprefix("array[").removesuffix("]"), parameter.type.startswith("array[")
    items: list[Value] | None = [value]
    if is_list:
        items = cast("list[Value]", value) if isinstance(value, list) else None
    if items is None or not all(isinstance(element, _CHECKS.get(item, ())) for element in items):
        type_name = type(cast("object", value)).__name__
        raise ValueError(f"Expected {f'array of {item}s' if is_list else item}, got {type_name}")
    return cast("Value", value)
