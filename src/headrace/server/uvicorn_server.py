"""The HTTP server: uvicorn, with limits for requests (`connection`), and a graceful shutdown.

After a signal to stop (SIGTERM, SIGINT) it drains: it still accepts connections, so that a load balancer learns that
this process is no longer ready and late clients are asked to try again, but no runs; pending requests may continue for
a while. Then it closes. A second signal closes at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from headrace.frozen import frozen
from headrace.server.connection import Connection, Guard
from headrace.server.connection_limit import connection_limit
from headrace.server.tls import Tls

logger = logging.getLogger(__name__)

_TICK_SECONDS = 1.0  # how often connections are checked for timeouts
_COUNTS = 10  # of a tenth of a second each, as uvicorn's counter has them
_RENEWAL_TICKS = 10  # how often, in these, the certificate is checked for renewal
_DRAIN_TICK_SECONDS = 0.05
_CLOSE_SECONDS = 2  # for tasks to end once they are cancelled


def _nothing() -> None: ...


def _is_idle() -> bool:
    return True


def _no_runs() -> int:
    return 0


@frozen
class Serving:
    """Settings and callbacks of the server. Times in seconds.

    `request_seconds`: how long a request may take to arrive. `keep_alive_seconds`: how long a connection may be idle.
    `drain_seconds`: how long pending requests may continue after the first signal. `ready` is called once requests are
    accepted, `drain` when no more runs may start; `is_idle`, called repeatedly once no request is pending, is true when
    the work without a request has ended, too. `active_runs`: how many runs the process drives.
    """

    tls: Tls | None = None
    request_seconds: float = 30
    keep_alive_seconds: float = 75
    drain_seconds: float = 10
    ready: Callable[[], None] = _nothing
    drain: Callable[[], None] = _nothing
    is_idle: Callable[[], bool] = _is_idle
    active_runs: Callable[[], int] = _no_runs


class Server(uvicorn.Server):
    """Serves an ASGI application until a signal to stop: `await Server(app, serving).serve([listener])`."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self._serving = serving
        self._wake: Callable[[], object] = _nothing
        self._guard = Guard(app)
        limit = connection_limit()
        tls = serving.tls
        super().__init__(
            uvicorn.Config(
                self._guard,
                http=cast("type[asyncio.Protocol]", partial(Connection, most=limit.most)),  # it is only called
                backlog=max(1, min(2048, limit.spare // 2)),  # as many may be accepted at a time
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for _ in range(3):  # a signal that arrived before uvicorn handled them is noticed before it would be ignored
            await asyncio.sleep(0)
        self._serving.ready()
        if self.should_exit:  # a signal has arrived meanwhile: then uvicorn returns without a shutdown
            await self.shutdown(sockets)

    async def main_loop(self) -> None:
        """As uvicorn's, but a signal wakes it: it does not look for one ten times a second."""
        wake, loop, ticks = asyncio.Event(), asyncio.get_running_loop(), 0
        self._wake = lambda: loop.call_soon_threadsafe(wake.set)
        while not await self.on_tick(ticks * _COUNTS):
            ticks += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await wake.wait()

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        for connection in self._connections():
            connection.check_timeout(now, self._serving.request_seconds, _TICK_SECONDS)
        if self._serving.tls and counter % (_COUNTS * _RENEWAL_TICKS) == 0:
            self._serving.tls.reload()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)
        self._wake()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        self._cut()
        await super().shutdown(sockets)

    # --------------------------------------------------------------------------------------------------- shutdown

    async def _drain(self) -> None:
        """Waits for pending requests, as long as they may continue."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._serving.drain_seconds
        self._serving.drain()
        pending = [(len(self.server_state.tasks), "request"), (self._serving.active_runs(), "run")]
        in_progress = " and ".join(_count(number, noun) for number, noun in pending if number)
        if in_progress and not self.force_exit:
            logger.info(
                "waiting up to %g s for %s to end; a second Ctrl-C (or SIGTERM) stops at once",
                self._serving.drain_seconds,
                in_progress,
            )
        while not self.force_exit:
            for connection in self._connections():  # also new ones
                connection.drain()
            if not self.server_state.tasks and self._serving.is_idle():
                return
            if clock() >= until:
                break
            await asyncio.sleep(_DRAIN_TICK_SECONDS)
        self._serving.is_idle()
        if left := len(self.server_state.tasks):
            logger.warning("cut off before the end: %s", _count(left, "request"))

    def _cut(self) -> None:
        """Ends pending requests. A client whose response has not begun gets a 503, to try again; a response that has
        begun is cut off, so that no client takes it for a complete one."""
        self._guard.cut = True
        for connection in self._connections():
            if connection.responding:
                connection.reject(503)
        for task in self.server_state.tasks:
            task.cancel()

    def _connections(self) -> list[Connection]:
        return [connection for connection in self.server_state.connections if isinstance(connection, Connection)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
