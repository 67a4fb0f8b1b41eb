"""assigner: changes conversation and loop variables. What goes into one is decided by the type that the file declares.

Facts: the first version of the node has one variable and three ways to write it; the second a list of operations, each
of which sees what those before it wrote.
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
_MOST_ITEMS = 100_000  # a list that is extended by itself doubles every time
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
        written = _Written(ctx)
        if self._first:
            inputs = self._first_version(written)
            process: dict[str, Value] = {}
        else:
            inputs = self._told()
            for item in self.config.items:
                try:
                    _apply(item, written)
                except NodeError as error:
                    raise NodeError(str(error), error.kind, inputs=inputs) from error
            process = {name: value for (_, name), value in written.values.items()}
        return Result({}, inputs, process | {UPDATED: written.told()}, assigned=written.assigned())

    def _first_version(self, written: _Written) -> dict[str, Value]:
        target, mode = self.config.assigned_variable_selector, self.config.write_mode
        found, old = written.find(target)
        if not found:
            raise NodeError("assigned variable not found", ERROR)
        declared = written.declared(target)
        what = _type(target, declared, old)
        if mode == "clear":
            value = _blank(what)
            written.put(target, value)
            return {"value": value}
        found, value = written.find(self.config.input_variable_selector)
        if not found:
            raise NodeError("input value not found", ERROR)
        if mode == "append" and not what.startswith("array"):
            raise NodeError("append mode requires an array variable", ERROR)
        if value is None and declared:
            return {"value": None}  # nothing is written over by nothing
        if declared and not _fits(mode, what, value, declared=True):
            raise _invalid(value)
        written.put(target, _made(mode, what, old, value))
        return {"value": value}

    def _told(self) -> dict[str, Value]:
        return {
            "title": self.config.title,
            "desc": self.config.desc,
            "version": self.config.version,
            "error_strategy": None,
            "default_value": None,
            "retry_config": {"max_retries": 0, "retry_interval": 0, "retry_enabled": False},
            "items": [item.model_dump() for item in self.config.items],
        }


class _Written:
    """Variables as they are after the operations so far: nothing is changed before all have gone well."""

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
        """The type that the file declares a variable to have."""
        declared = self._ctx.types.get(tuple(selector[:2]))
        return declared if declared in _TYPES else None

    def told(self) -> list[Value]:
        return [
            {
                "name": name,
                "selector": [scope, name],
                "value_type": _type((scope, name), self.declared((scope, name)), value),
                "new_value": value,
            }
            for (scope, name), value in self.values.items()
        ]

    def assigned(self) -> dict[str, dict[str, Value]]:
        scopes: dict[str, dict[str, Value]] = {}
        for (scope, name), value in self.values.items():
            scopes.setdefault(scope, {})[name] = value
        return scopes


def _apply(item: Item, written: _Written) -> None:
    target = item.variable_selector[:2]
    found, old = written.find(target)
    if not found:
        raise _not_found(target)
    declared = written.declared(target)
    what = _type(target, declared, old)
    _check(item, what)
    value: Value = item.value
    if item.input_type == "variable" and item.operation not in _WITHOUT_VALUE and value is not None:
        selector = cast("list[str]", value) if isinstance(value, list) else [str(value)]
        found, value = written.find(selector)
        if not found:
            raise _not_found(selector)
        if value is None:
            return  # nothing is written over by nothing
    if item.operation == "set" and what == "object" and isinstance(value, str):
        try:
            value = load_json(value)
        except (ValueError, RecursionError):
            raise _invalid(value) from None
    if item.operation not in _WITHOUT_VALUE and not _fits(item.operation, what, value, declared=declared is not None):
        raise _invalid(value)
    written.put(target, _made(item.operation, what, old, value))


def _type(selector: Sequence[str], declared: str | None, value: Value) -> str:
    """What a variable is of: what is declared, but a number is an integer or a float, as it stands. A loop's variable
    may have begun with another one of another type: then it is of that."""
    actual = kind(value)
    if declared is None or (declared in _NUMBERS and actual in _NUMBERS):
        return actual
    listed = declared.startswith("array") and actual.startswith("array")
    return declared if listed or actual == "none" or selector[0] == CONVERSATION else actual


def _check(item: Item, what: str) -> None:
    """Whether an operation goes with the variable's type and with where its value is from."""
    operation = item.operation
    listed = what.startswith("array")
    supported = (
        what in _NUMBERS
        if operation in _ARITHMETIC
        else listed
        if operation in _ON_LISTS
        else not listed and what != "file"
        if operation == "set"
        else True
    )
    if not supported:
        raise NodeError(f"Operation {operation} is not supported for type {what}", ERROR)
    if operation in _WITHOUT_VALUE:
        return
    if (item.input_type == "variable" and operation in _CONSTANT_ONLY) or (item.input_type == "constant" and listed):
        raise NodeError(f"Input type {item.input_type} is not supported for operation {operation}", ERROR)


def _fits(operation: str, what: str, value: Value, *, declared: bool) -> bool:
    if what in _NUMBERS:
        return is_number(value) and not (operation == "/=" and value == 0)
    if what == "none":
        return True  # it has had no value yet that could tell its type
    if what in _PLAIN:
        return isinstance(value, _PLAIN[what])
    items = _ITEMS.get(what, _ITEMS["array[any]"])
    if operation == "append":
        return _is(value, items)
    if not isinstance(value, list):
        return False
    if operation == "over-write" and (what == "array[any]" or not declared):
        items = (object,)
    return all(_is(each, items) for each in cast("list[Value]", value))


def _is(value: Value, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (not isinstance(value, float) or is_number(value))


def _made(operation: str, what: str, old: Value, value: Value) -> Value:
    value = _counted(what, value)
    # a conversation may still hold what an earlier version of the app had put there
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
                made = _ARITHMETIC[operation](old, value)
                if math.isfinite(made):  # OverflowError of an integer that is too large for any number of JSON
                    return made
            except (OverflowError, ArithmeticError):
                pass
            raise _invalid(value)


def _counted(what: str, value: Value) -> Value:
    """The value with truth values as the numbers that they are to Dify, where numbers are kept."""
    if what == "array[number]" and isinstance(value, list):
        return [_counted("number", each) for each in cast("list[Value]", value)]
    number = what in _NUMBERS or what == "array[number]"
    return int(value) if number and isinstance(value, bool) else value


def _blank(what: str) -> Value:
    return [] if what.startswith("array") else {} if what == "object" else _BLANK.get(what)


def _not_found(selector: Sequence[str]) -> NodeError:
    return NodeError(f"Variable {list(selector)} not found", ERROR)


def _invalid(value: Value) -> NodeError:
    return NodeError(f"Invalid input value {str(value)[:200]}", ERROR)
