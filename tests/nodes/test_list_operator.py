"""list-operator: what is left of a list, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from headrace.errors import NodeError
from headrace.node import Result
from headrace.nodes.list_operator import ListOperator
from headrace.values import File, Value
from tests.nodes.plain import run

A_PNG = File("image", "remote_url", "a.png", ".png", "image/png", 300, "https://x.org/a.png")
B_PDF = File("document", "local_file", "b.pdf", ".pdf", "application/pdf", 20, None, "id-2")
C_BARE = File("custom", "tool_file")
FILES = [A_PNG, B_PDF, C_BARE]


async def operate(value: Value, **config: Any) -> Result:
    scopes = {"n": {"list": value, "two": 2, "letter": "p", "empty": None}}
    return await run(ListOperator, {"variable": ["n", "list"], **config}, scopes)


async def filtered(value: Value, *conditions: tuple[Any, ...]) -> list[Value]:
    """What conditions (operator, value, key) leave."""
    conditions_data = [
        {"comparison_operator": wanted, "value": value, "key": key[0] if key else ""}
        for wanted, value, *key in conditions
    ]
    return (await operate(value, filter_by={"enabled": True, "conditions": conditions_data})).outputs["result"]


async def failure(value: Value, **config: Any) -> NodeError:
    with pytest.raises(NodeError) as raised:
        await operate(value, **config)
    return raised.value


def ordered(direction: str, key: str = "") -> dict[str, Value]:
    return {"order_by": {"enabled": True, "key": key, "value": direction}}


def picked(serial: Value) -> dict[str, Value]:
    return {"extract_by": {"enabled": True, "serial": serial}}


async def test_the_recorded_case():
    result = await operate(
        ["pear", "fig", "apple", "plum"],
        filter_by={"enabled": True, "conditions": [{"comparison_operator": "contains", "key": "", "value": "p"}]},
        order_by={"enabled": True, "key": "", "value": "asc"},
        limit={"enabled": True, "size": 2},
        extract_by={"enabled": False, "serial": "1"},
        var_type="array[string]",
        item_var_type="string",
    )
    variables = {"variable": ["pear", "fig", "apple", "plum"]}
    assert (result.inputs, result.process) == (variables, variables)
    assert result.outputs == {"result": ["apple", "pear"], "first_record": "apple", "last_record": "pear"}


@pytest.mark.parametrize("value", [[], None, "", 0])
async def test_nothing_stays_nothing(value: Value):
    result = await operate(value, **picked("1"), **ordered("asc"))
    assert (result.inputs, result.process) == ({"variable": []}, {"variable": []})
    assert result.outputs == {"result": [], "first_record": None, "last_record": None}


async def test_what_is_switched_off_does_nothing():
    off = {"enabled": False, "conditions": [{"comparison_operator": "is", "value": "x"}], "size": 0, "serial": "x"}
    result = await operate(["b", "a"], filter_by=off, order_by={"enabled": False}, limit=off, extract_by=off)
    assert result.outputs == {"result": ["b", "a"], "first_record": "b", "last_record": "a"}
    assert (await operate(["b"], filter_by=None, order_by=None, limit=None, extract_by=None)).outputs["result"] == ["b"]


# ------------------------------------------------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("wanted", "value", "left"),
    [
        ("contains", "p", ["pear", "plum"]),
        ("contains", "{{#n.letter#}}l", ["plum"]),
        ("not contains", "p", ["fig", ""]),
        ("start with", "p", ["pear", "plum"]),
        ("end with", "g", ["fig"]),
        ("is", "fig", ["fig"]),
        ("is not", "fig", ["pear", "", "plum"]),
        ("in", "a fig and a pear", ["pear", "fig", ""]),
        ("not in", "a fig and a pear", ["plum"]),
        ("empty", "", [""]),
        ("not empty", None, ["pear", "fig", "plum"]),
        (None, "f", ["fig"]),
    ],
)
async def test_texts(wanted: Any, value: Any, left: list[str]):
    assert await filtered(["pear", "fig", "", "plum"], (wanted, value)) == left


@pytest.mark.parametrize(
    ("wanted", "value", "left"),
    [
        ("=", "2", [2]),
        ("=", 2, [2]),
        ("≠", "2", [1, 3.5]),
        ("<", "{{#n.two#}}", [1]),
        ("≤", "2.0", [1, 2]),
        (">", "2", [3.5]),
        ("≥", "2", [2, 3.5]),
    ],
)
async def test_numbers(wanted: str, value: Any, left: list[float]):
    assert await filtered([1, 2, 3.5], (wanted, value)) == left


async def test_large_numbers_are_compared_exactly():
    assert await filtered([2**53, 2**53 + 1], ("=", str(2**53 + 1))) == [2**53 + 1]


async def test_booleans():
    assert await filtered([True, False, True], ("is", True)) == [True, True]
    assert await filtered([True, False, True], ("is not", True)) == [False]


@pytest.mark.parametrize(
    ("wanted", "value", "key", "left"),
    [
        ("in", ["image", "document"], "type", [A_PNG, B_PDF]),
        ("not in", ["image"], "type", [B_PDF, C_BARE]),
        ("in", ["local_file"], "transfer_method", [B_PDF]),
        ("in", "image or video", "type", [A_PNG]),
        ("contains", "b", "name", [B_PDF]),
        ("empty", "", "name", [C_BARE]),
        ("is", ".png", "extension", [A_PNG]),
        ("start with", "image/", "mime_type", [A_PNG]),
        ("start with", "https://", "url", [A_PNG]),
        ("not empty", "", "related_id", [B_PDF]),
        (">", "20", "size", [A_PNG]),
        ("<", "{{#n.two#}}1", "size", [B_PDF, C_BARE]),
    ],
)
async def test_files(wanted: str, value: Any, key: str, left: list[File]):
    assert await filtered(FILES, (wanted, value, key)) == left


async def test_all_conditions_must_hold():
    assert await filtered(["pear", "fig", "plum"], ("contains", "p"), ("end with", "r")) == ["pear"]
    assert await filtered(["pear"], ("is", "fig"), ("is", "plum")) == []
    assert await filtered(["pear"]) == ["pear"]


# ------------------------------------------------------------------------------------------- order, limit, extraction


@pytest.mark.parametrize(
    ("value", "config", "left"),
    [
        (["b", "a", "C"], ordered("asc"), ["C", "a", "b"]),
        ([2, 10, 1.5], ordered("desc"), [10, 2, 1.5]),
        ([True, False], ordered("asc"), [False, True]),
        (FILES, ordered("desc", "size"), [A_PNG, B_PDF, C_BARE]),
        (FILES, ordered("asc", "name"), [C_BARE, A_PNG, B_PDF]),
        (FILES, ordered("asc", "type"), [C_BARE, B_PDF, A_PNG]),
        (["b", "a"], {"order_by": {"enabled": True, "key": None, "value": None}}, ["a", "b"]),
        (["a", "b", "c"], {"limit": {"enabled": True, "size": 2}}, ["a", "b"]),
        (["a"], {"limit": {"enabled": True, "size": 9}}, ["a"]),
        (["a"], {"limit": {"enabled": True, "size": 0}}, []),
        (["a", "b", "c"], picked("1"), ["a"]),
        (["a", "b", "c"], picked(3), ["c"]),
        (["a", "b", "c"], picked("{{#n.two#}}"), ["b"]),
        (["b", "a"], picked("1") | ordered("asc"), ["b"]),  # what is picked is picked before it is sorted
    ],
)
async def test_order_limit_and_extraction(value: Value, config: dict[str, Any], left: list[Value]):
    result = await operate(value, **config)
    assert result.outputs["result"] == left
    assert (result.outputs["first_record"], result.outputs["last_record"]) == (
        (left[0], left[-1]) if left else (None, None)
    )


async def test_the_list_that_was_given_stays_as_it_is():
    items = ["b", "a"]
    await operate(items, **ordered("asc"))
    assert items == ["b", "a"]


# --------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("value", "config", "kind", "text"),
    [
        (["a"], {"variable": ["n", "x"]}, "ListOperatorError", "Variable not found for selector: ['n', 'x']"),
        (["a"], {"variable": []}, "ListOperatorError", "Variable not found for selector: []"),
        ("text", {}, "ListOperatorError", "Variable ['n', 'list'] is not an array type, actual type: string"),
        ([{}], {}, "ListOperatorError", "is not an array type, actual type: array[object]"),
        ([1, "a"], {}, "ListOperatorError", "is not an array type, actual type: array[any]"),
        (["a"], picked("0"), "ValueError", "Invalid serial index: must be >= 1, got 0"),
        (["a"], picked("2"), "InvalidKeyError", "Invalid serial index: must be <= 1, got 2"),
        (["a"], picked("{{#n.empty#}}"), "ValueError", "invalid literal for int() with base 10: ''"),
        (["a"], picked("9" * 5000), "ValueError", "Exceeds the limit"),
        ([A_PNG], ordered("asc", "colour"), "InvalidKeyError", "Invalid order key: colour"),
        ([A_PNG], ordered("asc"), "InvalidKeyError", "Invalid order key: "),
    ],
)
async def test_what_cannot_be_done(value: Value, config: dict[str, Any], kind: str, text: str):
    error = await failure(value, **config)
    assert error.kind == kind
    assert text in str(error)


@pytest.mark.parametrize(
    ("value", "condition", "kind", "text"),
    [
        (["a"], ("≥", "1"), "InvalidConditionError", "Invalid condition: ≥"),
        (["a"], ("is", ["a"]), "InvalidFilterValueError", "Invalid filter value: ['a']"),
        (["a"], ("is", True), "InvalidFilterValueError", "Invalid filter value: True"),
        ([1], ("=", "one"), "ValueError", "could not convert string to float: 'one'"),
        ([1], ("=", ""), "ValueError", "could not convert string to float: ''"),
        ([1], ("contains", "1"), "InvalidConditionError", "Invalid condition: contains"),
        ([1], ("=", ["1"]), "InvalidFilterValueError", "Invalid filter value: ['1']"),
        ([True], ("is", "true"), "TypeError", "Boolean filter expects a boolean value, got <class 'str'>"),
        ([True], ("=", True), "InvalidConditionError", "Invalid condition: ="),
        ([A_PNG], ("is", "a"), "InvalidKeyError", "Invalid key: "),
        ([A_PNG], ("is", "a", "colour"), "InvalidKeyError", "Invalid key: colour"),
        ([A_PNG], ("in", ["a"], "name"), "InvalidKeyError", "Invalid key: name"),
        ([A_PNG], ("in", ["1"], "size"), "InvalidKeyError", "Invalid key: size"),
        ([A_PNG], ("is", "image", "type"), "InvalidConditionError", "Invalid condition: is"),
        ([A_PNG], ("is", True, "type"), "TypeError", "File filter expects a string value, got <class 'bool'>"),
        ([A_PNG], ("=", "big", "size"), "ValueError", "could not convert string to float: 'big'"),
    ],
)
async def test_conditions_that_cannot_be_decided(value: Value, condition: Any, kind: str, text: str):
    wanted, expected, *key = condition
    conditions_data = [{"comparison_operator": wanted, "value": expected, "key": key[0] if key else ""}]
    error = await failure(value, filter_by={"enabled": True, "conditions": conditions_data})
    assert (error.kind, str(error)) == (kind, text)
    assert (error.inputs, error.process, error.outputs) == ({"variable": value}, {"variable": value}, {})


@pytest.mark.parametrize(
    "config",
    [
        {"variable": "text"},
        {"order_by": {"enabled": True, "value": "sideways"}},
        {"limit": {"enabled": True, "size": "many"}},
        {"filter_by": {"enabled": True, "conditions": [{"value": {}}]}},
    ],
)
def test_shapes_that_are_none(config: dict[str, Any]):
    with pytest.raises(ValidationError):
        ListOperator.Config.model_validate({"variable": ["n", "list"]} | config)
