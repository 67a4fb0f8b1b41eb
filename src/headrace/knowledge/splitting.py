"""Splits the text of a document into chunks, with the results of Dify's splitters.

All lengths are characters. A text is split at the first of some separators that it has; pieces that are too long are
split at the next ones, and short neighbours are merged up to the size, with an overlap.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from headrace.errors import HeadraceError

SHORTEST, LONGEST = 50, 4000  # characters; what a chunk's size may be set to
AUTOMATIC_SIZE, AUTOMATIC_OVERLAP = 500, 50

_LARGEST_TOTAL = 50_000_000  # characters: with an overlap of nearly a chunk, each character makes a chunk of its own

_SEPARATORS = ("\n\n", "。", ". ", " ", "")
_ESCAPE = re.compile(r"\\(?:[abfnrtv\\'\"]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})")
# without ellipses and lenticular brackets
_LEADING = re.compile(
    "[\\[\\]\u2000-\u2025\u2027-\u206f\u2e00-\u2e7f\u3000-\u300f\u3011-\u303f\"#$%&'()*+,./:;<=>?@^_`~]+"
)
_LINK = re.compile(r"\[[^\]]+\]\(https?://[^)]+\)")
# Dify searches for ". " as a regular expression, except where a separator has been set: any character and a space.
_ANY_THEN_SPACE = re.compile(". ")


def split_automatic(text: str) -> Iterator[str]:
    """Chunks of 500 characters with an overlap of 50."""
    return _paragraphs(_split_recursively(text, _SEPARATORS, AUTOMATIC_SIZE, AUTOMATIC_OVERLAP))


def split_custom(text: str, separator: str, size: int, overlap: int) -> Iterator[str]:
    """The parts between separators, each split further if it is longer than `size`.

    HeadraceError if size or overlap is out of bounds.
    """
    return _paragraphs(_split_fixed(text, separator, size, overlap))


def split_into_parents(text: str, separator: str, size: int, overlap: int) -> Iterator[str]:
    """As `split_custom`, but of leading punctuation only one full stop is removed: the parents and the children of
    hierarchical chunks."""
    for chunk in _split_fixed(text, separator, size, overlap):
        content = chunk[1:].strip() if chunk.startswith((".", "。")) else chunk
        if content.strip():
            yield content


def _paragraphs(chunks: Iterable[str]) -> Iterator[str]:
    """The chunks that are not empty, without the punctuation that a separator leaves at their beginning."""
    contents = (_without_leading_punctuation(chunk).strip() for chunk in chunks if chunk.strip())
    return (content for content in contents if content)


def _without_leading_punctuation(chunk: str) -> str:
    """A chunk that begins with a Markdown link begins with no punctuation."""
    if _LINK.match(chunk):
        return chunk
    leading = _LEADING.match(chunk)
    return chunk[leading.end() :] if leading else chunk


def _unescape(separator: str) -> str:
    """A separator as it is typed into a form: `\\n` is a line break."""
    return _ESCAPE.sub(lambda match: codecs.decode(match[0], "unicode_escape"), separator)


def _split_fixed(text: str, separator: str, size: int, overlap: int) -> Iterator[str]:
    if not SHORTEST <= size <= LONGEST:
        raise HeadraceError(f"Custom segment length should be between {SHORTEST} and {LONGEST}.")
    if not 0 <= overlap <= size:
        raise HeadraceError(f"The chunk overlap ({overlap}) has to be between 0 and the chunk size ({size}).")
    separator = _unescape(separator)
    total = 0
    for part in text.split(separator) if separator else [text]:
        for chunk in _split_part(part, size, overlap):
            total += len(chunk)
            if total > _LARGEST_TOTAL:
                raise HeadraceError("The text has too many chunks: choose a smaller overlap.")
            yield chunk


def _split_part(part: str, size: int, overlap: int) -> Iterable[str]:
    if len(part) <= size:
        return [part]
    separator, rest = _first(part, _SEPARATORS, str.__contains__)
    return _split_at(part, separator, rest, size, overlap) if separator else _windows(part, size, overlap)


def _first(text: str, separators: Sequence[str], has: Callable[[str, str], bool]) -> tuple[str, Sequence[str]]:
    """(the first separator that the text has, those after it)."""
    for position, separator in enumerate(separators):
        if not separator or has(text, separator):
            return separator, separators[position + 1 :]
    return separators[-1], ()


def _split_recursively(text: str, separators: Sequence[str], size: int, overlap: int) -> Iterator[str]:
    return _split_at(text, *_first(text, separators, _matches), size, overlap)


def _matches(text: str, separator: str) -> bool:
    return bool(_ANY_THEN_SPACE.search(text)) if separator == ". " else separator in text


def _split_at(text: str, separator: str, rest: Sequence[str], size: int, overlap: int) -> Iterator[str]:
    """Splits after each separator, merges pieces that are short, and splits those that are long at the `rest`."""
    pieces = text.split(separator) if separator else list(text)
    pieces = [piece + separator for piece in pieces[:-1]] + pieces[-1:]
    short: list[str] = []
    for piece in pieces:
        if piece in ("", "\n"):
            continue
        if len(piece) < size:
            short.append(piece)
            continue
        yield from _merge(short, size, overlap)
        short = []
        yield from _split_recursively(piece, rest, size, overlap) if rest else [piece]
    yield from _merge(short, size, overlap)


def _merge(pieces: Iterable[str], size: int, overlap: int) -> Iterator[str]:
    """Joins neighbours up to `size`; a chunk begins with the last pieces of the one before, up to `overlap`."""
    current: deque[str] = deque()
    total = 0
    for piece in pieces:
        if current and total + len(piece) > size:
            yield "".join(current).strip()
            while total > overlap or (total + len(piece) > size and total > 0):
                total -= len(current.popleft())
        current.append(piece)
        total += len(piece)
    yield "".join(current).strip()


def _windows(text: str, size: int, overlap: int) -> Iterator[str]:
    """A text without any separator, in windows of characters."""
    current, shared = "", ""
    for character in text.replace("\n", ""):
        if len(current) >= size:
            yield current
            current, shared = shared, ""
        elif len(current) >= size - overlap:
            shared += character
        current += character
    yield current
