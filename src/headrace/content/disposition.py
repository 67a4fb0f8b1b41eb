"""Content-Disposition headers, including those that break the rules."""

from __future__ import annotations

import re
from contextlib import suppress
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from headrace.content.encodings import decode

_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATES = re.compile("[\udc80-\udcff]")
_LONE = re.compile("[\ud800-\udfff]")
_LONGEST = 4096  # characters of a header that are parsed, because the parser is quadratic


class Disposition(NamedTuple):
    """`attachment`: whether the content is to be saved; `filename`: without folders, "" if there is none."""

    attachment: bool
    filename: str


def parse_disposition(header: str) -> Disposition:
    """Parses a Content-Disposition header. The name may be plain, quoted, in RFC 2231's form (`filename*=`), in
    RFC 2047's, percent-encoded, or in bytes of any encoding (which come as surrogate escapes)."""
    header = header[:_LONGEST]
    if not header.strip():
        return Disposition(False, "")
    raw = header.encode("utf-8", "surrogateescape")
    message = Message()
    message["Content-Disposition"] = decode(raw) if _SURROGATES.search(header) else header
    name = _filename(message)
    if _ENCODED_WORD.search(name):
        with suppress(HeaderParseError, LookupError, UnicodeError):
            name = str(make_header(decode_header(name)))
    kind = message.get_content_disposition() or ""
    return Disposition(kind == "attachment", basename(name))


def _filename(message: Message) -> str:
    """The name in RFC 2231's form if there is one: the other is for clients that do not know that form."""
    names = [value for key, value in message.get_params([], "content-disposition") if key.lower() == "filename"]
    encoded_names = [value for value in names if isinstance(value, tuple)]
    value = (encoded_names or names or [""])[0]
    try:
        name = collapse_rfc2231_value(value)
    except UnicodeError:  # from encodings that are not for text, such as idna
        name = value[2] if isinstance(value, tuple) else value
    return name.strip(name[0]) if name[:1] in ("'", '"') else name  # single quotes, or unclosed ones


def basename(path: str) -> str:
    """The last part of a path or of a URL's path, percent-decoded, without control characters and lone surrogates;
    "" for `.` and `..`."""
    name = path.rpartition("/")[2]
    if "%" in name:
        name = decode(unquote_to_bytes(name))
    name = _CONTROLS.sub("", name.replace("\\", "/").rpartition("/")[2]).strip()
    return "" if name in (".", "..") else _LONE.sub("\ufffd", name)
