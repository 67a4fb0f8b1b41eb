"""The text of HTML, in one pass and so in linear time."""

from __future__ import annotations

import html
import re

from headrace.adapters.documents.bounds import Budget

_NAME = re.compile(r"</?([a-zA-Z][a-zA-Z0-9:-]*+)")
# the rest of a tag; a `>` in a quoted value does not end it
_REST = re.compile(r"""(?:=\s*+(?:"[^"]*+"|'[^']*+')|[^>])*+>""")
_UNSEEN = ("script", "style", "head", "template", "title")
_CLOSING = {name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in _UNSEEN}
_INLINE = frozenset(
    {
        "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img", "ins",
        "kbd", "label", "mark", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong", "sub",
        "sup", "time", "tt", "u", "var", "wbr",
    }
)  # fmt: skip
_CELLS = frozenset({"td", "th"})
_SPACE = re.compile(r"[^\S\n]+")


def html_text(markup: str, budget: Budget) -> str:
    """The visible text: one line for each block, without empty ones."""
    parts: list[str] = []
    at = 0
    while (tag := markup.find("<", at)) >= 0:
        parts.append(_plain(markup[at:tag], budget))
        if markup.startswith("<!--", tag):
            end = markup.find("-->", tag + 4)
            at = end + 3 if end >= 0 else len(markup)
            continue
        match = _NAME.match(markup, tag)
        if match is None and markup[tag + 1 : tag + 2] not in ("!", "?", "/"):
            parts.append("<")
            at = tag + 1
            continue
        rest = _REST.match(markup, match.end() if match else tag + 1)
        at = rest.end() if rest else len(markup)
        if match is not None:
            name = match[1].lower()
            parts.append("" if name in _INLINE else " " if name in _CELLS else "\n")
            if name in _CLOSING and markup[tag + 1] != "/" and not markup.endswith("/>", tag, at):
                closing = _CLOSING[name].search(markup, at)
                at = closing.start() if closing else len(markup)
    parts.append(_plain(markup[at:], budget))
    lines = (_SPACE.sub(" ", line).strip() for line in "".join(parts).split("\n"))
    return "\n".join(line for line in lines if line)


def _plain(text: str, budget: Budget) -> str:
    """Text between tags, in which a line break is a space."""
    return budget.text(" ".join(html.unescape(text).split("\n"))) if text else ""
