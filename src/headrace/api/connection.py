"""One connection: uvicorn's, with limits to how long a request may take to arrive, and how large its head may be.

Answers may take as long as they like: a stream lasts as long as its run.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from headrace.api.errors import envelope, of_status

LARGEST_HEAD = 64 * 1024  # bytes of a request's line and headers
SLOWEST = 10 * 1024  # bytes a second, of a body: who is faster has time for as long a body as it likes
_HEADERS = (
    b"content-type: application/json\r\n"
    b"cache-control: no-store\r\n"
    b"x-content-type-options: nosniff\r\n"
    b"connection: close\r\n"
)


class Connection(HttpToolsProtocol):
    """`draining`: the next answer is the last one."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.draining = False
        self._since: float | None = None  # when we began to wait for a request; None: it is here
        self._begun = False  # some of it is here
        self._heading = True
        self._head = 0  # bytes of the head so far
        self._received = 0  # bytes of the body so far

    # --------------------------------------------------------------------------------------------- what uvicorn calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._heading:
            self._head += len(data)
        super().data_received(data)
        if self._heading and self._head > LARGEST_HEAD and not self.transport.is_closing():
            self.refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since = self.loop.time()
        self._begun = self._heading = True
        self._received = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._heading = False
        self._head = 0
        if self.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._received += len(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._since = None
        self._begun, self._heading = False, True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._since is None and self.cycle.response_complete:
            self._since = self.loop.time()  # of the next one

    def send_400_response(self, msg: str) -> None:
        self.refuse(400)

    # ------------------------------------------------------------------------------------------- what the server calls

    @property
    def answering(self) -> bool:
        """Whether an answer is owed to a request."""
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]  # None at first

    def look(self, now: float, seconds: float, tick: float) -> None:
        """Refuses a request that has taken more than `seconds` to arrive, and what its body may take beyond that.
        Called every `tick` seconds."""
        if self._since is None or self.timeout_keep_alive_task is not None:
            return  # nothing is awaited, or nothing but the next request
        if self.flow.read_paused:
            self._since += tick  # it is for us to read on
        elif now - self._since > seconds + self._received / SLOWEST:
            self.refuse(408)

    def drain(self) -> None:
        """Ends the connection with the answer that is owed, or the next one."""
        self.draining = True
        if self.answering:
            self.cycle.keep_alive = False

    def refuse(self, status: int) -> None:
        """Answers by ourselves, if nothing else has begun to, and closes."""
        owed = self.answering
        if (owed and not self.cycle.response_started) or (not owed and (self._begun or status < 408)):
            answer = envelope(of_status(status))
            body = bytes(answer.body)
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers)
            size = b"content-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + lines + _HEADERS + size + body)
        if owed:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
