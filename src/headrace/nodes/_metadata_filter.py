"""A metadata filter for a retrieval, which a model derives from the question."""

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


async def derive_filter(
    ctx: Context, model: ModelConfig, fields: Sequence[str], query: str, kind: str
) -> tuple[list[dict[str, Value]], Usage]:
    """(conditions, the model's usage): `{name, comparison_operator, value}` of some of these fields.

    An invalid answer means no filter, as in Dify. NodeError if the call of the model fails, or, with this kind, if the
    answer is longer than a text may be.
    """
    if not fields:
        return [], Usage()
    answer = await complete(ctx, request_of(ctx, model, _messages(model, fields, query)), kind=kind)
    try:
        entries = _list((await object_in(answer.text)).get("metadata_map"))
    except NodeError:
        entries = []
    return [condition for entry in entries if (condition := _condition(entry, fields))], answer.usage


def _messages(model: ModelConfig, fields: Sequence[str], query: str) -> list[Message]:
    examples = [(_question(text, known), _answer(right)) for text, known, right in _EXAMPLES]
    question = _question(query, fields)
    if model.is_completion:
        parts = [_TASK, "### Examples", *(f"Input: {text}\nOutput: {right}" for text, right in examples)]
        return [Message("user", "\n".join([*parts, "### Now", f"Input: {question}\nOutput: "]))]
    messages = [Message("system", _TASK)]
    for text, right in examples:
        messages += [Message("user", text), Message("assistant", right)]
    return [*messages, Message("user", question)]


def _question(text: str, fields: Sequence[str]) -> str:
    return json.dumps({"input_text": text, "metadata_fields": fields}, ensure_ascii=False)


def _answer(conditions: Sequence[tuple[str, str, Value]]) -> str:
    entries = [dict(zip(_KEYS, condition, strict=True)) for condition in conditions]
    return json.dumps({"metadata_map": entries}, ensure_ascii=False)


def _condition(entry: Value, fields: Sequence[str]) -> dict[str, Value] | None:
    """An entry of the answer as a condition; None if it is not valid."""
    if not isinstance(entry, dict):
        return None
    item = cast("dict[str, Value]", entry)
    name, operator, value = (item.get(key) for key in _KEYS)
    if name not in fields or operator not in _OPERATORS:
        return None
    if operator in _VALUELESS:
        value = None
    elif isinstance(value, list):
        value = [str(item) for item in _list(value) if item is not None]
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return {"name": name, "comparison_operator": operator, "value": value}


def _list(value: Value) -> list[Value]:
    return cast("list[Value]", value) if isinstance(value, list) else []
