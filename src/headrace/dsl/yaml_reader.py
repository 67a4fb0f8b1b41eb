"""Parses a workflow file into plain values, with the line of each.

YAML is parsed event by event, to limit depth and the expansion of aliases. The values are those of Dify's own parser
(YAML 1.1), with two exceptions: keys are always text, and dates are ISO text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, TypeAlias, cast

import yaml
from yaml.constructor import SafeConstructor

from headrace.errors import LoadError, Problem
from headrace.frozen import frozen
from headrace.values import INTEGERS, Value

MAX_CHARACTERS = 10 * 1024 * 1024
MAX_DEPTH = 200  # levels of mappings and lists
MAX_ALIASED = 1_000_000  # characters and values that aliases may add
MAX_DUPLICATES = 100  # reported

_YAML = "tag:yaml.org,2002:"
_CONSTRUCTOR = SafeConstructor()
_RESOLVERS = cast("Mapping[str, list[tuple[str, re.Pattern[str]]]]", yaml.CSafeLoader.yaml_implicit_resolvers)
_BOOLEANS = cast("Mapping[str, bool]", SafeConstructor.bool_values)
# A character beyond U+FFFF as JSON writes it, which YAML cannot read
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")

Lines: TypeAlias = "tuple[int, dict[str, int] | list[int]]"
"""The line where a mapping or list begins, and the lines of its keys or items; from 1."""


@frozen
class Document:
    """A file's values, and the problems of their notation."""

    value: dict[str, Value]
    problems: list[Problem] = field(default_factory=list[Problem])
    lines: Mapping[int, Lines] = field(default_factory=dict[int, Lines])  # by id() of the mapping or list in `value`

    def line(self, holder: Value, key: str | int | None = None) -> int | None:
        """The line of a mapping or list in the document, or of a key or item in it; None if it is not part of it."""
        lines = self.lines.get(id(holder))
        if lines is None:
            return None
        start, inside = lines
        if isinstance(inside, dict):
            return inside.get(key, start) if isinstance(key, str) else start
        return inside[key] if isinstance(key, int) and 0 <= key < len(inside) else start

    def locate(self, holder: Value, path: tuple[str | int, ...]) -> tuple[str, int | None]:
        """(field, line) at a path below `holder`. Steps that do not exist are skipped, unless they are the last one: a
        path may name a missing field, or (in pydantic's paths) a type."""
        names: list[str] = []
        line = self.line(holder)
        for index, step in enumerate(path):
            if isinstance(holder, dict) and step in holder:
                line, holder = self.line(cast("Value", holder), step), cast("dict[Any, Value]", holder)[step]
            elif isinstance(holder, list) and isinstance(step, int) and 0 <= step < len(cast("list[Value]", holder)):
                line, holder = self.line(cast("Value", holder), step), cast("list[Value]", holder)[step]
            elif index < len(path) - 1 or not isinstance(holder, dict):
                continue
            names.append(str(step))
        return ".".join(names), line


def read(content: str | bytes, source: str) -> Document:
    """The one document in a file. LoadError if it cannot be parsed, or is not a mapping."""
    try:
        reader = _Reader(_decoded(content))
        value = reader.read()
    except _Unreadable as error:
        raise LoadError(source, [error.problem]) from error.__cause__
    if value is None:
        raise LoadError(source, [Problem("the file is empty")])
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else "a single value"
        raise LoadError(source, [Problem(f"the file contains {what}, not a mapping: is it an app exported by Dify?")])
    return Document(cast("dict[str, Value]", value), reader.problems, reader.lines)


