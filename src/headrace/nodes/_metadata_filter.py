"""A filter of documents by their metadata, thought up by a model from a question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from headrace.errors import NodeError
from headrace.node import Context
from headrace.nodes._model_call import ModelConfig, complete, request_of
from headrace.nodes._structured import object_in
from headrace.ports.services import Message, Usage
from headrace.values import Value

_KEYS = ("metadata_field_name", "comparison_operator", "metadata_field_value")
_VALUELESS = frozenset({"empty", "not empty"})
_OPERATORS = (
    "contains", "not contains", "start with", "end with", "is", "is not", "in", "not in", "empty", "not empty", "=",
    "≠", ">", "<", "≥", "≤", "before", "after",
)  # fmt: skip
_TASK = f"""\
You read a question that is going to be put to a collection of documents, and say which documents can hold the answer, \
by their metadata.

### Task
`metadata_fields` lists the fields that documents have. Where `input_text` says what one of them must be, give a \
condition for it. Give none for a field that the text says nothing of, and never name a field that is not in the list.
`comparison_operator` is one of {json.dumps(_OPERATORS, ensure_ascii=False)}.

### Output
Nothing but one JSON object with `metadata_map`, a list of objects with `metadata_field_name`, `comparison_operator` \
and `metadata_field_value`. The list is empty where there is no condition.
"""
_EXAMPLES: Sequence[tuple[str, Sequence[str], Sequence[tuple[str, str, Value]]]] = (
    (
        "What did Osei write on tides after 2019?",
        ("author", "language", "year"),
        (("author", "contains", "Osei"), ("year", ">", 2019)),
    ),
    ("How do I descale a kettle?", ("author", "product line"), ()),
)


async def thought_up(
    ctx: Context, model: ModelConfig, fields: Sequence[str], query: str, kind: str
) -> tuple[list[dict[str, Value]], Usage]:
    """(conditions, what the model was paid): `{name, comparison_operator, value}` of some of these fields.

    An answer that makes no sense is no filter, as in Dify. NodeError where the model cannot be asked, or, with this
    kind, where its answer is longer than a text may be.
    """
    if not fields:
        return [], Usage()
    heard = await complete(ctx, request_of(ctx, model, _messages(model, fields, query)), kind=kind)
    try:
        told = (await object_in(heard.text)).get("metadata_map")
    except NodeError:
        told = None
    found = [_condition(each, fields) for each in _list(told)]
    return [each for each in found if each is not None], heard.usage


def _messages(model: ModelConfig, fields: Sequence[str], query: str) -> list[Message]:
    examples = [(_question(text, known), _answer(right)) for text, known, right in _EXAMPLES]
    question = _question(query, fields)
    if model.completes:
        parts = [_TASK, "### Examples", *(f"Input: {asked}\nOutput: {right}" for asked, right in examples)]
        return [Message("user", "\n".join([*parts, "### Now", f"Input: {question}\nOutput: "]))]
    messages = [Message("system", _TASK)]
    for asked, right in examples:
        messages += [Message("user", asked), Message("assistant", right)]
    return [*messages, Message("user", question)]


def _question(text: str, fields: Sequence[str]) -> str:
    return json.dumps({"input_text": text, "metadata_fields": fields}, ensure_ascii=False)


def _answer(conditions: Sequence[tuple[str, str, Value]]) -> str:
    told = [dict(zip(_KEYS, condition, strict=True)) for condition in conditions]
    return json.dumps({"metadata_map": told}, ensure_ascii=False)


def _condition(told: Value, fields: Sequence[str]) -> dict[str, Value] | None:
    """The condition that an item of an answer is; None where it is none that a knowledge base would understand."""
    if not isinstance(told, dict):
        return None
    item = cast("dict[str, Value]", told)
    name, operator, value = (item.get(key) for key in _KEYS)
    if name not in fields or operator not in _OPERATORS:
        return None
    if operator in _VALUELESS:
        value = None
    elif isinstance(value, list):
        value = [str(each) for each in _list(value) if each is not None]
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return {"name": name, "comparison_operator": operator, "value": value}


def _list(value: Value) -> list[Value]:
    return cast("list[Value]", value) if isinstance(value, list) else []
