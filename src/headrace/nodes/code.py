"""code: runs a program of the workflow's author, and validates its outputs against their declared types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Literal, NoReturn, cast

from pydantic import Field, field_validator

from headrace.errors import NodeError
from headrace.kernel.variables import Variables
from headrace.node import Config, Context, Node, OutputType, Result, SelectorField
from headrace.ports.services import Limits, Resources
from headrace.values import Value, is_number, to_json

MAX_PRECISION = 20  # digits after the point; Dify's
_SCIENTIFIC = re.compile(r"-?\d+\.?\d*[eE][+-]\d+", re.ASCII)

DeclaredType = Literal[
    "string", "number", "boolean", "object", "array[string]", "array[number]", "array[object]", "array[boolean]"
]


class Input(Config):
    """An argument of the program."""

    variable: str
    value_selector: SelectorField = ()

    @field_validator("value_selector", mode="before")
    @classmethod
    def _chosen(cls, value: object) -> object:
        return value or ()  # not set in the editor yet


class Output(Config):
    """The declared type of an output; `children` is for objects, and for the objects of an array."""

    type: DeclaredType
    children: dict[str, Output] | None = None


class CodeConfig(Config):
    variables: tuple[Input, ...] = ()
    code_language: Literal["python3", "javascript"] = "python3"
    code: str
    outputs: dict[str, Output] = Field(default_factory=dict[str, Output])


class Code(Node[CodeConfig]):
    """Calls the program's `main` in the sandbox; the result must have exactly the declared outputs.

    Fails with CodeExecutionError (the program), OutputValidationError, DepthLimitError or CodeNodeError (its result).
    """

    type = "code"
    partial: ClassVar[bool] = True
    notes: ClassVar[str] = (
        "Python, and JavaScript in Node.js (partly without it); packages and HTTP hosts that the operator lists "
        "(`HEADRACE_CODE_PACKAGES`, `HEADRACE_CODE_EGRESS`), or in a dify-sandbox; Linux only"
    )

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        message = resources.sandbox.missing(self.config.code_language, self.config.code)
        return (message,) if message else ()

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {name: OutputType(output.type) for name, output in self.config.outputs.items()}

    async def run(self, ctx: Context) -> Result:
        config = self.config
        inputs = {field.variable: _argument(ctx.variables, field.value_selector) for field in config.variables}
        try:
            result = await ctx.resources.sandbox.run(
                config.code_language, config.code, inputs, ctx.limits.code_seconds, ctx.app
            )
            return Result(OutputValidator(ctx.limits).result(result, config.outputs), inputs)
        except NodeError as error:
            raise NodeError(
                str(error), error.kind, inputs=inputs, process=error.process, outputs=error.outputs
            ) from None


def _argument(variables: Variables, selector: tuple[str, ...]) -> Value:
    """A value as the program gets it: files as objects, and None instead of an empty `sys.files`, as in Dify."""
    value = variables.get(selector)
    return None if value == [] and selector == ("sys", "files") else to_json(value)


class OutputValidator:
    """Validates a program's result against the declared outputs and the limits of a run. NodeError if it is invalid."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def result(
        self, values: Mapping[str, Any], outputs_to_check: Mapping[str, Output] | None, prefix: str = "", depth: int = 1
    ) -> Mapping[str, Any]:
        """The object with its declared types; `outputs_to_check` is None if any types are allowed."""
        if depth > self._limits.code_max_depth:
            raise NodeError(f"Depth limit {self._limits.code_max_depth} reached, object too deep.", "DepthLimitError")
        if outputs_to_check is None:
            for name, value in values.items():
                self._untyped(value, _path(prefix, name), depth)
            return values
        outputs: dict[str, Any] = {}
        for name, output in outputs_to_check.items():
            path = _path(prefix, name)
            if name not in values:
                _invalid(f"Output {path} is missing.")
            outputs[name] = self._typed(values[name], output, path, depth)
        if len(outputs) != len(values):
            raise NodeError("Not all output parameters are validated.", "CodeNodeError")
        return outputs

    # ------------------------------------------------------------------------------------------------ declared

    def _typed(self, value: Any, output: Output, path: str, depth: int) -> Any:
        if value is None:
            return None
        match output.type:
            case "string":
                if not isinstance(value, str):
                    _invalid(f"Output {path} must be a string, got {type(value).__name__} instead.")
                return self._string(value, path)
            case "number":
                if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
                    value = float(value)  # some programs return very small and large numbers as text
                if not isinstance(value, int | float):
                    _invalid(f"Output {path} is not a number, got {type(value)} instead.")
                return _unbool(self._number(value, path))
            case "boolean":
                return value  # of any type, as in Dify
            case "object":
                if not isinstance(value, dict):
                    _invalid(f"Output {path} is not an object, got {type(value)} instead.")
                return self.result(cast("dict[str, Any]", value), output.children, path, depth + 1)
            case _:
                if not isinstance(value, list):
                    _invalid(f"Output {path} is not an array, got {type(value)} instead.")
                return self._array(cast("list[Any]", value), output, path, depth)

    def _array(self, items: list[Any], output: Output, path: str, depth: int) -> list[Any]:
        limits = self._limits
        most = {
            "array[string]": limits.code_max_string_array,
            "array[number]": limits.code_max_number_array,
            "array[object]": limits.code_max_object_array,
        }.get(output.type)
        if most is not None and len(items) > most:
            _invalid(f"The length of output variable `{path}` must be less than {most} elements.")
        return [self._item(item, output, path, index, depth) for index, item in enumerate(items)]

    def _item(self, item: Any, output: Output, path: str, index: int, depth: int) -> Any:
        at = f"{path}[{index}]"
        match output.type:
            case "array[number]":
                if not isinstance(item, int | float):
                    _invalid(f"The element at index {index} of output variable `{path}` must be a number.")
                return _unbool(item if is_number(item) else self._number(item, at))
            case _ if item is None:
                return None
            case "array[string]":
                if not isinstance(item, str):
                    _invalid(f"Output {at} must be a string, got {type(item).__name__} instead.")
                return self._string(item, at)
            case "array[boolean]":
                if not isinstance(item, bool):
                    _invalid(f"Output {at} is not a boolean, got {type(item)} instead.")
                return item
            case _:
                if not isinstance(item, dict):
                    _invalid(f"Output {at} is not an object, got {type(item)} instead at index {index}.")
                return self.result(cast("dict[str, Any]", item), output.children, at, depth + 1)

    # ------------------------------------------------------------------------------------------- not declared

    def _untyped(self, value: Any, path: str, depth: int) -> None:
        match value:
            case dict():
                self.result(cast("dict[str, Any]", value), None, path, depth + 1)
            case str():
                self._string(value, path)
            case bool() | None:
                pass
            case int() | float():
                self._number(value, path)
            case list():
                self._untyped_array(cast("list[Any]", value), path, depth)
            case _:
                _invalid(f"Output {path} is not a valid type.")

    def _untyped_array(self, items: list[Any], path: str, depth: int) -> None:
        first = items[0] if items else None
        if first is None:
            return
        kinds: list[tuple[type, ...]] = [(int, float), (str,), (dict,), (list,)]
        same = next(
            (kind for kind in kinds if isinstance(first, kind) and all(_is(item, kind) for item in items)), None
        )
        if same is None:
            _invalid(f"Output {path} is not a valid array. make sure all elements are of the same type.")
        for index, item in enumerate(items):
            at = f"{path}[{index}]"
            match item:
                case str():
                    self._string(item, at)
                case int() | float():
                    self._number(item, at)
                case dict():
                    self.result(cast("dict[str, Any]", item), None, at, depth + 1)
                case list():
                    self._nested(cast("list[Any]", item), at, depth + 1)
                case _:
                    pass

    def _nested(self, items: list[Any], path: str, depth: int) -> None:
        """A list in a list; it may be nested as deep as an object."""
        if depth > self._limits.code_max_depth:
            raise NodeError(f"Depth limit {self._limits.code_max_depth} reached, object too deep.", "DepthLimitError")
        self._untyped_array(items, path, depth)

    # ------------------------------------------------------------------------------------------------- scalars

    def _string(self, value: str, path: str) -> str:
        most = self._limits.code_max_string
        if len(value) > most:
            _invalid(f"The length of output variable `{path}` must be less than {most} characters")
        return value.replace("\x00", "")

    def _number(self, value: float, path: str) -> float:
        low, high = self._limits.code_min_number, self._limits.code_max_number
        if not low <= value <= high:
            _invalid(f"Output variable `{path}` is out of range, it must be between {low} and {high}.")
        if isinstance(value, float):
            exponent = Decimal(str(value)).normalize().as_tuple().exponent
            if isinstance(exponent, int) and -exponent > MAX_PRECISION:
                _invalid(
                    f"Output variable `{path}` has too high precision, it must be less than {MAX_PRECISION} digits."
                )
        return value


def _path(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _is(item: Any, kind: tuple[type, ...]) -> bool:
    return item is None or isinstance(item, kind)


def _unbool(value: float) -> float:
    return int(value) if isinstance(value, bool) else value


def _invalid(message: str) -> NoReturn:
    raise NodeError(message, "OutputValidationError")