class _Unreadable(Exception):
    """Ends the parsing."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.problem = Problem(message, line=line)
        super().__init__(message)


def _decoded(content: str | bytes) -> str:
    text = content if isinstance(content, str) else _utf8(content)
    if len(text) > MAX_CHARACTERS:
        raise _Unreadable("the file is larger than 10 MB")
    text = text.removeprefix("\ufeff")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise _Unreadable("the file has a lone surrogate (half a character)", line) from error
    if text.lstrip().startswith("{") and "\\u" in text:
        text = _PAIR.sub(lambda pair: f"{pair[1]}\\U{_joined(pair[2], pair[3]):08x}", text)
    return text


def _utf8(content: bytes) -> str:
    if len(content) > 4 * MAX_CHARACTERS:  # no character takes more than four bytes
        raise _Unreadable("the file is larger than 10 MB")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _Unreadable("the file is in UTF-16: save it as UTF-8")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"the file is not UTF-8: byte {error.start} is {content[error.start]:#04x}"
        raise _Unreadable(message, line) from error


def _joined(high: str, low: str) -> int:
    return 0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00)


class _Collection:
    """A mapping or list whose end has not been parsed yet."""

    __slots__ = ("anchor", "inside", "key", "line", "merged", "value", "weight")

    def __init__(self, value: dict[str, Value] | list[Value], anchor: str | None, line: int) -> None:
        self.value = value
        self.inside: dict[str, int] | list[int] = {} if isinstance(value, dict) else []
        self.anchor = anchor
        self.line = line
        self.key: tuple[str, int, bool] | None = None  # text, line, whether it is a merge key
        self.merged: list[tuple[Value, int]] = []
        self.weight = 1

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.value, dict)


class _Reader:
    """Builds a document from YAML events."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[int, Lines] = {}
        self._text = text
        self._anchors: dict[str, tuple[Value, int] | None] = {}  # value and weight; None before its end
        self._alias_count = 0
        self._scalars: dict[str, Value] = {}  # cache of short plain scalars by their text
        self._stack: list[_Collection] = []
        self._root: Value = None

    def read(self) -> Value:
        documents = 0
        for event in self._events():
            match event:
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.CollectionStartEvent():
                    self._begin(event)
                case yaml.CollectionEndEvent():
                    self._end()
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise _Unreadable(
                            "the file has several documents ('---'), but only one is allowed", _line(event)
                        )
                case _:
                    pass
        return self._root

    def _events(self) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(self._text, yaml.CSafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            parts = [part for part in (error.context, error.problem) if part]
            line = mark.line + 1 if mark else None
            tabs = " (YAML is indented by spaces, not tabs)" if line and self._indented_by_tabs(line) else ""
            raise _Unreadable(f"not valid YAML: {', '.join(parts)}{tabs}", line) from error
        except yaml.YAMLError as error:  # a character that YAML does not allow
            raise _Unreadable(f"not valid YAML: {' '.join(str(error).split())}") from error

    def _indented_by_tabs(self, line: int) -> bool:
        return any(re.match(r"\s*\t", text) for text in self._text.splitlines()[line - 1 : line])

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text = event.value
        line = _line(event)
        top = self._stack[-1] if self._stack else None
        if top and top.wants_key:
            # `on:` and `1:` are text as keys
            top.key = (text, line, text == "<<" and event.implicit[0])
            top.weight += len(text)
            if event.anchor:
                self._anchors[event.anchor] = (text, len(text))
            return
        if event.tag is None and not event.implicit[0]:
            value = text
        elif event.tag is None and text in self._scalars:
            value = self._scalars[text]
        else:
            value = self._resolved(text, event.tag, line)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1 + len(text))
        self._put(value, line, 1 + len(text))

    def _resolved(self, text: str, tag: str | None, line: int) -> Value:
        if tag in ("!", f"{_YAML}str"):
            return text
        kind = tag or next((tag for tag, form in _RESOLVERS.get(text[:1], ()) if form.match(text)), f"{_YAML}str")
        try:
            value = _scalar_of(kind.removeprefix(_YAML), text)
        except (ValueError, OverflowError, KeyError, AttributeError) as error:
            raise _Unreadable(f"{text[:40]!r} is not a valid {kind.removeprefix(_YAML)}", line) from error
        if value is NotImplemented:
            raise _Unreadable(f"the YAML tag {kind!r} is not allowed here", line)
        if tag is None and len(text) <= 32:
            self._scalars[text] = value
        return value

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        line = _line(event)
        if len(self._stack) >= MAX_DEPTH:
            raise _Unreadable(f"the file is nested more than {MAX_DEPTH} levels deep", line)
        if self._stack and self._stack[-1].wants_key:
            raise _Unreadable("a key must be text, not a mapping or list", line)
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_YAML}map" if mapping else f"{_YAML}seq"):
            raise _Unreadable(f"the YAML tag {event.tag!r} is not allowed here", line)
        collection = _Collection({} if mapping else [], event.anchor, line)
        self.lines[id(collection.value)] = (line, collection.inside)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(collection)

    def _end(self) -> None:
        collection = self._stack.pop()
        if collection.merged:
            _merge(collection)
        if collection.anchor:
            self._anchors[collection.anchor] = (collection.value, collection.weight)
        self._put(collection.value, collection.line, collection.weight)

    def _alias(self, event: yaml.AliasEvent) -> None:
        name, line = cast("str", event.anchor), _line(event)
        if name not in self._anchors:
            raise _Unreadable(f"the alias '*{name}' is not defined", line)
        anchor = self._anchors[name]
        if anchor is None:
            raise _Unreadable(f"the alias '*{name}' refers to itself", line)
        value, weight = anchor
        self._alias_count += weight
        if self._alias_count > MAX_ALIASED:
            raise _Unreadable("the file's aliases expand to too many values", line)
        if self._stack and self._stack[-1].wants_key:
            if not isinstance(value, str):
                raise _Unreadable("a key must be text, not an alias of something else", line)
            self._stack[-1].key = (value, line, False)
            return
        self._put(value, line, weight)

    def _put(self, value: Value, line: int, weight: int) -> None:
        if not self._stack:
            self._root = value
            return
        top = self._stack[-1]
        top.weight += weight
        if isinstance(top.value, list):
            top.value.append(value)
            cast("list[int]", top.inside).append(line)
            return
        key, at, merge = cast("tuple[str, int, bool]", top.key)
        top.key = None
        if merge:
            top.merged.append((value, at))
            return
        lines = cast("dict[str, int]", top.inside)
        if key in lines and len(self.problems) < MAX_DUPLICATES:
            message = f"the key occurs twice in a mapping, first in line {lines[key]}: the last one is used"
            self.problems.append(Problem(message, field=key[:80], line=at, fatal=False))
        top.value[key] = value
        lines[key] = at


