"""YAML into plain values, with the line of every key, and safe against files made to do harm.

The values are built from parser events: one pass, no recursion, so that neither depth nor aliases can exhaust
anything. Facts: Dify writes and reads YAML 1.1 with PyYAML, so `yes` is true and `0o17` is text; its own exports contain
a few harmless aliases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn, cast

import yaml
from yaml.constructor import SafeConstructor
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from headrace.errors import LoadError, Problem
from headrace.values import Value

MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 100
MAX_ALIASED = 100_000  # values that aliases may repeat

_LOADER = cast("type[yaml.SafeLoader]", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
_TAG = "tag:yaml.org,2002:"
_CONSTRUCT = SafeConstructor()
_MERGE = object()  # stands for the key `<<`
_INTEGERS = range(-(2**63), 2**64)  # JSON encoders know no others


class Tree:
    """A file's values, and where each is written. `notes` are faults that do not keep it from being read."""

    def __init__(self, root: Value, lines: Mapping[int, Any], notes: Sequence[Problem]) -> None:
        self.root = root
        self.notes = notes
        self._lines = lines

    def line(self, container: Value, *path: str | int) -> int | None:
        """The line (from 1) of what a path leads to from one of the tree's mappings or lists; of the last part of
        the path that exists, if it ends early."""
        line = None
        for key in path:
            try:
                line = self._lines[id(container)][key]
                container = container[key]
            except (KeyError, IndexError, TypeError):
                break
        return line


def parse(content: str | bytes, source: str) -> Tree:
    """Reads one YAML document. LoadError where it is too large, no UTF-8, no YAML, or made to do harm."""
    builder = _Builder(source)
    text = _decoded(content, builder)
    try:
        for event in cast("Iterator[Event]", yaml.parse(text, _LOADER)):  # pyright: ignore[reportUnknownMemberType]
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f" ({error.context})" if error.context else ""
        builder.fail(f"is no YAML: {error.problem or 'cannot be read'}{context}", mark.line + 1 if mark else None)
    except yaml.YAMLError as error:
        builder.fail(f"is no YAML: {' '.join(str(error).split())}", None)
    return Tree(builder.root, builder.lines, builder.notes)


def _decoded(content: str | bytes, builder: _Builder) -> str:
    if len(content) > MAX_BYTES:
        builder.fail(f"is too large: {len(content):,} bytes, and {MAX_BYTES:,} are allowed", None)
    if isinstance(content, bytes):
        try:
            content = content.decode()
        except UnicodeDecodeError as error:
            builder.fail(f"is not UTF-8 text (byte {error.start})", content.count(b"\n", 0, error.start) + 1)
    else:
        try:
            if len(content.encode()) > MAX_BYTES:
                builder.fail(f"is too large: more than {MAX_BYTES:,} bytes", None)
        except UnicodeEncodeError as error:
            builder.fail("is not UTF-8 text: it has half a surrogate pair", content.count("\n", 0, error.start) + 1)
    return content.removeprefix("\ufeff")


class _Open:
    """A mapping or list whose end has not come."""

    __slots__ = ("anchor", "key", "key_line", "lines", "merged", "size", "value")

    def __init__(self, value: dict[str, Value] | list[Value], lines: Any, anchor: str | None) -> None:
        self.value = value
        self.lines = lines
        self.anchor = anchor
        self.key: Any = None  # of the mapping's entry whose value comes next; text, or _MERGE
        self.key_line = 0
        self.merged: list[dict[str, Value]] = []
        self.size = 1  # values in it, those repeated by aliases counted every time


