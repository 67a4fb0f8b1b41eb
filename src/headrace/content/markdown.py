"""Markdown as HTML for people's eyes: texts that workflows, models and strangers wrote.

The HTML has no element, attribute or address that is not listed here, whatever the text contains. Tags in the text are
shown as they are written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MAX_RENDERED = 30_000
"""Characters of a text beyond which it is shown as it is written: a hostile one of this length takes about a second."""
_MAX_BRACKETS = 1_000  # the time for links within links within links grows with their square

_BLOCKS = ["table", "code", "fence", "blockquote", "hr", "list", "heading", "lheading"]
_INLINE = ["newline", "escape", "backticks", "strikethrough", "emphasis", "link", "image", "autolink", "entity"]
_PAIRS = ["balance_pairs", "fragments_join"]
_SCHEMES = frozenset({"http", "https", "mailto"})
_LINK = {"rel": "noopener noreferrer nofollow", "target": "_blank"}
_TAG = re.compile(r"<[^<>]*>")
_MAX_SUBJECT = 200
_JOINERS = "\u200c\u200d"  # of emoji, and of letters in some scripts


def to_html(text: str, *, level: int = 2, images: Sequence[str] = ()) -> str:
    """Headings begin at `level`, and skip none. Images are shown if their address begins with one of `images`;
    otherwise there is a link to them, so that nobody learns from an image who has read the text."""
    if len(text) > MAX_RENDERED or text.count("[") > _MAX_BRACKETS:
        return f"<pre>{escape(text)}</pre>\n"
    parser = _parser()
    tokens = parser.parse(text)
    _number_headings(tokens, level)
    for token in tokens:
        if style := token.attrs.pop("style", None):  # of a column; policies of pages forbid inline styles
            token.attrs["align"] = str(style).rpartition(":")[2]
        for child in token.children or ():
            if child.type == "link_open":
                child.attrs.update(_LINK)
            elif child.type == "image" and not str(child.attrs.get("src", "")).startswith(tuple(images)):
                _link_image(child)
    return cast("str", parser.renderer.render(tokens, parser.options, {}))


def to_subject(text: str) -> str:
    """A text as the subject of an e-mail: one line without tags, control characters and marks that reorder text."""
    plain = text[: 10 * _MAX_SUBJECT]
    while (without := _TAG.sub("", plain)) != plain:  # removing a tag may make another: <<b>b>
        plain = without
    text_with_spaces = "".join(" " if character.isspace() else character for character in plain)
    line = " ".join("".join(filter(_is_shown, text_with_spaces)).split())
    return line if len(line) <= _MAX_SUBJECT else f"{line[: _MAX_SUBJECT - 1]}…"


def _is_shown(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("zero", {"breaks": True, "html": False, "maxNesting": 20})
    parser.enable([*_BLOCKS, *_INLINE, *_PAIRS])
    parser.validateLink = _is_allowed
    return parser


def _is_allowed(url: str) -> bool:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.netloc or parts.scheme == "mailto")


def _number_headings(tokens: Sequence[Token], level: int) -> None:
    """Moves headings below `level`, so that none skips a level: readers with a screen reader navigate by them."""
    current = level - 1
    for token in tokens:
        if token.type == "heading_open":
            current = min(int(token.tag[1:]) + level - 1, current + 1, 6)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{current}"


def _link_image(image: Token) -> None:
    """Makes an image a link to it, with its description as the text."""
    source = str(image.attrs.get("src", ""))
    image.type = "html_inline"  # rendered as it is
    attributes = " ".join(f'{name}="{value}"' for name, value in _LINK.items())
    image.content = f'<a href="{escape(source)}" {attributes}>{escape(image.content or source)}</a>'
