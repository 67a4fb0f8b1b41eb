"""A request's body: read as it arrives, up to a limit, and checked by its declared shape."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from headrace.api.http.errors import of_status
from headrace.api.http.schema import adapter
from headrace.errors import InvalidParam, RequestError
from headrace.values import Value

T = TypeVar("T")

_DRAINED = 64 * 1024 * 1024  # bytes of a rejected body that are read and dropped
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's `wbits` of each supported encoding
_ENCODING = "The request's Content-Encoding is not supported; send gzip, deflate or none."
_CORRUPT = "The request's body does not match its Content-Encoding."


def header(request: Request, name: bytes) -> str | None:
    """As `request.headers.get`, which is too slow for every request."""
    for key, value in request.scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


class Body:
    """A body of at most `limit` bytes, decompressed if it is compressed. `too_large` is the error of a larger one, 413
    by default.

    A rejected body is still read for a while: a client that is still sending when the connection closes sees a broken
    connection, and never the response.
    """

    def __init__(self, request: Request, limit: int, too_large: RequestError | None = None) -> None:
        self._receive = request.receive
        self._limit = limit
        self._too_large = too_large
        self._ended = False
        self._size = 0
        length = header(request, b"content-length") or ""
        self._length = int(length) if length.isascii() and length.isdigit() else 0
        self._expects_continue = (
            header(request, b"expect") is not None
        )  # the client waits for 100 before it sends the body
        self._encoding = (header(request, b"content-encoding") or "identity").strip().lower()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces. Raises `too_large` as soon as that is known, ClientDisconnect if the client disconnects."""
        if self._length > self._limit:
            raise self._too_large or of_status(413)
        decompressor = None if self._encoding in ("", "identity") else _Decompressor(self._encoding)
        size = 0
        while not self._ended:
            piece = await self._piece()
            if decompressor is not None and self._size <= self._limit:
                piece = decompressor.feed(piece, self._limit - size + 1)
                size += len(piece)
            if max(self._size, size) > self._limit:
                raise self._too_large or of_status(413)
            yield piece
        if decompressor is not None and self._size and not decompressor.is_complete:
            raise of_status(400, _CORRUPT)

    async def whole(self) -> bytes:
        """All of it; a rejected one is drained."""
        try:
            pieces = [piece async for piece in self]
        except RequestError:
            await self.drain()
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def drain(self) -> None:
        """Reads the rest and drops it."""
        most = self._size + _DRAINED
        while not (self._ended or self._expects_continue) and self._size < most:
            await self._piece()

    async def _piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        self._size += len(piece)
        self._ended = not message.get("more_body", False)
        return piece


class _Decompressor:
    """Decompresses a body piece by piece. RequestError for an encoding that is not supported."""

    def __init__(self, encoding: str) -> None:
        if encoding not in _WINDOWS:
            raise of_status(415, _ENCODING)
        self._zlib = zlib.decompressobj(_WINDOWS[encoding])

    @property
    def is_complete(self) -> bool:
        return self._zlib.eof

    def feed(self, piece: bytes, most: int) -> bytes:
        """The content of a piece, `most` bytes of it at most, whatever it expands to."""
        try:
            data = self._zlib.decompress(piece, most)
        except zlib.error:
            raise of_status(400, _CORRUPT) from None
        if self._zlib.unused_data:
            raise of_status(400, _CORRUPT)
        return data


def _invalid(where: str, message: str) -> RequestError:
    return InvalidParam(f"{where}: {message}")


def parse(shape: type[T], body: Mapping[str, Value], error_of: Callable[[str, str], RequestError] = _invalid) -> T:
    """A request's body as its shape has it. Raises `error_of` the first field that does not fit and why not, in
    pydantic's words, which are Dify's."""
    try:
        return adapter(shape).validate_python(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:50] for part in first["loc"])
        if first["type"] == "extra_forbidden":
            names = ", ".join(sorted(getattr(shape, "__annotations__", {})))
            raise error_of(where, f"Input should be one of {names}") from None
        raise error_of(where, first["msg"]) from None
