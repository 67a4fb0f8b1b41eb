"""Events as bytes, and back; rows as all databases accept them.

Nearly every event is plain JSON: an array of its fields. What JSON lacks (files, variables, NaN, integers beyond 64
bits, keys that are not strings, half surrogate pairs) needs the second form: a `~`, then JSON in which an object with
the key `$` names what it stands for. Data that looks like such an object is wrapped too, so no value of a workflow is
ever mistaken for one.

The records of one append are one row of the journal. `seq` is the number of its first record, and `more` says how many
follow it. As each append begins after the last record of a row, two of the same run that overlap begin with the same
number, and the second one is a duplicate.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

import orjson

from headrace.errors import NewerRecord, StoreError
from headrace.kernel.events import EVENTS, Event, Record, RunId, RunPaused
from headrace.values import DEEPEST, TOO_DEEP, File, Value, Variable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = tuple[str, int, float, str, bytes]
"""run, seq, at, type, body: a record as it is sent to other processes."""

PackedRow = tuple[str, int, float, str, bytes, int]
"""run, seq, at, type, body, more. Time and type are those of the first record; the body of a row with several has the
type, the time and the fields of each, and is deflated if it is short: most of it is repeated ids and names then."""

VERSION = 1
"""Of the records that this version of Headrace reads. A type of event that is new, or that gets another field, has a
higher one in SINCE: workers of older versions leave such runs to those of newer ones."""

SINCE: Mapping[type[Event], int] = {}

_LARGEST = 1 << 20  # bytes of several records in one row
_MOST_DEFLATED = 1 << 16  # bytes; more would hold the event loop for a millisecond and longer
_DEFLATED = b"z"  # how a deflated body begins
# a window and a memory of the usual size take seven times as long to set up as such a body takes to deflate
_LEVEL, _WINDOW, _MEMORY = 1, 12, 5
# what is common to most runs: a part of the format, which must never change
_DICTIONARY = (
    b'[["RunResumed",["StopRequested",["NodeFailed",["NodeSkipped",["RoundStarted",["Delta","text",'
    b'["RunPaused",["FormRequested",["NodeRetried",["StepStarted",["StepEnded","prompt_tokens":"completion_tokens":'
    b'"total_tokens":"total_price":"currency":"USD","latency":"model_provider":"model_name":"usage":"finish_reason":"stop"'
    b'[["RunQueued",17,"","service-api",null,null,null,null,null,"",null,null],["RunStarted",17,{}],'
    b'"files":[],"user_id":"","app_id":"","workflow_id":"","workflow_run_id":"","timestamp":17},'
    b'"sys.files":[],"sys.user_id":"","sys.app_id":"","sys.workflow_id":"","sys.workflow_run_id":"","sys.timestamp":17},'
    b'["NodeStarted",17,"",{}],["NodeSucceeded",17,"",{},{},{},"source",null,{}],'
    b'["RunEnded",17,"succeeded",{},null,0,2,0,null,[],null]]'
)
_TAG = "$"
_TAGGED = b"~"
_FIELDS = {event: tuple(field.name for field in fields(event)) for event in EVENTS.values()}
_READERS = {event: attrgetter(*names) for event, names in _FIELDS.items()}  # of tuples; of one field, of its value
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode_value(value: Value, nulls: int = 0, levels: int = 0) -> bytes:
    """Any value as bytes. An object that is not a value of workflows is stored as its text.

    Of the fields of events, `nulls` are None, and so many `levels` are not of their values. ValueError if a value is
    nested more than 300 levels deep.
    """
    try:
        body = orjson.dumps(value, option=_STRICT)
    except TypeError:
        return _tagged(value, DEEPEST + levels)
    # orjson writes NaN and the infinities as null, too. The fields of an event that are None need no closer look
    if body.count(b"null") > nulls and not _is_finite(value):
        return _tagged(value, DEEPEST + levels)
    return body


def decode_value(body: bytes) -> Value:
    """The value that was encoded; tuples have become lists. ValueError if the bytes are damaged."""
    try:
        return _untagged(json.loads(body[1:])) if body.startswith(_TAGGED) else orjson.loads(body)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:  # what a tag stands for is not there
        raise ValueError(f"{type(error).__name__}: {error}") from error


def field_values(event: Event) -> tuple[Any, ...]:
    """The values of an event's fields, in order, to be encoded."""
    kind = type(event)
    values = _READERS[kind](event)
    return values if len(_FIELDS[kind]) > 1 else (values,)


