"""Answers in JSON: a workflow's outputs are an object, which can be what a client's `response_format` describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

from headrace.api.http.errors import BadParameter
from headrace.content.json_schema import JsonSchema
from headrace.frozen import frozen
from headrace.node import Flow
from headrace.values import Value

_UNSUPPORTED = frozenset({"pattern", "patternProperties", "$dynamicRef"})
"""Keywords that are refused: a client's regular expression could occupy the server for hours."""


@frozen
class JsonFormat:
    """The JSON that a client wants. `param` is the parameter that says so; without a `schema` any object will do."""

    param: str
    schema: JsonSchema | None = None

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
        description = fields.get("json_schema", fields)
        schema = cast("dict[str, Value]", description).get("schema") if isinstance(description, dict) else None
        if not isinstance(schema, dict):
            raise BadParameter(f"'{param}' must have a schema, which is an object.", param)
        try:
            validator = JsonSchema(cast("dict[str, Value]", schema), "2020-12")
        except ValueError as error:
            raise BadParameter(f"The schema is not valid: {error}", param) from None
        for keyword in _keywords(schema):
            raise BadParameter(f"A schema with '{keyword}' is not supported.", param, "unsupported_parameter")
        return cls(param, validator)

    def check_app(self, flow: Flow) -> None:
        """BadParameter where the outputs of an app cannot be what the client wants."""
        if flow.mode != "workflow":
            message = f"'{self.param}' needs a workflow, whose outputs are JSON; a {flow.mode} app answers with text."
            raise BadParameter(message, self.param, "unsupported_parameter")
        ends = (node for node in flow.nodes.values() if node.traits.response)
        names = {name for node in ends for name in node.outputs_schema() or ()}
        for name in cast("list[str]", self.schema.schema.get("required") or []) if self.schema else ():
            if name not in names:
                message = f"The schema requires '{name}', which is not an output of this workflow."
                raise BadParameter(message, self.param, "unsupported_parameter")

    def mismatch(self, text: str) -> BadParameter | None:
        """The error of outputs that the schema does not allow."""
        mismatch = self.schema.mismatch(json.loads(text)) if self.schema else None
        if mismatch is None:
            return None
        reason = f"{mismatch.path}: {mismatch.message[:500]}" if mismatch.path else mismatch.message
        return BadParameter(f"The outputs of the run do not match the schema: {reason}", self.param, "schema_mismatch")


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
