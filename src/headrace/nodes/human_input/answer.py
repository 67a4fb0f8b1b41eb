"""Answers to forms: which are valid."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from headrace.errors import InvalidParam, RequestError
from headrace.kernel.events import FormRequested
from headrace.values import File, Value

Resolve = Callable[[Mapping[str, Value]], Awaitable[File]]


async def accept(
    request: FormRequested, action: str, inputs: Mapping[str, Value], resolve: Resolve
) -> dict[str, Value]:
    """The valid data of an answer to a form; 400 `invalid_form_data` for any other. Unknown names are ignored.
    `resolve` finds a file by its mapping."""
    fields = {str(item["output_variable_name"]): item for item in request.inputs}
    for name, item in fields.items():
        if name in inputs:
            _check(name, item, inputs[name])
    if action not in [item["id"] for item in request.actions]:
        raise _invalid(f"Invalid action: {action}")
    if missing := [name for name in fields if name not in inputs]:
        raise _invalid(f"Missing required inputs: {', '.join(missing)}")
    return {name: await _accepted(name, item, inputs[name], resolve) for name, item in fields.items()}


def _invalid(message: str) -> RequestError:
    return RequestError(message, "invalid_form_data", 400)


def _check(name: str, item: Mapping[str, Value], value: Value) -> None:
    """Whether a value has the type of its input, and is one of its options."""
    match item["type"]:
        case "paragraph" | "select" as kind:
            if not isinstance(value, str):
                raise _invalid(f"Invalid value for {kind} input '{name}': expected string")
            if kind == "select" and value not in item["option_source"]["value"]:
                raise _invalid(f"Invalid value for select input '{name}': {value}")
        case "file":
            if not isinstance(value, dict):
                raise _invalid(f"Invalid value for file input '{name}': expected mapping")
        case _:
            if not isinstance(value, list):
                raise _invalid(f"Invalid value for file list input '{name}': expected list")
            items = cast("list[Value]", value)
            if not all(isinstance(file, dict) for file in items):
                raise _invalid(f"Invalid value for file list input '{name}': expected list of mappings")
            if 0 < item["number_limits"] < len(items):
                raise _invalid(f"Invalid value for file list input '{name}': exceeds number limit")


async def _accepted(name: str, item: Mapping[str, Value], value: Value, resolve: Resolve) -> Value:
    match item["type"]:
        case "file":
            return await _file(name, item, value, resolve)
        case "file-list":
            return [await _file(name, item, mapping, resolve) for mapping in value]
        case _:
            return value.replace("\0", "")


async def _file(name: str, item: Mapping[str, Value], mapping: Mapping[str, Value], resolve: Resolve) -> File:
    where = f"Invalid value for file input '{name}'"
    try:
        file = await resolve(mapping)
    except InvalidParam as error:
        raise _invalid(f"{where}: {error.message}") from error
    types, methods = item["allowed_file_types"], item["allowed_file_upload_methods"]
    extensions = {str(extension).lower().lstrip(".") for extension in item["allowed_file_extensions"]}
    by_extension = "custom" in types and (file.extension or "").lower().lstrip(".") in extensions
    by_type = not types or (file.type in types and file.type != "custom")
    if not (by_type or by_extension) or (methods and file.transfer_method not in methods):
        raise _invalid(f"{where}: file is not allowed by config")
    return file
