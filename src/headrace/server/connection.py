"""A connection: uvicorn's, with limits to how long a request may take to arrive, and how large its head may be.

Responses have no time limit: a stream lasts as long as its run. Only HTTP/1.1 is supported: an offer of another
protocol (`Upgrade`, which Java's client sends with every first request) is ignored, and a request of HTTP/1.0 gets a
response that such a client can read.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from headrace.api.http.errors import envelope, of_status

logger = logging.getLogger(__name__)

LARGEST_HEAD = 64 * 1024  # bytes of a request's line and headers
SLOWEST = 10 * 1024  # bytes a second, of a body: a client that is faster may send a body of any length
LINGER_SECONDS = 2.0  # for a client that is still sending to read the response before the connection is closed
LINGER_BYTES = 16 * 1024 * 1024  # that are discarded meanwhile
_HEADERS = (
    b"content-type: application/json\r\n"
    b"cache-control: no-store\r\n"
    b"x-content-type-options: nosniff\r\n"
    b"connection: close\r\n"
)


class Connection(HttpToolsProtocol):
    """`draining`: the next response is the last one. `most` connections may be open at a time."""

    def __init__(self, *arguments: Any, most: int = sys.maxsize, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._most = most
        self.silent_since = 0.0  # when it last began or ended a request
        self.draining = False
        self._since: float | None = None  # when the wait for a request began; None: it has arrived
        self._partly_arrived = False
        self._heading = True
        self._head = 0  # bytes of the head so far
        self._body_size = 0  # bytes of the packets with its body so far
        self._retried_head: bytes | None = None  # the head of a request that offers another protocol
        self._discarded_size: int | None = None  # bytes since the end of the last response; None: it has not ended

    # --------------------------------------------------------------------------------------------- what uvicorn calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._since = self.silent_since = self.loop.time()
        if len(self.connections) > self._most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if self._discarded_size is not None:
            self._discarded_size += len(data)
            if self._discarded_size > LINGER_BYTES:
                self.transport.close()
            return
        if self._heading:
            self._head += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            logger.warning("received a request that is not valid HTTP")
            self.reject(400)
            return
        if not self._heading:
            self._body_size += len(data)
        elif self._head > LARGEST_HEAD and not self.transport.is_closing():
            self.reject(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since = self.loop.time()
        self._partly_arrived = self._heading = True
        self._body_size = 0

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._retried_head = self._head_without_offer()
            return
        super().on_headers_complete()
        transport = self.transport
        output = _Output(self.cycle, transport.write, transport.is_closing, self._close)
        self.cycle.transport = cast("asyncio.Transport", output)
        self._heading = False
        self._head = 0
        if self.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if self._retried_head is not None:
            return
        super().on_message_complete()
        cast("_Output", self.cycle.transport).close = self.transport.close  # nothing is left to be discarded
        self._since = None
        self._partly_arrived, self._heading = False, True

    def on_response_complete(self) -> None:
        if self._discarded_size is not None:
            return  # it was the last one
        super().on_response_complete()
        if self._since is None and self.cycle.response_complete:
            self._since = self.silent_since = self.loop.time()  # of the next one

    def shutdown(self) -> None:
        if self._discarded_size is None:
            super().shutdown()
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, _until_closed(cycle, app) if cycle.scope["http_version"] == "1.0" else app)

    def _make_room(self) -> None:
        """Closes the idle connection that has been silent longest. A client that waits for a response is never cut off;
        if all are waiting, this connection is closed."""
        others = cast("set[Connection]", self.connections) - {self}
        idle = min(
            (connection for connection in others if not connection.responding),
            key=lambda connection: connection.silent_since,
            default=None,
        )
        (idle or self).drop()

    # -------------------------------------------------------------------------------------------- other protocols

    def _parse(self, data: bytes) -> None:
        """Feeds the parser. It stops at a request that offers another protocol, and leaves the body to that protocol:
        the head of such a request is parsed again, without the offer."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if self._retried_head is None:
                    return  # CONNECT: the application rejects it, and nothing follows
                head, self._retried_head = self._retried_head, None
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
                self.parser.feed_data(head)
                data = data[offer.args[0] :]

    def _head_without_offer(self) -> bytes:
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        return line + b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade") + b"\r\n"

    # ------------------------------------------------------------------------------------------- what the server calls

    @property
    def responding(self) -> bool:
        """Whether a request waits for its response."""
        if self._discarded_size is not None or self.cycle is None:  # pyright: ignore[reportUnnecessaryComparison]  # None at first
            return False
        return not self.cycle.response_complete

    def check_timeout(self, now: float, seconds: float, tick: float) -> None:
        """Rejects a request that has taken more than `seconds` to arrive, plus the time that its body may take. Called
        every `tick` seconds."""
        if self._since is None or self._discarded_size is not None or self.timeout_keep_alive_task is not None:
            return  # no request is arriving
        if self.flow.read_paused:
            self._since += tick  # the application has to read on
        elif now - self._since > seconds + self._body_size / SLOWEST:
            self.reject(408)

    def drop(self) -> None:
        """Closes it at once. For one without a complete request."""
        self.transport.abort()

    def drain(self) -> None:
        """Ends the connection with the pending response, or the next one."""
        self.draining = True
        if self.responding:
            self.cycle.keep_alive = False

    def reject(self, status: int) -> None:
        """Responds with an error, unless the request has a response or part of one, and closes."""
        pending = self.responding
        partly_arrived = self._heading and (self._partly_arrived or status < 408)
        if not self.cycle.response_started if pending else partly_arrived:
            response = envelope(of_status(status))
            body = bytes(response.body)
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers)
            size = b"content-length: %d\r\n\r\n" % len(body)
            head = STATUS_LINE[status] + lines + _HEADERS + size
            self.transport.write(head if pending and self.cycle.scope["method"] == "HEAD" else head + body)
        if pending:
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
        self._close(invalid=status == 400)

    def _close(self, *, invalid: bool = False) -> None:
        """Closes the connection after the last response. To close while the client is still sending would reset the
        connection, and the client would lose the response: for a while, what it sends is read and discarded."""
        if self._discarded_size is not None or self.transport.is_closing():
            return
        if not self._partly_arrived and not invalid:
            self.transport.close()
            return
        self._discarded_size = 0
        self.silent_since = 0.0  # the first to be closed for others
        self.flow.resume_reading()
        if self.transport.can_write_eof():  # not with TLS
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


@dataclass(slots=True)
class _Output:
    """What a response is written to. Its head waits for the first bytes of its body, which may be none: both leave in
    one packet, so that a client wakes up once."""

    cycle: RequestResponseCycle
    send: Callable[[bytes], None]
    is_closing: Callable[[], bool]
    close: Callable[[], None]
    head: bytes | None = None  # None: it has not been written

    def write(self, data: bytes) -> None:
        if self.head is None and self.cycle.response_started and self.cycle.scope["method"] != "HEAD":
            self.head = data
        elif self.head:
            head, self.head = self.head, b""
            self.send(head + data)
        else:
            self.send(data)


def _until_closed(cycle: RequestResponseCycle, app: Any) -> Any:
    """Responds to HTTP/1.0, which has no chunks: a body without a length ends with the connection."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        sized = True

        async def framed(message: Message) -> None:
            nonlocal sized
            if message["type"] == "http.response.start":
                sized = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                if not sized:
                    cycle.chunked_encoding = False
            elif not sized:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, framed)

    return respond


class Guard:
    """Wraps the application: a request that the shutdown cuts off is not an error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.cut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.cut:
                raise
