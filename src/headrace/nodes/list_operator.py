"""list-operator: filters a list of strings, numbers, booleans or files, then extracts an item, sorts, and limits."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from pydantic import Field, field_validator

from headrace.errors import NodeError
from headrace.kernel.conditions import number
from headrace.node import Config, Context, Node, OutputType, Result, SelectorField, null_means_default
from headrace.values import File, Value, kind

ERROR = "ListOperatorError"
_KEY = "InvalidKeyError"
_LISTS = frozenset({"array[string]", "array[number]", "array[boolean]", "array[file]"})

Test = Callable[[Any], bool]


class FilterCondition(Config):
    """`key` is an attribute of a file. `value` is a template; for a file's type and transfer method a list of allowed
    values; for booleans a boolean."""

    key: str = ""
    comparison_operator: str = "contains"
    value: str | Sequence[str] | bool = ""

    _null = null_means_default("key", "comparison_operator", "value")

    @field_validator("value", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class FilterBy(Config):
    """All conditions must hold."""

    enabled: bool = False
    conditions: Sequence[FilterCondition] = ()

    _null = null_means_default("enabled", "conditions")


class OrderBy(Config):
    enabled: bool = False
    key: str = ""
    value: Literal["asc", "desc"] = "asc"

    _null = null_means_default("enabled", "key", "value")


class Limit(Config):
    enabled: bool = False
    size: int = -1

    _null = null_means_default("enabled", "size")


class ExtractBy(Config):
    """Extracts one item; `serial` counts from 1 and may be a template."""

    enabled: bool = False
    serial: str = "1"

    _null = null_means_default("enabled", "serial")

    @field_validator("serial", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value


class ListOperatorConfig(Config):
    variable: SelectorField = ()
    filter_by: FilterBy = Field(default_factory=FilterBy)
    order_by: OrderBy = Field(default_factory=OrderBy)
    limit: Limit = Field(default_factory=Limit)
    extract_by: ExtractBy = Field(default_factory=ExtractBy)

    _null = null_means_default("variable", "filter_by", "order_by", "limit", "extract_by")


class ListOperator(Node[ListOperatorConfig]):
    """Outputs `result`, `first_record` and `last_record` (null if it is empty)."""

    type = "list-operator"
    instant: ClassVar[bool] = True

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {
            "result": OutputType("array[any]"),
            "first_record": OutputType(nullable=True),
            "last_record": OutputType(nullable=True),
        }

    async def run(self, ctx: Context) -> Result:
        selector = self.config.variable
        exists, value = ctx.variables.find(selector)
        if not exists:
            raise NodeError(f"Variable not found for selector: {list(selector)}", ERROR)
        if not value:
            return _result([], {"variable": []})
        what = kind(value)
        if what not in _LISTS:
            raise NodeError(f"Variable {list(selector)} is not an array type, actual type: {what}", ERROR)
        variables_in_log: dict[str, Value] = {"variable": value}
        try:
            return _result(self._apply(ctx, cast("list[Value]", value), what), variables_in_log)
        except NodeError as error:
            raise NodeError(str(error), error.kind, inputs=variables_in_log, process=variables_in_log) from None
        except (ValueError, TypeError) as error:  # values that cannot be compared, or a text that is not a number
            raise NodeError(
                str(error), type(error).__name__, inputs=variables_in_log, process=variables_in_log
            ) from error

    def _apply(self, ctx: Context, items: list[Value], what: str) -> list[Value]:
        config = self.config
        if config.filter_by.enabled:
            for condition in config.filter_by.conditions:
                test = _test(ctx, condition, what)
                items = [item for item in items if test(item)]
        if config.extract_by.enabled:
            items = [_extract(items, int(ctx.variables.render(config.extract_by.serial)))]
        if config.order_by.enabled:
            key = _order_key(config.order_by.key) if what == "array[file]" else None
            items = sorted(items, key=key, reverse=config.order_by.value == "desc")
        return items[: config.limit.size] if config.limit.enabled else items


def _result(items: list[Value], variables_in_log: Mapping[str, Value]) -> Result:
    first, last = (items[0], items[-1]) if items else (None, None)
    return Result({"result": items, "first_record": first, "last_record": last}, variables_in_log, variables_in_log)


def _extract(items: Sequence[Value], serial: int) -> Value:
    if serial < 1:
        raise NodeError(f"Invalid serial index: must be >= 1, got {serial}", "ValueError")
    if serial > len(items):
        raise NodeError(f"Invalid serial index: must be <= {len(items)}, got {serial}", _KEY)
    return items[serial - 1]


# ------------------------------------------------------------------------------------------------------ conditions


def _test(ctx: Context, condition: FilterCondition, what: str) -> Test:
    """The test by which a condition keeps items of a list of type `what`."""
    value, operator = condition.value, condition.comparison_operator
    if isinstance(value, str):
        value = ctx.variables.render(value)
    match what:
        case "array[boolean]":
            if not isinstance(value, bool):
                raise NodeError(f"Boolean filter expects a boolean value, got {type(value)}", "TypeError")
            return _compared(_BOOLEANS, operator, value)
        case "array[file]":
            if isinstance(value, bool):
                raise NodeError(f"File filter expects a string value, got {type(value)}", "TypeError")
            return _file_test(condition.key, operator, value)
        case _ if not isinstance(value, str):
            value_in_log = value if isinstance(value, bool) else list(value)
            raise NodeError(f"Invalid filter value: {value_in_log}", "InvalidFilterValueError")
        case "array[number]":
            return _compared(_NUMBERS, operator, _number(value))
        case _:
            return _compared(_TEXTS, operator, value)


def _file_test(key: str, operator: str, value: str | Sequence[str]) -> Test:
    if key in _CHOSEN:
        test = _compared(_CHOICES, operator, value)
    elif key == "size" and isinstance(value, str):
        test = _compared(_NUMBERS, operator, _number(value))
    elif key in _PARTS and key != "size" and isinstance(value, str):
        test = _compared(_TEXTS, operator, value)
    else:
        raise NodeError(f"Invalid key: {key}", _KEY)
    part = _PARTS[key]
    return lambda file: test(part(file))


def _number(text: str) -> int | float:
    """A number to compare with, exactly. The ValueError is worded as Dify's."""
    try:
        return number(text)
    except ValueError:
        raise ValueError(f"could not convert string to float: {text!r}") from None


