"""Events as bytes, and back.

Nearly every event is plain JSON: an array of its fields. What JSON lacks (files, variables, NaN, integers beyond 64
bits, keys that are no strings, half surrogate pairs) makes the second form: a `~`, then JSON in which an object with
the key `$` says what it stands for. Data that looks like such an object is wrapped too, so nothing that a workflow
handles can be mistaken for something else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import orjson

from headrace.errors import StoreError
from headrace.kernel.events import EVENTS, Event, Record, RunPaused, pack, unpack
from headrace.values import DEEPEST, TOO_DEEP, File, Value, Variable

Row = tuple[str, int, float, str, bytes]
"""run, seq, at, type, body: a record as stores keep it."""

_TAG = "$"
_TAGGED = b"~"
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode(event: Event) -> bytes:
    """The event's fields as bytes; `decode` needs the name of its type besides."""
    return encode_value(pack(event))


def encode_value(value: Value) -> bytes:
    """Any value as bytes. What is not a value that a workflow can hold at all is kept as its text.

    ValueError where it is nested more than 300 levels deep.
    """
    try:
        body = orjson.dumps(value, option=_STRICT)
    except TypeError:
        return _tagged(value)
    # orjson writes NaN and the infinities as null, which they are not
    nulls = body.count(b"null")
    if nulls and nulls > _top_nones(value) and not _finite(value):
        return _tagged(value)
    return body


def decode_value(body: bytes) -> Value:
    """What `encode_value` encoded; tuples have become lists. ValueError where the bytes are damaged."""
    return _revived(json.loads(body[1:])) if body.startswith(_TAGGED) else orjson.loads(body)


def decode(row: Row) -> Record:
    """The record again. StoreError where it is damaged, or of a newer version."""
    run, seq, at, name, body = row
    if name not in EVENTS:
        raise StoreError(
            f"run {run}: event {seq} is of the unknown type {name}; "
            "a newer version of Headrace wrote it, and only such a version can read it.",
            transient=False,
        )
    try:
        event = unpack(name, decode_value(body))
    except (ValueError, TypeError, KeyError) as error:
        damaged = f"run {run}: event {seq} ({name}) cannot be read: {error}"
        raise StoreError(damaged, transient=False) from error
    if isinstance(event, RunPaused):
        event = RunPaused(tuple(event.reasons))
    return Record(run, seq, at, event)


def clean(text: str) -> str:
    """Text that every database takes: NULs and half surrogate pairs are written out."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _top_nones(value: Value) -> int:
    return sum(item is None for item in cast("list[Value]", value)) if isinstance(value, list) else 0


def _finite(value: Value) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case dict():
            return all(_finite(item) for item in cast("dict[str, Value]", value).values())
        case list() | tuple():
            return all(_finite(item) for item in cast("list[Value]", value))
        case _:
            return True


def _tagged(value: Value) -> bytes:
    return _TAGGED + json.dumps(_marked(value, DEEPEST), separators=(",", ":")).encode()


def _marked(value: Value, room: int) -> Value:
    if not room:
        raise ValueError(TOO_DEEP)
    room -= 1
    match value:
        case None | bool() | float():
            return value
        case str():
            return str(value)
        case int():
            # more digits than Python would turn into a decimal text are no problem in hex
            return int(value) if value.bit_length() <= 64 else {_TAG: "int", "v": hex(value)}
        case File():
            return {_TAG: "file", "v": {name: _marked(item, room) for name, item in asdict(value).items()}}
        case Variable():
            return {_TAG: "variable", "v": [_marked(value.value, room), _marked(value.selector, room), value.id]}
        case Mapping():
            items = cast("Mapping[Any, Value]", value)
            if _TAG not in items and all(isinstance(key, str) for key in items):
                return {str(key): _marked(item, room) for key, item in items.items()}
            return {_TAG: "object", "v": [[_marked(key, room), _marked(item, room)] for key, item in items.items()]}
        case list() | tuple():
            return [_marked(item, room) for item in cast("list[Value]", value)]
        case _:
            return str(cast("object", value))


def _revived(value: Value) -> Value:
    match value:
        case dict():
            items = cast("dict[str, Value]", value)
            return _untagged(items) if _TAG in items else {key: _revived(item) for key, item in items.items()}
        case list():
            return [_revived(item) for item in cast("list[Value]", value)]
        case _:
            return value


def _untagged(items: dict[str, Value]) -> Value:
    held = items["v"]
    match items[_TAG]:
        case "int":
            return int(held, 16)
        case "file":
            return File(**{name: _revived(item) for name, item in held.items()})
        case "variable":
            inner, selector, name = held
            return Variable(_revived(inner), tuple(_revived(selector)), name)
        case "object":
            return {_revived(key): _revived(item) for key, item in held}
        case unknown:
            raise ValueError(f"unknown tag {unknown!r}")
