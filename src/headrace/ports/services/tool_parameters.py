"""From what a file or a model gives to the arguments of a tool, and from a tool to the schema that a model gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from headrace.errors import NodeError
from headrace.ports.services.tools import ParameterType, ToolParameter, ToolSpec
from headrace.values import Value

ERROR = "ToolParameterError"
_TRUE, _FALSE = frozenset({"true", "yes", "y", "1"}), frozenset({"false", "no", "n", "0"})
_JSON_TYPES: Mapping[str, str] = {"number": "number", "boolean": "boolean", "array": "array", "object": "object"}
_NOT_FOR_MODELS = frozenset({"file", "files", "system-files"})


def arguments(spec: ToolSpec, inputs: Mapping[str, Value], settings: Mapping[str, Value]) -> dict[str, Value]:
    """The arguments of a call: `inputs` as a node or model gives them, and `settings`, the values of the form
    parameters, which win over inputs of the same name. Every value has the declared type; a setting that is not given
    has its default. Inputs that the tool does not declare are passed as they are.

    NodeError with kind `ToolParameterError` if a required setting is missing, or a value cannot be of its type.
    """
    parameters_by_name = {parameter.name: parameter for parameter in spec.parameters}
    values = {**inputs, **settings} if spec.open else dict(inputs)
    for name, parameter in parameters_by_name.items():
        if parameter.form == "form" and (name in settings or name not in values):
            values[name] = _setting(parameter, settings.get(name))
    return {
        name: cast_value(parameters_by_name[name].type, value, name) if name in parameters_by_name else value
        for name, value in values.items()
    }


def _setting(parameter: ToolParameter, value: Value) -> Value:
    if value is None or value in ("", [], {}):
        value = parameter.default
        if value is None and parameter.required:
            raise NodeError(f"tool parameter {parameter.name} not found in tool config", ERROR)
    if parameter.type == "select" and parameter.options and value is not None and value not in parameter.options:
        options = list(parameter.options)
        raise NodeError(f"tool parameter {parameter.name} value {value} not in options {options}", ERROR)
    return value


def cast_value(type_: ParameterType, value: Value, name: str = "") -> Value:
    """A value in the form that a parameter of this type takes, as Dify makes it. NodeError with kind
    `ToolParameterError` if it has none."""
    try:
        return _cast(type_, value)
    except ValueError as error:
        raise NodeError(f"The tool parameter {name or type_}: {error}", ERROR) from None


def _cast(type_: ParameterType, value: Value) -> Value:
    match type_:
        case "string" | "secret-input" | "select" | "checkbox" | "dynamic-select":
            return "" if value is None else value if isinstance(value, str) else str(value)
        case "boolean":
            text = value.lower() if isinstance(value, str) else None
            return text in _TRUE or (text not in _FALSE and bool(value))
        case "number":
            return _number(value)
        case "file":
            if not isinstance(value, list):
                return value
            files = cast("list[Value]", value)
            if len(files) != 1:
                raise ValueError("This parameter only accepts one file but got multiple files while invoking.")
            return files[0]
        case "files" | "system-files":
            return cast("list[Value]", value) if isinstance(value, list) else [value]
        case "model-selector" | "app-selector":
            if not isinstance(value, dict):
                raise ValueError("The selector must be a dictionary.")
            return cast("dict[str, Value]", value)
        case "array":
            value_of_text = _parsed(value)
            return cast("list[Value]", value_of_text) if isinstance(value_of_text, list) else [value]
        case "object":
            value_of_text = _parsed(value)
            return cast("dict[str, Value]", value_of_text) if isinstance(value_of_text, dict) else {}
        case "any" | "array[tools]":
            if value and not isinstance(value, str | int | float | list | dict):
                raise ValueError("The var selector must be a string, dictionary, list or number.")
            return cast("Value", value)


def _number(value: Value) -> int | float | None:
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str) or not value:
        return None
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number.") from None


def _parsed(value: Value) -> Value:
    """The JSON that a text contains; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def parameters_schema(spec: ToolSpec) -> dict[str, Any]:
    """The JSON Schema of the arguments that a model gives: the parameters with the form `llm`, except files."""
    lines = [
        parameter for parameter in spec.parameters if parameter.form == "llm" and parameter.type not in _NOT_FOR_MODELS
    ]
    return {
        "type": "object",
        "properties": {parameter.name: _property(parameter) for parameter in lines},
        "required": [parameter.name for parameter in lines if parameter.required],
    }


def _property(parameter: ToolParameter) -> dict[str, Any]:
    if parameter.input_schema is not None:
        return dict(parameter.input_schema)
    schema: dict[str, Any] = {} if parameter.type == "any" else {"type": _JSON_TYPES.get(parameter.type, "string")}
    if parameter.description:
        schema["description"] = parameter.description
    if parameter.options:
        schema["enum"] = list(parameter.options)
    return schema
