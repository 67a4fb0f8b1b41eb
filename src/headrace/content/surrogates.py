r"""Surrogates: halves of characters beyond U+FFFF, which JSON's escapes can have alone (`"\ud83d"`) and UTF-8 cannot.

They come from clients, models and programs that cut text by UTF-16 units. Wherever text comes in, two halves in a row
become the character, and a lone one becomes U+FFFD. So no text inside has any, and code that writes text to a journal,
a header or a client need not handle them.
"""

from __future__ import annotations

import re
from typing import Any, cast

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_FIRST = re.compile("[\ud800-\udbff]$")


def may_hold(text: str) -> bool:
    """Whether a value that is parsed from this JSON may contain surrogates."""
    return _ESCAPED.search(text) is not None


def mend(value: Any) -> Any:
    """A JSON value with all its strings mended, including names of fields."""
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
    """The text without surrogates."""
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Mending:
    """Mends text that arrives in pieces: the first half of a character waits for the second."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, piece: str) -> str:
        """The text that is complete now."""
        if not self._pending and piece.isascii():
            return piece
        text = self._pending + piece
        self._pending = text[-1] if _FIRST.search(text) else ""
        return mend_text(text[:-1] if self._pending else text)

    def end(self) -> str:
        """The rest."""
        pending, self._pending = self._pending, ""
        return mend_text(pending)
