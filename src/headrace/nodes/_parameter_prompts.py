"""Parameter extraction: the schema, the prompts, and the validation of the answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import field_validator

from headrace.node import Config, null_means_default
from headrace.ports.services import Message, ToolCall
from headrace.values import Value, kind

TOOL = "extract_parameters"
_RESERVED = frozenset({"__reason", "__is_success", "__usage"})
_OLD_TYPES = {"bool": "boolean", "select": "string"}

Type = Literal["string", "number", "boolean", "array[string]", "array[number]", "array[object]", "array[boolean]"]


class Parameter(Config):
    """A value to be extracted. `options` are the texts allowed, if not all are."""

    name: str
    type: Type
    options: Sequence[str] | None = None
    description: str = ""
    required: bool = False

    _null = null_means_default("description", "required")

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if not name:
            raise ValueError("Parameter name is required")
        if name in _RESERVED:
            raise ValueError(f"Invalid parameter name, {name} is reserved")
        return name

    @field_validator("type", mode="before")
    @classmethod
    def _new_type(cls, value: Any) -> Any:
        return _OLD_TYPES.get(value, value) if isinstance(value, str) else value

    @property
    def item(self) -> str | None:
        """The type of an array's items; None for other types."""
        return self.type[len("array[") : -1] if self.type.startswith("array[") else None


def schema_of(parameters: Sequence[Parameter]) -> dict[str, Value]:
    """The JSON schema of an object with these parameters."""
    return {
        "type": "object",
        "properties": {parameter.name: _property(parameter) for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.required],
    }


def _property(parameter: Parameter) -> dict[str, Value]:
    schema: dict[str, Value] = {"description": parameter.description, "type": parameter.type}
    if parameter.item is not None:
        schema |= {"type": "array", "items": {"type": parameter.item}}
    return schema | {"enum": list(parameter.options)} if parameter.options else schema


# --------------------------------------------------------------------------------------------------------- prompts

_TOOL_TASK = f"""\
You find pieces of information in a text and hand them over by calling the function `{TOOL}`.

### Task
Always call `{TOOL}`, once, with arguments that follow its schema. Take the values from the text as it stands; where \
several fit a list, give all of them. Do not answer in prose and do not use XML tags.
"""
_JSON_TASK = """\
You find pieces of information in a text and answer with them as one valid JSON object that follows the given JSON \
schema. Take the values from the text as it stands; where several fit a list, give all of them. Answer with nothing \
but the JSON object: no explanation and no XML tags.
"""
_EXAMPLES: Sequence[tuple[str, Mapping[str, Value], Mapping[str, Value]]] = (
    (
        "Please book me a table in Lyon for four.",
        {
            "type": "object",
            "properties": {
                "city": {"description": "Where the table is wanted", "type": "string"},
                "guests": {"description": "How many people come", "type": "number"},
            },
            "required": ["city", "guests"],
        },
        {"city": "Lyon", "guests": 4},
    ),
    (
        "We are out of milk and bread again.",
        {
            "type": "object",
            "properties": {
                "goods": {"description": "What is to be bought", "type": "array", "items": {"type": "string"}}
            },
            "required": ["goods"],
        },
        {"goods": ["milk", "bread"]},
    ),
)


def tool_prompt(query: str, schema: Mapping[str, Value], instruction: str, histories: str) -> list[Message]:
    """The prompt for a call of the tool, with examples."""
    messages = [Message("system", _TOOL_TASK + _additions(instruction, histories))]
    for number, (text, example_schema, values) in enumerate(_EXAMPLES, 1):
        call = ToolCall(f"call_example_{number}", TOOL, json.dumps(values))
        messages += [
            Message("user", _question(text, example_schema)),
            Message("assistant", f"I call `{TOOL}` with what the text says.", tool_calls=(call,)),
            Message("tool", "The arguments are right.", tool_call=call.id),
            Message("assistant", "The parameters are handed over."),
        ]
    return [*messages, Message("user", _question(query, schema))]


