"""Server-sent events: a response that sends events as they come, pings in between, and ends when the client
disconnects.

Two tasks share a buffer: one collects events, the other sends all that are there in one write. So a burst of tokens
costs one write, and waiting for the next event never has to be cancelled to send a ping.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PING = b"event: ping\n\n"
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
_BUFFER_SIZE = 256 * 1024  # bytes that may wait for a slow client


class EventStream(Response):
    """Sends what `events` yields. `stack` is closed at the end, whatever the end is. After `ping` seconds without an
    event, `ping_event` is sent."""

    def __init__(
        self, events: AsyncGenerator[bytes], ping: float, stack: AsyncExitStack | None = None, ping_event: bytes = PING
    ) -> None:
        super().__init__(headers=dict(HEADERS))
        del self.headers["content-length"]
        self._events = events
        self._ping = ping
        self._ping_event = ping_event
        self._stack = stack or AsyncExitStack()
        self._buffer: list[bytes] = []
        self._size = 0
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await self.close()
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body"})
            return
        async with self._stack:
            collecting = asyncio.create_task(self._collect())
            collecting.add_done_callback(lambda _: self._changed.set())
            sending = asyncio.create_task(self._send(send, collecting))
            disconnecting = asyncio.create_task(disconnected(receive))
            try:
                await asyncio.wait((sending, disconnecting), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (collecting, sending, disconnecting):
                    task.cancel()
                ended = await asyncio.gather(sending, collecting, disconnecting, return_exceptions=True)
            if isinstance(ended[0], Exception):
                raise ended[0]

    async def close(self) -> None:
        """Closes a stream that is not sent after all."""
        await self._stack.aclose()

    async def _collect(self) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                self._buffer.append(event)
                self._size += len(event)
                self._changed.set()
                while self._size > _BUFFER_SIZE:
                    self._has_room.clear()
                    await self._has_room.wait()

    async def _send(self, send: Send, collecting: asyncio.Task[None]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while True:
            if not self._buffer and not collecting.done():
                self._changed.clear()
                try:
                    async with asyncio.timeout(self._ping):
                        await self._changed.wait()
                except TimeoutError:
                    self._buffer.append(self._ping_event)
            if self._buffer:
                body, self._buffer, self._size = b"".join(self._buffer), [], 0
                self._has_room.set()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            elif collecting.done():
                collecting.result()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return


async def disconnected(receive: Receive) -> None:
    """Returns when the client has disconnected. For a request whose body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