class _Builder:
    def __init__(self, source: str) -> None:
        self.source = source
        self.root: Value = None
        self.lines: dict[int, Any] = {}
        self.notes: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Value, int]] = {}  # size 0: still open
        self._aliased = 0
        self._documents = 0

    def fail(self, message: str, line: int | None) -> NoReturn:
        raise LoadError(self.source, [Problem(message, line=line)])

    def take(self, event: Event) -> None:
        kind = type(event)
        if kind is ScalarEvent:
            self._scalar(cast("ScalarEvent", event))
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            self._begin(cast("MappingStartEvent | SequenceStartEvent", event))
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            self._end()
        elif kind is AliasEvent:
            self._alias(cast("AliasEvent", event))
        elif kind is DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                self.fail("holds more than one YAML document", _line(event))

    def _scalar(self, event: ScalarEvent) -> None:
        holder = self._open[-1] if self._open else None
        text = event.value
        if holder is not None and holder.key is None and isinstance(holder.value, dict):
            holder.key = _MERGE if text == "<<" and event.implicit[0] else text
            holder.key_line = _line(event)
            value: Value = text
        else:
            value = text
            if event.tag not in (None, "!", f"{_TAG}str"):
                value = self._tagged(event)
            elif event.implicit[0] and event.tag is None:
                value = self._plain(text, event)
            self._attach(value, _line(event), 1)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)

    def _plain(self, text: str, event: ScalarEvent) -> Value:
        try:
            return _resolved(text)
        except (ValueError, OverflowError):
            self.fail(f"has a number that cannot be read, of {len(text)} characters: {text[:40]}", _line(event))

    def _tagged(self, event: ScalarEvent) -> Value:
        kind = str(event.tag).removeprefix(_TAG)
        if kind not in _CONSTRUCTORS:
            self.fail(f"has a value with the tag {event.tag!r}, which is not allowed here", _line(event))
        try:
            return _constructed(kind, event.value)
        except (ValueError, KeyError, IndexError, OverflowError):
            self.fail(f"has a value that is no {kind}: {event.value[:40]!r}", _line(event))

    def _begin(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        mapping = type(event) is MappingStartEvent
        line = _line(event)
        if event.tag not in (None, "!", f"{_TAG}map" if mapping else f"{_TAG}seq"):
            self.fail(f"has a value with the tag {event.tag!r}, which is not allowed here", line)
        if len(self._open) >= MAX_DEPTH:
            self.fail(f"is nested more than {MAX_DEPTH} levels deep", line)
        holder = self._open[-1] if self._open else None
        if holder is not None and holder.key is None and isinstance(holder.value, dict):
            self.fail("has a key that is no text", line)
        value: dict[str, Value] | list[Value] = {} if mapping else []
        lines: Any = {} if mapping else []
        self.lines[id(value)] = lines
        if event.anchor:
            self._anchors[event.anchor] = (value, 0)
        if holder is None or holder.key is not _MERGE:
            self._attach(value, line, 0)
        self._open.append(_Open(value, lines, event.anchor))

    def _end(self) -> None:
        closed = self._open.pop()
        for merged in closed.merged:  # a key of the mapping's own, or of an earlier merge, counts
            own = cast("dict[str, Value]", closed.value)
            for key in merged.keys() - own.keys():
                own[key] = merged[key]
                closed.lines[key] = self.lines[id(merged)].get(key)
        if closed.anchor:
            self._anchors[closed.anchor] = (closed.value, closed.size)
        if self._open:
            holder = self._open[-1]
            holder.size += closed.size
            if holder.key is _MERGE:
                self._merge(closed.value)

    def _alias(self, event: AliasEvent) -> None:
        line = _line(event)
        if event.anchor not in self._anchors:
            self.fail(f"has the alias *{event.anchor} of nothing", line)
        value, size = self._anchors[event.anchor]
        if not size:
            self.fail(f"has the alias *{event.anchor} inside the very value it repeats", line)
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            self.fail(f"repeats more than {MAX_ALIASED:,} values by aliases", line)
        holder = self._open[-1] if self._open else None
        if holder is not None and holder.key is None and isinstance(holder.value, dict):
            if not isinstance(value, str):
                self.fail("has a key that is no text", line)
            holder.key, holder.key_line = value, line
        elif holder is not None and holder.key is _MERGE:
            holder.size += size
            self._merge(value)
        else:
            self._attach(value, line, size)

    def _merge(self, value: Value) -> None:
        holder = self._open[-1]
        several = cast("list[Value]", value) if isinstance(value, list) else [value]
        for each in several:
            if not isinstance(each, dict):
                self.fail("merges (<<) what is no mapping", holder.key_line)
            holder.merged.append(cast("dict[str, Value]", each))
        holder.key = None

    def _attach(self, value: Value, line: int, size: int) -> None:
        if not self._open:
            self.root = value
            return
        holder = self._open[-1]
        holder.size += size
        if isinstance(holder.value, list):
            holder.value.append(value)
            holder.lines.append(line)
            return
        key = holder.key
        if key is _MERGE:
            self.fail("merges (<<) what is no mapping", line)
        if key in holder.value:
            message = f"has the key {key!r} twice (first in line {holder.lines[key]}); the last one counts"
            self.notes.append(Problem(message, line=holder.key_line, fatal=False))
        holder.value[key] = value
        holder.lines[key] = holder.key_line
        holder.key = None


def _line(event: Event) -> int:
    return cast("int", cast("Any", event).start_mark.line) + 1


@lru_cache(4096)
def _resolved(text: str) -> Value:
    """What a plain scalar means. Dates stay text: no value of a workflow is a date."""
    resolvers = cast("Mapping[str, Sequence[tuple[str, Any]]]", yaml.SafeLoader.yaml_implicit_resolvers)
    for tag, pattern in resolvers.get(text[:1], ()):
        if pattern.match(text):
            kind = tag.removeprefix(_TAG)
            return _constructed(kind, text) if kind in _CONSTRUCTORS else text
    return text


def _constructed(kind: str, text: str) -> Value:
    value = _CONSTRUCTORS[kind](yaml.ScalarNode(_TAG + kind, text))
    return float(value) if type(value) is int and value not in _INTEGERS else value


_CONSTRUCTORS: Mapping[str, Any] = {
    "null": _CONSTRUCT.construct_yaml_null,
    "bool": _CONSTRUCT.construct_yaml_bool,
    "int": _CONSTRUCT.construct_yaml_int,
    "float": _CONSTRUCT.construct_yaml_float,
}