def _compared(tests: Mapping[str, Callable[[Any, Any], bool]], operator: str, value: Any) -> Test:
    compare = tests.get(operator)
    if compare is None:
        raise NodeError(f"Invalid condition: {operator}", "InvalidConditionError")
    return lambda item: compare(item, value)


_CHOICES: Mapping[str, Callable[[Any, Any], bool]] = {
    "in": lambda item, value: item in value,
    "not in": lambda item, value: item not in value,
}
_TEXTS: Mapping[str, Callable[[Any, Any], bool]] = {
    **_CHOICES,  # for strings: whether the item is a substring of the value
    "contains": lambda item, value: value in item,
    "not contains": lambda item, value: value not in item,
    "start with": str.startswith,
    "end with": str.endswith,
    "is": operator.eq,
    "is not": operator.ne,
    "empty": lambda item, _: not item,
    "not empty": lambda item, _: bool(item),
}
_NUMBERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "≠": operator.ne,
    "<": operator.lt,
    "≤": operator.le,
    ">": operator.gt,
    "≥": operator.ge,
}
_BOOLEANS: Mapping[str, Callable[[Any, Any], bool]] = {"is": operator.eq, "is not": operator.ne}


# ---------------------------------------------------------------------------------------------- attributes of files

_CHOSEN = frozenset({"type", "transfer_method"})
_PARTS: Mapping[str, Callable[[File], Any]] = {
    "name": lambda file: file.filename or "",
    "type": lambda file: file.type,
    "extension": lambda file: file.extension or "",
    "mime_type": lambda file: file.mime_type or "",
    "transfer_method": lambda file: file.transfer_method,
    "url": lambda file: file.remote_url or "",
    "related_id": lambda file: file.related_id or "",
    "size": lambda file: file.size,
}


def _order_key(key: str) -> Callable[[File], Any]:
    part = _PARTS.get(key)
    if part is None:
        raise NodeError(f"Invalid order key: {key}", _KEY)
    return part
