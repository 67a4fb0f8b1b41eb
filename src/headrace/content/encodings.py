"""Text out of bytes: by their byte order mark, by what is declared, or else by a guess that is right on short texts.

The guess at encodings that are older than Unicode is chardetng's, the detector of Firefox: of the texts in
`tests/content/texts.py` it reads more than any other (charset-normalizer and uchardet were tried), in linear time.
"""

from __future__ import annotations

import codecs
import re

from chardetng_py import EncodingDetector

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, which begins alike
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 64 * 1024  # bytes that a guess looks at
_HEAD = 1024  # bytes in which a document may declare its encoding
_META = re.compile(rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
# What is encoded so is valid UTF-8 too: only the declaration tells.
_SEVEN_BITS = re.compile(r"utf-7|iso2022|hz")
_LONGEST_NAME = 40  # characters; Python remembers every name that it was ever asked for, known or not
# Python decodes these too, but nobody means them, and some take a time that grows with the square of the size.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})
# Python's codecs for the encodings that the Web means by these names: each takes more characters than its namesake.
_WEB: dict[str, str] = {
    "ascii": "",  # what is all ASCII needs no declaration
    "iso8859-1": "cp1252",
    "utf-16": "utf-16-le",
    "utf-32": "utf-32-le",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
}
_OF_DETECTOR = {"iso-8859-8-i": "iso8859-8", "x-mac-cyrillic": "mac-cyrillic"}  # names that Python does not know
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\f\r\x1b"})
_MANY_CONTROLS = 0.4  # share of a text's bytes: alphabets in UTF-16 have one in every character
_SHORT = 8  # bytes in which one control character proves nothing
_LIKELY = 0.9  # share of a text's characters that must be everyday ones
# Characters of everyday text. Letters of East Asia whose low byte is 0 are left out: those are ASCII read backwards.
_EVERYDAY = re.compile(
    "[\t\n\r -~\u00a0-\u06ff\u0900-\u0dff\u0e01-\u0e5b\u1e00-\u1eff\u2010-\u2044\u20a0-\u20bf\u2100-\u22ff\u2460-\u27bf"
    "\u3001-\u303f\u3041-\u30ff\u4e01-\u9fff\uac01-\ud7a3\uff01-\uff9f\uffe0-\uffe6\U0001f300-\U0001faff]"
)


def decode(data: bytes, declared: str = "") -> str:
    """The text, `declared` being the name of an encoding that came with it, if any; a document's own `<meta charset>`
    or XML declaration counts where nothing else does.

    In this order: as the byte order mark says; as UTF-16 where it can be nothing else; as UTF-8 where that is valid,
    because many declare what they do not send; as declared; as what it most likely is. Never fails: what still cannot
    be decoded becomes U+FFFD.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    declared = _codec(declared or _inner_declaration(data))
    first = declared if _SEVEN_BITS.match(declared) else _wide(data)
    for encoding in (first, "utf-8", declared):
        if encoding:
            try:
                return data.decode(encoding)
            except UnicodeError:
                continue
    if (text := _cut_off(data)) is not None:
        return text
    return data.decode(_guess(data), "replace")


def _codec(charset: str) -> str:
    """Python's name of a declared encoding; "" where there is none of that name, or it is not a text encoding."""
    try:
        name = codecs.lookup(charset).name if charset and len(charset) <= _LONGEST_NAME else ""
        if not name or name in _NO_CHARSETS:
            return ""
        b"    ".decode(name, "replace")  # LookupError of a codec that is none of text, such as hex
    except (LookupError, ValueError):
        return ""
    return _WEB.get(name, name)


def _inner_declaration(data: bytes) -> str:
    match = _META.search(data[:_HEAD])
    return match[1].decode("ascii") if match else ""


def _wide(data: bytes) -> str:
    """UTF-16 without a mark: it has control characters where no other text has any, and makes sense. "" otherwise."""
    sample = data[:4096]
    if len(data) % 2:
        return ""
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    few = controls < _MANY_CONTROLS * len(sample)
    if not controls or (few and (len(data) < _SHORT or is_utf8(data))):
        return ""
    sense, encoding = max((_sense(sample, encoding), encoding) for encoding in ("utf-16-le", "utf-16-be"))
    return encoding if sense >= _LIKELY else ""


def is_wide(data: bytes) -> bool:
    """Whether bytes are UTF-16 or UTF-32, with a byte order mark or without."""
    return any(data.startswith(mark) for mark, _ in _BOMS) or bool(_wide(data))


def is_utf8(data: bytes) -> bool:
    """Whether all of the bytes are valid UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _sense(sample: bytes, encoding: str) -> float:
    """The share of everyday characters in what the bytes are in this encoding."""
    text = sample.decode(encoding, "replace")
    return len(_EVERYDAY.findall(text)) / len(text)


def _cut_off(data: bytes) -> str | None:
    """The text of UTF-8 whose last character is not whole; None where it is something else."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data)
    except UnicodeDecodeError:
        return None
    return None if text.isascii() else text  # an accented letter at the end of ASCII does not begin UTF-8


def _guess(data: bytes) -> str:
    detector = EncodingDetector()
    detector.feed(data[:_SAMPLE], last=len(data) <= _SAMPLE)
    name = detector.guess(tld=None, allow_utf8=False).lower()
    return _codec(_OF_DETECTOR.get(name, name)) or "cp1252"
