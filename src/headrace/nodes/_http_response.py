"""Whether an HTTP response is text, and in which encoding, or a file, and of which type."""

from __future__ import annotations

from email.message import Message
from functools import cached_property
from urllib.parse import urlsplit

from headrace.content.disposition import basename, parse_disposition
from headrace.content.encodings import decode, is_utf8, is_wide
from headrace.content.filetypes import (
    OCTET_STREAM,
    UNSPECIFIC,
    essence,
    extension_of,
    guess_extension,
    guess_type,
    is_plain_utf8,
    is_text_type,
    type_by_content,
)
from headrace.errors import NodeError
from headrace.ports.services import HttpResponse

_MEDIA = ("image/", "audio/", "video/", "font/")
_MARKERS = (b"{", b"[", b"<", b"function", b"var ", b"const ", b"let ")
_SAMPLE = 1024
_MB = 1024 * 1024
_LONGEST_EXTENSION = 20
_LONGEST_TYPE = 1024  # characters of a header that are parsed, because the parser is quadratic


class ResponseContent:
    """An HTTP response, classified."""

    def __init__(self, response: HttpResponse) -> None:
        self._body = response.body
        self._url = response.url
        self.headers: dict[str, str] = {}
        for name, value in response.headers:
            name = name.lower()
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self._type = essence(self.headers.get("content-type", ""))
        self._disposition = parse_disposition(self.headers.get("content-disposition", ""))

    @cached_property
    def is_file(self) -> bool:
        """By the disposition, else by the first bytes, else by the type. As in Dify, except where its rule is wrong:
        office documents ("xml" is in their type), and files that happen to be ASCII only."""
        kind, body = self._type, self._body
        if self._disposition.attachment or self._disposition.filename or kind.startswith(_MEDIA):
            return True
        if type_by_content(body):
            return True
        if not kind.startswith("application/") or is_text_type(kind):
            return self._is_binary
        known = kind == OCTET_STREAM or guess_extension(kind)
        if known and not any(marker in body[:_SAMPLE] for marker in _MARKERS):
            return True
        return not is_plain_utf8(body)

    @cached_property
    def _is_binary(self) -> bool:
        """Whether it is not text in any encoding, whatever its type."""
        return b"\0" in self._body[:_SAMPLE] and not is_utf8(self._body) and not is_wide(self._body)

    @cached_property
    def mime_type(self) -> str:
        """Of a file: by its name, else by the header, else by its content, else by the URL."""
        content = type_by_content(self._body)
        wrong = is_text_type(self._type) and (content or self._is_binary)
        content_type = "" if wrong or self._type in UNSPECIFIC else self._type
        type_of_name = guess_type(basename(_path(self._url)))
        if is_text_type(type_of_name) or type_of_name == OCTET_STREAM:
            type_of_name = ""  # a script, more likely than a file
        if content == "application/zip":
            content = type_of_name or content  # many formats are archives
        return guess_type(self._disposition.filename) or content_type or content or type_of_name or OCTET_STREAM

    @property
    def extension(self) -> str:
        """Of a file, with its dot: the usual one of its type, else that of its name."""
        extension = extension_of(self._disposition.filename)[:_LONGEST_EXTENSION]
        usual = guess_extension(self.mime_type)
        if usual and not (extension and self.mime_type == OCTET_STREAM):
            return usual
        return extension or ".bin"

    @cached_property
    def text(self) -> str:
        """The decoded body."""
        header = Message()
        header["Content-Type"] = self.headers.get("content-type", "")[:_LONGEST_TYPE]
        return decode(self._body, header.get_content_charset(""))

    def check_size(self, max_text: int, max_binary: int) -> None:
        """Raises NodeError `ResponseSizeError` if it is too large for its kind; sizes in bytes."""
        size, most = len(self._body), max_binary if self.is_file else max_text
        if size > most:
            what = "File" if self.is_file else "Text"
            raise NodeError(
                f"{what} size is too large, max size is {most / _MB:.2f} MB, but current size is {_readable(size)}.",
                "ResponseSizeError",
            )


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _readable(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.2f} KB" if size < _MB else f"{size / _MB:.2f} MB"
