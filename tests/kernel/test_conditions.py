"""Every comparison operator of Dify's, on every kind of value it takes."""

from __future__ import annotations

import pytest

from headrace.kernel.conditions import OPERATORS, Condition, Expected, SubCondition, decide, holds
from headrace.kernel.variables import Variables
from headrace.values import File, Value

PDF = File("document", "local_file", "a.PDF", ".pdf", "application/pdf", 10, related_id="1", url="http://h/a")
PNG = File("image", "remote_url", "b.png", "png", "image/png", 20, remote_url="http://h/b")

TRUE: list[tuple[Value, str, Value]] = [
    ("hello", "contains", "ell"),
    ("1", "contains", 1),
    (["a", "b"], "contains", "a"),
    ("hello", "not contains", "x"),
    ("", "not contains", "x"),
    (None, "not contains", "x"),
    ([], "not contains", "x"),
    ("hello", "start with", "he"),
    ("hello", "end with", "lo"),
    ("漢字", "end with", "字"),
    ("a", "is", "a"),
    (True, "is", True),
    ("a", "is not", "b"),
    (False, "is not", True),
    ("", "empty", None),
    ([], "empty", None),
    (None, "empty", None),
    ({}, "empty", None),
    (0, "empty", None),
    ("x", "not empty", None),
    (PDF, "not empty", None),
    ("a", "in", ["a", "b"]),
    ("c", "not in", ["a", "b"]),
    ("", "not in", ["a"]),
    (["a", "b", "c"], "all of", ["a", "c"]),
    ([True, False], "all of", [True]),
    (5, "=", "5"),
    (5.0, "=", "5"),
    (5, "=", 5.0),
    (True, "=", True),
    (5, "=", "5.0"),
    (5, "=", " 5 "),
    (5, "=", "5e0"),
    (0.1, "=", "0.1"),
    (-0.0, "=", "0"),
    (2**63 + 1, "=", str(2**63 + 1)),
    (True, "=", 1),
    (5, "≠", "6"),
    (5, "≠", "5.5"),
    (5, "≠", ""),
    (0, "≠", " "),
    (2**53, "≠", str(2**53 + 1)),
    (2**53 + 1, ">", str(2**53)),
    (10**400, ">", "1e300"),
    (5, "<", "5.5"),
    (5, "≥", "4.5"),
    (True, ">", False),
    (11, ">", "10"),
    (10.5, ">", "10"),
    (9, "<", "10.5"),
    (10, "≥", "10"),
    (10, "≤", "10.0"),
    (-1, "<", "0"),
    (None, "null", None),
    ("", "not null", None),
    (PDF, "exists", None),
    (None, "not exists", None),
]
FALSE: list[tuple[Value, str, Value]] = [
    ("", "contains", "x"),
    (None, "contains", "x"),
    ("hello", "not contains", "ell"),
    (None, "start with", "x"),
    ("hello", "start with", "lo"),
    (None, "is", "a"),
    (None, "is not", "a"),
    ("x", "empty", None),
    ("", "not empty", None),
    ("", "in", ["", "a"]),
    ("a", "not in", ["a"]),
    (["a"], "all of", ["a", "b"]),
    (None, "all of", ["a"]),
    (None, "=", "5"),
    (None, "≠", "5"),
    (5, "=", "5.5"),
    (5, "=", ""),
    (0, "=", ""),
    (2**53, "=", str(2**53 + 1)),
    (2**53 + 1, "≤", str(2**53)),
    (0, "=", "nan"),
    (False, "=", True),
    (None, ">", "5"),
    (5, ">", "5"),
    ("x", "null", None),
    (None, "exists", None),
    (PDF, "not exists", None),
]
IMPOSSIBLE: list[tuple[Value, str, Value, str]] = [
    (5, "contains", "5", "Invalid actual value type: string or array"),
    (5, "start with", "5", "Invalid actual value type: string"),
    ("a", "start with", ["a"], "Expected value must be a string"),
    (5, "is", "5", "Invalid actual value type: string or boolean"),
    ("a", "in", "abc", "Invalid expected value type: array"),
    ("a", "all of", "abc", "all of operator expects a list of strings or booleans"),
    ("5", "=", "5", "Invalid actual value type: number or boolean"),
    (5, "=", None, "Cannot convert NoneType to int"),
    (5, "=", "five", "Cannot convert 'five' to number"),
    (5, "≠", "five", "Cannot convert 'five' to number"),
    (5, "=", ["5"], "Cannot convert list to int"),
    (5, ">", "", "Cannot convert '' to number"),
    ("5", ">", "4", "Invalid actual value type: number"),
    (5, ">", "many", "Cannot convert 'many' to number"),
    (5, ">", None, "Cannot convert NoneType to number"),
    ("a", "resembles", "a", "Unsupported operator: resembles"),
]


