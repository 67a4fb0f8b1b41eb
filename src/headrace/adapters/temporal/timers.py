"""Temporal as what brings the moments of timers: one standalone activity for each, which begins at its moment.

Each kind has a task queue of its own, which the processes that serve the kind poll, with slots of its own. The activity
lasts as long as the work that is due, with heartbeats: if its process dies, another one has it. It carries the id of a
row and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from temporalio import activity
from temporalio.client import Client
from temporalio.common import ActivityIDConflictPolicy, ActivityIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from headrace.adapters.temporal.connection import RETRY, TIMER, Connection, search_attributes
from headrace.adapters.temporal.polling import BENIGN, GRACE, Polling, beat, left_to_others
from headrace.adapters.temporal.starts import AT_ONCE, MOST, Starts
from headrace.background import background, cancel
from headrace.errors import StoreError
from headrace.ports.timers import DueRows, HandledElsewhere, Timer, TimerKind

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60.0  # between looks at the database for what no timer has brought
_POLLS = 1  # open polls for each kind: those of a paused process go on taking tasks
_HANDLED_AT_ONCE = 1000  # rows of each kind
_REMEMBERED = 10_000  # timers that are not set again
_LONGEST_DELAY = timedelta(days=5 * 365)  # a timer that is later comes early first
_LONGEST_WORK = timedelta(days=365)  # a batch may take long


class TemporalTimers:
    """Implements Timers."""

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.time) -> None:
        self.connection = connection
        self.clock = clock
        self._starts = Starts(connection)
        self._room = asyncio.Semaphore(AT_ONCE)
        self._ahead: OrderedDict[Timer, None] = OrderedDict()  # timers that were set, and were not due then

    def set(self, timer: Timer) -> None:
        if timer in self._ahead:
            return
        if len(self._starts) >= MOST:
            logger.debug("the %s %s waits for a look: too many timers wait for Temporal", timer.kind, timer.row)
            return
        if timer.at > self.clock():
            self._ahead[timer] = None
            if len(self._ahead) > _REMEMBERED:
                self._ahead.popitem(last=False)
        start = partial(self.connection.call, partial(self._start, timer))
        self._starts.add(f"timer {timer.kind} {timer.row}", start, self._room)

    async def _start(self, timer: Timer, client: Client) -> None:
        options, left = self.connection.options, timer.at - self.clock()
        await client.start_activity(
            TIMER,
            args=[timer.row, timer.at],
            id=f"{options.timer_queue(timer.kind)}:{timer.row}:{timer.at:.3f}",
            task_queue=options.timer_queue(timer.kind),
            start_delay=_delay(left) if left > 0 else None,
            heartbeat_timeout=timedelta(seconds=options.heartbeat_seconds),
            start_to_close_timeout=_LONGEST_WORK,
            id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=ActivityIDReusePolicy.ALLOW_DUPLICATE,
            retry_policy=RETRY,
            search_attributes=search_attributes(timer.run, timer.app),
        )

    def look_seconds(self, usual: float) -> float:
        return max(usual, LOOK_SECONDS)

    @asynccontextmanager
    async def serving(self, kind: TimerKind, rows: DueRows) -> AsyncGenerator[None]:
        handler = _Served(self, kind, rows)
        async with background(f"timers: {kind}", handler.polling.run()):
            yield

    async def aclose(self) -> None:
        """What has not been set is left to the looks of other processes."""
        await self._starts.aclose()


class _Served:
    """The timers of a kind, as this process handles them."""

    def __init__(self, timers: TemporalTimers, kind: TimerKind, rows: DueRows) -> None:
        self._timers = timers
        self._kind = kind
        self._rows = rows
        self._handling: dict[asyncio.Task[None], None] = {}
        self.polling = Polling(timers.connection, self._workers, self._end, f"no timers of {kind} come from Temporal")

    def _workers(self, client: Client) -> list[Worker]:
        beat_seconds = timedelta(seconds=self._timers.connection.options.beat_seconds)
        return [
            Worker(
                client,
                task_queue=self._timers.connection.options.timer_queue(self._kind),
                activities=[self._activity],
                max_concurrent_activities=_HANDLED_AT_ONCE,
                activity_task_poller_behavior=PollerBehaviorSimpleMaximum(_POLLS),
                max_heartbeat_throttle_interval=beat_seconds,
                default_heartbeat_throttle_interval=beat_seconds,
                graceful_shutdown_timeout=GRACE,
            )
        ]

    async def _end(self) -> None:
        await cancel(*self._handling)

    @activity.defn(name=TIMER)
    async def _activity(self, row: str, at: float) -> None:
        if self.polling.ends:
            raise left_to_others()
        if (left := at - self._timers.clock()) > 0:  # this host's clock is behind, or it was too far ahead for Temporal
            raise ApplicationError("it is not due yet", next_retry_delay=_delay(left), category=BENIGN)
        heartbeat = asyncio.create_task(beat(self._timers.connection.options.beat_seconds), name=f"{row}: heartbeat")
        handling = asyncio.create_task(self._rows.handle(row), name=f"{self._kind} {row}")
        self._handling[handling] = None
        try:
            await asyncio.wait([handling])
        except asyncio.CancelledError:
            # by the server: the timer is another worker's now, or an operator has cancelled it
            await cancel(handling)
            raise
        finally:
            del self._handling[handling]
            heartbeat.cancel()
        if handling.cancelled():
            raise left_to_others()
        if (error := handling.exception()) is not None:
            self._log(row, error)
            raise ApplicationError(str(error), type=type(error).__name__, category=BENIGN) from error

    def _log(self, row: str, error: BaseException) -> None:
        level = logging.ERROR
        if isinstance(error, HandledElsewhere) or activity.info().attempt > 1:
            level = logging.DEBUG
        elif isinstance(error, StoreError):
            level = error.level
        logger.log(level, "the %s %s cannot be handled yet, and is retried: %s", self._kind, row, error)


def _delay(seconds: float) -> timedelta:
    """As long as Temporal takes it."""
    return _LONGEST_DELAY if seconds > _LONGEST_DELAY.total_seconds() else timedelta(seconds=seconds)
