"""A workflow's inputs: the start node's form as a model, with nested models for objects that have a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.cli.generating.text import Choice, FieldSpec, Model, class_name_of, literal, name_of, union, words
from headrace.nodes.start import Input
from headrace.values import Value

FILE, INPUTS = "FileValue", "Inputs"
_DEEPEST, _MOST = 8, 100  # levels of a schema, and models in all; beyond that, the type is Any
_PLAIN: Mapping[Value, str] = {
    "string": "str",
    "integer": "int",
    "number": "int | float",
    "boolean": "bool",
    "null": "None",
    "object": "dict[str, Any]",
}
_COMPLEX = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if"})
"""Keywords that a type cannot express."""


class Form:
    """The models of a form, in order of definition: `choices`, then `models`."""

    def __init__(self, fields: Sequence[Input], reserved_names: frozenset[str]) -> None:
        self._class_names = set(reserved_names)
        self.choices: list[Choice] = []
        self.models: list[Model] = []
        by_name = {field.variable: field for field in fields}  # the last one of a name
        names = self._names(by_name)
        specs = [self._field(field, names[wire]) for wire, field in by_name.items()]
        self.required = any(spec.default is None for spec in specs)
        about = "The inputs of the workflow." if specs else "The workflow has no inputs."
        specs.sort(key=lambda spec: spec.default is not None)  # required fields first
        self.models.append(Model(INPUTS, about, "forbid", specs))

    def _names(self, wires: Mapping[str, Any]) -> dict[str, str]:
        names: dict[str, str] = {}
        for wire in wires:
            names[wire] = name_of(wire, names.values())
        self._class_names |= set(names.values())
        return names

    def _field(self, field: Input, name: str) -> FieldSpec:
        kind = self._kind(field)
        default = _default(field)
        if default is None and not field.required:
            kind, default = union([kind, "None"]), "None"
        limits: list[str] = []
        if field.max_length and field.max_length > 0 and field.type in ("text-input", "paragraph", "file-list"):
            limits.append(f"max_length={field.max_length}")
        label = getattr(field, "label", None)
        return FieldSpec(name, field.variable, kind, words(label) if isinstance(label, str) else "", default, limits)

    def _kind(self, field: Input) -> str:
        match field.type:
            case "text-input" | "paragraph":
                return "str"
            case "select":
                return self._choice(field.variable, list(dict.fromkeys(field.options))) if field.options else "str"
            case "number":
                return "int | float"
            case "checkbox":
                return "bool"
            case "file":
                return FILE
            case "file-list":
                return f"list[{FILE}]"
            case "json_object":
                type_ = self._schema(field.json_schema, field.variable) if field.json_schema else "Any"
                return type_ if type_ in {model.name for model in self.models} else "dict[str, Any]"
            case "external_data_tool":
                return "Any"

    def _choice(self, wire: str, values: Sequence[str | float]) -> str:
        name = class_name_of(wire, self._class_names)
        self._class_names.add(name)
        self.choices.append(Choice(name, values))
        return name

    def _schema(self, schema: Value, wire: str, depth: int = 0) -> str:
        """The type of a JSON schema; Any if no type can express it."""
        if not isinstance(schema, dict) or depth > _DEEPEST or _COMPLEX & schema.keys():
            return "Any"
        keywords = cast("dict[str, Value]", schema)
        if "enum" in keywords or "const" in keywords:
            values: list[Value] = keywords["enum"] if "enum" in keywords else [keywords["const"]]
            literals = [value for value in values if isinstance(value, str | int)]
            return self._choice(wire, literals) if literals and len(literals) == len(values) else "Any"
        kinds = keywords.get("type", "object" if "properties" in keywords else None)
        if isinstance(kinds, list):
            return union(self._typed(kind, keywords, wire, depth) for kind in cast("list[Value]", kinds)) or "Any"
        return self._typed(kinds, keywords, wire, depth)

    def _typed(self, kind: Value, schema: Mapping[str, Value], wire: str, depth: int) -> str:
        if kind == "array":
            item = self._schema(schema.get("items"), f"{wire}_item", depth + 1)
            return f"list[{item}]"
        properties = schema.get("properties")
        if kind == "object" and isinstance(properties, dict) and len(self.models) < _MOST:
            return self._model(cast("dict[str, Value]", properties), schema, wire, depth)
        return _PLAIN.get(kind, "Any") if isinstance(kind, str) else "Any"

    def _model(self, properties: Mapping[str, Value], schema: Mapping[str, Value], wire: str, depth: int) -> str:
        name = class_name_of(wire, self._class_names)
        self._class_names.add(name)
        names = self._names(properties)
        required: Sequence[Value] = cast("list[Value]", schema.get("required") or [])
        fields: list[FieldSpec] = []
        for key, property_ in properties.items():
            kind = self._schema(property_, key, depth + 1)
            default = None if key in required else "None"
            about = cast("dict[str, Value]", property_).get("description") if isinstance(property_, dict) else None
            kind = kind if default is None else union([kind, "None"])
            fields.append(FieldSpec(names[key], key, kind, words(about) if isinstance(about, str) else "", default))
        fields.sort(key=lambda spec: spec.default is not None)
        about = schema.get("description")
        extra = "forbid" if schema.get("additionalProperties") is False else "allow"
        self.models.append(Model(name, words(about) if isinstance(about, str) else f"{name}.", extra, fields))
        return name


def _default(field: Input) -> str | None:
    """The Python source of a field's default; None if the file has none that is valid. Those of objects and files are
    left to the server."""
    value = field.default
    match field.type:
        case "text-input" | "paragraph" if isinstance(value, str) and value:
            return literal(value)
        case "select" if isinstance(value, str) and value in field.options:
            return literal(value)
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return literal(value)
        case "number" if isinstance(value, str):
            try:
                return literal(float(value) if "." in value else int(value))
            except ValueError:
                return None
        case "checkbox" if isinstance(value, bool):
            return literal(value)
        case "checkbox" if isinstance(value, str) and value.lower() in ("true", "false"):
            return literal(value.lower() == "true")
        case _:
            return None
