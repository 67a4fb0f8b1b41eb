"""The values that flow between nodes, and the forms in which others see them.

A value is what JSON has (None, bool, int, float, str, list, dict), plus two of Dify's own:

    File      a file by reference; on the wire an object with `dify_model_identity`
    Variable  a value with the selector it was read from (only variable-aggregator makes them)

A value has four forms, each as in Dify 1.12:

    to_json              JSON for outputs: a Variable is its value
    to_json_with_origin  JSON for the inputs that a node reports: a Variable shows its type, name and selector
    text                 in templates and prompts: `{{#node.field#}}`
    markdown             in streamed answers
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, cast

from headrace.frozen import frozen

Value = Any
Selector = tuple[str, ...]

INTEGERS = range(-(2**63), 2**64)
"""The integers that JSON encoders write; larger ones from outside become floats."""

DEEPEST = 300
"""How many levels deep a value may be: safely within Python's recursion limit."""
TOO_DEEP = f"A value is nested more than {DEEPEST} levels deep, which is too deep to store."

DEEPEST_OUTPUT = DEEPEST - 50
"""The same for a node's outputs, which containers and events wrap further."""
DEEPEST_INPUT = 100
"""The same for a caller's inputs, which encoders and nodes handle recursively."""

FILE_IDENTITY = "__dify__file__"
_FILE_PARTS = frozenset({"type", "size", "mime_type", "transfer_method", "url", "extension", "related_id"})


@frozen
class File:
    """A file that a workflow handles, by reference.

    `type` is image, document, audio, video or custom; `transfer_method` is remote_url, local_file or tool_file;
    `related_id` names the stored file of the latter two; `size` is in bytes, -1 where unknown;
    `extension` includes the dot; anyone who knows `url` may fetch the file.
    """

    type: str
    transfer_method: str
    filename: str | None = None
    extension: str | None = None
    mime_type: str | None = None
    size: int = -1
    remote_url: str | None = None
    related_id: str | None = None
    url: str | None = None

    def wire(self) -> dict[str, Value]:
        """The object that Dify's API shows for a file."""
        return {
            "dify_model_identity": FILE_IDENTITY,
            "id": None,
            "tenant_id": None,
            "type": self.type,
            "transfer_method": self.transfer_method,
            "remote_url": self.remote_url,
            "related_id": self.related_id,
            "filename": self.filename,
            "extension": self.extension,
            "mime_type": self.mime_type,
            "size": self.size,
            "url": self.url,
        }

    def attribute(self, name: str) -> Value:
        """An attribute as `{{#node.file.NAME#}}` and conditions see it; None if there is none of that name."""
        return self.filename if name == "name" else getattr(self, name) if name in _FILE_PARTS else None

    @property
    def markdown(self) -> str:
        link = f"({self.url})"
        return f"![{self.filename or ''}]{link}" if self.type == "image" else f"[{self.filename or self.url}]{link}"


@frozen
class Variable:
    """A value chosen by a variable-aggregator, with the selector it was first read from."""

    value: Value
    selector: Selector
    id: str

    def to_json_with_origin(self) -> dict[str, Value]:
        return {
            "value_type": kind(self.value),
            "value": self.value,
            "id": self.id,
            "name": self.selector[-1],
            "description": "",
            "selector": list(self.selector),
        }


def is_number(value: Value) -> bool:
    """Whether a value is a finite number. As in Python, booleans are numbers."""
    return isinstance(value, int) or (isinstance(value, float) and isfinite(value))


def kind(value: Value) -> str:
    """Dify's name for a value's type: string, integer, float, boolean, object, file, none, array[...]."""
    match value:
        case None:
            return "none"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "float"
        case File():
            return "file"
        case Variable():
            return kind(value.value)
        case list() | tuple():
            kinds = {kind(item) for item in cast("Sequence[Value]", value)}
            if kinds and kinds <= {"integer", "float"}:
                return "array[number]"
            return f"array[{kinds.pop()}]" if len(kinds) == 1 and kinds <= _ARRAY_KINDS else "array[any]"
        case _:
            return "object"


def is_of_type(value: Value, type_: str) -> bool:
    """Whether a value is of a declared type: string, secret, number, integer, float, boolean, object, file, any or
    array[...] of these. Booleans, NaN and infinity are not numbers here."""
    match type_:
        case "string" | "secret":
            return isinstance(value, str)
        case "number" | "integer" | "float":
            return is_number(value) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "object":
            return isinstance(value, dict)
        case "file":
            return isinstance(value, File)
        case "any":
            return True
        case _:
            listed = type_.startswith("array[") and isinstance(value, list)
            item = type_[len("array[") : -1]
            return listed and all(is_of_type(element, item) for element in cast("list[Value]", value))


