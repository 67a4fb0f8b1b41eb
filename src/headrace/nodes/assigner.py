"""assigner: changes conversation and loop variables. Their declared types decide which values they may have.

The first version of the node has one variable and three write modes; the second has a list of operations, each of which
sees the changes of those before it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from headrace import values
from headrace.content.python_json import load_json
from headrace.errors import NodeError
from headrace.node import SELECTOR, Config, Context, Node, OutputType, Read, Result, null_means_default, reads_in
from headrace.values import File, Selector, Value, is_number, kind

ERROR = "VariableOperatorNodeError"
UPDATED = "__updated_variables"
CONVERSATION = "conversation"
_FIXED = frozenset({"sys", "env"})
_CANNOT = "a variable of sys or env cannot be assigned: every run that reaches it fails"

Operation = Literal[
    "over-write", "clear", "append", "extend", "set", "+=", "-=", "*=", "/=", "remove-first", "remove-last"
]
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+=": operator.add,
    "-=": operator.sub,
    "*=": operator.mul,
    "/=": lambda old, value: old / value,
}
_ON_LISTS = frozenset({"append", "extend", "remove-first", "remove-last"})
_WITHOUT_VALUE = frozenset({"clear", "remove-first", "remove-last"})
_CONSTANT_ONLY = frozenset({"set", *_ARITHMETIC})
_NUMBERS = frozenset({"integer", "float", "number"})
_MOST_ITEMS = 100_000  # a list that is extended by itself doubles each time
_BLANK: Mapping[str, Value] = {"string": "", "secret": "", "integer": 0, "float": 0.0, "number": 0, "boolean": False}
_ITEMS: Mapping[str, tuple[type, ...]] = {
    "array[any]": (str, int, float, dict, File),
    "array[string]": (str,),
    "array[number]": (int, float),
    "array[object]": (dict,),
    "array[boolean]": (bool,),
    "array[file]": (File,),
}
_PLAIN: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "secret": (str,),
    "boolean": (bool,),
    "object": (dict,),
    "file": (File,),
}
_TYPES = frozenset({*_PLAIN, *_ITEMS, *_NUMBERS})


class Item(Config):
    variable_selector: Annotated[list[str], SELECTOR] = Field(min_length=2)
    input_type: Literal["variable", "constant"] = "variable"
    operation: Operation
    value: Any = None


class AssignerConfig(Config):
    title: str = ""
    desc: str | None = None
    version: str = "1"
    items: list[Item] = Field(default_factory=list[Item])
    assigned_variable_selector: list[str] = Field(default_factory=list[str])
    input_variable_selector: Annotated[list[str], SELECTOR] = Field(default_factory=list[str])
    write_mode: Literal["over-write", "append", "clear"] = "over-write"

    _null = null_means_default(
        "title", "version", "items", "assigned_variable_selector", "input_variable_selector", "write_mode"
    )


class Assigner(Node[AssignerConfig]):
    type = "assigner"
    instant: ClassVar[bool] = True
    notes: ClassVar[str] = "both versions, every operation"

    def reads(self) -> Iterable[Read]:
        yield from super().reads()
        for index, item in enumerate(self.config.items):
            yield from reads_in(item.value, ("items", index, "value"), selector=item.input_type == "variable")

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {}

    def assigns(self) -> Iterable[Selector]:
        config = self.config
        selectors = [item.variable_selector for item in config.items] or [config.assigned_variable_selector]
        return [(selector[0], selector[1]) for selector in selectors if len(selector) > 1]

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        config = self.config
        if self._first:
            if len(config.assigned_variable_selector) < 2:
                yield ("items",), "the node names no variable to assign: every run that reaches it fails"
            elif config.assigned_variable_selector[0] in _FIXED:
                yield ("assigned_variable_selector",), _CANNOT
            elif config.write_mode != "clear" and len(config.input_variable_selector) < 2:
                yield ("input_variable_selector",), "no value to assign is named: every run that reaches it fails"
            return
        if not config.items:
            yield ("items",), "the node names no variable to assign: it does nothing"
        for index, item in enumerate(config.items):
            if item.variable_selector[0] in _FIXED:
                yield ("items", index, "variable_selector"), _CANNOT
            elif item.input_type == "variable" and item.operation in _CONSTANT_ONLY:
                message = (
                    f"operation {item.operation} takes a constant, not a variable: every run that reaches it fails"
                )
                yield ("items", index, "operation"), message

    @property
    def _first(self) -> bool:
        """Whether it is of the node's first version."""
        return self.config.version == "1" and not self.config.items

    async def run(self, ctx: Context) -> Result:
        changes = _Changes(ctx)
        if self._first:
            inputs = self._first_version(changes)
            process: dict[str, Value] = {}
        else:
            inputs = self._inputs()
            for item in self.config.items:
                try:
                    _apply(item, changes)
                except NodeError as error:
                    raise NodeError(str(error), error.kind, inputs=inputs) from error
            process = {name: value for (_, name), value in changes.values.items()}
        return Result({}, inputs, process | {UPDATED: changes.trace()}, assigned=changes.by_scope())

    def _first_version(self, changes: _Changes) -> dict[str, Value]:
        target, mode = self.config.assigned_variable_selector, self.config.write_mode
        exists, old = changes.find(target)
        if not exists:
            raise NodeError("assigned variable not found", ERROR)
        type_ = changes.declared(target)
        what = _type(target, type_, old)
        if mode == "clear":
            value = _blank(what)
            changes.put(target, value)
            return {"value": value}
        exists, value = changes.find(self.config.input_variable_selector)
        if not exists:
            raise NodeError("input value not found", ERROR)
        if mode == "append" and not what.startswith("array"):
            raise NodeError("append mode requires an array variable", ERROR)
        if value is None and type_:
            return {"value": None}  # a missing value changes nothing
        if type_ and not _fits(mode, what, value, declared=True):
            raise _invalid(value)
        changes.put(target, _result(mode, what, old, value))
        return {"value": value}

    def _inputs(self) -> dict[str, Value]:
        return {
            "title": self.config.title,
            "desc": self.config.desc,
            "version": self.config.version,
            "error_strategy": None,
            "default_value": None,
            "retry_config": {"max_retries": 0, "retry_interval": 0, "retry_enabled": False},
            "items": [item.model_dump() for item in self.config.items],
        }


