"""The prompt of an app without a graph, as the prompt of an llm node.

As in Dify 1.12, its placeholders are `{{name}}` of the form, `{{#context#}}`, `{{#query#}}` and `{{#histories#}}`; any
other loses a pair of braces. The prompt of a chat becomes the system's message; that of a completion app the user's. A
model in completion mode gets one text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from headrace.dsl.check import mapping
from headrace.values import Value

START = "start"
"""The id of the start node, whose outputs are the form's fields."""
STOPS = ("\nHuman:", "</histories>")
"""Stop words where a model in completion mode would continue with the user's part."""

Fill = Callable[[str], str]

_QUERY = "{{#sys.query#}}"
_CONTEXT = "{{#context#}}"
_HISTORIES = "{{#histories#}}"
_PLACEHOLDER = re.compile(r"\{\{([a-zA-Z_][a-zA-Z0-9_]{0,29}|#[^#{}]*#)\}\}")

_CONTEXT_TEXT = f"""\
What you know about the matter stands between <context> and </context>:

<context>
{_CONTEXT}
</context>

Answer from it, in the language of the question, and do not mention that you were given it. \
Say so if it does not hold the answer, and ask if the question is not clear.

"""
_HISTORY_TEXT = f"""\
What was said so far stands between <histories> and </histories>:

<histories>
{_HISTORIES}
</histories>

"""
_QUESTION = f"\n\nHuman: {_QUERY}\n\nAssistant: "


def placeholder_filler(names: set[str], *, histories: bool = False) -> Fill:
    """A function that replaces the placeholders of a prompt by references to variables. `histories`: the conversation
    is part of the prompt; else it is sent as messages."""
    placeholders = {"#context#": _CONTEXT, "#query#": _QUERY, "#histories#": _HISTORIES if histories else ""}

    def reference(match: re.Match[str]) -> str:
        name = match[1]
        return f"{{{{#{START}.{name}#}}}}" if name in names else placeholders.get(name, f"{{{name}}}")

    return lambda text: _PLACEHOLDER.sub(reference, text)


def replaced(value: Value, fill: Fill) -> Value:
    """A value with the placeholders of all its texts replaced."""
    match value:
        case str():
            return fill(value)
        case list():
            return [replaced(item, fill) for item in cast("list[Value]", value)]
        case dict():
            return {key: replaced(item, fill) for key, item in cast("dict[str, Value]", value).items()}
        case _:
            return value


def simple_messages(prompt: Value, fill: Fill, *, completion: bool, has_context: bool) -> list[dict[str, Value]]:
    """The messages of a simple prompt; `completion`: of a completion app; `has_context`: with knowledge bases."""
    text = _simple(prompt, fill, has_context=has_context)
    return [{"role": "user" if completion else "system", "text": text}] if text else []


def simple_text(prompt: Value, fill: Fill, *, completion: bool, has_context: bool) -> dict[str, Value]:
    """The text of a simple prompt, for a model in completion mode."""
    text = _simple(prompt, fill, has_context=has_context)
    return {"text": text if completion else f"{text}\n{_HISTORY_TEXT}{_QUESTION}"}


def _simple(prompt: Value, fill: Fill, *, has_context: bool) -> str:
    return (_CONTEXT_TEXT if has_context else "") + (fill(prompt) if isinstance(prompt, str) else "")


def advanced_messages(prompt: Sequence[Value], fill: Fill) -> list[dict[str, Value]]:
    """The messages of an advanced prompt."""
    messages = [message for item in prompt if (message := mapping(item)) is not None]
    return [{"role": message.get("role"), "text": replaced(message.get("text"), fill)} for message in messages]


def advanced_text(settings: Mapping[str, Value], fill: Fill) -> tuple[dict[str, Value], dict[str, Value]]:
    """(the text of an advanced prompt, the names of the two sides of the conversation)."""
    text = (mapping(settings.get("prompt")) or {}).get("text")
    sides = mapping(settings.get("conversation_histories_role")) or {}
    prefixes = {"user": sides.get("user_prefix"), "assistant": sides.get("assistant_prefix")}
    return {"text": replaced(text, fill)}, prefixes