def encode(record: Record) -> tuple[str, int | None, float, str, bytes]:
    """The row of a record; one that is not journaled has no number. ValueError: see `encode_value`."""
    event = record.event
    values = field_values(event)
    return record.run, record.seq, record.at, type(event).__name__, encode_value(values, values.count(None))


def decode(row: Row) -> Record:
    """The record of a row. NewerRecord if it is of a newer version, StoreError if it is damaged."""
    run, seq, at, name, body = row
    try:
        values = decode_value(body)
    except ValueError as error:
        raise damaged(run, seq, name, error) from error
    return Record(run, seq, at, event_of(run, seq, name, values))


def event_of(run: RunId, seq: int, name: str, values: Sequence[Value]) -> Event:
    """The event of this type that has these values; errors as those of `decode`."""
    try:
        if name not in EVENTS:
            raise NewerRecord(
                f"run {run}: event {seq} is of the unknown type {name}; "
                "a newer version of Headrace wrote it, and only such a version can read it."
            )
        if len(values) > len(_FIELDS[EVENTS[name]]):
            raise NewerRecord(
                f"run {run}: event {seq} ({name}) has an unknown field; "
                "a newer version of Headrace wrote it, and only such a version can read it."
            )
        # fields that were added since take their defaults, so that old journals stay readable
        event = EVENTS[name](*values)
        return replace(event, reasons=tuple(event.reasons)) if isinstance(event, RunPaused) else event
    except TypeError as error:  # also of a name in a damaged row, which may be anything
        raise damaged(run, seq, name, error) from error


def damaged(run: RunId, seq: int, name: str, error: Exception) -> StoreError:
    return StoreError(f"run {run}: event {seq} ({name}) cannot be read: {error}", transient=False)


def pack(records: Sequence[Record]) -> list[PackedRow]:
    """The rows of the records of one append, one where that is possible. ValueError: see `encode_value`."""
    if len(records) > 1:
        items: list[tuple[Any, ...]] = []
        nulls = 0
        for record in records:
            values = field_values(record.event)
            nulls += values.count(None)
            items.append((type(record.event).__name__, record.at, *values))
        body = encode_value(items, nulls, 1)
        if len(body) <= _LARGEST:
            if len(body) <= _MOST_DEFLATED:
                deflating = zlib.compressobj(
                    _LEVEL, zlib.DEFLATED, -_WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY
                )
                body = _DEFLATED + deflating.compress(body) + deflating.flush()
            run, seq, at, event = records[0]
            return [(run, cast("int", seq), at, type(event).__name__, body, len(records) - 1)]
    return [(*cast("Row", encode(record)), 0) for record in records]


def unpack(row: PackedRow) -> list[Record]:
    """The records of a row. NewerRecord if one is of a newer version, StoreError if the row is damaged."""
    run, first, at, name, body, more = row
    try:
        content = decode_value(inflated(body))
        items: list[list[Value]] = content if more else [[name, at, *content]]
        if len(items) != more + 1:
            raise ValueError(f"{len(items)} records instead of {more + 1}")
        fields = [(name, at, values) for name, at, *values in items]
    except (ValueError, TypeError) as error:
        raise damaged(run, first, name, error) from error
    return [
        Record(run, seq, at, event_of(run, seq, name, values)) for seq, (name, at, values) in enumerate(fields, first)
    ]


def inflated(body: bytes) -> bytes:
    """The body of a row as it was before it was deflated. ValueError if it is damaged."""
    if not body.startswith(_DEFLATED):
        return body
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS, _DICTIONARY).decompress(body[1:])
    except zlib.error as error:
        raise ValueError(str(error)) from error


def clean(text: str) -> str:
    """Text that every database accepts: NULs and half surrogate pairs are escaped."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values, with texts that every database accepts."""
    return {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}


def values_of(item: DataclassInstance, *encoded_fields: str) -> dict[str, Any]:
    """An object's fields as a row's values, some of them encoded. `asdict` would take files among them apart."""
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return values | {name: encode_value(values[name]) for name in encoded_fields}


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


def _tagged(value: Value, deepest: int) -> bytes:
    return _TAGGED + json.dumps(_tag(value, deepest), separators=(",", ":")).encode()


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
