"""Dispatch within one process, and among the processes on one database."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import inf
from random import uniform
from time import monotonic

from headrace.background import Periodic, Slots, background, cancel
from headrace.errors import StoreError
from headrace.kernel.events import RunId
from headrace.ports import Backlog, Claim, Drive, Leases, ReadyRun, RunQueue, Signal, Wire

logger = logging.getLogger(__name__)

RECONCILE_SECONDS = 5.0
LOOK_SECONDS = 1.0  # between heartbeats, at most
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0  # seconds before a run that could not be driven is retried
POLL_SECONDS = 0.1  # between looks for runs that other processes have queued
POLL_ALONE_SECONDS = 1.0  # the same, if no other process is known
MOST_CLAIMED = 50  # runs at once, so that processes share what waits


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
        self._arrival = asyncio.Event()
        self._claims: dict[RunId, Claim] = {}  # in the order in which they were claimed
        self._again: set[RunId] = set()  # claimed runs that have become ready again
        self._failures: Counter[RunId] = Counter()  # consecutive ones, of runs that could not be driven
        self._retry_timers: dict[RunId, asyncio.TimerHandle] = {}  # of runs that wait for a retry
        self._drives: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._claiming: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._slots: Slots | None = None  # None: no worker of this process claims runs
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

    def has_room(self) -> bool:
        return self._room > 0

    def ready_here(self, work: ReadyRun) -> bool:
        self._put(work.run)
        return True

    @property
    def _room(self) -> int:
        """The free slots for which no run waits here."""
        return 0 if self._slots is None or self._drained else self._slots.free - len(self._waiting)

    def _put(self, run: RunId) -> None:
        if run in self._claims:
            self._again.add(run)
        else:
            self._waiting.setdefault(run, monotonic())
            self._arrival.set()

    # -------------------------------------------------------------------------------------------------------- work

    async def work(self, drive: Drive, slots: Slots) -> None:
        heartbeat = Periodic(f"{self.name}: heartbeat", self._heartbeat, LOOK_SECONDS, max_pause=LOOK_SECONDS)
        await heartbeat.once()  # before any claim: others would take a run whose owner they do not know
        self._slots = slots
        async with (
            background(f"{self.name}: heartbeat", heartbeat.run(LOOK_SECONDS)),
            background(f"{self.name}: reconcile", self._reconciler.run()),
            background(f"{self.name}: fetch", self._fetch_all()),
            background(f"{self.name}: claim", self._claim_all(drive, slots)) as self._claiming,
        ):
            try:
                await asyncio.wait((self._claiming,))
                if not self._claiming.cancelled():
                    self._claiming.result()
                await asyncio.get_running_loop().create_future()  # drained: the runs in progress continue
            finally:
                self._slots = None
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
            await self._hand_back()
        except StoreError as error:
            logger.warning("queued runs will be picked up by another worker after the lease expires: %s", error)

    async def _claim_all(self, drive: Drive, slots: Slots) -> None:
        while not self._drained:
            while not self._waiting:
                self._arrival.clear()
                await self._arrival.wait()
            await slots.acquire()
            claim = self._claim_next()
            task = asyncio.create_task(drive(claim), name=f"{self.name}: {claim.run}")
            self._drives[task] = None
            task.add_done_callback(partial(self._on_driven, claim, slots))

    def _claim_next(self) -> Claim:
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
        known_runs = self._claims.keys() | self._retry_timers.keys() | self._waiting.keys()
        if orphans := [run for run in await self.leases.orphaned() if run not in known_runs]:
            await self._take_up(orphans)

    async def _heartbeat(self) -> float:
        """Returns the time until the next one: when a lease expires, so that its runs do not wait for longer."""
        if await self.leases.heartbeat() or self._reconciler.failing:
            self._reconciler.wake()  # another worker has died, or its runs could not be taken over yet
        return min(LOOK_SECONDS, self.leases.next_expiry)

    # --------------------------------------------------------------------------------------- for `SharedDispatch`

    async def _fetch_all(self) -> None:
        """Fetches what waits elsewhere, until cancelled."""

    async def _take_up(self, orphans: Sequence[RunId]) -> None:
        for run in orphans:
            self._put(run)

    async def _hand_back(self) -> None:
        """Leaves what waits here to other processes."""


class SharedDispatch(LocalDispatch):
    """Dispatch among the processes on one database.

    A run is driven where it becomes ready if a slot is free there and nothing waits that could come first. Any other
    waits in the queue of the database, from which each worker claims as many runs as it has free slots.
    """

    def __init__(self, leases: Leases, queue: RunQueue, wire: Wire, polls: float | None = None) -> None:
        super().__init__(leases)
        self._polls = polls  # seconds between looks; None: by whether another worker is known
        self._queue = queue
        self._wire = wire
        self._behind = False  # runs may wait in the queue
        self._added = False  # some were added since the last claim began
        self._full = False  # no slot is free, and nothing is claimed until one is
        self._fetching = Periodic(f"{self.name}: claiming", self._fetch)
        wire.on_signal(Signal.QUEUED, lambda _: self._fetching.wake())

    async def backlog(self) -> Backlog:
        backlogs = [*(await self._queue.backlogs()).values(), await super().backlog()]
        return Backlog(sum(backlog.waiting for backlog in backlogs), max(backlog.oldest for backlog in backlogs))

    def has_room(self) -> bool:
        return not self._behind and self._room > 0

    async def ready(self, work: ReadyRun) -> None:
        if not self.ready_here(work):
            await self._queue.put(work)
            self._announce()

    def ready_here(self, work: ReadyRun) -> bool:
        here = work.run in self._claims or work.run in self._retry_timers or self.has_room()
        if here:
            self._put(work.run)
        return here

    def _announce(self) -> None:
        """Runs were added to the queue."""
        self._behind = self._added = True
        self._fetching.wake()
        self._wire.signal(Signal.QUEUED)

    async def _fetch_all(self) -> None:
        await self._fetching.run()

    async def _fetch(self) -> float:
        if self._room > 0 and not self._behind and await self._queue.is_empty():
            return self._polls or (POLL_SECONDS if self.leases.shared else POLL_ALONE_SECONDS)
        room = min(self._room, MOST_CLAIMED)  # a run may have taken a slot meanwhile
        self._full = room <= 0
        if self._full:
            return inf
        self._behind, self._added = True, False
        claims = await self._queue.claim(room)
        for run in claims:
            self._put(run)
        self._behind = self._added or len(claims) == room
        return 0.0 if claims else POLL_SECONDS  # what waits is being claimed by others

    def _on_driven(self, claim: Claim, slots: Slots, task: asyncio.Task[None]) -> None:
        super()._on_driven(claim, slots, task)
        if self._behind or self._full:
            self._fetching.wake()

    async def _take_up(self, orphans: Sequence[RunId]) -> None:
        restored_runs = await self._queue.restore(orphans)
        if restored_runs:
            self._announce()
        await super()._take_up([run for run in orphans if run not in restored_runs])

    async def _hand_back(self) -> None:
        if self._waiting:
            restored_runs = await self._queue.restore(self._waiting.keys())
            self._waiting = {run: since for run, since in self._waiting.items() if run not in restored_runs}
            self._wire.signal(Signal.QUEUED)
