"""Text out of bytes whose encoding nobody told."""

from __future__ import annotations

import codecs
from collections.abc import Callable

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, which begins alike
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 4096  # characters that are looked at
_LIKELY = 0.7  # share of them that must be everyday ones


def decode(data: bytes) -> str:
    """The text: by its byte order mark, as UTF-8 or UTF-16, in the East Asian encoding that it makes the most sense
    in, or else as Western European. Never fails: what cannot be decoded is replaced."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if wide := _wide(data):
        return data.decode(wide, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end >= len(data) and len(data) - error.start < 4 and error.start > 0:
            return data[: error.start].decode("utf-8")  # cut off in mid-character
    scored = [(_sense(data, encoding, everyday), encoding) for encoding, everyday in _ASIAN]
    best, encoding = max(scored)
    return data.decode(encoding) if best >= _LIKELY else data.decode("cp1252", "replace")


def _wide(data: bytes) -> str | None:
    """UTF-16 without a mark: mostly ASCII, so that every other byte is NUL."""
    sample = data[:1024]
    if len(sample) < 4 or len(data) % 2:
        return None
    half = len(sample) // 2
    if sample[1::2].count(0) > half * 0.7 and sample[::2].count(0) < half * 0.1:
        return "utf-16-le"
    if sample[::2].count(0) > half * 0.7 and sample[1::2].count(0) < half * 0.1:
        return "utf-16-be"
    return None


def _sense(data: bytes, encoding: str, everyday: Callable[[bytes], bool]) -> float:
    """The share of everyday characters among those that are not ASCII, if it is in this encoding; 0 if it is not."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return 0.0
    sample = [character for character in text[: 16 * _SAMPLE] if character > "\x7f"][:_SAMPLE]
    if not sample:
        return 0.0
    return sum(everyday(character.encode(encoding)) for character in sample) / len(sample)


def _gb18030(code: bytes) -> bool:
    """Punctuation, and the 3,755 most frequent characters of GB 2312."""
    return len(code) == 2 and code[1] >= 0xA1 and (0xA1 <= code[0] <= 0xA3 or 0xB0 <= code[0] <= 0xD7)


def _big5(code: bytes) -> bool:
    """Punctuation, and the 5,401 most frequent characters."""
    return len(code) == 2 and 0xA1 <= code[0] <= 0xC6


def _shift_jis(code: bytes) -> bool:
    """Punctuation, kana, and the kanji of level 1."""
    return len(code) == 2 and (0x81 <= code[0] <= 0x83 or 0x88 <= code[0] <= 0x97)


_ASIAN: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("gb18030", _gb18030),
    ("big5", _big5),
    ("cp932", _shift_jis),
)
