"""Events as bytes, and back; rows as all databases accept them.

Nearly every event is plain JSON: an array of its fields. What JSON lacks (files, variables, NaN, integers beyond 64
bits, keys that are not strings, half surrogate pairs) needs the second form: a `~`, then JSON in which an object with
the key `$` names what it stands for. Data that looks like such an object is wrapped too, so no value of a workflow is
ever mistaken for one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

import orjson

from headrace.errors import NewerRecord, StoreError
from headrace.kernel.events import EVENTS, Event, Record, RunPaused
from headrace.values import DEEPEST, TOO_DEEP, File, Value, Variable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = tuple[str, int, float, str, bytes]
"""run, seq, at, type, body: a record as stores keep it."""

VERSION = 1
"""Of the records that this version of Headrace reads. A type of event that is new, or that gets another field, has a
higher one in SINCE: workers of older versions leave such runs to those of newer ones."""

SINCE: Mapping[type[Event], int] = {}

_TAG = "$"
_TAGGED = b"~"
_FIELDS = {event: tuple(field.name for field in fields(event)) for event in EVENTS.values()}
_READERS = {event: attrgetter(*names) for event, names in _FIELDS.items()}  # of tuples; of one field, of its value
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode_value(value: Value) -> bytes:
    """Any value as bytes. An object that is not a value of workflows is stored as its text.

    ValueError if it is nested more than 300 levels deep.
    """
    try:
        body = orjson.dumps(value, option=_STRICT)
    except TypeError:
        return _tagged(value)
    # orjson writes NaN and the infinities as null, too. The fields of an event that are None need no closer look
    if nulls := body.count(b"null"):
        fields = cast("Sequence[Value]", value) if isinstance(value, list | tuple) else ()
        if nulls > fields.count(None) and not _is_finite(value):
            return _tagged(value)
    return body


def decode_value(body: bytes) -> Value:
    """The value that was encoded; tuples have become lists. ValueError if the bytes are damaged."""
    return _untagged(json.loads(body[1:])) if body.startswith(_TAGGED) else orjson.loads(body)


def pack(event: Event) -> tuple[Any, ...]:
    """The values of an event's fields, in order, to be encoded."""
    kind = type(event)
    values = _READERS[kind](event)
    return values if len(_FIELDS[kind]) > 1 else (values,)


def encode(record: Record) -> tuple[str, int | None, float, str, bytes]:
    """The row of a record; one that is not journaled has no number. ValueError: see `encode_value`."""
    event = record.event
    return record.run, record.seq, record.at, type(event).__name__, encode_value(pack(event))


def decode(row: Row) -> Record:
    """The record of a row. NewerRecord if it is of a newer version, StoreError if it is damaged."""
    run, seq, at, name, body = row
    if name not in EVENTS:
        raise NewerRecord(
            f"run {run}: event {seq} is of the unknown type {name}; "
            "a newer version of Headrace wrote it, and only such a version can read it."
        )
    try:
        values = decode_value(body)
        if len(values) > len(_FIELDS[EVENTS[name]]):
            raise NewerRecord(
                f"run {run}: event {seq} ({name}) has an unknown field; "
                "a newer version of Headrace wrote it, and only such a version can read it."
            )
        # fields that were added since take their defaults, so that old journals stay readable
        event = EVENTS[name](*values)
    except (ValueError, TypeError, KeyError) as error:
        damaged = f"run {run}: event {seq} ({name}) cannot be read: {error}"
        raise StoreError(damaged, transient=False) from error
    if isinstance(event, RunPaused):
        event = replace(event, reasons=tuple(event.reasons))
    return Record(run, seq, at, event)


def clean(text: str) -> str:
    """Text that every database accepts: NULs and half surrogate pairs are escaped."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values, with texts that every database accepts."""
    return {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}


def values_of(item: DataclassInstance, *encoded: str) -> dict[str, Any]:
    """An object's fields as a row's values, some of them encoded. `asdict` would take files among them apart."""
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return values | {name: encode_value(values[name]) for name in encoded}


def decoded(row: Mapping[Any, Any], *names: str) -> dict[str, Any]:
    """A row's values, some of which are encoded (`values_of`)."""
    return {**row, **{name: decode_value(row[name]) for name in names}}


def _is_finite(value: Value) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case dict():
            return all(_is_finite(item) for item in cast("dict[str, Value]", value).values())
        case list() | tuple():
            return all(_is_finite(item) for item in cast("list[Value]", value))
        case _:
            return True


def _tagged(value: Value) -> bytes:
    return _TAGGED + json.dumps(_tag(value, DEEPEST), separators=(",", ":")).encode()


def _tag(value: Value, room: int) -> Value:
    if not room:
        raise ValueError(TOO_DEEP)
    room -= 1
    match value:
        case None | bool() | float():
            return value
        case str():
            return str(value)
        case int():
            # hex has no limit on digits, unlike the decimal texts of Python
            return int(value) if value.bit_length() <= 64 else {_TAG: "int", "v": hex(value)}
        case File():
            return {_TAG: "file", "v": {name: _tag(item, room) for name, item in asdict(value).items()}}
        case Variable():
            return {_TAG: "variable", "v": [_tag(value.value, room), _tag(value.selector, room), value.id]}
        case Mapping():
            items = cast("Mapping[Any, Value]", value)
            if _TAG not in items and all(isinstance(key, str) for key in items):
                return {str(key): _tag(item, room) for key, item in items.items()}
            return {
                _TAG: "object",
                "v": [[_tag(key, room), _tag(item, room)] for key, item in items.items()],
            }
        case list() | tuple():
            return [_tag(item, room) for item in cast("list[Value]", value)]
        case _:
            return str(cast("object", value))


def _untagged(value: Value) -> Value:
    match value:
        case dict():
            fields = cast("dict[str, Value]", value)
            return _object(fields) if _TAG in fields else {key: _untagged(item) for key, item in fields.items()}
        case list():
            return [_untagged(item) for item in cast("list[Value]", value)]
        case _:
            return value


def _object(fields: dict[str, Value]) -> Value:
    content = fields["v"]
    match fields[_TAG]:
        case "int":
            return int(content, 16)
        case "file":
            return File(**{name: _untagged(item) for name, item in content.items()})
        case "variable":
            inner, selector, name = content
            return Variable(_untagged(inner), tuple(_untagged(selector)), name)
        case "object":
            return {_untagged(key): _untagged(item) for key, item in content}
        case unknown:
            raise ValueError(f"unknown tag {unknown!r}")
