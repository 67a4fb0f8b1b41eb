"""Conditions as Dify's editor writes them, evaluated as Dify 1.12 evaluates them.

A condition compares the value of a selector with an expected value: text (a template), a list of texts, or a boolean.
ValueError explains why two values cannot be compared (text with `>`, a variable that does not exist).
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from headrace.frozen import frozen
from headrace.kernel.variables import Variables
from headrace.values import File, Selector, Value, kind

Expected = str | bool | Sequence[str] | Sequence[bool] | None


@frozen
class SubCondition:
    """A condition on one part (type, size, name, url, extension, mime_type, transfer_method) of each file of a list."""

    key: str
    operator: str
    expected: Expected = None


@frozen
class Condition:
    """`parts` (with `parts_all`: all of them must hold, else any) apply to lists of files."""

    selector: Selector
    operator: str
    expected: Expected = None
    parts: Sequence[SubCondition] | None = None
    parts_all: bool = True


class Verdict(NamedTuple):
    """The result of a group of conditions.

    `compared` has the values that were compared; `results` the result of each condition that was evaluated: evaluation
    ends with the first condition that decides the group.
    """

    holds: bool
    results: Sequence[bool]
    compared: Sequence[Mapping[str, Value]]


def decide(conditions: Sequence[Condition], variables: Variables, *, every: bool) -> Verdict:
    """Evaluates a group: `every` condition must hold, or any. ValueError if values cannot be compared."""
    results: list[bool] = []
    compared: list[Mapping[str, Value]] = []
    for condition in conditions:
        exists, actual = variables.find(condition.selector)
        if not exists:
            raise ValueError(f"Variable {list(condition.selector)} not found")
        if kind(actual) == "array[file]" and condition.operator in _ON_PARTS:
            if condition.parts is None:
                raise ValueError("Sub variable is required")
            result = _parts(cast("list[File]", actual), condition.parts, every=condition.parts_all)
        elif condition.operator in _EXISTENCE:
            result = holds(condition.operator, actual, None)
        else:
            expected = _expected(condition.expected, actual, variables)
            compared.append(
                {"actual_value": actual, "expected_value": expected, "comparison_operator": condition.operator}
            )
            result = holds(condition.operator, actual, expected)
        results.append(result)
        if result != every:
            return Verdict(result, results, compared)
    return Verdict(all(results) if every else any(results), results, compared)


def holds(operator: str, actual: Value, expected: Value) -> bool:
    """Whether one comparison holds. ValueError if the operator is unknown or cannot compare these values."""
    compare = _OPERATORS.get(operator)
    if compare is None:
        raise ValueError(f"Unsupported operator: {operator}")
    return compare(actual, expected)


def _expected(expected: Expected, actual: Value, variables: Variables) -> Value:
    """The expected value with its template rendered, and as a boolean where it is compared with one."""
    operand = variables.render(expected) if isinstance(expected, str) else expected
    if operand is None or kind(actual) not in {"boolean", "array[boolean]"}:
        return list(operand) if isinstance(operand, tuple) else operand
    if isinstance(operand, str | bool):
        return _boolean(operand)
    return [_boolean(item) for item in operand]


def _boolean(value: str | bool) -> bool:
    try:
        content: object = json.loads(value) if isinstance(value, str) else value
    except RecursionError:
        content = None
    if isinstance(content, int):
        return bool(content)
    raise ValueError(f"{value!r} is not a boolean")


def _parts(files: Sequence[File], conditions: Sequence[SubCondition], *, every: bool) -> bool:
    results: list[bool] = []
    for condition in conditions:
        expected, actuals = condition.expected, [file.attribute(condition.key) for file in files]
        if condition.key == "extension":
            if not isinstance(expected, str):
                raise ValueError("Expected value must be a string when key is extension")
            expected = _dotted(expected)
            actuals = [_dotted(actual) if isinstance(actual, str) else actual for actual in actuals]
        matches = [holds(condition.operator, actual, expected) for actual in actuals]
        results.append(all(matches) if "not" in condition.operator else any(matches))
    return all(results) if every else any(results)


def _dotted(extension: str) -> str:
    return f".{extension}" if extension and not extension.startswith(".") else extension


# ---------------------------------------------------------------------------------------------------- the operators


def _contains(actual: Value, expected: Value) -> bool:
    if not actual:
        return False
    match actual:
        case str():
            return str(expected) in actual
        case list():
            return expected in cast("list[Value]", actual)
        case _:
            raise ValueError("Invalid actual value type: string or array")


def _text(test: Callable[[str, str], bool]) -> Callable[[Value, Value], bool]:
    def compare(actual: Value, expected: Value) -> bool:
        if not actual:
            return False
        if not isinstance(actual, str):
            raise ValueError("Invalid actual value type: string")
        if not isinstance(expected, str):
            raise ValueError("Expected value must be a string")
        return test(actual, expected)

    return compare


def _same(actual: Value, expected: Value) -> bool:
    if not isinstance(actual, str | bool):
        raise ValueError("Invalid actual value type: string or boolean")
    return actual == expected


def _equal(actual: Value, expected: Value) -> bool:
    """Whether two numbers are equal, in whatever form the expected one is written; blank text equals no number. (Dify
    parses the text as the type of the actual value, and fails on "5.0" if that is an integer.)"""
    if not isinstance(actual, int | float):
        raise ValueError("Invalid actual value type: number or boolean")
    if not isinstance(expected, str | int | float):
        raise ValueError(f"Cannot convert {type(expected).__name__} to {type(actual).__name__}")
    if isinstance(actual, bool):
        return actual == bool(expected)
    blank = isinstance(expected, str) and not expected.strip()
    return not blank and actual == number(expected)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Value, Value], bool]:
    def compare(actual: Value, expected: Value) -> bool:
        if actual is None:
            return False
        if not isinstance(actual, int | float):
            raise ValueError("Invalid actual value type: number")
        return test(actual, number(expected))

    return compare


def number(value: Value) -> int | float:
    """An expected value as a number of any size. ValueError if it is neither a number nor the text of one."""
    match value:
        case int() | float():
            return value
        case str():
            for parse in (int, float):
                try:
                    return parse(value)
                except ValueError:
                    pass
            raise ValueError(f"Cannot convert '{value}' to number")
        case _:
            raise ValueError(f"Cannot convert {type(value).__name__} to number")


def _in(actual: Value, expected: Value) -> bool:
    if not actual:
        return False
    if not isinstance(expected, list):
        raise ValueError("Invalid expected value type: array")
    return actual in cast("list[Value]", expected)


def _all_of(actual: Value, expected: Value) -> bool:
    if not isinstance(expected, list):
        raise ValueError("all of operator expects a list of strings or booleans")
    required = cast("list[Value]", expected)
    match actual:
        case str():
            return bool(actual) and all(isinstance(item, str) and item in actual for item in required)
        case list():
            items = cast("list[Value]", actual)
            return bool(items) and all(item in items for item in required)
        case _:
            return False


def _unless_none(compare: Callable[[Value, Value], bool]) -> Callable[[Value, Value], bool]:
    return lambda actual, expected: actual is not None and compare(actual, expected)


def _negated(compare: Callable[[Value, Value], bool]) -> Callable[[Value, Value], bool]:
    return lambda actual, expected: not compare(actual, expected)


_OPERATORS: Mapping[str, Callable[[Value, Value], bool]] = {
    "contains": _contains,
    "not contains": _negated(_contains),
    "start with": _text(str.startswith),
    "end with": _text(str.endswith),
    "is": _unless_none(_same),
    "is not": _unless_none(_negated(_same)),
    "empty": lambda actual, _: not actual,
    "not empty": lambda actual, _: bool(actual),
    "in": _in,
    "not in": _negated(_in),
    "all of": _all_of,
    "=": _unless_none(_equal),
    "≠": _unless_none(_negated(_equal)),
    ">": _ordered(operator.gt),
    "<": _ordered(operator.lt),
    "≥": _ordered(operator.ge),
    "≤": _ordered(operator.le),
    "null": lambda actual, _: actual is None,
    "not null": lambda actual, _: actual is not None,
    "exists": lambda actual, _: actual is not None,
    "not exists": lambda actual, _: actual is None,
}
OPERATORS = tuple(_OPERATORS)
_ON_PARTS = frozenset({"contains", "not contains", "all of"})
_EXISTENCE = frozenset({"exists", "not exists"})
