"""Reads an upload as it arrives: one file and the fields around it, with no more than a piece of it in memory.

Other parts of the form are ignored. Of several files with the name `file`, the first is used, as in Dify.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from headrace.api.http.errors import of_status
from headrace.api.http.request_body import Body
from headrace.errors import RequestError

_IN_MEMORY = 1024 * 1024  # bytes of a file, above which it is written to disk
_LONGEST_FIELD = 64 * 1024  # bytes of a field, or of a part's headers
_PARTS = 100
_OVERHEAD = 1024 * 1024  # bytes of an upload's request beyond the file itself


class MalformedForm(Exception):
    """The body is not a multipart form, or ends before the form does."""


@dataclass
class Form:
    """The content of an upload. `filename` is None where it has no file; `file_fields` are the names of all fields with
    files. The caller closes `file`."""

    filename: str | None = None
    content_type: str = ""
    size: int = 0
    file: SpooledTemporaryFile[bytes] = field(default_factory=lambda: SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115
    fields: dict[str, str] = field(default_factory=dict[str, str])
    file_fields: set[str] = field(default_factory=set[str])


class _Part:
    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.name = ""
        self.is_file = False
        self.value = bytearray()


class FormReader:
    """Reads a form. `too_large(filename, size)` is called as the file grows; it returns the error once the file is
    larger than it may be."""

    def __init__(self, content_type: str, too_large: Callable[[str, int], RequestError | None]) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise MalformedForm
        self._too_large = too_large
        self._form = Form()
        self._part = _Part()
        self._parts = 0
        self._header = b""
        self._value = b""
        self._waiting: list[bytes] = []  # of the file, not yet written
        self._is_complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError:
            raise MalformedForm from None

    async def read(self, body: AsyncIterable[bytes]) -> Form:
        """The whole form. MalformedForm, and whatever `too_large` or the body itself raises."""
        try:
            empty = True
            async for piece in body:
                empty = empty and not piece
                self._parser.write(piece)
                await self._write()
            if not (self._is_complete or empty):
                raise MalformedForm
        except BaseException as error:
            self._form.file.close()
            raise MalformedForm if isinstance(error, FormParserError) else error from None
        self._form.file.seek(0)
        return self._form

    async def _write(self) -> None:
        if not self._waiting:
            return
        data, self._waiting = b"".join(self._waiting), []
        self._form.size += len(data)
        if error := self._too_large(self._form.filename or "", self._form.size):
            raise error
        if self._form.size > _IN_MEMORY:
            await asyncio.to_thread(self._form.file.write, data)
        else:
            self._form.file.write(data)

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS:
            raise MalformedForm
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > _LONGEST_FIELD:
            raise MalformedForm

    def _on_header_end(self) -> None:
        self._part.headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        part.name = options.get(b"name", b"").decode(errors="replace")
        filename = options.get(b"filename")
        if filename is not None:
            self._form.file_fields.add(part.name)
        part.is_file = part.name == "file" and filename is not None and self._form.filename is None
        if part.is_file and filename is not None:
            self._form.filename = filename.decode(errors="replace")
            self._form.content_type = part.headers.get(b"content-type", b"").decode("latin-1").strip()
        elif filename is not None:
            part.name = ""  # another file: ignored

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._waiting.append(data[start:end])
        elif self._part.name:
            self._part.value += data[start:end]
            if len(self._part.value) > _LONGEST_FIELD:
                raise MalformedForm

    def _on_part_end(self) -> None:
        if self._part.name and not self._part.is_file:
            self._form.fields[self._part.name] = self._part.value.decode(errors="replace")

    def _on_end(self) -> None:
        self._is_complete = True


async def form_of(
    request: Request, largest: int, rejection: RequestError, too_large: Callable[[str, int], RequestError | None]
) -> Form:
    """A request's form, with a file of at most `largest` bytes; otherwise it is rejected. `too_large`: see
    `FormReader`. A rejected body is read to its end, so that the client gets the response."""
    body = Body(request, largest + _OVERHEAD, rejection)
    try:
        return await FormReader(request.headers.get("content-type", ""), too_large).read(body)
    except MalformedForm:
        await body.drain()
        raise of_status(400) from None
    except RequestError:
        await body.drain()
        raise
