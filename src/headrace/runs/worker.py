"""Workers: they claim runs from the queue and drive them to their end.

The reconciler requeues every unfinished run without an owner, at the start and every few seconds, since the queue may
lose runs; and it lets forms expire that nobody has answered. A run of another worker on the same database belongs to it
while its heartbeat continues.
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
from headrace.runs.called_runs import is_abandoned, stop_called
from headrace.runs.conversation_queue import ConversationQueue
from headrace.runs.forms import expire_forms
from headrace.runs.service import RunService, Slots
from headrace.values import Value

logger = logging.getLogger(__name__)


class RunObserver(Protocol):
    """Is notified of the runs that are driven here. It must not fail or wait."""

    def on_acquired(self, records: Sequence[Record], flow: Flow | None) -> None:
        """A run is about to be driven; its records are published on the bus from now on. Without a `flow` it only
        ends."""
        ...

    def on_released(self, run: RunId) -> None: ...


RECONCILE_SECONDS = 5.0
RENEW_SECONDS = 3.0  # a few times before others consider this worker dead
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0  # seconds before a run that could not be driven is retried
MAX_ATTEMPTS = 10  # of a run that fails for another reason than an outage of the database


class Worker:
    """Drives up to `concurrency` runs at the same time. `run` continues until it is cancelled.

    `notify_callback` is called when a run with a callback ends or pauses; `observer` is notified of every run.
    """

    def __init__(
        self,
        run_service: RunService,
        name: str = "worker",
        concurrency: int = 10_000,
        notify_callback: Callable[[], None] = lambda: None,
        observer: RunObserver | None = None,
    ) -> None:
        self.run_service = run_service
        self.name = name
        self._conversation_queue = ConversationQueue(run_service)
        self._notify_callback = notify_callback
        self._observer = observer
        self._slots = run_service.slots = Slots(concurrency)
        self._runs: dict[asyncio.Task[None], None] = {}  # in the order in which they were claimed
        self._claiming: asyncio.Task[None] | None = None
        self._drained = False
        self._claimed: set[RunId] = set()  # the runs of `_runs`
        self._failures: Counter[RunId] = Counter()  # consecutive ones, of runs that could not be driven
        self._requeuing: set[asyncio.Future[None]] = set()
        self._retry_timers: dict[RunId, asyncio.TimerHandle] = {}  # of runs that wait for a retry
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
            await self._slots.acquire()
            async with AsyncExitStack() as stack:
                stack.callback(self._slots.release)
                run = await stack.enter_async_context(self.run_service.queue.claim(self.name))
                if (timer := self._retry_timers.pop(run, None)) is not None:
                    timer.cancel()  # the run is wanted now, for instance because it is to be stopped
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
        """Retries a run that could not be driven, each time after a longer pause. One that fails again and again for a
        reason of its own is ended, since each attempt may call a model that is paid for."""
        self._failures[run] += 1
        failures = self._failures[run]
        transient = isinstance(error, StoreError) and error.transient
        if not transient and failures >= MAX_ATTEMPTS and await self._fail(run, error):
            return
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), MAX_PAUSE) * uniform(0.8, 1.2)
        level = error.level if isinstance(error, StoreError) else logging.ERROR
        trace = error if failures == 1 and not isinstance(error, StoreError | OSError) else None
        message = "run %s cannot continue yet, and is retried in %.0f s: %s"
        logger.log(level, message, run, pause, error, exc_info=trace)
        loop = asyncio.get_running_loop()
        self._retry_timers[run] = loop.call_later(pause, lambda: self._requeue(run))

    def _requeue(self, run: RunId) -> None:
        # its timer is kept until it is claimed, so that the reconciler does not requeue it meanwhile
        task = asyncio.ensure_future(self.run_service.queue.put(run))
        self._requeuing.add(task)
        task.add_done_callback(self._requeuing.discard)

    async def _fail(self, run: RunId, error: Exception) -> bool:
        """Ends a run as failed; False if even that cannot be recorded."""
        environment = self.run_service.environment
        try:
            records = await environment.journal.read(run)
            if records and not isinstance(records[-1].event, RunEnded):
                error_message = f"The run could not continue after {self._failures[run]} attempts: {error}"
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
        new = run_service.take_handover(run)
        records = new or await run_service.environment.journal.read(run)
        if not records:
            return
        if isinstance(records[-1].event, RunEnded):
            if run in self._failures:  # it ended, and what it had called could not be stopped
                await stop_called(run_service, records)
            return
        queued = records[0].event
        assert isinstance(queued, RunQueued)
        conversation = queued.conversation
        # any process may end a run that is to be stopped, since it starts no node
        if not any(isinstance(record.event, StopRequested) for record in records):
            if not new and await is_abandoned(run_service, records):
                await run_service.stop(run, "")
                return
            # of several processes that start a new run the journal lets one; a started one may have a live owner
            has_started = any(isinstance(record.event, RunStarted) for record in records)
            if has_started and not await run_service.leases.acquire(run):
                return
            if conversation is not None and not await self._conversation_queue.may_run(run, conversation):
                return
        flow = await self._flow(run, records)
        if flow is not None:
            await self._run_driver(run, flow, records, queued)
        if conversation is not None:
            await self._conversation_queue.release_next(conversation)

    async def _run_driver(self, run: RunId, flow: Flow, records: Sequence[Record], queued: RunQueued) -> None:
        run_service = self.run_service
        variables: dict[str, Value] = {}
        if queued.conversation is not None:
            variables = {variable.name: variable.value for variable in flow.conversation}
            stored = await run_service.conversations.conversation_variables(queued.conversation)
            variables |= {variable.name: variable.value for variable in stored}
        driver = run_service.driving[run] = Driver(run, flow, run_service.environment, variables)
        if self._observer is not None:
            self._observer.on_acquired(records, flow)
        try:
            state = await driver.drive(records)
            self._on_ended(records)
        finally:
            del run_service.driving[run]
            if self._observer is not None:
                self._observer.on_released(run)
        if state.ended is not None and len(records) > 1:  # else it is new, and has called nothing before
            await stop_called(run_service, records)
        if driver.state.stop is not None and state.stop is None:
            await run_service.stop(run, driver.state.stop.by)  # for its new owner

    async def _flow(self, run: RunId, records: Sequence[Record]) -> Flow | None:
        """The workflow of a run. If it is gone or no longer loads, the run ends."""
        queued = records[0].event
        assert isinstance(queued, RunQueued)
        try:
            return await self.run_service.apps.flow(queued.app, queued.version)
        except HeadraceError as failure:
            error = str(failure)
        await self._end_as_failed(records, error)
        return None

    async def _end_as_failed(self, records: Sequence[Record], error: str) -> None:
        """Ends a run that is not driven as failed."""
        run, environment = records[0].run, self.run_service.environment
        logger.error("run %s cannot continue: %s", run, error)
        record = Record(run, len(records) + 1, environment.clock(), RunEnded("failed", error=error))
        await environment.journal.append([record])
        if self._observer is not None:
            self._observer.on_acquired(records, None)
        environment.bus.publish([record])
        if self._observer is not None:
            self._observer.on_released(run)
        await stop_called(self.run_service, records)
        self._on_ended(records)

    def _on_ended(self, records: Sequence[Record]) -> None:
        """The run has ended or paused, or is driven elsewhere."""
        queued = records[0].event
        if isinstance(queued, RunQueued) and queued.callback is not None:
            self._notify_callback()

    async def _requeue_orphaned(self) -> None:
        await expire_forms(self.run_service)
        for run in await self.run_service.leases.orphaned():
            if run not in self._claimed and run not in self._retry_timers:
                await self.run_service.queue.put(run)

    async def _heartbeat(self) -> None:
        if await self.run_service.leases.heartbeat():
            self._reconciler.wake()  # another worker has died
        await self._detect_lost_leases()

    async def _detect_lost_leases(self) -> None:
        """Stops driving runs that another process has stopped or taken over, though their nodes are still working."""
        driving = self.run_service.driving
        if not self.run_service.leases.shared:
            return
        for run, last in (await self.run_service.environment.journal.last_sequences(driving.keys())).items():
            # a driver knows the records that it appends itself
            if (driver := driving.get(run)) is not None and last > driver.state.seq:
                driver.lose_ownership()
