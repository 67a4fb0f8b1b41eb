"""What an HTTP answer is: text (in which encoding?) or a file (of which type?)."""

from __future__ import annotations

import codecs
import re
from email.message import Message
from functools import cached_property
from mimetypes import MimeTypes

from headrace.errors import NodeError
from headrace.resources import HttpResponse

_TABLE = MimeTypes()
_BINARY = ("application/", "image/", "audio/", "video/")
_TEXTUAL = ("json", "xml", "javascript", "x-www-form-urlencoded", "yaml", "graphql")
_MARKERS = (b"{", b"[", b"<", b"function", b"var ", b"const ", b"let ")
_SAMPLE = 1024
_MB = 1024 * 1024
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_META = re.compile(rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
# Bytes of these are, or may be, valid UTF-8 too, so only the declaration tells them.
_NOT_ASCII = re.compile(r"utf-?(16|32|7)|iso2022|hz")
# Python decodes these too, but no server means them, and some take a time that grows with the square of the size.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})


class Answer:
    """An HTTP answer, looked at."""

    def __init__(self, response: HttpResponse) -> None:
        self._body = response.body
        self.headers: dict[str, str] = {}
        for name, value in response.headers:
            name = name.lower()
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self._type = self.headers.get("content-type", "").split(";")[0].strip().lower()
        self._disposition = Message()
        self._disposition["Content-Disposition"] = self.headers.get("content-disposition", "")

    @cached_property
    def is_file(self) -> bool:
        """By the disposition, else by the type, else by how it begins."""
        if self._disposition.get_content_disposition() == "attachment" or self._filename:
            return True
        kind = self._type
        if not kind.startswith(_BINARY):
            return False
        if not kind.startswith("application/"):
            return True
        if any(each in kind for each in _TEXTUAL):
            return False
        known = _TABLE.guess_extension(kind) is not None
        try:
            sample = codecs.getincrementaldecoder("utf-8")().decode(self._body[:_SAMPLE])
        except UnicodeDecodeError:
            return True
        return known and not any(marker.decode() in sample for marker in _MARKERS)

    @property
    def _filename(self) -> str:
        return self._disposition.get_filename("")

    @property
    def mime_type(self) -> str:
        """Of a file: what its name says, else what the server says."""
        return _TABLE.guess_type(self._filename)[0] or self._type or "application/octet-stream"

    @cached_property
    def text(self) -> str:
        """The body decoded: by its byte order mark, as UTF-8 where it is valid, else as the server or the document
        declares, else as the encoding that most other pages have. What still cannot be decoded becomes U+FFFD."""
        body = self._body
        declared = self._charset()
        tries = [encoding for mark, encoding in _BOMS if body.startswith(mark)][:1]
        tries += [declared] if _NOT_ASCII.match(declared) else []
        tries += ["utf-8", declared, "gb18030"]
        for encoding in tries:
            try:
                return body.decode(encoding)
            except (UnicodeError, LookupError):
                continue
        return body.decode("utf-8", "replace")

    def _charset(self) -> str:
        header = Message()
        header["Content-Type"] = self.headers.get("content-type", "")
        charset = header.get_content_charset("")
        if not charset and (found := _META.search(self._body[:_SAMPLE])):
            charset = found[1].decode("ascii")
        try:
            name = codecs.lookup(charset or "utf-8").name
        except (LookupError, ValueError):
            return "utf-8"
        return "utf-8" if name in _NO_CHARSETS else name

    def check_size(self, max_text: int, max_binary: int) -> None:
        """NodeError `ResponseSizeError` where it is larger than its kind may be; sizes in bytes."""
        size, most = len(self._body), max_binary if self.is_file else max_text
        if size > most:
            what = "File" if self.is_file else "Text"
            raise NodeError(
                f"{what} size is too large, max size is {most / _MB:.2f} MB, but current size is {_readable(size)}.",
                "ResponseSizeError",
            )


def _readable(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.2f} KB" if size < _MB else f"{size / _MB:.2f} MB"