class _Changes:
    """Variables after the operations so far. They are only assigned if all operations succeed."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.values: dict[tuple[str, str], Value] = {}

    def find(self, selector: Sequence[str]) -> tuple[bool, Value]:
        key = (selector[0], selector[1]) if len(selector) > 1 else ("", "")
        if key in self.values:
            return values.lookup(self.values[key], selector[2:])
        return self._ctx.variables.find(selector)

    def put(self, selector: Sequence[str], value: Value) -> None:
        if selector[0] in _FIXED:
            raise NodeError(f"Variable {list(selector)} cannot be assigned", ERROR)
        self.values[selector[0], selector[1]] = value

    def declared(self, selector: Sequence[str]) -> str | None:
        """The variable's type in the file, if it declares a known one."""
        type_ = self._ctx.types.get(tuple(selector[:2]))
        return type_ if type_ in _TYPES else None

    def trace(self) -> list[Value]:
        return [
            {
                "name": name,
                "selector": [scope, name],
                "value_type": _type((scope, name), self.declared((scope, name)), value),
                "new_value": value,
            }
            for (scope, name), value in self.values.items()
        ]

    def by_scope(self) -> dict[str, dict[str, Value]]:
        scopes: dict[str, dict[str, Value]] = {}
        for (scope, name), value in self.values.items():
            scopes.setdefault(scope, {})[name] = value
        return scopes


def _apply(item: Item, changes: _Changes) -> None:
    target = item.variable_selector[:2]
    exists, old = changes.find(target)
    if not exists:
        raise _not_found(target)
    type_ = changes.declared(target)
    what = _type(target, type_, old)
    _check(item, what)
    value: Value = item.value
    if item.input_type == "variable" and item.operation not in _WITHOUT_VALUE and value is not None:
        selector = cast("list[str]", value) if isinstance(value, list) else [str(value)]
        exists, value = changes.find(selector)
        if not exists:
            raise _not_found(selector)
        if value is None:
            return  # a missing value changes nothing
    if item.operation == "set" and what == "object" and isinstance(value, str):
        try:
            value = load_json(value)
        except (ValueError, RecursionError):
            raise _invalid(value) from None
    if item.operation not in _WITHOUT_VALUE and not _fits(item.operation, what, value, declared=type_ is not None):
        raise _invalid(value)
    changes.put(target, _result(item.operation, what, old, value))


