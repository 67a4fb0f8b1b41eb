"""Extracting parameters: their schema, the prompts that ask for them, and what is made of the answer."""

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
    """A value to be found. `options` are the only texts allowed."""

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
        """The type of an array's items; None where it is no array."""
        return self.type[len("array[") : -1] if self.type.startswith("array[") else None


def schema_of(parameters: Sequence[Parameter]) -> dict[str, Value]:
    """The JSON schema of an object with these parameters."""
    return {
        "type": "object",
        "properties": {each.name: _property(each) for each in parameters},
        "required": [each.name for each in parameters if each.required],
    }


def _property(parameter: Parameter) -> dict[str, Value]:
    made: dict[str, Value] = {"description": parameter.description, "type": parameter.type}
    if parameter.item is not None:
        made |= {"type": "array", "items": {"type": parameter.item}}
    return made | {"enum": list(parameter.options)} if parameter.options else made


# --------------------------------------------------------------------------------------------------------- prompts

_BY_TOOL = f"""\
You find pieces of information in a text and hand them over by calling the function `{TOOL}`.

### Task
Always call `{TOOL}`, once, with arguments that follow its schema. Take the values from the text as it stands; where \
several fit a list, give all of them. Do not answer in prose and do not use XML tags.
"""
_BY_PROMPT = """\
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


def asked_by_tool(query: str, schema: Mapping[str, Value], instruction: str, histories: str) -> list[Message]:
    """The prompt that makes a model call the tool, with examples of it doing so."""
    messages = [Message("system", _BY_TOOL + _besides(instruction, histories))]
    for number, (text, wanted, found) in enumerate(_EXAMPLES, 1):
        call = ToolCall(f"call_example_{number}", TOOL, json.dumps(found))
        messages += [
            Message("user", _question(text, wanted)),
            Message("assistant", f"I call `{TOOL}` with what the text says.", tool_calls=(call,)),
            Message("tool", "The arguments are right.", tool_call=call.id),
            Message("assistant", "The parameters are handed over."),
        ]
    return [*messages, Message("user", _question(query, schema))]


def asked_by_prompt(
    query: str, schema: Mapping[str, Value], instruction: str, histories: str, *, completes: bool
) -> list[Message]:
    """The prompt that makes a model write a JSON object; `completes`: the model goes on with a text."""
    task = _BY_PROMPT + _besides(instruction, histories)
    if completes:
        parts = [task, "### Examples"]
        parts += [f"{_question(text, wanted)}\nAnswer: {json.dumps(found)}" for text, wanted, found in _EXAMPLES]
        return [Message("user", "\n".join([*parts, "### Now", f"{_question(query, schema)}\nAnswer: "]))]
    messages = [Message("system", task)]
    for text, wanted, found in _EXAMPLES:
        messages += [Message("user", _question(text, wanted)), Message("assistant", json.dumps(found))]
    return [*messages, Message("user", _question(query, schema))]


def _question(text: str, schema: Mapping[str, Value]) -> str:
    structure = json.dumps(schema, ensure_ascii=False)
    return f"<structure>\n{structure}\n</structure>\n\n<text>\n{text}\n</text>"


def _besides(instruction: str, histories: str) -> str:
    told = f"\n### Instructions\n<instructions>\n{instruction}\n</instructions>\n" if instruction else ""
    return told + (f"\n### Conversation so far\n<histories>\n{histories}\n</histories>\n" if histories else "")


# --------------------------------------------------------------------------------------------------------- answers


def empty(parameters: Sequence[Parameter]) -> dict[str, Value]:
    """What stands for an answer that there was not; lists are not among it."""
    return {each.name: _nothing(each) for each in parameters if each.item is None}


def checked(parameters: Sequence[Parameter], found: Mapping[str, Value]) -> str | None:
    """Why an answer is not what was asked for, worded as in Dify; None where it is. An optional parameter may be left
    out, or be null (in Dify all have to be there)."""
    known = {each.name for each in parameters}
    optional = {each.name for each in parameters if not each.required}
    left_out = {name for name in optional if found.get(name) is None} if found.keys() <= known else set[str]()
    if len(found.keys() | left_out) != len(parameters):
        return "Invalid number of parameters"
    for each in parameters:
        if each.name in left_out:
            continue
        if each.required and each.name not in found:
            return f"Parameter {each.name} is required"
        value = found.get(each.name)
        if not _is(each, value):
            return (
                f"Invalid value for parameter {each.name}, expected segment type: {each.type}, "
                f"actual_type: {kind(value)}, python_type: {type(value)}, value: {value}"
            )
        if each.type == "string" and each.options and value not in each.options:
            return f"Invalid `select` value for parameter {each.name}"
    return None


def _is(parameter: Parameter, value: Value) -> bool:
    if parameter.item is None:
        return _is_of(parameter.type, value)
    return isinstance(value, list) and all(_is_of(parameter.item, item) for item in cast("list[Value]", value))


def _is_of(kind: str, value: Value) -> bool:
    return isinstance(value, _TYPES[kind]) and not (isinstance(value, float) and not math.isfinite(value))


# JSON as models write it may have numbers that are none (NaN, 1e999): they are of no type.
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),  # true and false among them, as in Dify
    "boolean": (bool,),
    "object": (dict,),
}


def fitted(parameter: Parameter, value: Value) -> Value:
    """The value as the parameter's type has it; what cannot be made to fit is left out, or is the type's nothing."""
    if parameter.item is None:
        made = bool(value) if parameter.type == "boolean" and isinstance(value, int) else _fitted(parameter.type, value)
        return _nothing(parameter) if made is None else made
    items = cast("list[Value]", value) if isinstance(value, list) else []
    return [made for item in items if (made := _fitted(parameter.item, item)) is not None]


def _fitted(kind: str, value: Value) -> Value:
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
    return number if _is_of("number", number) else None


def _nothing(parameter: Parameter) -> Value:
    return {"string": "", "number": 0, "boolean": False}.get(parameter.type, [])
