"""Small values that are valid for a JSON schema: the demo model's structured answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.errors import NodeError
from headrace.values import Value

_DEEP = 8  # levels with all properties; below, only with required ones
_DEEPEST = 32
_MOST = 1000  # values in all, because a schema may refer to itself
_LONGEST = 10_000  # characters of a string

_FORMATS = {
    "date": "2025-01-01",
    "time": "12:00:00Z",
    "date-time": "2025-01-01T12:00:00Z",
    "email": "demo@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


def sample(schema: Mapping[str, Any]) -> Value:
    """A small valid value, always the same. NodeError if the schema is malformed."""
    try:
        return _Sampler(schema).make(schema, "answer", 0)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise NodeError(f"The JSON schema for the answer is malformed: {error}", "InvokeBadRequestError") from error


class _Sampler:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._count = 0

    def make(self, node: Any, name: str, depth: int) -> Value:
        """A value for a part of the schema; `name` is the property it is for."""
        self._count += 1
        if not isinstance(node, Mapping) or depth > _DEEPEST or self._count > _MOST:
            return None
        schema = _resolved(cast("Mapping[str, Any]", node), self._root)
        for keyword in ("const", "default"):
            if keyword in schema:
                return schema[keyword]
        for list_keyword in ("enum", "examples"):
            if choices := schema.get(list_keyword):
                return choices[0]
        for branch in ("anyOf", "oneOf"):
            if choices := schema.get(branch):
                rest = {key: value for key, value in schema.items() if key != branch}
                return self.make({**rest, **choices[0]}, name, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = cast("list[str]", kind)[0]
        match kind or ("object" if "properties" in schema else "array" if "items" in schema else "string"):
            case "object":
                return self._object(schema, depth)
            case "array":
                count = min(max(int(schema.get("minItems", 0)), 1 if depth < _DEEP else 0), _MOST)
                return [self.make(schema.get("items", {}), name, depth + 1) for _ in range(count)]
            case "string":
                return _text(schema, name)
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case _:
                return None

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Value]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required: Sequence[str] = schema.get("required") or ()
        whole = depth < _DEEP and self._count < _MOST // 2
        names = properties if whole else [name for name in properties if name in required]
        fields = {name: self.make(properties[name], name, depth + 1) for name in names}
        return fields | {name: f"demo {name}" for name in required if name not in fields}


def _text(schema: Mapping[str, Any], name: str) -> str:
    shortest = min(int(schema.get("minLength", 0)), _LONGEST)
    text = _FORMATS.get(schema.get("format", ""), f"demo {name}").ljust(shortest, ".")
    return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    step = 1 if whole else 0.5
    low = schema.get("minimum", schema.get("exclusiveMinimum", None))
    high = schema.get("maximum", schema.get("exclusiveMaximum", None))
    number: float = 1
    if low is not None:
        number = low + step if "exclusiveMinimum" in schema else low
    elif high is not None and high < number:
        number = high - step if "exclusiveMaximum" in schema else high
    if multiple := schema.get("multipleOf"):
        number = -(-number // multiple) * multiple
    return int(number) if whole else number


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with its `$ref` (within the document) and `allOf` resolved."""
    target_schema: Mapping[str, Any] = schema
    for _ in range(_DEEPEST):
        reference = target_schema.get("$ref")
        if not isinstance(reference, str):
            break
        target: Any = root
        for part in reference.lstrip("#/").split("/"):
            target = cast("Mapping[str, Any]", target).get(part) if isinstance(target, Mapping) else None
        target_schema = cast("Mapping[str, Any]", target) if isinstance(target, Mapping) else {}
    all_fields: dict[str, Any] = {key: value for key, value in target_schema.items() if key != "allOf"}
    for part in cast("Sequence[Mapping[str, Any]]", target_schema.get("allOf") or ()):
        inner = _resolved(part, root)
        properties = {**all_fields.get("properties", {}), **inner.get("properties", {})}
        required = [*all_fields.get("required", ()), *inner.get("required", ())]
        all_fields |= inner
        if properties:
            all_fields |= {"properties": properties, "required": required}
    return all_fields
