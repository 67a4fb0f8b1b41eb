"""Reads JSON that people and templates write: what is meant is plain, but a strict reader refuses it.

{'a': None, "b": True,}            Python's spelling, as lists put into a text have it; a comma too many
{"q": "he said "no" and left"}     quotes in a value that was put between quotes
{"a": 1 /* one */}                 comments
{a: 1, "b": {"c": 2                bare keys, a missing end
{"q": he said no, "b": }           values that a template put there without quotes, or none at all
"""

from __future__ import annotations

import json
import re
from typing import Any

_SPACE = re.compile(r"(?:\s+|//[^\n]*|#[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SPACE_AT_LAST = re.compile(r"(?:\s+|//[^\n]*|#[^\n]*)*")  # where no comment is closed any more
_WORD = re.compile(r"[A-Za-z_$][\w$.-]*")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\[\"'\\/bfnrt]")
# What may come after the quote that ends a key, a member's value, an item: another quote is part of the text.
_MORE = r"\s*(?:[}\]]|\Z|/[/*]|,\s*(?:[}\]]|\Z|/[/*]|"
_ENDS = {
    "key": re.compile(r"\s*:"),
    "member": re.compile(_MORE + r"\"[^\"]*\"\s*:|'[^']*'\s*:|[A-Za-z_$][\w$]*\s*:))"),
    "item": re.compile(_MORE + r"[\"'\[{\d.+-]|[A-Za-z]+\s*[,\]]))"),
}
# Where a text ends that stands without quotes; a comma ends a member's value only if a key comes after it.
_STOPS = {"member": re.compile(r"[},]"), "item": re.compile(r"[\],]")}
_NEXT = re.compile(r"\s*(?:}|\Z|\"[^\"]*\"\s*:|'[^']*'\s*:|[A-Za-z_$][\w$]*\s*:)")
# What may come after a number or a word that is one, and not the beginning of such a text.
_AFTER = {
    "member": re.compile(r"\s*(?:[,}\]\"']|\Z|/[/*]|#)"),
    "item": re.compile(r"\s*(?:[,}\]\"']|\Z|/[/*]|#)|\s+[-+.\d]"),
}
_WORDS: dict[str, Any] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
    "undefined": None,
}
_MAX_DEPTH = 200


def parse(text: str) -> Any:
    """The value that the text means; an empty text is "". ValueError where it means none."""
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            return ""
        if text.lstrip()[0] not in "{[":
            raise
        reader = _Reader(text)
        try:
            value = reader.value(0)
        except ValueError:
            raise error from None
        if not reader.done():
            raise
        return value


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._last_close = text.rfind("*/")  # so that none looks for it through all of the rest

    def done(self) -> bool:
        self._skip()
        return self._at >= len(self._text)

    def _skip(self) -> None:
        space = _SPACE if self._at < self._last_close else _SPACE_AT_LAST
        if found := space.match(self._text, self._at):
            self._at = found.end()

    def _peek(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def value(self, depth: int, role: str = "item") -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deep")
        char = self._peek()
        if char == "{":
            return self._object(depth)
        if char == "[":
            return self._array(depth)
        if char and char in "\"'":
            return self._string(char, role)
        if found := self._alone(_NUMBER, role):
            return json.loads(_plain(found))
        found = self._alone(_WORD, role)
        return _WORDS[found] if found in _WORDS else self._bare(role)

    def _alone(self, what: re.Pattern[str], role: str) -> str:
        """What stands here if nothing else belongs to it; "" where it is only the beginning of something."""
        found = what.match(self._text, self._at)
        if found is None or not _AFTER[role].match(self._text, found.end()):
            return ""
        if what is _NUMBER or found[0] in _WORDS:
            self._at = found.end()
        return found[0]

    def _bare(self, role: str) -> str:
        """A text without quotes, as far as it goes; "" where there is none."""
        at = start = self._at
        while stop := _STOPS[role].search(self._text, at):
            if stop[0] != "," or role == "item" or _NEXT.match(self._text, stop.end()):
                break
            at = stop.end()
        self._at = stop.start() if stop else len(self._text)
        return self._text[start : self._at].strip()

    def _object(self, depth: int) -> dict[str, Any]:
        self._at += 1
        members: dict[str, Any] = {}
        while (char := self._peek()) not in ("}", ""):
            if char == ",":
                self._at += 1
                continue
            key = self._key()
            if self._peek() != ":":
                raise ValueError("a member without a colon")
            self._at += 1
            members[key] = self.value(depth + 1, "member")
            self._separator("}")
        self._at += 1
        return members

    def _array(self, depth: int) -> list[Any]:
        self._at += 1
        items: list[Any] = []
        while (char := self._peek()) not in ("]", ""):
            if char == ",":
                self._at += 1
                continue
            items.append(self.value(depth + 1))
            self._separator("]")
        self._at += 1
        return items

    def _separator(self, end: str) -> None:
        """A comma may lack where it is plain that something new begins."""
        if self._peek() not in (",", end, "", '"', "'") and not (end == "]" and _NUMBER.match(self._text, self._at)):
            raise ValueError("no comma")

    def _key(self) -> str:
        char = self._peek()
        if char in "\"'":
            return self._string(char, "key")
        found = _WORD.match(self._text, self._at)
        if found is None:
            raise ValueError("no key")
        self._at = found.end()
        return found[0]

    def _string(self, quote: str, role: str) -> str:
        text, start = self._text, self._at + 1
        end = text.find(quote, start)
        while end >= 0 and (_escaped(text, end) or not _ENDS[role].match(text, end + 1)):
            end = text.find(quote, end + 1)
        if end < 0:
            raise ValueError("no end of a string")
        self._at = end + 1
        return _ESCAPE.sub(_unescape, text[start:end])


def _escaped(text: str, at: int) -> bool:
    before = at
    while text[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


def _unescape(match: re.Match[str]) -> str:
    return "'" if match[0] == "\\'" else json.loads(f'"{match[0]}"')


def _plain(number: str) -> str:
    """Python's and JavaScript's spellings of a number as JSON has it."""
    sign, digits = ("-" if number.startswith("-") else ""), number.lstrip("+-")
    digits = f"0{digits}" if digits.startswith(".") else digits
    digits = re.sub(r"\.(?=$|[eE])", "", digits)
    return sign + (re.sub(r"^0+(?=\d)", "", digits))
