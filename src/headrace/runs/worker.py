"""Workers: they drive the runs that are dispatched to them, and let forms expire that nobody has answered."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import inf
from time import monotonic

from headrace.background import Batched, Periodic, Slots, background
from headrace.engine import Driver
from headrace.errors import HeadraceError, NewerRecord, StoreError
from headrace.kernel.events import Record, RunEnded, RunId, RunQueued, RunStarted, StopRequested
from headrace.node import Flow
from headrace.ports import Claim, Signal
from headrace.runs.called_runs import is_abandoned, stop_called
from headrace.runs.conversation_queue import ConversationQueue
from headrace.runs.form_expiry import FormExpiry
from headrace.runs.inline_drive import InlineDrive, RunObserver
from headrace.runs.service import RunService
from headrace.values import Value

logger = logging.getLogger(__name__)

OVERTAKEN_SECONDS = 3.0  # between looks for runs that others have stopped or taken over
TAKEN_OVER = 50  # runs that are read, or acquired, at once
_PAUSE_FACTOR = 4  # times the duration of a look, so that many runs do not keep the database busy
MAX_ATTEMPTS = 10  # of a run that fails for another reason than an outage of the database


class Worker:
    """Drives up to `concurrency` runs at the same time.

    `notify_callback` is called when a run with a callback ends or pauses; `observer` is notified of every run.
    """

    def __init__(
        self,
        run_service: RunService,
        concurrency: int = 10_000,
        notify_callback: Callable[[], None] = lambda: None,
        observer: RunObserver | None = None,
    ) -> None:
        self.run_service = run_service
        self._conversation_queue = ConversationQueue(run_service)
        self._notify_callback = notify_callback
        self._observer = observer
        self._slots = run_service.slots = Slots(concurrency)
        run_service.inline_drive = InlineDrive(run_service.environment, notify_callback, observer)
        self._claims: dict[RunId, Claim] = {}
        self._failures: Counter[RunId] = Counter()  # consecutive ones, of runs that could not be driven
        # a process that takes over the runs of a dead worker, or starts again, has many at once
        self._reads = Batched(run_service.environment.journal.read_all, TAKEN_OVER)
        self._acquisitions = Batched(self._acquire, TAKEN_OVER)
        self._lost_leases_check = Periodic("overtaken runs", self._lose_overtaken)
        self._looks = False  # or will: nothing is to be looked for while no run is driven
        run_service.environment.bus.wire.on_signal(Signal.STOPPED, self._on_stopped)

    async def run(self) -> None:
        """Works until cancelled; then leaves the unfinished runs to another process, or to this one after a restart."""
        async with (
            background("forms", FormExpiry(self.run_service).run()),
            background("conversations", self._conversation_queue.remote.run()),
            background("overtaken runs", self._lost_leases_check.run()),
        ):
            await self.run_service.dispatch.work(self.drive, self._slots)

    def drain(self) -> None:
        """Claims no more runs and leaves the waiting ones to other workers; runs in progress continue."""
        self.run_service.dispatch.drain()

    @property
    def is_idle(self) -> bool:
        """Whether no run is in progress."""
        return not self._claims

    async def drive(self, claim: Claim) -> None:
        """Drives a run until it has ended, paused or is another worker's. Raises if it could not be driven; one that
        fails again and again for a reason of its own is ended, since each attempt may call a model that is paid for."""
        run = claim.run
        self._claims[run] = claim
        try:
            await self._drive(claim)
        except NewerRecord as error:
            logger.warning("run %s is left to a worker of a newer version: %s", run, error)
            if claim.exclusive:
                raise  # the engine has another try, until such a worker has it
            await self.run_service.leases.disown(run)
        except Exception as error:
            self._failures[run] += 1
            transient = isinstance(error, StoreError) and error.transient
            if transient or self._failures[run] < MAX_ATTEMPTS or not await self._fail(run, error):
                raise
        finally:
            del self._claims[run]
        self._failures.pop(run, None)

    async def _acquire(self, of: Sequence[RunId]) -> dict[RunId, bool]:
        return dict.fromkeys(await self.run_service.leases.acquire(of), True)

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
        return True

    async def _drive(self, claim: Claim) -> None:
        run, run_service = claim.run, self.run_service
        if run in run_service.driving:
            return
        new = run_service.take_handover(run)
        records = new or await self._reads.get(run) or await run_service.environment.journal.read(run)
        if not records:
            return
        if isinstance(records[-1].event, RunEnded):
            if run in self._failures:  # it ended, and what it had called could not be stopped
                await stop_called(run_service, records)
            return
        request = records[0].event
        assert isinstance(request, RunQueued)
        conversation = request.conversation
        # any process may end a run that is to be stopped, since it starts no node
        if not any(isinstance(record.event, StopRequested) for record in records):
            if not new and await is_abandoned(run_service, records):
                await run_service.stop(run, "")
                return
            # of several processes that start a new run the journal lets one; a started one may have a live owner
            has_started = any(isinstance(record.event, RunStarted) for record in records)
            if has_started and not claim.exclusive and not await self._acquisitions.get(run):
                return
            if conversation is not None and not await self._conversation_queue.may_run(run, conversation):
                return
        flow = await self._flow(run, records)
        if flow is not None:
            await self._run_driver(claim, flow, records, request)
        if conversation is not None:
            await self._conversation_queue.release_next(conversation)

    async def _run_driver(self, claim: Claim, flow: Flow, records: Sequence[Record], request: RunQueued) -> None:
        run, run_service = claim.run, self.run_service
        variables: dict[str, Value] = {}
        if request.conversation is not None:
            variables = {variable.name: variable.value for variable in flow.conversation}
            conversation_variables = await run_service.conversations.conversation_variables(request.conversation)
            variables |= {variable.name: variable.value for variable in conversation_variables}
        driver = run_service.driving[run] = Driver(run, flow, run_service.environment, variables)
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(self._look_seconds, self._lost_leases_check.wake)
        claim.on_lost = driver.lose_ownership
        if claim.lost:
            driver.lose_ownership()
        if self._observer is not None:
            self._observer.on_acquired(records, flow)
        try:
            state = await driver.drive(records)
            self._on_ended(records)
        finally:
            del run_service.driving[run]
            if self._observer is not None:
                self._observer.on_released(run)
        if state is not driver.state:  # another process has written to the run
            run_service.environment.bus.leave(run)
        if state.ended is not None and len(records) > 1:  # else it is new, and has called nothing before
            await stop_called(run_service, records)
        if driver.state.stop is not None and state.stop is None:
            await run_service.stop(run, driver.state.stop.by)  # for its new owner

    async def _flow(self, run: RunId, records: Sequence[Record]) -> Flow | None:
        """The workflow of a run. If it is gone or no longer loads, the run ends."""
        request = records[0].event
        assert isinstance(request, RunQueued)
        try:
            return await self.run_service.apps.flow(request.app, request.version)
        except StoreError:  # it may be readable later
            raise
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
        request = records[0].event
        if isinstance(request, RunQueued) and request.callback is not None:
            self._notify_callback()

    def _on_stopped(self, run: RunId) -> None:
        if run in self.run_service.driving:
            self._lost_leases_check.wake()

    async def _lose_overtaken(self) -> float:
        """Stops driving runs that another process has stopped or taken over, though their nodes are still working.
        Returns the time until the next look."""
        driving, began = self.run_service.driving, monotonic()
        self._looks = bool(driving)
        if not driving:
            return inf
        # also where no other worker is known: a process without a worker may have stopped a run, and the wire lost that
        journal = self.run_service.environment.journal
        last_sequences: Mapping[RunId, int] = await journal.last_sequences(driving.keys())
        for run, last in last_sequences.items():
            # a driver knows the records that it appends itself
            if (driver := driving.get(run)) is not None and last > driver.state.seq:
                driver.lose_ownership()
        return max(self._look_seconds, _PAUSE_FACTOR * (monotonic() - began))

    @property
    def _look_seconds(self) -> float:
        shared = self.run_service.leases.shared
        return min(OVERTAKEN_SECONDS, self.run_service.environment.bus.poll_seconds) if shared else OVERTAKEN_SECONDS
