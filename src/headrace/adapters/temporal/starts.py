"""Starts of activities that are repeated until the server has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from headrace.adapters.temporal.connection import Connection
from headrace.background import back_off, cancel
from headrace.errors import HeadraceError

AT_ONCE = 64  # starts of activities
MOST = 20_000  # that wait in this process; what is beyond, a look at the database restores
_PAUSES = (0.25, 5.0)  # seconds between attempts, at first and at most


class Starts:
    """What this process starts in the background."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tasks: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def add(
        self,
        name: str,
        start: Callable[[], Awaitable[None]],
        room: asyncio.Semaphore,
        after: asyncio.Event | None = None,
    ) -> None:
        """Calls `start` until it succeeds, while there is room, and once `after` is set."""
        task = asyncio.create_task(self._start(start, room, after), name=name)
        self._tasks[task] = None
        task.add_done_callback(lambda task: self._tasks.pop(task))

    async def _start(
        self, start: Callable[[], Awaitable[None]], room: asyncio.Semaphore, after: asyncio.Event | None
    ) -> None:
        if after is not None:
            await after.wait()
        failures = 0
        while True:
            try:
                async with room:
                    await start()
            except HeadraceError as error:
                failures += 1
                self._connection.log(error)
            else:
                self._connection.log(None)
                return
            await asyncio.sleep(back_off(failures, *_PAUSES))

    async def aclose(self) -> None:
        await cancel(*self._tasks)
