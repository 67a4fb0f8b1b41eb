"""start: where a run begins, and what it may be asked with.

Facts: before a run, Dify's API checks inputs against the form (`accept`, recorded messages); an object's schema is
checked in the node itself, so that a bad one is a failed run. A chat's start node shows no `sys.timestamp`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from math import isfinite
from typing import Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field, field_validator

from headrace.content.json_schema import JsonSchema
from headrace.errors import InvalidParam, NodeError
from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, OutputType, Result, null_means_default
from headrace.values import INTEGERS, File, Value

_TYPES = {
    "text-input": "string",
    "paragraph": "string",
    "select": "string",
    "number": "number",
    "checkbox": "boolean",
    "json_object": "object",
    "file": "file",
    "file-list": "array[file]",
    "external_data_tool": "any",
}
Resolve = Callable[[Mapping[str, Value]], Awaitable[File]]


class Input(Config):
    """One field of the form. Other keys of the file are kept for /parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    variable: str
    type: Literal[
        "text-input",
        "paragraph",
        "select",
        "number",
        "checkbox",
        "json_object",
        "file",
        "file-list",
        "external_data_tool",
    ] = "text-input"
    required: bool = False
    default: Any = None
    max_length: int | None = None
    options: list[str] = Field(default_factory=list[str])
    allowed_file_types: list[str] = Field(default_factory=list[str])
    allowed_file_extensions: list[str] = Field(default_factory=list[str])
    allowed_file_upload_methods: list[str] = Field(default_factory=list[str])
    json_schema: dict[str, Any] | None = None

    _null = null_means_default(
        "required", "options", "allowed_file_types", "allowed_file_extensions", "allowed_file_upload_methods"
    )

    @field_validator("max_length", mode="before")
    @classmethod
    def _no_length(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("json_schema", mode="before")
    @classmethod
    def _written_as_text(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                return json.loads(value) if value.strip() else None
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"is not valid JSON: {error}") from error
        return value

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value:
            try:
                JsonSchema(value, "draft7")
            except ValueError as error:
                raise ValueError(f"is not a valid JSON schema: {error}") from error
        return value


class StartConfig(Config):
    variables: list[Input] = Field(default_factory=list[Input])

    _null = null_means_default("variables")


class Start(Node[StartConfig]):
    type = "start"
    traits: ClassVar[Traits] = Traits(starts_run=True)
    instant: ClassVar[bool] = True
    notes: ClassVar[str] = "every type of input, including files"

    def outputs_schema(self) -> Mapping[str, OutputType]:
        fields = self.config.variables
        return {field.variable: OutputType(_TYPES[field.type], nullable=not field.required) for field in fields}

    @property
    def fields(self) -> Sequence[Input]:
        return self.config.variables

    def form(self) -> Sequence[Mapping[str, Value]]:
        """The form for /parameters: `[{type: field as written}]`."""
        return [{field.type: field.model_dump(exclude_unset=True)} for field in self.config.variables]

    async def accept(self, inputs: Mapping[str, Value], resolve: Resolve) -> dict[str, Value]:
        """The inputs of a run, from those of the caller: validated, converted, with defaults, without unknown ones.

        `resolve` finds the file for a mapping. InvalidParam for the first field that is invalid.
        """
        return {
            field.variable: await _validated(field, inputs.get(field.variable), resolve)
            for field in self.config.variables
        }

    async def run(self, ctx: Context) -> Result:
        values = {**ctx.inputs, **system_outputs(ctx)}
        for name, schema in self._schemas.items():
            if (value := ctx.inputs.get(name)) and (mismatch := schema.mismatch(value)):
                message = f"JSON object for '{name}' does not match schema: {mismatch.message}"
                raise NodeError(message, "ValueError", inputs=values)
        return Result(values, values)

    @cached_property
    def _schemas(self) -> Mapping[str, JsonSchema]:
        """Of the fields that have one."""
        fields = self.config.variables
        return {field.variable: JsonSchema(field.json_schema, "draft7") for field in fields if field.json_schema}


def system_outputs(ctx: Context) -> Mapping[str, Value]:
    """The system variables as the node where a run begins outputs them."""
    system = ctx.variables.scope("sys")
    hidden_names = {"timestamp"} if "conversation_id" in system else set[str]()
    return {f"sys.{name}": value for name, value in system.items() if name not in hidden_names}


async def _validated(field: Input, value: Value, resolve: Resolve) -> Value:
    if value is None:
        if field.required:
            raise InvalidParam(f"{field.variable} is required in input form")
        value = field.default
    if value is None or (value == "" and field.type in {"file", "file-list"} and not field.required):
        return None
    match field.type:
        case "text-input" | "paragraph" | "select":
            return _text(field, value)
        case "number":
            return _number(field, value)
        case "checkbox":
            return _checkbox(field, value)
        case "json_object":
            if value and not isinstance(value, dict):
                raise InvalidParam(f"{field.variable} in input form must be a dict")
            return cast("Value", value)
        case "file":
            if not isinstance(value, dict):
                raise InvalidParam(f"{field.variable} in input form must be a file")
            return await _file(field, cast("dict[str, Value]", value), resolve)
        case "file-list":
            return await _files(field, value, resolve)
        case "external_data_tool":
            return value.replace("\x00", "") if isinstance(value, str) else _flat(field, value)


def _text(field: Input, value: Value) -> str:
    if not isinstance(value, str):
        raise InvalidParam(f"(type '{field.type}') {field.variable} in input form must be a string")
    if field.type == "select" and value not in field.options:
        raise InvalidParam(f"{field.variable} in input form must be one of the following: {field.options}")
    if field.type != "select" and field.max_length and len(value) > field.max_length:
        raise InvalidParam(f"{field.variable} in input form must be less than {field.max_length} characters")
    return value.replace("\x00", "")


def _number(field: Input, value: Value) -> int | float | None:
    number: Value = value  # booleans are numbers, as in Dify
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            number = float(value) if "." in value else int(value)
        except ValueError:
            number = None
    if isinstance(number, int) and number not in INTEGERS:
        number = float(number) if abs(number) < 10**300 else None  # like a JSON number of that size
    if not isinstance(number, int | float) or not isfinite(number):
        raise InvalidParam(f"{field.variable} in input form must be a valid number")
    return number


def _checkbox(field: Input, value: Value) -> Value:
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("true", "1", "yes", "on", 1):
        return True
    return False if word in ("false", "0", "no", "off", 0) else _flat(field, value)


def _flat(field: Input, value: Value) -> Value:
    """The value, unless it is an object or a list with objects."""
    items = cast("list[Value]", value) if isinstance(value, list) else [value]
    if any(isinstance(item, dict) for item in items):
        raise InvalidParam(f"Invalid input type for ['{field.variable}']")
    return cast("Value", value)


async def _files(field: Input, value: Value, resolve: Resolve) -> list[File]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in cast("list[Value]", value)):
        raise InvalidParam(f"{field.variable} in input form must be a list of files")
    mappings = cast("list[dict[str, Value]]", value)
    if field.max_length and len(mappings) > field.max_length:
        raise InvalidParam(f"{field.variable} in input form must be less than {field.max_length} files")
    return [await _file(field, mapping, resolve) for mapping in mappings]


async def _file(field: Input, mapping: Mapping[str, Value], resolve: Resolve) -> File:
    file = await resolve(mapping)
    if file.transfer_method == "tool_file":  # made by a node: the restrictions are for what people give
        return file
    methods = field.allowed_file_upload_methods
    if methods and file.transfer_method not in methods:
        raise InvalidParam(f"{field.variable} in input form may not be given by {file.transfer_method}")
    types = field.allowed_file_types
    if types and file.type not in types and "custom" not in types:
        raise InvalidParam(f"{field.variable} in input form must be a file of type {', '.join(types)}, not {file.type}")
    extensions = {extension.lower().lstrip(".") for extension in field.allowed_file_extensions}
    if "custom" in types and file.type not in types and extensions:
        extension = (file.extension or "").lower().lstrip(".")
        if extension not in extensions:
            raise InvalidParam(
                f"{field.variable} in input form must be a file of extension {', '.join(sorted(extensions))}"
            )
    return file
