"""Decodes text by its byte order mark, by its declared encoding, or else by detection.

Legacy encodings are detected by chardetng, Firefox's detector: it runs in linear time, and reads more of the texts in
`tests/content/texts.py` than charset-normalizer and uchardet do.
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
_SAMPLE = 64 * 1024  # bytes that are enough for detection
_HEAD = 1024  # bytes in which a document may declare its encoding
_META = re.compile(rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
# Text in these encodings is valid UTF-8 as well: only the declaration distinguishes it.
_SEVEN_BITS = re.compile(r"utf-7|iso2022|hz")
_LONGEST_NAME = 40  # characters; Python caches every name it looks up, known or not
# Python decodes these too, but they are not meant as charsets, and some take quadratic time.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})
# Python's codecs for what the Web means by these names: supersets of their namesakes.
_WEB: dict[str, str] = {
    "ascii": "",  # ASCII needs no declaration
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
_DETECTOR_NAMES = {"iso-8859-8-i": "iso8859-8", "x-mac-cyrillic": "mac-cyrillic"}  # names that Python does not know
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\f\r\x1b"})
_MANY_CONTROLS = 0.4  # share of a text's bytes: alphabets in UTF-16 have one in every character
_SHORT = 8  # bytes: too few for one control character to prove anything
_LIKELY = 0.9  # share of a text's characters that must be everyday ones
# Characters of everyday text. East Asian letters whose low byte is 0 are left out: they are byte-swapped ASCII.
_EVERYDAY = re.compile(
    "[\t\n\r -~\u00a0-\u06ff\u0900-\u0dff\u0e01-\u0e5b\u1e00-\u1eff\u2010-\u2044\u20a0-\u20bf\u2100-\u22ff\u2460-\u27bf"
    "\u3001-\u303f\u3041-\u30ff\u4e01-\u9fff\uac01-\ud7a3\uff01-\uff9f\uffe0-\uffe6\U0001f300-\U0001faff]"
)


def decode(data: bytes, charset: str = "") -> str:
    """The decoded text. `charset` is the encoding that came with it, if any; without one, a document's own
    `<meta charset>` or XML declaration is used.

    Tried in this order: the byte order mark; UTF-16 if it can be nothing else; UTF-8 if it is valid, because many
    declarations are wrong; the declared encoding; the detected one. Never fails: bytes that cannot be decoded become
    U+FFFD.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    charset = _codec(charset or _inner_declaration(data))
    first = charset if _SEVEN_BITS.match(charset) else _wide(data)
    for encoding in (first, "utf-8", charset):
        if encoding:
            try:
                return data.decode(encoding)
            except UnicodeError:
                continue
    if (text := _cut_off(data)) is not None:
        return text
    return data.decode(_guess(data), "replace")


def _codec(charset: str) -> str:
    """Python's name of a declared encoding; "" if it is unknown or not a text encoding."""
    try:
        name = codecs.lookup(charset).name if charset and len(charset) <= _LONGEST_NAME else ""
        if not name or name in _NO_CHARSETS:
            return ""
        b"    ".decode(name, "replace")  # raises LookupError for a codec that is not for text, such as hex
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
    """Whether this is UTF-16 or UTF-32, with or without a byte order mark."""
    return any(data.startswith(mark) for mark, _ in _BOMS) or bool(_wide(data))


def is_utf8(data: bytes) -> bool:
    """Whether all bytes are valid UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _sense(sample: bytes, encoding: str) -> float:
    """The share of everyday characters when the bytes are decoded so."""
    text = sample.decode(encoding, "replace")
    return len(_EVERYDAY.findall(text)) / len(text)


def _cut_off(data: bytes) -> str | None:
    """The text of UTF-8 that is cut off within its last character; None if it is something else."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data)
    except UnicodeDecodeError:
        return None
    return (
        None if text.isascii() else text
    )  # a lone byte after ASCII is more likely an accented letter of a legacy encoding


def _guess(data: bytes) -> str:
    detector = EncodingDetector()
    detector.feed(data[:_SAMPLE], last=len(data) <= _SAMPLE)
    name = detector.guess(tld=None, allow_utf8=False).lower()
    return _codec(_DETECTOR_NAMES.get(name, name)) or "cp1252"
