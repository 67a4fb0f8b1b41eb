from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.errors import InvalidParam
from headrace.knowledge.conditions import metadata_of, parse_conditions
from headrace.ports.knowledge import Document, ProcessRule

VALUES: dict[str, Any] = {"author": "Mia Osei", "year": 2024, "rate": 19.5, "code": "7", "at": 1_700_000_000}


def holds(name: str, operator: str, value: Any = None) -> bool:
    conditions = parse_conditions({"conditions": [{"name": name, "comparison_operator": operator, "value": value}]})
    assert conditions is not None
    return conditions.holds(VALUES)


@pytest.mark.parametrize(
    ("name", "operator", "value", "expected"),
    [
        ("author", "contains", "Osei", True),
        ("author", "contains", "osei", False),
        ("author", "not contains", "Osei", False),
        ("author", "not contains", "%", True),
        ("author", "start with", "Mia", True),
        ("author", "end with", "Mia", False),
        ("author", "is", "Mia Osei", True),
        ("author", "is not", "Mia Osei", False),
        ("author", "in", ["Ada", "Mia Osei"], True),
        ("author", "in", "Ada, Mia Osei", True),
        ("author", "not in", "Ada, Eve", True),
        ("author", "in", [], False),
        ("author", "empty", None, False),
        ("author", "not empty", None, True),
        ("none", "empty", None, True),
        ("none", "not empty", None, False),
        ("none", "is not", "x", False),
        ("none", "not contains", "x", False),
        ("none", "<", 5, False),
        ("year", "=", 2024, True),
        ("year", "=", "2024", True),
        ("year", "≠", 2024.0, False),
        ("year", "!=", 2023, True),
        ("year", ">", 2023, True),
        ("year", ">", "2023", True),
        ("year", "<", 2024, False),
        ("year", "≥", 2024, True),
        ("year", ">=", 2025, False),
        ("year", "≤", 2024, True),
        ("year", "<=", 2023, False),
        ("year", ">", "many", False),
        ("year", "contains", "02", True),
        ("rate", "is", "19.5", True),
        ("code", ">", 6, True),
        ("at", "before", 1_800_000_000, True),
        ("at", "after", 1_800_000_000, False),
        ("year", "in", ["2024"], True),
        ("year", ">", ["2023"], False),
    ],
)
def test_conditions(name: str, operator: str, value: Any, expected: bool) -> None:
    assert holds(name, operator, value) is expected


def test_conditions_are_combined() -> None:
    raw: dict[str, Any] = {
        "logical_operator": "and",
        "conditions": [
            {"name": "year", "comparison_operator": "=", "value": 2024},
            {"name": "author", "comparison_operator": "is", "value": "Ada"},
        ],
    }
    both, either = parse_conditions(raw), parse_conditions({**raw, "logical_operator": "or"})
    assert both is not None
    assert either is not None
    assert (both.holds(VALUES), either.holds(VALUES)) == (False, True)


@pytest.mark.parametrize("raw", [None, {}, {"conditions": None}, {"conditions": [{"comparison_operator": "is"}]}])
def test_there_may_be_no_conditions(raw: Any) -> None:
    assert parse_conditions(raw) is None


def test_an_unknown_operator_is_an_error() -> None:
    with pytest.raises(InvalidParam, match="'like' is not one of contains"):
        holds("author", "like", "x")


def test_every_document_has_some_fields() -> None:
    document = Document("o1", "d1", "a.md", "f", "b", 1.0, 2.0, ProcessRule("r", "automatic"), created_by="key")
    document = replace(document, metadata={"m1": "Ada", "gone": 1})
    built_in = {"document_name": "a.md", "uploader": "key", "upload_date": 1.0, "last_update_date": 2.0}
    assert metadata_of(document, {"m1": "author"}) == {**built_in, "source": "file_upload", "author": "Ada"}
    assert metadata_of(document, {"m1": "author"}, built_in=False) == {"author": "Ada"}
