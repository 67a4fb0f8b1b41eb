"""The JSON body of an http-request: a template with values in it.

Dify inserts the values and repairs the result. So does this, except where that goes wrong: a value between quotes is a
string, whatever its content; one that stands alone is JSON if it is valid (also in a code block, or with words around
it), else a string. A value that is a fragment of JSON (`1, 2` in `[{{#a.b#}}]`) is inserted unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, cast

from headrace.content import lenient_json
from headrace.kernel.variables import Variables, pieces
from headrace.nodes._reasoning import without_reasoning
from headrace.values import File, Selector, Value, kind, text, to_json

_QUOTE = re.compile(r"\\.|\"", re.DOTALL)
_VALUE = "\0"  # replaces a value where only its surroundings matter
_BEFORE = frozenset({"", ":", ",", "["})
_COLON = re.compile(r"\s*:")
_AFTER = re.compile(r"\s*(?:[,}\]]|\Z)|\s+(?:#|//|/\*)|[ \t]*\r?\n\s*[\"']")  # also comments, and a missing comma
_INNER_QUOTE = re.compile(r"\\\"")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


class _Slot(NamedTuple):
    """Where a value goes: between quotes; alone, as a value or as a key; or else among other text. `inner`: perhaps
    in JSON inside a string of the JSON, as in `{"content": "{\\"text\\": \\"...\\"}"}`."""

    selector: Selector
    quoted: bool
    alone: bool
    inner: bool


async def json_of(template: str, variables: Variables) -> Any:
    """The JSON value of a template with its values inserted; "" if it is empty. ValueError if it cannot be parsed."""
    parts = _parts(template)
    slots = [part for part in parts if isinstance(part, _Slot)]
    values = [_value(variables, slot) for slot in slots]
    insertions = iter(map(_inserted, slots, values))
    text = "".join(part if isinstance(part, str) else next(insertions) for part in parts)
    if not text.strip():
        return ""
    if not any(slot.inner for slot in slots):
        with suppress(ValueError):
            return lenient_json.read_strictly(text)
    if len(slots) == 1 and all(part.isspace() for part in parts if isinstance(part, str)):
        return await _only_value(text)
    marked_text = _Marked(parts, values)
    try:
        return await marked_text.filled(await lenient_json.read(marked_text.template))
    except (ValueError, _Misplaced):  # an inserted text is more than one value
        return await lenient_json.repaired(text)


async def _only_value(text: str) -> Any:
    """The JSON of a body that consists of one value."""
    try:
        return await lenient_json.value_in(_answer(text))
    except lenient_json.NothingFound:
        return await lenient_json.repaired(text)


async def _parsed(value: Value) -> Any:
    """The JSON of a value that stands alone."""
    if not isinstance(value, str):
        return to_json(value)
    try:
        return await lenient_json.value_in(_answer(value))
    except ValueError:
        return value


def _answer(text: str) -> str:
    return without_reasoning(text) if "<think" in text else text


def _value(variables: Variables, slot: _Slot) -> Value:
    """The value for a slot. A file has no text, as in Dify; an unknown variable is replaced by its name."""
    exists, value = variables.find(slot.selector)
    if not exists:
        return ".".join(slot.selector)
    return "" if isinstance(value, File) or kind(value) == "array[file]" else value


def _inserted(slot: _Slot, value: Value) -> str:
    if slot.quoted:
        return _escaped(text(value))
    return value if isinstance(value, str) else json.dumps(to_json(value), ensure_ascii=False)


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


@lru_cache(maxsize=512)
def _parts(template: str) -> tuple[str | _Slot, ...]:
    template_pieces = pieces(template)
    whole = "".join(piece if isinstance(piece, str) else _VALUE for piece in template_pieces)
    parts: list[str | _Slot] = []
    quoted = False
    at = 0
    escape = _INNER_QUOTE.search(whole)
    for piece in template_pieces:
        if isinstance(piece, str):
            quoted ^= sum(match[0] == '"' for match in _QUOTE.finditer(piece)) % 2 == 1
            parts.append(piece)
            at += len(piece)
        else:
            before, after = _last(parts), at + 1
            key = before in ("{", ",") and _COLON.match(whole, after) is not None
            alone = key or (before in _BEFORE and _AFTER.match(whole, after) is not None)
            inner = quoted and escape is not None and escape.start() < at
            parts.append(_Slot(piece, quoted, alone and not quoted, inner))
            at += 1
    return tuple(parts)


def _last(parts: list[str | _Slot]) -> str:
    """The last character that is not a space; "" if there is none."""
    for part in reversed(parts):
        if isinstance(part, _Slot):
            return _VALUE
        if part := part.rstrip():
            return part[-1]
    return ""


class _Misplaced(Exception):
    """After the repair of the template, a value is not where it was inserted."""


class _Marked:
    """A template with marks in place of its values, so that the repair cannot change the values."""

    def __init__(self, parts: tuple[str | _Slot, ...], values: list[Value]) -> None:
        literal = "".join(part for part in parts if isinstance(part, str))
        name = "value"
        while name in literal:
            name += "x"
        self._mark = re.compile(f"{name}([0-9]+)z")
        self._values = values
        self._alone: set[int] = set()
        self._unseen = set(range(len(values)))
        marked: list[str] = []
        number = 0
        for part in parts:
            if isinstance(part, str):
                marked.append(part)
                continue
            mark = f"{name}{number}z"
            if part.alone:
                self._alone.add(number)
                marked.append(f'"{mark}"')
            elif not part.quoted and _NUMBER.fullmatch(digits := text(values[number])):
                self._unseen.discard(number)  # valid JSON, perhaps as part of a number (`-{{#a.b#}}`)
                marked.append(digits)
            else:
                marked.append(mark)
            number += 1
        self.template = "".join(marked)

    async def filled(self, value: Any) -> Any:
        """The parsed template with the values in place of their marks. _Misplaced if that is not possible."""
        text = await self._fill(value)
        if self._unseen:
            raise _Misplaced
        return text

    async def _fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            members = cast("Mapping[str, Any]", value).items()
            return {self._text(key, key=True): await self._fill(item) for key, item in members}
        if isinstance(value, list):
            return [await self._fill(item) for item in cast("list[Any]", value)]
        if not isinstance(value, str):
            return value
        mark = self._mark.fullmatch(value)
        if mark is not None and int(mark[1]) in self._alone:
            self._unseen.discard(int(mark[1]))
            return await _parsed(self._values[int(mark[1])])
        return self._text(value)

    def _text(self, marked: str, *, key: bool = False) -> str:
        inside = set[int]() if key else self._in_inner_quotes(marked)

        def put(match: re.Match[str]) -> str:
            number = int(match[1])
            if number in self._alone and (not key or match[0] != marked):
                raise _Misplaced
            self._unseen.discard(number)
            value = text(self._values[number])
            return _escaped(value) if match.start() in inside else value

        return self._mark.sub(put, marked)

    def _in_inner_quotes(self, marked: str) -> set[int]:
        """Where marks begin that are between quotes, if the string is JSON itself."""
        if not marked.lstrip().startswith(("{", "[")):
            return set()
        inside: set[int] = set()
        sample: list[str] = []  # the string with valid JSON for its marks
        at = 0
        quoted = False
        for match in self._mark.finditer(marked):
            literal = marked[at : match.start()]
            quoted ^= sum(quote[0] == '"' for quote in _QUOTE.finditer(literal)) % 2 == 1
            if quoted:
                inside.add(match.start())
            sample += (literal, match[0] if quoted else "0")
            at = match.end()
        with suppress(ValueError):
            lenient_json.read_strictly("".join(sample) + marked[at:])
            return inside
        return set()