def _type(selector: Sequence[str], type_: str | None, value: Value) -> str:
    """A variable's type: the declared one, but integer or float for a number. A loop's variable that was initialized
    with a value of another type has that type."""
    actual = kind(value)
    if type_ is None or (type_ in _NUMBERS and actual in _NUMBERS):
        return actual
    listed = type_.startswith("array") and actual.startswith("array")
    return type_ if listed or actual == "none" or selector[0] == CONVERSATION else actual


def _check(item: Item, what: str) -> None:
    """Raises NodeError if the operation does not support the variable's type or the value's source."""
    operation = item.operation
    listed = what.startswith("array")
    is_supported = (
        what in _NUMBERS
        if operation in _ARITHMETIC
        else listed
        if operation in _ON_LISTS
        else not listed and what != "file"
        if operation == "set"
        else True
    )
    if not is_supported:
        raise NodeError(f"Operation {operation} is not supported for type {what}", ERROR)
    if operation in _WITHOUT_VALUE:
        return
    if (item.input_type == "variable" and operation in _CONSTANT_ONLY) or (item.input_type == "constant" and listed):
        raise NodeError(f"Input type {item.input_type} is not supported for operation {operation}", ERROR)


def _fits(operation: str, what: str, value: Value, *, declared: bool) -> bool:
    if what in _NUMBERS:
        return is_number(value) and not (operation == "/=" and value == 0)
    if what == "none":
        return True  # without a value so far, it has no type
    if what in _PLAIN:
        return isinstance(value, _PLAIN[what])
    items = _ITEMS.get(what, _ITEMS["array[any]"])
    if operation == "append":
        return _is(value, items)
    if not isinstance(value, list):
        return False
    if operation == "over-write" and (what == "array[any]" or not declared):
        items = (object,)
    return all(_is(item, items) for item in cast("list[Value]", value))


def _is(value: Value, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (not isinstance(value, float) or is_number(value))


def _result(operation: str, what: str, old: Value, value: Value) -> Value:
    value = _without_booleans(what, value)
    # a conversation may still have a value of another type from an earlier version of the app
    if (what.startswith("array") and kind(old)[:5] != "array") or (what in _NUMBERS and kind(old) not in _NUMBERS):
        old = _blank(what)
    match operation:
        case "clear":
            return _blank(what)
        case "append":
            return [*old, value]
        case "extend":
            if len(old) + len(value) > _MOST_ITEMS:
                raise NodeError(f"A list of more than {_MOST_ITEMS} items is not kept in a variable.", ERROR)
            return [*old, *value]
        case "remove-first":
            return old[1:]
        case "remove-last":
            return old[:-1]
        case "over-write" | "set":
            return value
        case _:
            try:
                number = _ARITHMETIC[operation](old, value)
                if math.isfinite(number):  # raises OverflowError for an integer beyond the range of JSON's numbers
                    return number
            except (OverflowError, ArithmeticError):
                pass
            raise _invalid(value)


def _without_booleans(what: str, value: Value) -> Value:
    """The value with booleans as numbers if the type is of numbers, as in Dify."""
    if what == "array[number]" and isinstance(value, list):
        return [_without_booleans("number", item) for item in cast("list[Value]", value)]
    number = what in _NUMBERS or what == "array[number]"
    return int(value) if number and isinstance(value, bool) else value


def _blank(what: str) -> Value:
    return [] if what.startswith("array") else {} if what == "object" else _BLANK.get(what)


def _not_found(selector: Sequence[str]) -> NodeError:
    return NodeError(f"Variable {list(selector)} not found", ERROR)


def _invalid(value: Value) -> NodeError:
    return NodeError(f"Invalid input value {str(value)[:200]}", ERROR)
