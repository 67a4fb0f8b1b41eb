"""Server-sent events: a response that tells what comes, pings while nothing does, and ends when the client leaves.

Two tasks share a buffer: one takes in what there is to tell, the other sends all that has gathered in one piece. So a
burst of tokens costs one write, and waiting for the next never has to be cancelled to send a ping.
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
_ROOM = 256 * 1024  # bytes that may wait for a slow client before its run's records do


class EventStream(Response):
    """Sends what `events` yields. `lease` is closed at the end, whatever the end is. `ping`: seconds of silence, after
    which `beat` is sent."""

    def __init__(
        self, events: AsyncGenerator[bytes], ping: float, lease: AsyncExitStack | None = None, beat: bytes = PING
    ) -> None:
        super().__init__(headers=dict(HEADERS))
        del self.headers["content-length"]
        self._events = events
        self._ping = ping
        self._beat = beat
        self._lease = lease or AsyncExitStack()
        self._waiting: list[bytes] = []
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await self.drop()
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body"})
            return
        async with self._lease:
            gathering = asyncio.create_task(self._gather())
            gathering.add_done_callback(lambda _: self._news.set())
            sending = asyncio.create_task(self._send(send, gathering))
            leaving = asyncio.create_task(gone(receive))
            try:
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (gathering, sending, leaving):
                    task.cancel()
                ended = await asyncio.gather(sending, gathering, leaving, return_exceptions=True)
            if isinstance(ended[0], Exception):
                raise ended[0]

    async def drop(self) -> None:
        """Lets go of a stream that is not sent after all."""
        await self._lease.aclose()

    async def _gather(self) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                self._waiting.append(event)
                self._size += len(event)
                self._news.set()
                while self._size > _ROOM:
                    self._room.clear()
                    await self._room.wait()

    async def _send(self, send: Send, gathering: asyncio.Task[None]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while True:
            if not self._waiting and not gathering.done():
                self._news.clear()
                try:
                    async with asyncio.timeout(self._ping):
                        await self._news.wait()
                except TimeoutError:
                    self._waiting.append(self._beat)
            if self._waiting:
                body, self._waiting, self._size = b"".join(self._waiting), [], 0
                self._room.set()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            elif gathering.done():
                gathering.result()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return


async def gone(receive: Receive) -> None:
    """Returns when the client has left. For a request whose body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
