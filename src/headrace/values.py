"""The values that flow between nodes, and the forms in which they are told.

A value is what JSON has (None, bool, int, float, str, list, dict), plus two of Dify's own:

    File      a file by reference; on the wire an object with `dify_model_identity`
    Variable  a value that remembers where it was picked from (only variable-aggregator makes them)

Four forms of a value are seen from outside, each as Dify 1.12 has it:

    plain     JSON for outputs: a Variable is its value
    dump      JSON for the inputs that a node reports: a Variable shows its type, name and selector
    text      in templates and prompts: `{{#node.field#}}`
    markdown  in streamed answers
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, cast

Value = Any
Selector = tuple[str, ...]

INTEGERS = range(-(2**63), 2**64)
"""What JSON encoders write; what comes from outside and is beyond them becomes a float."""

DEEPEST = 300
"""Levels that a value may be nested: what Python's recursion limit bears without doubt."""
TOO_DEEP = f"A value is nested more than {DEEPEST} levels deep: too deep to be kept."

DEEPEST_OUTPUT = DEEPEST - 50
"""Levels of what a node puts out: containers and events come around it."""
DEEPEST_INPUT = 100
"""Levels of what a caller gives: what follows (encoders, nodes) recurses."""

FILE_IDENTITY = "__dify__file__"
_FILE_PARTS = frozenset({"type", "size", "mime_type", "transfer_method", "url", "extension", "related_id"})


@dataclass(frozen=True, slots=True)
class File:
    """A file that a workflow handles, by reference.

    `type` is image, document, audio, video or custom; `transfer_method` is remote_url, local_file or tool_file;
    `related_id` names the stored file of the latter two; `size` is in bytes, -1 where unknown;
    `extension` has its dot; `url` is where anyone who holds it may fetch the file.
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
        """What `{{#node.file.NAME#}}` and conditions on a file's part see; None where there is no such part."""
        return self.filename if name == "name" else getattr(self, name) if name in _FILE_PARTS else None

    @property
    def markdown(self) -> str:
        link = f"({self.url})"
        return f"![{self.filename or ''}]{link}" if self.type == "image" else f"[{self.filename or self.url}]{link}"


@dataclass(frozen=True, slots=True)
class Variable:
    """A value picked by a variable-aggregator, with the selector it was first read from."""

    value: Value
    selector: Selector
    id: str

    def dump(self) -> dict[str, Value]:
        return {
            "value_type": kind(self.value),
            "value": self.value,
            "id": self.id,
            "name": self.selector[-1],
            "description": "",
            "selector": list(self.selector),
        }


def is_number(value: Value) -> bool:
    """Whether a value is a number that JSON has: not NaN, nor infinite. A truth value is one, as to Python."""
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


def is_of(value: Value, type_: str) -> bool:
    """Whether a value is of a declared type: string, secret, number, integer, float, boolean, object, file, any or
    array[...] of these. A truth value is not a number, nor is what is neither finite nor a number at all."""
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
            return listed and all(is_of(element, item) for element in cast("list[Value]", value))


_ARRAY_KINDS = {"string", "object", "file", "boolean"}


def text(value: Value) -> str:
    """A value inside a template or prompt."""
    match value:
        case None | File():
            return ""
        case str():
            return value
        case dict():
            return json.dumps(value, ensure_ascii=False, default=dump_default)
        case list():
            items = cast("list[Value]", value)
            what = kind(items)
            if not items or what == "array[file]":
                return ""
            return json.dumps(items, ensure_ascii=False) if what == "array[string]" else str(_shown(items))
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
            return json.dumps(value, ensure_ascii=False, indent=2, default=dump_default)
        case list():
            items = cast("list[Value]", value)
            if kind(items) == "array[file]":
                return "\n".join(item.markdown for item in items)
            return "\n".join(f"- {_shown(item)}" for item in items)
        case Variable():
            return markdown(value.value)
        case _:
            return str(value)


def _shown(value: Value) -> Value:
    """What Python's str() is to see inside a list: files and variables as plain objects."""
    return plain(value) if isinstance(value, dict | list | File | Variable) else value


def _walk(value: Value, leaf: Callable[[Value], Value]) -> Value:
    """The value with `leaf` put in place of every File and Variable in it; itself where there is none."""
    match value:
        case dict():
            items = cast("dict[str, Value]", value)
            walked = {key: _walk(item, leaf) for key, item in items.items()}
            return walked if any(walked[key] is not items[key] for key in items) else items
        case list():
            before = cast("list[Value]", value)
            after = [_walk(item, leaf) for item in before]
            return after if any(a is not b for a, b in zip(after, before, strict=True)) else before
        case File() | Variable():
            return leaf(value)
        case _:
            return value


def plain(value: Value) -> Value:
    """JSON for outputs."""
    return _walk(value, lambda leaf: leaf.wire() if isinstance(leaf, File) else plain(leaf.value))


def unwrap(value: Value) -> Value:
    """The value with its Variables (not its Files) replaced by what they hold."""
    return _walk(value, lambda leaf: leaf if isinstance(leaf, File) else unwrap(leaf.value))


def held(value: Value) -> Value:
    """What a Variable holds; any other value as it is."""
    while isinstance(value, Variable):
        value = value.value
    return value


def plain_default(value: object) -> Value:
    """`default=` of a JSON encoder, for the plain form."""
    match value:
        case File():
            return value.wire()
        case Variable():
            return value.value
        case _:
            raise TypeError(f"{type(value).__name__} is not a value that a workflow can hold")


def dump_default(value: object) -> Value:
    """`default=` of a JSON encoder, for the dump form."""
    return value.dump() if isinstance(value, Variable) else plain_default(value)


def files_in(values: Mapping[str, Value]) -> list[File]:
    """The files among a node's outputs, and in its lists, in order: what `files` of an event tells."""
    files: list[File] = []
    for value in values.values():
        if isinstance(value, File):
            files.append(value)
        elif isinstance(value, list):
            files.extend(item for item in cast("list[Value]", value) if isinstance(item, File))
    return files


def follow(value: Value, path: Sequence[str]) -> tuple[bool, Value]:
    """(found, value) of `value` at a path of object keys and file parts."""
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


def nests_deeper(value: Value, levels: int) -> bool:
    """Whether a JSON value nests deeper than that many levels; looks at it level by level, without recursion."""
    level = [value]
    for _ in range(levels):
        level = [
            item
            for element in level
            for item in (element.values() if isinstance(element, dict) else element)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
