"""The HTTP server: uvicorn, with limits for what comes in (`connection`), and an end that cuts nobody off.

Told to end (SIGTERM, SIGINT) it drains: connections are still taken, so that a balancer hears that this process is not
ready any more and stragglers hear to try again, but no runs; what is under way may go on for a while. Then it closes.
A second signal closes at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.server.connection import Connection
from headrace.server.connection_limit import connection_limit
from headrace.server.tls import Tls

logger = logging.getLogger(__name__)

_TICK_SECONDS = 1.0  # how often connections are looked at
_RENEWAL_TICKS = 10  # how often, in these, the certificate is
_DRAIN_TICK_SECONDS = 0.05
_CLOSE_SECONDS = 2  # for tasks to let go once they are cancelled


def _nothing() -> None: ...


def _is_idle() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Serving:
    """How the server goes about it. Times in seconds.

    `request_seconds`: how long a request may take to arrive. `keep_alive_seconds`: how long a connection may lie idle.
    `drain_seconds`: how long what is under way may go on after the first signal. `ready` is called once requests are
    taken, `drain` once no more runs are to be; `is_idle`, asked again and again once no request is left, tells whether
    all that goes on without one has ended, too.
    """

    tls: Tls | None = None
    request_seconds: float = 30
    keep_alive_seconds: float = 75
    drain_seconds: float = 10
    ready: Callable[[], None] = _nothing
    drain: Callable[[], None] = _nothing
    is_idle: Callable[[], bool] = _is_idle


class Server(uvicorn.Server):
    """Serves an ASGI application until the process is told to end: `await Server(app, serving).serve([listener])`."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self._serving = serving
        self._guard = _Guard(app)
        self._room = connection_limit()
        tls = serving.tls
        super().__init__(
            uvicorn.Config(
                self._guard,
                http=cast("type[asyncio.Protocol]", self._connection),  # all that is done with it is to call it
                backlog=max(1, min(2048, self._room.spare // 2)),  # as many are accepted at once
                ws="none",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # `ProxyHeaders` does it
                timeout_keep_alive=cast("int", serving.keep_alive_seconds),
                timeout_graceful_shutdown=_CLOSE_SECONDS,
                ssl_context_factory=(lambda config, default: tls.context) if tls else None,
            )
        )

    def _connection(self, *arguments: Any, **named: Any) -> Connection:
        return Connection(*arguments, make_room=self._make_room, **named)

    def _make_room(self, newest: Connection) -> None:
        """Keeps descriptors for other purposes: at the limit of connections, the idle one that has been silent longest
        is closed. A client that waits for a response is never cut off; if all are waiting, the newest is refused."""
        if len(self.server_state.connections) <= self._room.most:
            return
        idle = min(
            (open_ for open_ in self._connections() if open_ is not newest and not open_.responding),
            key=lambda open_: open_.silent_since,
            default=None,
        )
        (idle or newest).drop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._serving.ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # of a tenth of a second each
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.look(now, self._serving.request_seconds, _TICK_SECONDS)
            if self._serving.tls and counter % (10 * _RENEWAL_TICKS) == 0:
                self._serving.tls.reload()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        self._cut()
        await super().shutdown(sockets)

    # --------------------------------------------------------------------------------------------------- the end of it

    async def _drain(self) -> None:
        """Waits for what is under way, as long as it may go on."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._serving.drain_seconds
        self._serving.drain()
        while not self.force_exit:
            for connection in self._connections():  # also those that have come since
                connection.drain()
            if not self.server_state.tasks and self._serving.is_idle():
                return
            if clock() >= until:
                break
            await asyncio.sleep(_DRAIN_TICK_SECONDS)
        self._serving.is_idle()
        if left := len(self.server_state.tasks):
            logger.warning("%d requests have not ended, and are cut off", left)

    def _cut(self) -> None:
        """Ends what is still there. Who waits for the head of an answer gets one, to try again; half an answer just
        ends, so that nobody takes it for a whole one."""
        self._guard.cut = True
        for connection in self._connections():
            if connection.responding:
                connection.refuse(503)
        for task in self.server_state.tasks:
            task.cancel()

    def _connections(self) -> list[Connection]:
        return [open_ for open_ in self.server_state.connections if isinstance(open_, Connection)]


class _Guard:
    """Wraps the application: what is cut at the end is no failure of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.cut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.cut:
                raise
