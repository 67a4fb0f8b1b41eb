"""Polls of task queues, for as long as there is a server, and until the process drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import Worker

from headrace.adapters.temporal.connection import Connection
from headrace.background import back_off
from headrace.errors import HeadraceError

logger = logging.getLogger(__name__)

BENIGN = ApplicationErrorCategory.BENIGN  # logged here, and not by the SDK
GRACE = timedelta(days=1)  # what workers do ends by itself, or is cancelled here
_PAUSES = (0.25, 5.0)  # seconds between attempts to reach the server, at first and at most
_AT_ONCE = timedelta(milliseconds=1)


class Polling:
    """Workers of the SDK. `make` makes them when the server is there; `end` ends what they do, when `run` is cancelled
    or they fail. `failed` says what does not happen meanwhile."""

    def __init__(
        self,
        connection: Connection,
        make: Callable[[Client], Sequence[Worker]],
        end: Callable[[], Awaitable[None]],
        failure_message: str,
    ) -> None:
        self._connection = connection
        self._make = make
        self._end = end
        self._failure_message = failure_message
        self._drained = asyncio.Event()
        self._ending = False

    @property
    def ends(self) -> bool:
        """Nothing more may begin, though a poll that was open may still bring something."""
        return self._ending or self._drained.is_set()

    def drain(self) -> None:
        """Takes nothing more; what is in progress continues."""
        self._drained.set()

    async def run(self) -> None:
        """Polls until it is cancelled."""
        failures = 0
        while not self._drained.is_set():
            try:
                await self._poll(self._make(await self._connection.client()))
            except (HeadraceError, RuntimeError) as error:
                failures += 1
                level = logging.ERROR if failures == 1 else logging.DEBUG
                logger.log(level, "%s: %s", self._failure_message, error)
                await asyncio.sleep(back_off(failures, *_PAUSES))
        await asyncio.get_running_loop().create_future()  # drained before there was a server

    async def _poll(self, workers: Sequence[Worker]) -> None:
        self._ending = False
        polling = [asyncio.create_task(worker.run(), name=f"polling {worker.task_queue}") for worker in workers]
        draining = asyncio.create_task(self._drained.wait())
        stopping: asyncio.Future[list[None]] | None = None
        try:
            await asyncio.wait([*polling, draining], return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                stopping = asyncio.gather(*(worker.shutdown() for worker in workers))
                await asyncio.get_running_loop().create_future()  # what is in progress continues
        finally:
            draining.cancel()
            self._ending = True
            stopping = stopping or asyncio.gather(*(worker.shutdown() for worker in workers))
            await self._end()
            await asyncio.gather(*polling, return_exceptions=True)
            await stopping
        for task in polling:
            task.result()


async def beat(seconds: float) -> None:
    """Shows that the activity in whose context it runs is being worked on, until it is cancelled."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(seconds)


def left_to_others(why: str = "the worker ends") -> ApplicationError:
    """Another worker gets the activity at once."""
    return ApplicationError(why, next_retry_delay=_AT_ONCE, category=BENIGN)
