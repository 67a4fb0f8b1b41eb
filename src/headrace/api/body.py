"""A request's body, read by hand: as it comes, and no further than it may go."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from headrace.errors import RequestError

_DRAINED = 64 * 1024 * 1024  # bytes of a refused body that are read and dropped


class Body:
    """A body of at most `limit` bytes; `too_large` is the error of one that has more.

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

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces. Raises `too_large` as soon as that is known, ClientDisconnect if the client leaves."""
        if self._declared > self._limit:
            raise self._too_large
        while not self._ended:
            piece = await self._piece()
            if self._read > self._limit:
                raise self._too_large
            yield piece

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
