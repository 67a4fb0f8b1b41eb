"""A request's body, read by hand: as it comes, and no further than it may go."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from headrace.api.http.errors import of_status
from headrace.errors import RequestError

_DRAINED = 64 * 1024 * 1024  # bytes of a refused body that are read and dropped
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's `wbits` of each encoding that is taken
_ENCODING = "The request's Content-Encoding is not one that is taken: gzip, deflate or none."
_CORRUPT = "The request's body is not what its Content-Encoding says."


class Body:
    """A body of at most `limit` bytes, unpacked if it is packed; `too_large` is the error of one that has more.

    What is refused is read on for a while all the same: a client that is still sending when the connection closes
    sees a broken connection, and never the answer.
    """

    def __init__(self, request: Request, limit: int, too_large: RequestError) -> None:
        self._receive = request.receive
        self._limit = limit
        self._too_large = too_large
        self._ended = False
        self._read = 0
        declared = request.headers.get("content-length", "")
        self._declared = int(declared) if declared.isascii() and declared.isdigit() else 0
        self._asks = "expect" in request.headers  # it waits for a word before it sends anything
        self._encoding = request.headers.get("content-encoding", "identity").strip().lower()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces. Raises `too_large` as soon as that is known, ClientDisconnect if the client leaves."""
        if self._declared > self._limit:
            raise self._too_large
        unpacking = None if self._encoding in ("", "identity") else _Unpacking(self._encoding)
        size = 0
        while not self._ended:
            piece = await self._piece()
            if self._read > self._limit:
                raise self._too_large
            if unpacking is not None:
                piece = unpacking.feed(piece, self._limit - size + 1)
                size += len(piece)
                if size > self._limit:
                    raise self._too_large
            yield piece
        if unpacking is not None and self._read and not unpacking.whole:
            raise of_status(400, _CORRUPT)

    async def whole(self) -> bytes:
        """All of it; a refused one is drained."""
        try:
            pieces = [piece async for piece in self]
        except RequestError:
            await self.drain()
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def drain(self) -> None:
        """Reads what is still to come, and drops it."""
        most = self._read + _DRAINED
        while not (self._ended or self._asks) and self._read < most:
            await self._piece()

    async def _piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        self._read += len(piece)
        self._ended = not message.get("more_body", False)
        return piece


class _Unpacking:
    """A body as it is unpacked, piece by piece. RequestError for an encoding that is not taken."""

    def __init__(self, encoding: str) -> None:
        if encoding not in _WINDOWS:
            raise of_status(415, _ENCODING)
        self._zlib = zlib.decompressobj(_WINDOWS[encoding])

    @property
    def whole(self) -> bool:
        return self._zlib.eof

    def feed(self, piece: bytes, most: int) -> bytes:
        """What a piece holds, `most` bytes of it at most: a bomb goes off no further than that."""
        try:
            data = self._zlib.decompress(piece, most)
        except zlib.error:
            raise of_status(400, _CORRUPT) from None
        if self._zlib.unused_data:
            raise of_status(400, _CORRUPT)
        return data
