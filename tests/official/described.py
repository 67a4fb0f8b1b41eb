"""What Dify's official description says (facts.json), and how values are held against it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import extend

FACTS: Mapping[str, Any] = json.loads(Path(__file__).with_name("facts.json").read_text("utf-8"))
SCHEMAS: Mapping[str, Any] = FACTS["schemas"]
FORMATS = FormatChecker(())

Schema = Mapping[str, Any]


@FORMATS.checks("uuid", (ValueError, AttributeError))
def _uuid(value: object) -> bool:
    return not isinstance(value, str) or bool(UUID(value))


@FORMATS.checks("date-time", ValueError)
def _date_time(value: object) -> bool:
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


@FORMATS.checks("url")
def _url(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"https?://[^\s/]+\S*", value))


@FORMATS.checks("int64")
def _int64(value: object) -> bool:
    return not isinstance(value, int) or abs(value) < 2**63


@FORMATS.checks("decimal", ArithmeticError)
def _decimal(value: object) -> bool:
    return not isinstance(value, str) or Decimal(value).is_finite()


def _is_integer(_: object, value: object) -> bool:
    return type(value) is int  # JSON Schema takes 1.0 for one, too; decoders of Go and Java do not


TYPED = extend(Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer))


@dataclass(frozen=True)
class Described:
    """One operation, as the official description tells of it. `path` is without /v1."""

    name: str
    description: Mapping[str, Any]

    @property
    def method(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.name.partition(" ")[2]

    @property
    def parameters(self) -> list[Mapping[str, Any]]:
        return self.description.get("parameters", [])

    @property
    def answers(self) -> Mapping[int, Mapping[str, Any]]:
        return {int(status): answer for status, answer in self.description["answers"].items()}

    @property
    def good(self) -> int:
        return min(self.answers)

    @property
    def body(self) -> tuple[str, Schema] | None:
        """(content type, schema) of the body it takes."""
        content = self.description.get("body", {}).get("content", {})
        return next(iter(content.items()), None)

    @property
    def form(self) -> bool:
        """Whether its body is multipart."""
        return self.body is not None and self.body[0].startswith("multipart/")

    def fields(self) -> tuple[Mapping[str, Schema], frozenset[str]]:
        """(schemas by name, names that are required) of the body's fields."""
        schema = resolved(self.body[1]) if self.body else {}
        return schema.get("properties", {}), frozenset(schema.get("required", ()))

    def events(self) -> Mapping[str, Schema]:
        """The events of its stream, by name."""
        return self.answers[self.good].get("text/event-stream", {}).get("events", {})


ALL = [Described(name, description) for name, description in FACTS["operations"].items()]


def resolved(schema: Schema) -> Schema:
    """The schema that a reference stands for."""
    while "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    return schema


@dataclass
class SchemaCheck:
    """What comes out where values are held against schemas. `problems` are "PLACE: KEYWORD" of a schema, under `answer`
    or an event's name."""

    problems: set[str] = field(default_factory=set[str])
    seen_events: set[str] = field(default_factory=set[str])
    _field_seen: dict[str, bool] = field(default_factory=dict[str, bool])

    def value(self, schema: Schema, value: Any, name: str = "answer") -> None:
        validator = TYPED({"schemas": SCHEMAS, **schema}, format_checker=FORMATS)
        for error in validator.iter_errors(value):
            at = f"{name} {_place(error.absolute_path)}".rstrip()
            self.problems.add(f"{at}: {error.validator}")
        for place, there in _fields(schema, value, f"{name} "):
            self._field_seen[place] = self._field_seen.get(place, False) or there

    def event(self, known: Mapping[str, Schema], event: Any) -> None:
        name = event["event"]
        if name not in known:
            self.problems.add(f"event {name}: unknown")
        else:
            self.seen_events.add(name)
            self.value(known[name], event, name)

    def all(self) -> set[str]:
        """The problems, and the fields that are described, and that no value had."""
        return self.problems | {f"never told: {place}" for place, there in self._field_seen.items() if not there}


def _fields(schema: Schema, value: Any, place: str) -> Iterator[tuple[str, bool]]:
    """(place, whether it is there) of each field that the schema names, as far down as the value goes."""
    schema = resolved(schema)
    for item in schema.get("allOf", ()):
        yield from _fields(item, value, place)
    if isinstance(value, list) and "items" in schema:
        for item in value:
            yield from _fields(schema["items"], item, f"{place}[]")
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            at = place + name if place.endswith(" ") else f"{place}.{name}"
            yield at, name in value
            if name in value:
                yield from _fields(inner, value[name], at)


def _place(path: Any) -> str:
    text = ""
    for part in path:
        text += "[]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