@pytest.mark.parametrize(("actual", "operator", "expected"), TRUE)
def test_what_holds(actual: Value, operator: str, expected: Value):
    assert holds(operator, actual, expected)


@pytest.mark.parametrize(("actual", "operator", "expected"), FALSE)
def test_what_does_not_hold(actual: Value, operator: str, expected: Value):
    assert not holds(operator, actual, expected)


@pytest.mark.parametrize(("actual", "operator", "expected", "message"), IMPOSSIBLE)
def test_what_cannot_be_compared(actual: Value, operator: str, expected: Value, message: str):
    with pytest.raises(ValueError, match=message):
        holds(operator, actual, expected)


def test_every_operator_is_tried_here():
    assert {operator for _, operator, _ in TRUE} == set(OPERATORS)
    assert {operator for _, operator, _ in FALSE} == set(OPERATORS) - {"end with", "<", "≥", "not null"}


def verdict(*conditions: Condition, every: bool = True, **scope: Value) -> tuple[bool, list[bool]]:
    decision = decide(conditions, Variables({"n": scope}), every=every)
    return decision.holds, list(decision.results)


def on(name: str, operator: str, expected: Expected = None) -> Condition:
    return Condition(("n", name), operator, expected)


def test_a_group_stops_at_the_condition_that_settles_it():
    first, second, third = on("a", "=", "1"), on("a", "=", "2"), on("a", "=", "3")
    assert verdict(first, second, third, a=1) == (False, [True, False])
    assert verdict(second, first, third, every=False, a=1) == (True, [False, True])
    assert verdict(a=1) == (True, [])
    assert verdict(every=False, a=1) == (False, [])


def test_the_expected_value_is_a_template():
    assert verdict(on("a", "is", "{{#n.b#}}!"), a="x!", b="x")[0]


@pytest.mark.parametrize(("written", "wanted"), [("true", True), ("1", True), ("false", False), (True, True)])
def test_a_boolean_is_compared_with_a_boolean_however_it_is_written(written: Expected, wanted: bool):
    assert verdict(on("flag", "is", written), flag=wanted)[0]
    assert verdict(on("flags", "contains", written), flags=[wanted])[0]


def test_what_is_not_a_boolean_is_reported():
    with pytest.raises(ValueError, match="is not a boolean"):
        verdict(on("flag", "is", '"x"'), flag=True)


def test_a_variable_that_does_not_exist_is_told():
    with pytest.raises(ValueError, match=r"Variable \['n', 'nope'\] not found"):
        verdict(on("nope", "empty"))


def test_what_was_compared_is_reported():
    decision = decide([on("a", ">", "1"), on("f", "exists")], Variables({"n": {"a": 2, "f": PDF}}), every=True)
    assert decision.compared == [{"actual_value": 2, "expected_value": "1", "comparison_operator": ">"}]


@pytest.mark.parametrize(
    ("operator", "parts", "every", "wanted"),
    [
        ("contains", [SubCondition("type", "in", ["image"])], True, True),
        ("contains", [SubCondition("type", "in", ["video"])], True, False),
        ("contains", [SubCondition("extension", "is", "pdf")], True, True),
        ("contains", [SubCondition("extension", "is", ".png")], True, True),
        ("contains", [SubCondition("size", ">", "15"), SubCondition("name", "contains", "a")], True, True),
        ("contains", [SubCondition("size", ">", "99"), SubCondition("name", "is", "b.png")], False, True),
        ("not contains", [SubCondition("type", "not in", ["audio"])], True, True),
        ("not contains", [SubCondition("type", "not in", ["image"])], True, False),
        ("all of", [SubCondition("transfer_method", "is", "remote_url")], True, True),
        ("all of", [SubCondition("mime_type", "start with", "image/")], True, True),
        ("contains", [SubCondition("url", "contains", "http")], True, True),
    ],
)
def test_conditions_on_the_parts_of_files(operator: str, parts: list[SubCondition], every: bool, wanted: bool):
    condition = Condition(("n", "files"), operator, None, parts, every)
    assert verdict(condition, files=[PDF, PNG])[0] is wanted


def test_a_list_of_files_needs_conditions_on_their_parts():
    with pytest.raises(ValueError, match="Sub variable is required"):
        verdict(on("files", "contains", "x"), files=[PDF])
    with pytest.raises(ValueError, match="must be a string when key is extension"):
        verdict(Condition(("n", "files"), "contains", None, [SubCondition("extension", "in", ["pdf"])]), files=[PDF])


def test_a_file_is_compared_by_its_parts():
    assert verdict(Condition(("n", "file", "extension"), "is", ".pdf"), file=PDF)[0]
    assert verdict(Condition(("n", "file", "name"), "end with", ".PDF"), file=PDF)[0]
