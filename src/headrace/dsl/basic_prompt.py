"""The prompt of an app without a graph, as the prompt of an llm node.

Facts (Dify 1.12): its places are `{{name}}` of the form, `{{#context#}}`, `{{#query#}}` and `{{#histories#}}`; any
other loses a pair of braces. The prompt of a chat goes before the conversation, as the system's; that of a completion
app is all that the user says. A model in completion mode gets one text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from headrace.dsl.check import mapping
from headrace.values import Value

START = "start"
"""The node whose outputs the form's names are."""
STOPS = ("\nHuman:", "</histories>")
"""Where a model in completion mode would begin to speak for the user."""

Fill = Callable[[str], str]

_QUERY = "{{#sys.query#}}"
_CONTEXT = "{{#context#}}"
_HISTORIES = "{{#histories#}}"
_PLACE = re.compile(r"\{\{([a-zA-Z_][a-zA-Z0-9_]{0,29}|#[^#{}]*#)\}\}")

_KNOWN = f"""\
What you know about the matter stands between <context> and </context>:

<context>
{_CONTEXT}
</context>

Answer from it, in the language of the question, and do not mention that you were given it. \
Say so if it does not hold the answer, and ask if the question is not clear.

"""
_SAID = f"""\
What was said so far stands between <histories> and </histories>:

<histories>
{_HISTORIES}
</histories>

"""
_ASKED = f"\n\nHuman: {_QUERY}\n\nAssistant: "


def filler(names: set[str], *, histories: bool = False) -> Fill:
    """What writes the places of a prompt as references of a graph. `histories`: there is a place for what was said
    before; else it comes as messages of its own."""
    known = {"#context#": _CONTEXT, "#query#": _QUERY, "#histories#": _HISTORIES if histories else ""}

    def place(match: re.Match[str]) -> str:
        name = match[1]
        return f"{{{{#{START}.{name}#}}}}" if name in names else known.get(name, f"{{{name}}}")

    return lambda text: _PLACE.sub(place, text)


def filled(value: Value, fill: Fill) -> Value:
    """A value with the places of every text in it written as references."""
    match value:
        case str():
            return fill(value)
        case list():
            return [filled(item, fill) for item in cast("list[Value]", value)]
        case dict():
            return {key: filled(item, fill) for key, item in cast("dict[str, Value]", value).items()}
        case _:
            return value


def simple_messages(written: Value, fill: Fill, *, completion: bool, known: bool) -> list[dict[str, Value]]:
    """The messages of a simple prompt; `completion`: of a completion app; `known`: there are knowledge bases."""
    text = _told(written, fill, known=known)
    return [{"role": "user" if completion else "system", "text": text}] if text else []


def simple_text(written: Value, fill: Fill, *, completion: bool, known: bool) -> dict[str, Value]:
    """The text of a simple prompt, for a model in completion mode."""
    text = _told(written, fill, known=known)
    return {"text": text if completion else f"{text}\n{_SAID}{_ASKED}"}


def _told(written: Value, fill: Fill, *, known: bool) -> str:
    """What is known, then what the author wrote."""
    return (_KNOWN if known else "") + (fill(written) if isinstance(written, str) else "")


def advanced_messages(prompt: Sequence[Value], fill: Fill) -> list[dict[str, Value]]:
    """The messages of an advanced prompt."""
    messages = [message for item in prompt if (message := mapping(item)) is not None]
    return [{"role": each.get("role"), "text": filled(each.get("text"), fill)} for each in messages]


def advanced_text(settings: Mapping[str, Value], fill: Fill) -> tuple[dict[str, Value], dict[str, Value]]:
    """(the text of an advanced prompt, what the two sides of the conversation are called in it)."""
    text = (mapping(settings.get("prompt")) or {}).get("text")
    sides = mapping(settings.get("conversation_histories_role")) or {}
    return {"text": filled(text, fill)}, {"user": sides.get("user_prefix"), "assistant": sides.get("assistant_prefix")}
