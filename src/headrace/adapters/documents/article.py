"""The article of a web page: its title, its author, and the text that is not navigation, advertising and the like."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, cast

from headrace.adapters.documents.bounds import Budget

_SPACE = re.compile(r"\s+")
_LISTS = frozenset({"ul", "ol"})
_WHOLE = frozenset({"p", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th", "dt", "dd", "figcaption"})


def article(data: bytes, budget: Budget) -> str:
    """The article of a page in UTF-8, in the form of Dify's web scraper: the text is a list of objects, one for each
    paragraph, as Python prints it. Empty if there is none."""
    from readability import Document  # an extra: a library and lxml

    if not data.strip():
        return ""
    document: Any = Document(data.decode("utf-8", "replace"))
    paragraphs = [{"text": budget.text(text)} for text in _paragraphs(_tree(document.summary(html_partial=True)))]
    if not paragraphs:
        return ""
    title, author = _plain(document.short_title() or ""), _plain(document.author() or "")
    return f"\nTITLE: {title}\nAUTHOR: {'' if author == '[no-author]' else author}\nTEXT: {paragraphs}\n"


def _tree(markup: str) -> Any:
    from lxml import html

    return cast("Any", html).fragment_fromstring(markup, create_parent="div")


def _paragraphs(element: Any) -> Iterator[str]:
    """The text of each paragraph in an element. A list is one paragraph."""
    if not isinstance(element.tag, str):  # a comment
        return
    if element.tag in _LISTS:
        items = (_plain(item.text_content()) for item in element.iter("li"))
        yield from _not_empty("".join(f"* {item}, " for item in items if item))
    elif element.tag in _WHOLE:
        yield from _not_empty(element.text_content())
    else:
        yield from _not_empty(element.text)
        for child in element:
            yield from _paragraphs(child)
            yield from _not_empty(child.tail)


def _not_empty(text: str | None) -> Iterator[str]:
    if plain := _plain(text or ""):
        yield plain


def _plain(text: str) -> str:
    """Text without control characters and with single spaces, in the normal form that compares best."""
    visible = "".join(
        character for character in text if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", visible)).strip()
