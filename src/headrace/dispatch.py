"""Dispatch within one process. The leases say which runs of other processes are without an owner."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from random import uniform
from time import monotonic

from headrace.background import Periodic, background, cancel
from headrace.errors import StoreError
from headrace.kernel.events import RunId
from headrace.ports import Backlog, Claim, Drive, Leases, ReadyRun, Slots

logger = logging.getLogger(__name__)

RECONCILE_SECONDS = 5.0
RENEW_SECONDS = 3.0  # a few times before others consider this worker dead
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0  # seconds before a run that could not be driven is retried


class LocalDispatch:
    """Runs that wait in this process, first in, first out.

    A run that becomes ready again while it waits is driven once; while it is driven, once more afterwards. At the start
    and every few seconds the reconciler takes up every unfinished run without an owner, since what waits here may be
    lost. A run of another worker on the same database belongs to it while its heartbeat continues.
    """

    def __init__(self, leases: Leases, name: str = "worker") -> None:
        self.leases = leases
        self.name = name
        self._waiting: dict[RunId, float] = {}  # in the order in which they became ready, and since when
        self._arrived = asyncio.Event()
        self._claims: dict[RunId, Claim] = {}  # in the order in which they were claimed
        self._again: set[RunId] = set()  # claimed runs that have become ready again
        self._failures: Counter[RunId] = Counter()  # consecutive ones, of runs that could not be driven
        self._retry_timers: dict[RunId, asyncio.TimerHandle] = {}  # of runs that wait for a retry
        self._drives: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._claiming: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._drained = False
        self._reconciler = Periodic(f"{name}: reconciling", self._reconcile, RECONCILE_SECONDS)

    def __len__(self) -> int:
        """How many runs wait."""
        return len(self._waiting)

    async def backlog(self) -> Backlog:
        since = next(iter(self._waiting.values()), None)
        return Backlog(len(self._waiting), 0.0 if since is None else monotonic() - since)

    async def ready(self, work: ReadyRun) -> None:
        self._put(work.run)

    def ready_here(self, work: ReadyRun) -> bool:
        self._put(work.run)
        return True

    def _put(self, run: RunId) -> None:
        if run in self._claims:
            self._again.add(run)
        else:
            self._waiting.setdefault(run, monotonic())
            self._arrived.set()

    # -------------------------------------------------------------------------------------------------------- work

    async def work(self, drive: Drive, slots: Slots) -> None:
        heartbeat = Periodic(f"{self.name}: heartbeat", self._heartbeat, RENEW_SECONDS)
        await heartbeat.once()  # before any claim: others would take a run whose owner they do not know
        async with (
            background(f"{self.name}: heartbeat", heartbeat.run(RENEW_SECONDS)),
            background(f"{self.name}: reconcile", self._reconciler.run()),
            background(f"{self.name}: claim", self._claim_all(drive, slots)) as self._claiming,
        ):
            try:
                await asyncio.wait((self._claiming,))
                if not self._claiming.cancelled():
                    self._claiming.result()
                await asyncio.get_running_loop().create_future()  # drained: the runs in progress continue
            finally:
                await cancel(self._claiming, *self._drives)
                for timer in self._retry_timers.values():
                    timer.cancel()
                if self._releasing is not None:
                    await self._releasing
                await self._release_runs()

    def drain(self) -> None:
        if not self._drained and self._claiming is not None:
            self._claiming.cancel()
            self._releasing = asyncio.create_task(self._release_runs(), name=f"{self.name}: release")
        self._drained = True

    async def _release_runs(self) -> None:
        """Gives up the ownership of runs that are not driven here."""
        try:
            await self.leases.release(self._claims.keys())
        except StoreError as error:
            logger.warning("queued runs will be picked up by another worker after the lease expires: %s", error)

    async def _claim_all(self, drive: Drive, slots: Slots) -> None:
        while not self._drained:
            await slots.acquire()
            try:
                claim = await self._next()
            except BaseException:
                slots.release()
                raise
            task = asyncio.create_task(drive(claim), name=f"{self.name}: {claim.run}")
            self._drives[task] = None
            task.add_done_callback(partial(self._on_driven, claim, slots))

    async def _next(self) -> Claim:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        run = next(iter(self._waiting))
        del self._waiting[run]
        if (timer := self._retry_timers.pop(run, None)) is not None:
            timer.cancel()  # the run is wanted now, for instance because it is to be stopped
        claim = self._claims[run] = Claim(run, self._failures[run] + 1)
        return claim

    def _on_driven(self, claim: Claim, slots: Slots, task: asyncio.Task[None]) -> None:
        run = claim.run
        del self._drives[task], self._claims[run]
        slots.release()
        if task.cancelled():
            self._again.add(run)
        elif (error := task.exception()) is not None:
            self._retry_later(run, error)
        else:
            self._failures.pop(run, None)
        if run in self._again:
            self._again.remove(run)
            self._put(run)

    def _retry_later(self, run: RunId, error: BaseException) -> None:
        """Retries a run that could not be driven, each time after a longer pause."""
        self._failures[run] += 1
        failures = self._failures[run]
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), MAX_PAUSE) * uniform(0.8, 1.2)
        level = error.level if isinstance(error, StoreError) else logging.ERROR
        trace = error if failures == 1 and not isinstance(error, StoreError | OSError) else None
        message = "run %s cannot continue yet, and is retried in %.0f s: %s"
        logger.log(level, message, run, pause, error, exc_info=trace)
        # the timer is kept until the run is claimed, so that the reconciler does not take it up meanwhile
        self._retry_timers[run] = asyncio.get_running_loop().call_later(pause, self._put, run)

    # ------------------------------------------------------------------------------------------------------- leases

    async def _reconcile(self) -> None:
        for run in await self.leases.orphaned():
            if run not in self._claims and run not in self._retry_timers:
                self._put(run)

    async def _heartbeat(self) -> None:
        if await self.leases.heartbeat():
            self._reconciler.wake()  # another worker has died
