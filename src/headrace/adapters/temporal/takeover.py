"""Takes from dead workers what Temporal has given them.

Temporal learns of a worker's death by the silence of what it had. But requests for work that a stopped process has left
open go on taking runs, at first the very ones that it has lost, and each of them would be silent for another heartbeat.
So the process that finds the lease of a worker expired ends the attempts of that worker, and looks again for as long as
its requests may be open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from time import monotonic

from temporalio.client import ActivityExecution, ActivityExecutionDescription, Client, PendingActivityState
from temporalio.service import RPCError, RPCStatusCode

from headrace.adapters.temporal.connection import DRIVE, RUN, TIMER, Connection, worker_of
from headrace.adapters.temporal.polling import left_to_others
from headrace.background import Periodic
from headrace.kernel.events import RunId
from headrace.ports.journal import Claims, Leases
from headrace.ports.timers import TimerKind

logger = logging.getLogger(__name__)

POLL_SECONDS = 75.0  # a request for work is answered within a minute
_EVERY, _SOON = 1.0, 0.25  # seconds between looks, and after one that has ended something, which may be lost again
_FACTOR = 2  # of the time until an activity is looked at again
_MOST = 500  # runs in one look, and timers
_NAMED = 100  # runs in one query
_AT_ONCE = 20  # calls of the server
_CLOCKS = timedelta(minutes=1)  # by which those of Temporal and of this host may differ
_CLAIM = "takeover"
# schedules are served by processes without a worker, too, whose lives the database does not know
_TIMERS = (TimerKind.FORM, TimerKind.CALLBACK, TimerKind.BATCH)
_OPEN = "ExecutionStatus = 'Running'"  # what waits for a worker or a moment is open as well


class Takeover:
    """`begin` says that a worker was found dead. `run` continues until it is cancelled."""

    def __init__(self, connection: Connection, leases: Leases, claims: Claims) -> None:
        self._connection = connection
        self._leases = leases
        self._claims = claims
        self._until = -inf
        self._looks: dict[str, tuple[float, float]] = {}  # runs and timers: when they are looked at again, and a pause
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._looking = Periodic("taking over from a dead worker", self._look)

    def begin(self) -> None:
        self._until = monotonic() + POLL_SECONDS
        self._looks.clear()
        self._looking.wake()

    async def run(self) -> None:
        await self._looking.run()

    async def _look(self) -> float:
        """Returns the time until the next look."""
        if monotonic() > self._until:
            self._looks.clear()
            await self._claims.release([_CLAIM])
            return inf
        # one process at a time: another one would end the attempts that follow those that this one ends
        if not await self._claims.claim([_CLAIM]):
            return _EVERY
        return _SOON if await self.look() else _EVERY

    async def look(self) -> int:
        """Returns how many attempts of dead workers were ended."""
        runs = self._due(await self._leases.undriven(_MOST))
        activities: list[ActivityExecution] = []
        for start in range(0, len(runs), _NAMED):
            activities += await self._connection.call(partial(_list, _drives_of(runs[start : start + _NAMED])))
        timers = {timer.activity_id: timer for timer in await self._connection.call(partial(_list, self._timers()))}
        activities += [timers[id] for id in self._due(timers)]
        attempts = [item for item in await asyncio.gather(*map(self._attempt, activities)) if item is not None]
        if not attempts:
            return 0
        living = await self._leases.living_workers()  # read now: a worker is among them before anything is given to it
        orphans = [item for item in attempts if worker_of(item.last_worker_identity or "") not in {None, *living}]
        return sum(await asyncio.gather(*map(self._end, orphans)))

    def _due(self, of: Iterable[str]) -> list[str]:
        """What was not looked at lately: most of it waits for a worker, and is looked at less and less often."""
        now = monotonic()
        due = [id for id in of if self._looks.get(id, (now, 0.0))[0] <= now]
        for id in due:
            pause = max(_EVERY, self._looks.get(id, (0.0, 0.0))[1] * _FACTOR)
            self._looks[id] = (now + pause, pause)
        return due

    def _timers(self) -> str:
        """Those that may have begun."""
        queues = ", ".join(f"'{self._connection.options.timer_queue(kind)}'" for kind in _TIMERS)
        at = (datetime.now(UTC) + _CLOCKS).isoformat()
        return f"ActivityType = '{TIMER}' AND TaskQueue IN ({queues}) AND {_OPEN} AND ExecutionTime <= '{at}'"

    async def _attempt(self, item: ActivityExecution) -> ActivityExecutionDescription | None:
        """An activity of which a worker has an attempt."""
        async with self._room:
            return await self._connection.call(partial(_attempt_of, item))

    async def _end(self, orphan: ActivityExecutionDescription) -> bool:
        """Ends the attempt of a dead worker, and returns whether it was still there."""
        async with self._room:
            # an attempt cannot be named, and Temporal may have given the next one to a living worker in the meantime
            item = await self._connection.call(partial(_attempt_of, orphan))
            if item is None or item.attempt != orphan.attempt:
                return False
            ended = await self._connection.call(partial(_fail, item))
        if ended:
            self._looks.pop(orphan.activity_id, None)
            self._looks.pop(orphan.activity_id.rpartition(":")[0], None)
            logger.info("%s is taken from a dead worker, %s", orphan.activity_id, orphan.last_worker_identity)
        return ended


def _drives_of(runs: Collection[RunId]) -> str:
    names = ", ".join(f"'{run}'" for run in runs)
    return f"{RUN.name} IN ({names}) AND ActivityType = '{DRIVE}' AND {_OPEN}"


async def _list(query: str, client: Client) -> list[ActivityExecution]:
    return [item async for item in client.list_activities(query, limit=_MOST)]


async def _attempt_of(item: ActivityExecution, client: Client) -> ActivityExecutionDescription | None:
    """An activity of which a worker has an attempt; None if it waits, or has ended."""
    handle = client.get_activity_handle(item.activity_id, run_id=item.activity_run_id)
    try:
        description = await handle.describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return description if description.run_state is PendingActivityState.STARTED else None


async def _fail(item: ActivityExecution, client: Client) -> bool:
    handle = client.get_async_activity_handle(activity_id=item.activity_id, run_id=item.activity_run_id)
    try:
        await handle.fail(left_to_others("the lease of the worker has expired"))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
