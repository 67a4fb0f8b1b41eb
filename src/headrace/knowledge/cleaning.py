"""Cleans the text of a document before it is split, as Dify does."""

from __future__ import annotations

import re

# U+FFFE is not a character; of the control characters, tabs and line breaks are kept. PostgreSQL stores no U+0000.
_INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe]")
_LINE_BREAKS = re.compile(r"\n{3,}")
_BLANKS = re.compile("[\t\f\r \u00a0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000]{2,}")
# The local part is matched as a whole, with or without a domain: a search for `[...]+@` would try each of its
# characters as a beginning, and take minutes on a megabyte without a blank.
_EMAIL = re.compile(r"[a-zA-Z0-9_.+-]++(@[a-zA-Z0-9-]+\.[a-zA-Z0-9-.]+)?")
_URL = re.compile(r"https?://\S+")
_LINK_TARGET = re.compile(r"\(https?://[^)]")
_PLACEHOLDER = re.compile("\x00([0-9]+)\x00")


def clean(text: str, *, extra_spaces: bool = False, urls_and_emails: bool = False) -> str:
    """The text without control characters and, if so configured, without repeated blanks, URLs and e-mail addresses."""
    text = _INVALID.sub("", text.replace("<|", "<").replace("|>", ">"))
    if extra_spaces:
        text = _BLANKS.sub(" ", _LINE_BREAKS.sub("\n\n", text))
    return _without_urls(_EMAIL.sub(_local_part, text)) if urls_and_emails else text


def _local_part(match: re.Match[str]) -> str:
    return "" if match[1] else match[0]


def _without_urls(text: str) -> str:
    """The text without URLs, except those that Markdown links and images lead to."""
    links: list[str] = []
    pieces: list[str] = []
    end = 0
    for start, stop in _links(text):
        pieces += [text[end:start], f"\x00{len(links)}\x00"]
        links.append(text[start:stop])
        end = stop
    cleaned = _URL.sub("", "".join([*pieces, text[end:]]))
    return _PLACEHOLDER.sub(lambda match: links[int(match[1])], cleaned)


def _links(text: str) -> list[tuple[int, int]]:
    """Where `[text](http...)` begins and ends. A regular expression would be quadratic in the number of brackets."""
    spans: list[tuple[int, int]] = []
    floor = 0
    while (bracket := text.find("]", floor)) >= 0:
        start = text.find("[", floor, bracket)
        floor = bracket + 1
        if start < 0 or not _LINK_TARGET.match(text, floor):
            continue
        stop = text.find(")", floor)
        if stop < 0:
            break
        spans.append((start, stop + 1))
        floor = stop + 1
    return spans
