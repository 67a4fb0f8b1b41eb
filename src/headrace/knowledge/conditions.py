"""Conditions on the metadata of documents, with which a retrieval chooses the documents that it searches.

A value that is missing meets `empty` only, as a NULL does in Dify's database. Texts are compared with upper and lower
case, numbers and times as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from headrace.errors import InvalidParam
from headrace.frozen import frozen
from headrace.ports.knowledge import Document
from headrace.values import Value

_TEXT: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda value, other: other in value,
    "not contains": lambda value, other: other not in value,
    "start with": str.startswith,
    "end with": str.endswith,
}
_NUMBER: Mapping[str, Callable[[float, float], bool]] = {
    ">": lambda value, other: value > other,
    "after": lambda value, other: value > other,
    "<": lambda value, other: value < other,
    "before": lambda value, other: value < other,
    "≥": lambda value, other: value >= other,
    ">=": lambda value, other: value >= other,
    "≤": lambda value, other: value <= other,
    "<=": lambda value, other: value <= other,
}
_EQUAL: Mapping[str, bool] = {"is": True, "=": True, "is not": False, "≠": False, "!=": False}
_AMONG: Mapping[str, bool] = {"in": True, "not in": False}
_PRESENT: Mapping[str, bool] = {"not empty": True, "empty": False}
_OPERATORS = (*_TEXT, *_NUMBER, *_EQUAL, *_AMONG, *_PRESENT)


@frozen
class Condition:
    field: str
    operator: str
    value: Value = None

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether a document with these values, by the names of their fields, meets the condition."""
        value = values.get(self.field)
        if self.operator in _PRESENT:
            return (value is not None) == _PRESENT[self.operator]
        if value is None:
            return False
        if self.operator in _TEXT:
            return _TEXT[self.operator](_text(value), _text(self.value))
        if self.operator in _EQUAL:
            return _is_equal(value, self.value) == _EQUAL[self.operator]
        if self.operator in _AMONG:
            among = any(_is_equal(value, other) for other in _items(self.value))
            return among == _AMONG[self.operator]
        number, other = _number(value), _number(self.value)
        return number is not None and other is not None and _NUMBER[self.operator](number, other)


@frozen
class Conditions:
    logical_operator: Literal["and", "or"]
    conditions: Sequence[Condition]

    def holds(self, values: Mapping[str, Value]) -> bool:
        results = (condition.holds(values) for condition in self.conditions)
        return all(results) if self.logical_operator == "and" else any(results)


def parse_conditions(raw: Mapping[str, Any] | None) -> Conditions | None:
    """`metadata_filtering_conditions` of Dify. None if there are none; InvalidParam for an operator that is not known.

    As in Dify, a condition without a value is left out, except `empty` and `not empty`.
    """
    conditions: list[Condition] = []
    for item in cast("Sequence[Mapping[str, Any]]", (raw or {}).get("conditions") or ()):
        operator = str(item.get("comparison_operator", ""))
        if operator not in _OPERATORS:
            raise InvalidParam(f"comparison_operator '{operator}' is not one of {', '.join(_OPERATORS)}.")
        if item.get("value") is not None or operator in _PRESENT:
            conditions.append(Condition(str(item.get("name", "")), operator, item.get("value")))
    if not conditions:
        return None
    return Conditions("or" if (raw or {}).get("logical_operator") == "or" else "and", conditions)


_SOURCES = {"upload_file": "file_upload", "website_crawl": "website", "notion_import": "notion"}


def metadata_of(document: Document, names: Mapping[str, str], *, built_in: bool = True) -> dict[str, Value]:
    """The values of a document by the names of their fields, with those of the fields that every document has."""
    values = {names[field]: value for field, value in document.metadata.items() if field in names}
    if not built_in:
        return values
    return {
        "document_name": document.name,
        "uploader": document.created_by,
        "upload_date": document.created_at,
        "last_update_date": document.updated_at,
        "source": _SOURCES.get(document.data_source_type, document.data_source_type),
        **values,
    }


def _is_equal(value: Value, other: Value) -> bool:
    if isinstance(value, int | float) and (number := _number(other)) is not None:
        return value == number
    return _text(value) == _text(other)


def _items(value: Value) -> Sequence[Value]:
    """The items of a list, or of a text with commas between them."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return cast("Sequence[Value]", value) if isinstance(value, Sequence) else [value]


def _text(value: Value) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number(value: Value) -> float | None:
    if not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
