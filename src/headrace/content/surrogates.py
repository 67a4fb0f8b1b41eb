r"""Halves of characters beyond U+FFFF, which JSON's escapes can hold alone (`"\ud83d"`) and UTF-8 cannot.

They come from clients, models and programs that cut text by UTF-16 units. There is one rule wherever text comes in: two
halves that follow one another are the character, one that stands alone is U+FFFD. So no text inside has any, and what
writes text, to a journal, a header or a client, need not think of them.
"""

from __future__ import annotations

import re
from typing import Any, cast

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_FIRST = re.compile("[\ud800-\udbff]$")


def may_hold(text: str) -> bool:
    """Whether a value that is read from this JSON may hold halves."""
    return _ESCAPED.search(text) is not None


def mend(value: Any) -> Any:
    """A value (as JSON has them) with all its texts mended, names of fields too."""
    match value:
        case str():
            return mend_text(value)
        case dict():
            fields = cast("dict[str, Any]", value)
            return {mend_text(name): mend(item) for name, item in fields.items()}
        case list():
            return [mend(item) for item in cast("list[Any]", value)]
        case _:
            return value


def mend_text(text: str) -> str:
    """A text without halves."""
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Mending:
    """Mends a text that comes in pieces: the first half of a character waits for the second."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be handed on."""
        if not self._held and piece.isascii():
            return piece
        text = self._held + piece
        self._held = text[-1] if _FIRST.search(text) else ""
        return mend_text(text[:-1] if self._held else text)

    def end(self) -> str:
        """What is left."""
        held, self._held = self._held, ""
        return mend_text(held)
