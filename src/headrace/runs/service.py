"""The five operations of a run: submit, follow, get, stop, resume.

Every dialect of the API uses these. A run never depends on the connection that submitted it. The secrets of the
workflow are masked in all results.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from weakref import WeakValueDictionary

from headrace.apps.catalog import Apps
from headrace.background import Slots
from headrace.engine import Driver, EngineEnvironment
from headrace.errors import SequenceConflict, ServerDraining, StoreError, TooManyRequests
from headrace.ids import new_run_id
from headrace.kernel.events import (
    Delta,
    Event,
    Record,
    RunEnded,
    RunId,
    RunPaused,
    RunQueued,
    RunResumed,
    StopRequested,
)
from headrace.ports import App, Dispatch, Priority, ReadyRun, Signal, Storage, Timers, priority_of
from headrace.rate_limits import Limiter
from headrace.runs.inline_drive import InlineDrive
from headrace.runs.queue_limits import QueueLimits
from headrace.runs.reader import RunReader, replay
from headrace.runs.submission import NewConversation as NewConversation
from headrace.runs.submission import StartedRun as StartedRun
from headrace.runs.submission import Submission as Submission
from headrace.runs.submission import SubmittedRun as SubmittedRun
from headrace.runs.submission import ready_run
from headrace.runs.timers import LocalTimers

logger = logging.getLogger(__name__)

MAX_NUMBER_CONFLICTS = 100  # of a message with those of other processes, before it is rejected


class RunService(RunReader):
    """Accepts runs and returns their records. Workers (worker.py) drive them."""

    def __init__(
        self,
        apps: Apps,
        environment: EngineEnvironment,
        dispatch: Dispatch,
        storage: Storage,
        max_active: int = 0,
        limiter: Limiter | None = None,
        queue_limits: QueueLimits | None = None,
        timers: Timers | None = None,
    ) -> None:
        super().__init__(apps, environment)
        self.dispatch = dispatch
        self.runs = storage.runs
        self.conversations = storage.conversations
        self.leases = storage.leases
        self.forms = storage.forms
        self.triggers = storage.triggers
        self.max_active = max_active  # callers that may wait for runs of one app at the same time; 0: any number
        self.limiter = limiter  # None: no other limits
        self.queue_limits = queue_limits  # None: any number of runs may wait for a worker
        self.timers = timers or LocalTimers(environment.clock)
        self._callers: Counter[str] = Counter()
        self.driving: dict[RunId, Driver] = {}  # by the workers of this process
        self.slots = Slots(1)  # those of its worker
        self.inline_drive: InlineDrive | None = None  # that of its worker
        self.draining = False  # the process is about to end: no more runs are accepted
        self._handover: dict[RunId, list[Record]] = {}
        self._number_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by conversation

    # ------------------------------------------------------------------------------------------------------ submit

    async def submit(
        self, submission: Submission, run: RunId | None = None, *, admitted: bool = False, interactive: bool = False
    ) -> SubmittedRun:
        """Queues a run; once this returns, it is durable. `run` is its id, if it is given; a run that already has this
        id is returned instead. Two messages of one conversation at the same time get two numbers, and run in this
        order; TooManyRequests for one whose number is taken by other processes again and again. `admitted`: the run is
        part of one that is in progress, and no limit applies to it; `interactive`: its caller waits for it."""
        known, run = run is not None, run or new_run_id(self.environment.clock())
        conversation, app, source = submission.conversation, submission.release.app.id, submission.source
        if conversation is None:
            if not admitted:
                await self._admit(run, app, source, known=known)
            records = submission.records(self.environment.clock(), run)
            return await self._enqueue(records, submission.release.app, interactive=interactive)
        # the journal accepts a number once; messages of one process wait for each other, to avoid conflicts
        async with self._number_locks.setdefault(conversation, asyncio.Lock()):
            await self._admit(run, app, source, known=known)
            if submission.new_conversation is not None:  # a rejected message leaves no conversation behind
                await self.conversations.add_conversation(*submission.new_conversation)
            for _ in range(MAX_NUMBER_CONFLICTS):
                newest, _ = await self.conversations.messages(conversation, limit=1)
                number = newest[0].number + 1 if newest else 1
                with suppress(SequenceConflict):  # a message of another process has this number
                    records = submission.records(self.environment.clock(), run, number)
                    return await self._enqueue(records, submission.release.app, interactive=interactive)
        raise TooManyRequests("Too many messages of this conversation at once. Please try again later.")

    async def begin(self, records: Sequence[Record], *, known: bool) -> SubmittedRun:
        """Queues a run that begins with these records. `known`: see `_admit`."""
        request = records[0].event
        assert isinstance(request, RunQueued)
        await self._admit(records[0].run, request.app, request.source, known=known)
        return await self._enqueue(records, await self.apps.find(request.app))

    async def _admit(self, run: RunId, app: str, source: str, *, known: bool = False) -> None:
        """ServerDraining where no more runs are accepted, LimitReached where a plan allows none, TooManyRequests or
        ServerOverloaded where too many wait; batches and schedules limit themselves. `known`: a run with this id may
        exist already."""
        if self.draining:
            raise ServerDraining
        if self.limiter is None and self.queue_limits is None:
            return
        app_record = await self.apps.find(app)
        if app_record is None:
            return
        if self.queue_limits is not None and priority_of(source) != Priority.BATCH:
            exists = known and await self.environment.journal.last_sequences([run])
            if not exists:
                await self.queue_limits.check(app_record.workspace)
        if self.limiter is not None:
            await self.limiter.admit(run, app_record, known=known)

    async def _enqueue(self, records: Sequence[Record], app: App | None, *, interactive: bool = False) -> SubmittedRun:
        """Appends the first records of a run, and dispatches it; returns an existing run with this id. SequenceConflict
        if there is none, and the number of its message is taken."""
        run = records[0].run
        request = records[0].event
        assert isinstance(request, RunQueued)
        try:
            await self.environment.journal.append(records)
        except SequenceConflict:
            records = await self.environment.journal.read(run)
            if not records:
                raise
            request = records[0].event
            assert isinstance(request, RunQueued)
        else:
            await self._dispatch(
                ready_run(run, len(records), request.app, app, request.source, interactive=interactive)
            )
        at, message = records[0].at, "query" in request.system
        return SubmittedRun(run, request.task, at, request.version, message, request.conversation)

    async def _dispatch(self, work: ReadyRun) -> None:
        """Hands over a run whose record is safe: if that fails, the reconciler repeats it."""
        try:
            await self.dispatch.ready(work)
        except StoreError as error:
            logger.log(error.level, "run %s waits for the reconciler: %s", work.run, error)

    async def dispatch_again(self, run: RunId) -> None:
        """Hands over a run that waited for something else than a worker. No effect on an unknown run."""
        if (work := await self.ready_again(run)) is not None:
            await self._dispatch(work)

    async def ready_again(self, run: RunId) -> ReadyRun | None:
        """A run to be dispatched because of its last record; None for an unknown one. Whether a caller waits for it is
        not in the journal, so it comes before new ones, unless it is of a batch or a schedule."""
        row = await self.runs.find_run(run)
        if row is None:
            return None
        seq = (await self.environment.journal.last_sequences([run]))[run]
        app = await self.apps.find(row.app)
        return ready_run(run, seq, row.app, app, row.source, interactive=True)

    def open(self, submission: Submission, run: RunId | None = None) -> AbstractAsyncContextManager[StartedRun]:
        """Queues a run and follows it from its first record. Leaving the block does not end the run. `run`: see
        `submit`. TooManyRequests if too many callers of the app are waiting."""
        if run is None and submission.conversation is None and submission.answer is None:
            return self._open_new(submission)
        return self._open_submitted(submission, run)

    @asynccontextmanager
    async def _open_submitted(self, submission: Submission, run: RunId | None) -> AsyncGenerator[StartedRun]:
        """Opens a run that may exist, or wait for another one: that is decided before it is driven."""
        app = submission.release.app.id
        with self._caller_slot(app):
            result = await self.submit(submission, run, interactive=True)
            flow = await self.apps.flow(app, result.version)
            yield StartedRun(result.run, result.task, self.follow(result.run), flow)

    @contextmanager
    def _caller_slot(self, app: str) -> Generator[None]:
        """Counts a caller of an app during the block. TooManyRequests if there are too many."""
        if self.max_active and self._callers[app] >= self.max_active:
            raise TooManyRequests(
                "Too many requests. Please try again later. The current maximum concurrent requests allowed for "
                f"{app} is {self.max_active}."
            )
        self._callers[app] += 1
        try:
            yield
        finally:
            self._callers[app] -= 1

    @asynccontextmanager
    async def _open_new(self, submission: Submission) -> AsyncGenerator[StartedRun]:
        (record,) = submission.records(self.environment.clock())
        request = record.event
        assert isinstance(request, RunQueued)
        with self._caller_slot(request.app):
            await self._admit(record.run, request.app, request.source)
            app, flow = submission.release.app, submission.release.flow
            if flow.instant and self.inline_drive is not None and self.dispatch.has_room():
                records_at_once = await self.inline_drive(record, flow)
                if records_at_once is not None:
                    yield StartedRun(record.run, request.task, replay(records_at_once, flow.mask), flow)
                    return
            async with self.environment.bus.subscribe(record.run) as live:
                work = ReadyRun(record.run, 1, app.workspace, app.id, Priority.INTERACTIVE)
                if self.dispatch.ready_here(work):
                    # a worker of this process need not wait for the append and read the journal: appends keep their
                    # order
                    self._handover[record.run] = [record]
                    append = asyncio.ensure_future(self.environment.journal.append([record]))
                else:
                    append = asyncio.ensure_future(self._append_first(record, work))
                # the run is durable before the caller knows its id; a caller who leaves does not end it
                await asyncio.shield(append)
                records = self._live(record.run, live, [record], flow.mask, 0)
                yield StartedRun(record.run, request.task, records, flow)

    async def _append_first(self, record: Record, work: ReadyRun) -> None:
        await self.environment.journal.append([record])
        await self._dispatch(work)

    def take_handover(self, run: RunId) -> list[Record] | None:
        """The records of a run that was just submitted in this process; None for others, which are in the journal."""
        return self._handover.pop(run, None)

    # ------------------------------------------------------------------------------------------------ stop, resume

    async def stop(self, run: RunId, by: str) -> None:
        """Stops a run, wherever it is driven. No effect on an ended or unknown run."""
        driver = self.driving.get(run)
        if driver is not None:
            driver.stop(by)
        else:
            await self._command(run, StopRequested(by))

    async def resume(self, run: RunId) -> None:
        """Continues a paused run. No effect on a run that is not paused."""
        await self._command(run, RunResumed())

    async def _command(self, run: RunId, event: Event) -> None:
        """Appends a command to a run that is not driven in this process, and queues it."""
        while records := await self.environment.journal.read(run):
            paused = isinstance(last_event(records), RunPaused)
            if isinstance(last_event(records), RunEnded) or (isinstance(event, RunResumed) and not paused):
                return
            with suppress(SequenceConflict):  # another record was faster: read again
                return await self.append(run, len(records), event)

    async def append(self, run: RunId, after: int, *events: Event) -> None:
        """Appends events after the last one of a run that is not driven in this process, and dispatches it.
        SequenceConflict if that is not its last one."""
        now = self.environment.clock()
        await self.environment.journal.append(
            [Record(run, seq, now, event) for seq, event in enumerate(events, after + 1)]
        )
        self._handover.pop(run, None)
        if any(isinstance(event, StopRequested) for event in events):
            self.environment.bus.wire.signal(Signal.STOPPED, run)
        await self.dispatch_again(run)


def last_event(records: Sequence[Record]) -> Event:
    """The last event without streamed text."""
    return next(record.event for record in reversed(records) if not isinstance(record.event, Delta))
