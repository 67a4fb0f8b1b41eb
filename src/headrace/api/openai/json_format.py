"""Answers in JSON: a workflow's outputs are an object, which can be what a client's `response_format` describes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from headrace.api.http.errors import BadParameter
from headrace.node import Flow
from headrace.values import Value

if TYPE_CHECKING:
    from jsonschema import ValidationError

_UNSUPPORTED = frozenset({"pattern", "patternProperties", "$dynamicRef"})
"""Keywords that are refused: a client's regular expression could occupy the server for hours."""
_MOST_REFERENCES = 10_000  # followed in one check


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The JSON that a client wants. `param` is the parameter that says so; without a `schema` any object will do."""

    param: str
    schema: Mapping[str, Value] | None = None

    @classmethod
    def of(cls, value: Value, param: str) -> JsonFormat | None:
        """`{type, json_schema: {schema}}` of chat completions, or `{type, schema}` of responses. None for text;
        BadParameter for anything that is not valid."""
        if value is None:
            return None
        fields = cast("dict[str, Value]", value) if isinstance(value, dict) else {}
        kind = fields.get("type")
        if kind == "text":
            return None
        if kind == "json_object":
            return cls(param)
        if kind != "json_schema":
            raise BadParameter(f"'{param}' must be of type text, json_object or json_schema.", param)
        described = fields.get("json_schema", fields)
        schema = cast("dict[str, Value]", described).get("schema") if isinstance(described, dict) else None
        if not isinstance(schema, dict):
            raise BadParameter(f"'{param}' must have a schema, which is an object.", param)
        _check(cast("dict[str, Value]", schema), param)
        return cls(param, cast("dict[str, Value]", schema))

    def check_app(self, flow: Flow) -> None:
        """BadParameter where the outputs of an app cannot be what the client wants."""
        if flow.mode != "workflow":
            message = f"'{self.param}' needs a workflow, whose outputs are JSON; a {flow.mode} app answers with text."
            raise BadParameter(message, self.param, "unsupported_parameter")
        ends = (node for node in flow.nodes.values() if node.traits.response)
        names = {name for node in ends for name in node.outputs_schema() or ()}
        for name in cast("list[str]", (self.schema or {}).get("required") or []):
            if name not in names:
                message = f"The schema requires '{name}', which is not an output of this workflow."
                raise BadParameter(message, self.param, "unsupported_parameter")

    def mismatch(self, text: str) -> BadParameter | None:
        """The error of outputs that the schema does not allow."""
        reason = None if self.schema is None else _mismatch(self.schema, json.loads(text))
        if reason is None:
            return None
        return BadParameter(f"The outputs of the run do not match the schema: {reason}", self.param, "schema_mismatch")


def _check(schema: dict[str, Value], param: str) -> None:
    from jsonschema import Draft202012Validator, SchemaError  # imported here because it takes 60 ms

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise BadParameter(f"The schema is not valid: {error.message}", param) from None
    for keyword in _keywords(schema):
        raise BadParameter(f"A schema with '{keyword}' is not supported.", param, "unsupported_parameter")


def _keywords(schema: Value) -> Iterator[str]:
    """The unsupported keywords of a schema. A property may have the name of one; its value is a schema, not a text."""
    if isinstance(schema, list):
        for item in cast("list[Value]", schema):
            yield from _keywords(item)
    elif isinstance(schema, dict):
        for name, value in cast("dict[str, Value]", schema).items():
            if name in _UNSUPPORTED and (isinstance(value, str) or name == "patternProperties"):
                yield name
            yield from _keywords(value)


def _mismatch(schema: Mapping[str, Value], outputs: Value) -> str | None:
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    left = _MOST_REFERENCES

    def follow(validator: Any, reference: Any, instance: Any, parent: Any) -> Iterator[ValidationError]:
        nonlocal left
        left -= 1
        if left < 0:
            raise RecursionError
        yield from Draft202012Validator.VALIDATORS["$ref"](validator, reference, instance, parent)

    extended = validators.extend(Draft202012Validator, {"$ref": follow})  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    # an empty registry, because the default one would fetch the target of a `$ref` from the network
    validator = cast("type[Draft202012Validator]", extended)(schema, registry=Registry())
    errors = cast("Iterator[ValidationError]", validator.iter_errors(outputs))  # pyright: ignore[reportUnknownMemberType]
    try:
        return next((f"{error.json_path}: {error.message[:500]}" for error in errors), None)
    except Unresolvable as error:
        return f"it refers to '{error.ref}', which is not in it"
    except RecursionError:
        return "it refers to itself without end, or too often"
