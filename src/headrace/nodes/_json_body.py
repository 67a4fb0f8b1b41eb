"""The JSON of an http-request's body: its author's text with values in it.

Dify puts values into the text and repairs what comes out. That is done here too, but for what it gets wrong: a value
between quotes is a text, whatever is in it; one that stands alone is JSON if it is (also in a code block, or with a
model's words around it), else a text. A value that is a piece of JSON (`1, 2` in `[{{#a.b#}}]`) is put in as it is.
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
from headrace.nodes._reasoning import without_thinking
from headrace.values import File, Selector, Value, kind, plain, text

_QUOTE = re.compile(r"\\.|\"", re.DOTALL)
_VALUE = "\0"  # stands for a value where only what is around it matters
_BEFORE = frozenset({"", ":", ",", "["})
_COLON = re.compile(r"\s*:")
_AFTER = re.compile(r"\s*(?:[,}\]]|\Z)|\s+(?:#|//|/\*)|[ \t]*\r?\n\s*[\"']")  # also comments, and a comma that lacks
_INNER_QUOTE = re.compile(r"\\\"")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


class _Place(NamedTuple):
    """Where a value goes: between quotes; alone, as a value or as a key; or else among other text. `inner`: perhaps
    in JSON that is itself a text of the JSON, as in `{"content": "{\\"text\\": \\"...\\"}"}`."""

    selector: Selector
    quoted: bool
    alone: bool
    inner: bool


async def json_of(template: str, variables: Variables) -> Any:
    """What a template means with its values put in; "" where it is empty. ValueError where it means nothing."""
    parts = _parts(template)
    places = [part for part in parts if isinstance(part, _Place)]
    values = [_value(variables, place) for place in places]
    inserted = iter(map(_inserted, places, values))
    filled = "".join(part if isinstance(part, str) else next(inserted) for part in parts)
    if not filled.strip():
        return ""
    if not any(place.inner for place in places):
        with suppress(ValueError):
            return lenient_json.read_strictly(filled)
    if len(places) == 1 and all(part.isspace() for part in parts if isinstance(part, str)):
        return await _whole(filled)
    marked = _Marked(parts, values)
    try:
        return await marked.filled(await lenient_json.read(marked.template))
    except (ValueError, _Misplaced):  # what is put in is more than values
        return await lenient_json.repaired(filled)


async def _whole(text: str) -> Any:
    """What a body means that is one value: it has to be JSON."""
    try:
        return await lenient_json.value_in(_said(text))
    except lenient_json.NothingFound:
        return await lenient_json.repaired(text)


async def _meant(value: Value) -> Any:
    """What a value means that stands alone."""
    if not isinstance(value, str):
        return plain(value)
    try:
        return await lenient_json.value_in(_said(value))
    except ValueError:
        return value


def _said(text: str) -> str:
    return without_thinking(text) if "<think" in text else text


def _value(variables: Variables, place: _Place) -> Value:
    """The value that goes there. A file has no text, as in Dify; an unknown variable stands for its own name."""
    found, value = variables.find(place.selector)
    if not found:
        return ".".join(place.selector)
    return "" if isinstance(value, File) or kind(value) == "array[file]" else value


def _inserted(place: _Place, value: Value) -> str:
    if place.quoted:
        return _escaped(text(value))
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


@lru_cache(maxsize=512)
def _parts(template: str) -> tuple[str | _Place, ...]:
    found = pieces(template)
    whole = "".join(piece if isinstance(piece, str) else _VALUE for piece in found)
    parts: list[str | _Place] = []
    quoted = False
    at = 0
    escape = _INNER_QUOTE.search(whole)
    for piece in found:
        if isinstance(piece, str):
            quoted ^= sum(match[0] == '"' for match in _QUOTE.finditer(piece)) % 2 == 1
            parts.append(piece)
            at += len(piece)
        else:
            before, after = _last(parts), at + 1
            key = before in ("{", ",") and _COLON.match(whole, after) is not None
            alone = key or (before in _BEFORE and _AFTER.match(whole, after) is not None)
            inner = quoted and escape is not None and escape.start() < at
            parts.append(_Place(piece, quoted, alone and not quoted, inner))
            at += 1
    return tuple(parts)


def _last(parts: list[str | _Place]) -> str:
    """The last character before a place that is no space; "" at the beginning."""
    for part in reversed(parts):
        if isinstance(part, _Place):
            return _VALUE
        if part := part.rstrip():
            return part[-1]
    return ""


class _Misplaced(Exception):
    """A value is not where it was put, once the template around it is repaired."""


class _Marked:
    """A template with marks for its values, so that only what its author wrote is repaired, and not the values."""

    def __init__(self, parts: tuple[str | _Place, ...], values: list[Value]) -> None:
        literal = "".join(part for part in parts if isinstance(part, str))
        name = "value"
        while name in literal:
            name += "x"
        self._mark = re.compile(f"{name}([0-9]+)z")
        self._values = values
        self._alone: set[int] = set()
        self._unseen = set(range(len(values)))
        written: list[str] = []
        number = 0
        for part in parts:
            if isinstance(part, str):
                written.append(part)
                continue
            mark = f"{name}{number}z"
            if part.alone:
                self._alone.add(number)
                written.append(f'"{mark}"')
            elif not part.quoted and _NUMBER.fullmatch(digits := text(values[number])):
                self._unseen.discard(number)  # a piece of a number, perhaps (`-{{#a.b#}}`), and of JSON in any case
                written.append(digits)
            else:
                written.append(mark)
            number += 1
        self.template = "".join(written)

    async def filled(self, value: Any) -> Any:
        """The value of the template with the values in place of their marks. _Misplaced where that cannot be done."""
        made = await self._fill(value)
        if self._unseen:
            raise _Misplaced
        return made

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
            return await _meant(self._values[int(mark[1])])
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
        """Where marks begin that are between quotes of JSON that a text is; nowhere in a text that is no JSON."""
        if not marked.lstrip().startswith(("{", "[")):
            return set()
        inside: set[int] = set()
        written: list[str] = []
        at = 0
        quoted = False
        for match in self._mark.finditer(marked):
            literal = marked[at : match.start()]
            quoted ^= sum(quote[0] == '"' for quote in _QUOTE.finditer(literal)) % 2 == 1
            if quoted:
                inside.add(match.start())
            written += (literal, match[0] if quoted else "0")
            at = match.end()
        with suppress(ValueError):
            lenient_json.read_strictly("".join(written) + marked[at:])
            return inside
        return set()
