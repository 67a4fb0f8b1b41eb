"""Reads what a model writes in ReAct format, piece by piece.

    Thought: I need the weather.
    Action: {"action": "weather", "action_input": {"city": "Berlin"}}

or, at the end, `FinalAnswer: It rains.` Markers count in any case, at the start of a line or after a space. The first
complete JSON object (or a list of one) that names an action and its input is the action; what follows it is ignored.
JSON that is not an action is text. The result does not depend on how the text is cut into pieces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from headrace.frozen import frozen
from headrace.values import Value

_MARKERS: Final[Mapping[str, bool]] = {  # whether the answer begins after it
    "thought:": False,
    "action:": False,
    "finalanswer:": True,
    "final answer:": True,
}
_STARTS = frozenset(marker[0] for marker in _MARKERS)
_FINAL_NAMES = frozenset({"final answer", "finalanswer", "final_answer"})
_OPEN_FENCE = re.compile(r"\s*```\w*\s*$")
_MAX_ATTEMPTS = 64  # places where an action is looked for in text with unbalanced braces


@frozen
class Action:
    """A tool that the model wants called, or its final answer."""

    name: str
    input: Value

    @property
    def is_final(self) -> bool:
        return self.name.strip().lower() in _FINAL_NAMES


class ReactParser:
    """`thought` and `action` are complete after `end`; the answer is returned as it comes, by `feed` and `end`."""

    def __init__(self) -> None:
        self.action: Action | None = None
        self._thought_parts: list[str] = []
        self._answering = False
        self._boundary = True  # a marker may begin here
        self._marker = ""  # the beginning of what may become a marker
        self._json = _Json()
        self._reads_json = True

    @property
    def thought(self) -> str:
        return _OPEN_FENCE.sub("", "".join(self._thought_parts)).strip()

    @property
    def has_answer(self) -> bool:
        return self._answering

    def feed(self, text: str) -> str:
        """What a piece adds to the answer."""
        for position, character in enumerate(text):
            if self._answering:
                return text[position:]
            if self.action is not None:
                return ""
            self._take(character)
        return ""

    def end(self) -> str:
        """What the answer still lacks, once the text is complete."""
        if self._answering or self.action is not None:
            return ""
        if self._json.open:
            rest, self._json = self._json.text, _Json()
            self._reads_json = False
            if (action := _action_inside(rest)) is not None:
                start, self.action = action
                self._thought_parts.append(rest[:start])
                return ""
            return self.feed(rest) + self.end()
        marker, self._marker = self._marker, ""
        self._thought_parts.append(marker)
        return ""

    def _take(self, character: str) -> None:
        if self._json.open:
            if self._json.feed(character):
                self._on_json(self._json.text)
        elif self._marker or (self._boundary and character.lower() in _STARTS):
            self._on_marker(self._marker + character)
        elif self._reads_json and character in "{[":
            self._json.feed(character)
        else:
            self._on_text(character)

    def _on_marker(self, text: str) -> None:
        lower_case = text.lower()
        if lower_case in _MARKERS:
            self._marker, self._boundary = "", True
            self._answering = _MARKERS[lower_case]
        elif any(marker.startswith(lower_case) for marker in _MARKERS):
            self._marker = text
        else:  # it was text; a marker may begin further on in it
            self._marker = ""
            self._on_text(text[0])
            for character in text[1:]:
                self._take(character)

    def _on_text(self, character: str) -> None:
        self._thought_parts.append(character)
        self._boundary = character.isspace()

    def _on_json(self, text: str) -> None:
        self._json = _Json()
        self.action = _action(text)
        if self.action is None:
            self._thought_parts.append(text)
            self._boundary = False


class _Json:
    """Finds the end of a JSON object or list."""

    __slots__ = ("_depth", "_escaped", "_parts", "_quoted")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._depth = 0
        self._quoted = self._escaped = False

    @property
    def open(self) -> bool:
        return bool(self._parts)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def feed(self, character: str) -> bool:
        """Whether this character completes it."""
        self._parts.append(character)
        if self._escaped:
            self._escaped = False
        elif self._quoted:
            self._escaped = character == "\\"
            self._quoted = character != '"'
        elif character == '"':
            self._quoted = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth == 0
        return False


def _action(text: str) -> Action | None:
    """The action that a JSON text is; None if it is anything else."""
    try:
        return _action_of(json.loads(text, strict=False))
    except (ValueError, RecursionError):
        return None


def _action_of(value: Any) -> Action | None:
    if isinstance(value, list):
        items = cast("list[Any]", value)
        value = items[0] if len(items) == 1 else None
    if not isinstance(value, dict):
        return None
    name: Any = None
    action_input: Any = None
    for key, item in cast("dict[str, Any]", value).items():
        if "input" in key.lower():
            action_input = item
        else:
            name = item
    return Action(name, action_input) if isinstance(name, str) and action_input is not None else None


def _action_inside(text: str) -> tuple[int, Action] | None:
    """The first action in a text whose braces do not balance, and where it starts."""
    decoder = json.JSONDecoder(strict=False)
    start = -1
    for _ in range(_MAX_ATTEMPTS):
        start = text.find("{", start + 1)
        if start < 0:
            return None
        try:
            action = _action_of(decoder.raw_decode(text, start)[0])
        except (ValueError, RecursionError):
            continue
        if action is not None:
            return start, action
    return None