def json_prompt(
    query: str, schema: Mapping[str, Value], instruction: str, histories: str, *, completion: bool
) -> list[Message]:
    """The prompt for a JSON object; `completion`: for a model that continues a text."""
    task = _JSON_TASK + _additions(instruction, histories)
    if completion:
        parts = [task, "### Examples"]
        parts += [f"{_question(text, schema)}\nAnswer: {json.dumps(values)}" for text, schema, values in _EXAMPLES]
        return [Message("user", "\n".join([*parts, "### Now", f"{_question(query, schema)}\nAnswer: "]))]
    messages = [Message("system", task)]
    for text, wanted, values in _EXAMPLES:
        messages += [Message("user", _question(text, wanted)), Message("assistant", json.dumps(values))]
    return [*messages, Message("user", _question(query, schema))]


def _question(text: str, schema: Mapping[str, Value]) -> str:
    structure = json.dumps(schema, ensure_ascii=False)
    return f"<structure>\n{structure}\n</structure>\n\n<text>\n{text}\n</text>"


def _additions(instruction: str, histories: str) -> str:
    text = f"\n### Instructions\n<instructions>\n{instruction}\n</instructions>\n" if instruction else ""
    return text + (f"\n### Conversation so far\n<histories>\n{histories}\n</histories>\n" if histories else "")


# --------------------------------------------------------------------------------------------------------- answers


def defaults(parameters: Sequence[Parameter]) -> dict[str, Value]:
    """The values if there was no answer; without those of arrays, as in Dify."""
    return {parameter.name: _default(parameter) for parameter in parameters if parameter.item is None}


def mismatch(parameters: Sequence[Parameter], values: Mapping[str, Value]) -> str | None:
    """Why the values of an answer are not valid, worded as in Dify; None if they are. An optional parameter may be
    missing or null (in Dify all must be present)."""
    names = {parameter.name for parameter in parameters}
    optional = {parameter.name for parameter in parameters if not parameter.required}
    left_out = {name for name in optional if values.get(name) is None} if values.keys() <= names else set[str]()
    if len(values.keys() | left_out) != len(parameters):
        return "Invalid number of parameters"
    for parameter in parameters:
        name = parameter.name
        if name in left_out:
            continue
        if parameter.required and name not in values:
            return f"Parameter {name} is required"
        value = values.get(name)
        if not _is_valid(parameter, value):
            return (
                f"Invalid value for parameter {name}, expected segment type: {parameter.type}, "
                f"actual_type: {kind(value)}, python_type: {type(value)}, value: {value}"
            )
        if parameter.type == "string" and parameter.options and value not in parameter.options:
            return f"Invalid `select` value for parameter {name}"
    return None


def _is_valid(parameter: Parameter, value: Value) -> bool:
    if parameter.item is None:
        return _is_of_type(parameter.type, value)
    return isinstance(value, list) and all(_is_of_type(parameter.item, item) for item in cast("list[Value]", value))


def _is_of_type(kind: str, value: Value) -> bool:
    return isinstance(value, _TYPES[kind]) and not (isinstance(value, float) and not math.isfinite(value))


# Models may write NaN and infinity (1e999), which are of no type.
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),  # true and false among them, as in Dify
    "boolean": (bool,),
    "object": (dict,),
}


def converted(parameter: Parameter, value: Value) -> Value:
    """The value as the parameter's type; if it cannot be converted, the default, and nothing among an array's items."""
    if parameter.item is None:
        is_flag = parameter.type == "boolean" and isinstance(value, int)
        scalar = bool(value) if is_flag else _converted(parameter.type, value)
        return _default(parameter) if scalar is None else scalar
    items = cast("list[Value]", value) if isinstance(value, list) else []
    return [scalar for item in items if (scalar := _converted(parameter.item, item)) is not None]


def _converted(kind: str, value: Value) -> Value:
    return _number(value) if kind == "number" else value if isinstance(value, _TYPES[kind]) else None


def _number(value: Value) -> int | float | None:
    match value:
        case bool() | int():
            number = int(value)
        case float():
            number = value
        case str():
            try:
                number = float(value) if "." in value else int(value)
            except ValueError:
                return None
        case _:
            return None
    return number if _is_of_type("number", number) else None


def _default(parameter: Parameter) -> Value:
    return {"string": "", "number": 0, "boolean": False}.get(parameter.type, [])