_ARRAY_KINDS = {"string", "object", "file", "boolean"}


def text(value: Value) -> str:
    """A value inside a template or prompt."""
    match value:
        case None | File():
            return ""
        case str():
            return value
        case dict():
            return json.dumps(value, ensure_ascii=False, default=json_default_with_origin)
        case list():
            items = cast("list[Value]", value)
            what = kind(items)
            if not items or what == "array[file]":
                return ""
            return json.dumps(items, ensure_ascii=False) if what == "array[string]" else str(_plain_item(items))
        case Variable():
            return text(value.value)
        case _:
            return str(value)


def markdown(value: Value) -> str:
    """A value in a streamed answer: objects indented, lists as bullets, files as links."""
    match value:
        case None:
            return ""
        case File():
            return value.markdown
        case dict():
            return json.dumps(value, ensure_ascii=False, indent=2, default=json_default_with_origin)
        case list():
            items = cast("list[Value]", value)
            if kind(items) == "array[file]":
                return "\n".join(item.markdown for item in items)
            return "\n".join(f"- {_plain_item(item)}" for item in items)
        case Variable():
            return markdown(value.value)
        case _:
            return str(value)


def _plain_item(value: Value) -> Value:
    """An item of a list as str() shows it: files and variables as plain objects."""
    return to_json(value) if isinstance(value, dict | list | File | Variable) else value


def _walk(value: Value, leaf: Callable[[Value], Value]) -> Value:
    """The value with every File and Variable replaced by `leaf(it)`; the same object if there are none."""
    match value:
        case dict():
            items = cast("dict[str, Value]", value)
            new_items = {key: _walk(item, leaf) for key, item in items.items()}
            return new_items if any(new_items[key] is not items[key] for key in items) else items
        case list():
            before = cast("list[Value]", value)
            after = [_walk(item, leaf) for item in before]
            return after if any(a is not b for a, b in zip(after, before, strict=True)) else before
        case File() | Variable():
            return leaf(value)
        case _:
            return value


def to_json(value: Value) -> Value:
    """JSON for outputs."""
    return _walk(value, lambda leaf: leaf.wire() if isinstance(leaf, File) else to_json(leaf.value))


def unwrap(value: Value) -> Value:
    """The value with its Variables (not its Files) replaced by their values, at any depth."""
    return _walk(value, lambda leaf: leaf if isinstance(leaf, File) else unwrap(leaf.value))


def json_default(value: object) -> Value:
    """`default=` of a JSON encoder, for the form of `to_json`."""
    match value:
        case File():
            return value.wire()
        case Variable():
            return value.value
        case _:
            raise TypeError(f"{type(value).__name__} is not a value that a workflow can hold")


def json_default_with_origin(value: object) -> Value:
    """`default=` of a JSON encoder, for the form of `to_json_with_origin`."""
    return value.to_json_with_origin() if isinstance(value, Variable) else json_default(value)


def files_in(values: Mapping[str, Value]) -> list[File]:
    """The files among a node's outputs and in its lists, in order, as in `files` of an event."""
    files: list[File] = []
    for value in values.values():
        if isinstance(value, File):
            files.append(value)
        elif isinstance(value, list):
            files.extend(item for item in cast("list[Value]", value) if isinstance(item, File))
    return files


def lookup(value: Value, path: Sequence[str]) -> tuple[bool, Value]:
    """(found, value) at a path of object keys and file attributes."""
    for name in path:
        if isinstance(value, Variable):
            value = value.value
        if isinstance(value, dict) and name in value:
            value = cast("dict[str, Value]", value)[name]
        elif isinstance(value, File):
            value = value.attribute(name)
        else:
            return False, None
    return True, value


_NESTED = (dict, list)  # a union would be made anew for every item


def nests_deeper(value: Value, levels: int) -> bool:
    """Whether a JSON value is nested more than `levels` deep; iterative, so that depth cannot overflow the stack."""
    level = [value]
    for _ in range(levels):
        level = [
            item
            for element in level
            for item in (element.values() if isinstance(element, dict) else element)
            if isinstance(item, _NESTED)
        ]
        if not level:
            return False
    return True