def _scalar_of(kind: str, text: str) -> Value:
    """A scalar of a YAML type; NotImplemented for types that are not allowed."""
    match kind:
        case "null":
            return None
        case "bool":
            return _BOOLEANS[text.lower()]
        case "int":
            number = int(_CONSTRUCTOR.construct_yaml_int(yaml.ScalarNode(kind, text)))
            return number if number in INTEGERS else float(number)
        case "float":
            return float(_CONSTRUCTOR.construct_yaml_float(yaml.ScalarNode(kind, text)))
        case "timestamp":
            return _CONSTRUCTOR.construct_yaml_timestamp(yaml.ScalarNode(kind, text)).isoformat()
        case "str" | "value" | "merge":
            return text
        case _:
            return NotImplemented


def _merge(collection: _Collection) -> None:
    """`<<: *base`: keys that the mapping does not have itself come from the first of the others that has them."""
    own, lines = cast("dict[str, Value]", collection.value), cast("dict[str, int]", collection.inside)
    for value, line in collection.merged:
        for other in cast("list[Value]", value) if isinstance(value, list) else [value]:
            if not isinstance(other, dict):
                raise _Unreadable("'<<' takes a mapping or a list of mappings", line)
            for key, item in cast("dict[str, Value]", other).items():
                if key not in own:
                    own[key] = item
                    lines[key] = line


def _line(event: yaml.Event) -> int:
    return cast("yaml.Mark", event.start_mark).line + 1
