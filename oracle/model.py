"""The model that both engines ask: its answer holds a hash of the prompt, so a difference in a prompt is seen.

The prompts of parameter-extractor and question-classifier are worded by each engine in its own way, on purpose: of
these the hash is of what the author's file and the variables put into them.

It depends on nothing but the standard library, because it runs in both environments.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_CATEGORY = re.compile(r'"category_id":\s*("(?:[^"\\]|\\.)*"),\s*"category_name":\s*("(?:[^"\\]|\\.)*")')
_QUERY = re.compile(r"<(?:text|context)>\n(.*)\n</(?:text|context)>", re.DOTALL)
_INSTRUCTION = re.compile(r"<instructions?>\n(.*)\n</instructions?>", re.DOTALL)
_INPUT = re.compile(r'"input_text"\s*:\s*\[(.*?)\],\s*"categories"', re.DOTALL)
_HINT = re.compile(r'"classification_instructions?"\s*:\s*\[(.*)\]\s*\}\s*$', re.DOTALL)
_SCHEMA_MARK = "properties"


class Reply(NamedTuple):
    """`call` is the (name, arguments as JSON) of a tool that the model asks for."""

    text: str
    call: tuple[str, str] | None = None


def reply(
    messages: Sequence[tuple[str, str]],
    tools: Sequence[tuple[str, Mapping[str, Any]]] = (),
    schema: Mapping[str, Any] | None = None,
) -> Reply:
    """What the model answers to (role, text) messages; `tools` are (name, JSON schema), `schema` asks for JSON."""
    digest = _digest([list(message) for message in messages])
    number = int(digest, 16)
    last = messages[-1][1] if messages else ""
    categories = _CATEGORY.findall(last)
    answer_schema = tools[0][1] if tools else _schema_in(last)
    if categories or answer_schema is not None:
        digest = _digest([answer_schema, categories, *_given(messages[0][1], last)])
        number = int(digest, 16)
    if tools:
        name, parameters = tools[0]
        return Reply("", (name, _dumps(_instance(parameters, digest))))
    if schema is not None:
        return Reply(_dumps(_instance(schema, digest)))
    if categories:
        key, name = categories[number % len(categories)]
        return Reply(_fenced(f'{{"keywords": ["k"], "category_id": {key}, "category_name": {name}}}', number))
    if answer_schema is not None:
        return Reply(_fenced(_dumps(_instance(answer_schema, digest)), number))
    reasoning = f"<think>about {digest}</think>\n" if number % 5 == 0 else ""
    return Reply(f'{reasoning}answer {digest} "quoted" & \\back 答\n')


def _given(first: str, last: str) -> list[str]:
    """The text that is to be sorted or searched, and the author's instruction, out of either engine's wording."""
    if last.startswith("{"):
        data = json.loads(last)
        return [_bare("".join(data[name])) for name in ("input_text", "classification_instructions")]
    pieces = (_QUERY.search(last) or _INPUT.search(last), _HINT.search(last) or _INSTRUCTION.search(first))
    return [_bare(piece[1]) if piece else "" for piece in pieces]


def _bare(text: str) -> str:
    return text.strip(' \n\t"')


def _digest(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _fenced(text: str, number: int) -> str:
    """JSON as models write it: bare, or between fences."""
    return f"```json\n{text}\n```" if number % 2 else text


def _schema_in(text: str) -> Mapping[str, Any] | None:
    """The last JSON schema of an object that a prompt shows."""
    decoder, last_value = json.JSONDecoder(), None
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            last_value = value if isinstance(value.get(_SCHEMA_MARK), dict) else last_value
        at = text.find("{", end)
    return last_value


def _instance(schema: Mapping[str, Any], digest: str) -> Any:
    """A value that fits a schema."""
    if schema.get("enum"):
        return schema["enum"][int(digest, 16) % len(schema["enum"])]
    match schema.get("type"):
        case "object":
            return {key: _instance(value, digest) for key, value in (schema.get("properties") or {}).items()}
        case "array":
            return [_instance(schema.get("items") or {"type": "string"}, digest) for _ in range(2)]
        case "number":
            return (3, 2.5, 4.0, -1)[int(digest, 16) % 4]
        case "integer":
            return 3
        case "boolean" | "bool":
            return int(digest, 16) % 2 == 0
        case _:
            return digest


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
