"""Does the runs: claims one after the other from the queue, and drives each to its end.

What the queue loses, the reconciler puts back: every unfinished run that nobody drives, at the start and every few
seconds. Runs of another worker on the same database are left to it as long as it shows that it lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from random import uniform
from typing import Protocol

from headrace.background import Periodic, background, cancel
from headrace.engine import Driver
from headrace.errors import HeadraceError, StoreError
from headrace.kernel.events import Record, RunEnded, RunId, RunQueued, RunStarted, StopRequested
from headrace.node import Flow
from headrace.runs.conversation_queue import ConversationQueue
from headrace.runs.service import RunService
from headrace.values import Value

logger = logging.getLogger(__name__)


class RunObserver(Protocol):
    """Hears which runs are driven here. Nothing of it may fail or wait."""

    def on_acquired(self, records: Sequence[Record], flow: Flow | None) -> None:
        """A run is about to be driven; what it does from now on is told on the bus. No `flow`: it only ends."""
        ...

    def on_released(self, run: RunId) -> None: ...


RECONCILE_SECONDS = 5.0
RENEW_SECONDS = 3.0  # a few times before others take this worker for dead
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0  # seconds before a run that could not be driven is tried again
MAX_ATTEMPTS = 10  # of a run that fails for another reason than a database that is away


class Worker:
    """Drives up to `concurrency` runs at once. `run` goes on until it is cancelled.

    `call_back` is called whenever a run that was asked for with a callback ends or pauses; `watch` hears of every run.
    """

    def __init__(
        self,
        run_service: RunService,
        name: str = "worker",
        concurrency: int = 10_000,
        call_back: Callable[[], None] = lambda: None,
        observer: RunObserver | None = None,
    ) -> None:
        self.run_service = run_service
        self.name = name
        self._conversation_queue = ConversationQueue(run_service)
        self._notify_callback = call_back
        self._observer = observer
        self._slots = asyncio.Semaphore(concurrency)
        self._runs: dict[asyncio.Task[None], None] = {}  # in the order in which they were claimed
        self._claiming: asyncio.Task[None] | None = None
        self._drained = False
        self._claimed: set[RunId] = set()  # those of `_runs`
        self._failures: Counter[RunId] = Counter()  # of runs that could not be driven, one after the other
        self._requeuing: set[asyncio.Future[None]] = set()
        self._retry_timers: dict[RunId, asyncio.TimerHandle] = {}  # until they are tried again
        self._reconciler = Periodic(f"{name}: reconciling", self._requeue_orphaned, RECONCILE_SECONDS)
        self._releasing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Works until cancelled; then releases the unfinished runs, oldest first. They continue in another process or
        after a restart."""
        heartbeat = Periodic(f"{self.name}: heartbeat", self._heartbeat, RENEW_SECONDS)
        await heartbeat.once()  # before any claim: others would take a run whose owner they do not know
        async with (
            background(f"{self.name}: heartbeat", heartbeat.run(RENEW_SECONDS)),
            background(f"{self.name}: reconcile", self._reconciler.run()),
            background(f"{self.name}: conversations", self._conversation_queue.remote.run()),
            background(f"{self.name}: claim", self._claim_all()) as self._claiming,
        ):
            try:
                await asyncio.wait((self._claiming,))
                if not self._claiming.cancelled():
                    self._claiming.result()
                await asyncio.get_running_loop().create_future()  # drained: the runs in progress continue
            finally:
                await cancel(self._claiming, *self._runs)
                for timer in self._retry_timers.values():
                    timer.cancel()
                if self._releasing is not None:
                    await self._releasing
                await self._release_runs()

    def drain(self) -> None:
        """Claims no more runs and leaves the waiting ones to other workers; runs in progress continue."""
        if not self._drained and self._claiming is not None:
            self._claiming.cancel()
            self._releasing = asyncio.create_task(self._release_runs(), name=f"{self.name}: release")
        self._drained = True

    @property
    def is_idle(self) -> bool:
        """Whether no run is in progress."""
        return not self._runs

    async def _release_runs(self) -> None:
        """Gives up the ownership of runs that are not driven here."""
        try:
            await self.run_service.leases.release(self.run_service.driving.keys())
        except StoreError as error:
            logger.warning("queued runs will be picked up by another worker after the lease expires: %s", error)

    async def _claim_all(self) -> None:
        while not self._drained:
            await self._claim()

    async def _claim(self) -> None:
        """Waits for room and for a run, and sets about it."""
        await self._slots.acquire()
        async with AsyncExitStack() as stack:
            stack.callback(self._slots.release)
            run = await stack.enter_async_context(self.run_service.queue.claim(self.name))
            self._cancel_retry_timer(run)
            self._claimed.add(run)
            stack.callback(self._claimed.discard, run)
            task = asyncio.create_task(self._run_with_lease(stack.pop_all(), run), name=f"{self.name}: {run}")
            self._runs[task] = None
            task.add_done_callback(self._on_task_done)

    async def _run_with_lease(self, lease: AsyncExitStack, run: RunId) -> None:
        async with lease:
            try:
                await self._drive(run)
            except Exception as error:
                await self._retry_later(run, error)
            else:
                self._failures.pop(run, None)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        del self._runs[task]
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s has failed: %s", task.get_name(), error, exc_info=error)

    async def _retry_later(self, run: RunId, error: Exception) -> None:
        """Lets a run rest that could not be driven, each time for longer. One that fails again and again by itself is
        ended: each try may ask a model that is paid for."""
        self._failures[run] += 1
        failures = self._failures[run]
        transient = isinstance(error, StoreError) and error.transient
        if not transient and failures >= MAX_ATTEMPTS and await self._fail(run, error):
            return
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), MAX_PAUSE) * uniform(0.8, 1.2)
        level = error.level if isinstance(error, StoreError) else logging.ERROR
        trace = error if failures == 1 and not isinstance(error, StoreError | OSError) else None
        message = "run %s cannot be gone on with for now, and is tried again in %.0f s: %s"
        logger.log(level, message, run, pause, error, exc_info=trace)
        loop = asyncio.get_running_loop()
        self._retry_timers[run] = loop.call_later(pause, lambda: self._requeue(run))

    def _requeue(self, run: RunId) -> None:
        # it counts as resting until it is claimed, so that the reconciler does not put it again meanwhile
        task = asyncio.ensure_future(self.run_service.queue.put(run))
        self._requeuing.add(task)
        task.add_done_callback(self._requeuing.discard)

    def _cancel_retry_timer(self, run: RunId) -> None:
        """Somebody wants the run driven now: it is to be stopped, say."""
        if (timer := self._retry_timers.pop(run, None)) is not None:
            timer.cancel()

    async def _fail(self, run: RunId, error: Exception) -> bool:
        """Ends a run as failed; False where even that cannot be written."""
        world = self.run_service.environment
        try:
            records = await world.journal.read(run)
            if records and not isinstance(records[-1].event, RunEnded):
                error_message = f"The run could not be gone on with, {self._failures[run]} times: {error}"
                await self._end_as_failed(records, error_message)
        except (HeadraceError, OSError) as failure:
            logger.error("run %s cannot be ended as failed: %s", run, failure)
            return False
        del self._failures[run]
        return True

    async def _drive(self, run: RunId) -> None:
        run_service = self.run_service
        if run in run_service.driving:
            return
        records = run_service.take_handover(run) or await run_service.environment.journal.read(run)
        if not records or isinstance(records[-1].event, RunEnded):
            return
        if not await self._owns(run, records):
            return
        queued = records[0].event
        assert isinstance(queued, RunQueued)
        conversation = queued.conversation
        if (
            conversation is not None
            and not _stop_requested(records)
            and not await self._conversation_queue.may_run(run, conversation)
        ):
            return
        flow = await self._flow(run, records)
        if flow is not None:
            await self._run_driver(run, flow, records, queued)
        if conversation is not None:
            await self._conversation_queue.release_next(conversation)

    async def _owns(self, run: RunId, records: Sequence[Record]) -> bool:
        """Whether the run may be gone on with here. Of several who begin a new one the journal lets one; one that was
        has_started has to be taken up first, as whoever drives it may be alive. One that is to be stopped may be ended by
        anybody: it starts nothing any more."""
        if _stop_requested(records):
            return True
        has_started = any(isinstance(record.event, RunStarted) for record in records)
        return not has_started or await self.run_service.leases.acquire(run)

    async def _run_driver(self, run: RunId, flow: Flow, records: Sequence[Record], queued: RunQueued) -> None:
        run_service = self.run_service
        variables: dict[str, Value] = {}
        if queued.conversation is not None:
            variables = {each.name: each.value for each in flow.conversation}
            stored = await run_service.conversations.conversation_variables(queued.conversation)
            variables |= {each.name: each.value for each in stored}
        driver = run_service.driving[run] = Driver(run, flow, run_service.environment, variables)
        if self._observer:
            self._observer.on_acquired(records, flow)
        try:
            state = await driver.drive(records)
            self._on_ended(records)
        finally:
            del run_service.driving[run]
            if self._observer:
                self._observer.on_released(run)
        if driver.state.stop is not None and state.stop is None:
            await run_service.stop(run, driver.state.stop.by)  # whoever drives it now has not been told

    async def _flow(self, run: RunId, records: Sequence[Record]) -> Flow | None:
        """The workflow of a run; one that is gone, or that no longer loads, ends the run."""
        queued = records[0].event
        assert isinstance(queued, RunQueued)
        try:
            return await self.run_service.apps.flow(queued.app, queued.version)
        except HeadraceError as failure:
            error = str(failure)
        await self._end_as_failed(records, error)
        return None

    async def _end_as_failed(self, records: Sequence[Record], error: str) -> None:
        """Ends a run as failed that is not driven."""
        run, world = records[0].run, self.run_service.environment
        logger.error("run %s cannot go on: %s", run, error)
        record = Record(run, len(records) + 1, world.clock(), RunEnded("failed", error=error))
        await world.journal.append([record])
        if self._observer:
            self._observer.on_acquired(records, None)
        world.bus.publish([record])
        if self._observer:
            self._observer.on_released(run)
        self._on_ended(records)

    def _on_ended(self, records: Sequence[Record]) -> None:
        """The run has come to an end or a pause, or is driven elsewhere."""
        queued = records[0].event
        if isinstance(queued, RunQueued) and queued.callback is not None:
            self._notify_callback()

    async def _requeue_orphaned(self) -> None:
        for run in await self.run_service.leases.orphaned():
            if run not in self._claimed and run not in self._retry_timers:
                await self.run_service.queue.put(run)

    async def _heartbeat(self) -> None:
        if await self.run_service.leases.heartbeat():
            self._reconciler.wake()  # another worker was found dead
        await self._detect_lost_leases()

    async def _detect_lost_leases(self) -> None:
        """Stops driving runs that another process has stopped or taken over, though their nodes are still working."""
        driving = self.run_service.driving
        if not self.run_service.leases.shared:
            return
        for run, last in (await self.run_service.environment.journal.last_sequences(driving.keys())).items():
            # a driver already knows what it writes itself
            if (driver := driving.get(run)) is not None and last > driver.state.seq:
                driver.lose_ownership()


def _stop_requested(records: Sequence[Record]) -> bool:
    """Whether a run is only to be ended: it waits for nobody, and anybody may do it."""
    return any(isinstance(record.event, StopRequested) for record in records)
