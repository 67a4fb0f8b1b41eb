"""Temporal as what brings ready runs to workers: one standalone activity for each drive.

The id of an activity is `RUN:SEQ`, with the number of the record that made the run ready, so that starting it again
while it is open is harmless; one that is started again afterwards reads in the journal that there is nothing to do. An
activity carries these two and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from weakref import WeakValueDictionary

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.common import (
    ActivityIDConflictPolicy,
    ActivityIDReusePolicy,
    RetryPolicy,
    SearchAttributePair,
    TypedSearchAttributes,
)
from temporalio.common import Priority as TaskPriority
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from headrace.adapters.temporal.connection import (
    APP,
    RUN,
    WORKSPACE,
    TemporalOptions,
    TemporalUnavailable,
    connect,
    failure_of,
)
from headrace.adapters.temporal.slots import tuner
from headrace.background import Periodic, back_off, background, cancel
from headrace.errors import HeadraceError, StoreError
from headrace.kernel.events import RunId
from headrace.ports.dispatch import Backlog, Claim, Drive, Priority, ReadyRun, Slots
from headrace.ports.journal import Leases

logger = logging.getLogger(__name__)

DRIVE = "HeadraceDrive"  # the type of the activities
RENEW_SECONDS = 3.0  # of this process's lease, which its claims of background work need
_POLLS = 2  # open polls of a worker: those of a paused process go on taking tasks
_RPC_SECONDS = 10.0  # the SDK tries for about as long
_STARTS = 64  # starts of activities at once, of each priority
_MOST_STARTS = 20_000  # that wait in this process; what is beyond, the reconciler restores from the journal
_PAUSES = (0.25, 5.0)  # seconds between attempts to reach the server, at first and at most
_FINISHING_SECONDS = 1.0  # in which the server has surely heard of the end of an activity
_LONGEST_KEY = 64  # bytes of a fairness key
_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=5))
_AT_ONCE = timedelta(milliseconds=1)
_BENIGN = ApplicationErrorCategory.BENIGN  # logged here, and not by the SDK


class TemporalDispatch:
    """Implements Dispatch. It connects when that is first needed, so that a process starts while the server is away."""

    def __init__(self, options: TemporalOptions, environ: Mapping[str, str], leases: Leases) -> None:
        self.leases = leases
        self.options = options
        self._environ = environ
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._available = True  # as last logged
        self._starts: dict[asyncio.Task[None], None] = {}
        # one that a caller waits for does not wait for those of a flood
        self._starting = {priority: asyncio.Semaphore(_STARTS) for priority in Priority}
        self._drive: Drive | None = None
        self._drives: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._locks: WeakValueDictionary[RunId, asyncio.Lock] = WeakValueDictionary()
        self._waiting: set[RunId] = set()  # for their locks
        self._here: dict[str, asyncio.Event] = {}  # activities of this process; set when the server knows of the end
        self._drained = asyncio.Event()
        self._ending = False  # no drive may begin

    def __len__(self) -> int:
        """How many runs wait in this process until Temporal has them."""
        return len(self._starts)

    async def open(self) -> None:
        """HeadraceError if the server answers, but cannot be used. One that does not answer may do so later."""
        try:
            await self.client()
        except TemporalUnavailable as error:
            self._log(error)

    async def client(self) -> Client:
        """TemporalUnavailable while the server cannot be reached."""
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self.options, self._environ)
            return self._client

    # ------------------------------------------------------------------------------------------------------- starting

    async def ready(self, work: ReadyRun) -> None:
        """Returns at once: the caller of a run does not wait for Temporal."""
        if len(self._starts) >= _MOST_STARTS and work.priority != Priority.INTERACTIVE:
            logger.debug("run %s waits for the reconciler: too many runs wait for Temporal", work.run)
            return
        task = asyncio.create_task(self._start_until_done(work), name=f"dispatch {work.run}")
        self._starts[task] = None
        task.add_done_callback(lambda task: self._starts.pop(task))

    def has_room(self) -> bool:
        return False

    def ready_here(self, work: ReadyRun) -> bool:
        return False

    async def _start_until_done(self, work: ReadyRun) -> None:
        if (ended := self._here.get(self.activity_id(work))) is not None:
            await ended.wait()  # the server would take the activity that ends for the one that is wanted
        failures = 0
        while True:
            try:
                async with self._starting[work.priority]:
                    await self.start(work)
            except HeadraceError as error:
                failures += 1
                self._log(error)
            else:
                self._log(None)
                return
            await asyncio.sleep(back_off(failures, *_PAUSES))

    def _log(self, error: HeadraceError | None) -> None:
        """Logs the beginning and the end of an outage once."""
        if (error is None) is self._available:
            return
        self._available = error is None
        if error is None:
            logger.info("Temporal at %s answers again", self.options.address)
        else:
            logger.error("runs are accepted, and wait: %s", error)

    async def start(self, work: ReadyRun) -> None:
        """HeadraceError if the activity was not started; TemporalUnavailable: it may have been."""
        options = self.options
        try:
            async with asyncio.timeout(_RPC_SECONDS):
                client = await self.client()
                await client.start_activity(
                    DRIVE,
                    args=[work.run, work.seq],
                    id=self.activity_id(work),
                    task_queue=_queue(options, work.priority),
                    heartbeat_timeout=timedelta(seconds=options.heartbeat_seconds),
                    start_to_close_timeout=timedelta(seconds=options.drive_seconds),
                    id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=ActivityIDReusePolicy.ALLOW_DUPLICATE,
                    retry_policy=_RETRY,
                    search_attributes=_search_attributes(work),
                    priority=TaskPriority(priority_key=int(work.priority), fairness_key=_fairness_key(work.workspace)),
                )
        except TimeoutError as error:
            raise TemporalUnavailable(f"Temporal at {options.address} does not answer") from error
        except RPCError as error:
            raise failure_of(error, options) from error

    async def restore(self, work: ReadyRun) -> None:
        """Starts an activity for a run that has none. HeadraceError as for `start`."""
        client = await self.client()
        query = f"{RUN.name} = '{work.run}' AND ExecutionStatus = 'Running'"
        try:
            activities = await client.count_activities(query)
        except RPCError as error:
            raise failure_of(error, self.options) from error
        if not activities.count:
            logger.info("run %s is started again: Temporal does not have it", work.run)
            await self.start(work)

    def activity_id(self, work: ReadyRun) -> str:
        return f"{work.run}:{work.seq}"

    async def backlog(self) -> Backlog:
        client = await self.client()
        waiting, oldest = len(self._starts), 0.0
        for queue in (self.options.task_queue, self.options.interactive_queue):
            request = DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                report_stats=True,
            )
            try:
                stats = (await client.workflow_service.describe_task_queue(request)).stats
            except RPCError as error:
                raise failure_of(error, self.options) from error
            waiting += stats.approximate_backlog_count
            if stats.approximate_backlog_count:
                oldest = max(oldest, stats.approximate_backlog_age.ToTimedelta().total_seconds())
        return Backlog(waiting, oldest)

    async def aclose(self) -> None:
        """What has not been started is left to the reconciler of another process, or of the next one."""
        await cancel(*self._starts)

    # -------------------------------------------------------------------------------------------------------- working

    async def work(self, drive: Drive, slots: Slots) -> None:
        self._drive = drive
        own = {self.options.interactive_queue: slots.twin(), self.options.task_queue: slots}
        heartbeat = Periodic("heartbeat", self._heartbeat, RENEW_SECONDS)
        async with background("heartbeat", heartbeat.run()):
            failures = 0
            while not self._drained.is_set():
                try:
                    await self._poll(await self.client(), own)
                except (HeadraceError, RuntimeError) as error:
                    failures += 1
                    level = logging.ERROR if failures == 1 else logging.DEBUG
                    logger.log(level, "no runs are taken from Temporal: %s", error)
                    await asyncio.sleep(back_off(failures, *_PAUSES))
            await asyncio.get_running_loop().create_future()  # drained before there was a server

    async def _heartbeat(self) -> None:
        await self.leases.heartbeat()

    async def _poll(self, client: Client, slots: Mapping[str, Slots]) -> None:
        """Takes runs from these queues, until it is cancelled or fails."""
        self._ending = False
        beat = timedelta(seconds=self.options.beat_seconds)
        workers = [
            Worker(
                client,
                task_queue=queue,
                activities=[self._activity],
                tuner=tuner(own),
                activity_task_poller_behavior=PollerBehaviorSimpleMaximum(_POLLS),
                max_heartbeat_throttle_interval=beat,
                default_heartbeat_throttle_interval=beat,
                graceful_shutdown_timeout=timedelta(days=1),  # drives end by themselves, or are cancelled here
            )
            for queue, own in slots.items()
        ]
        polling = [asyncio.create_task(worker.run(), name=f"polling {worker.task_queue}") for worker in workers]
        draining = asyncio.create_task(self._drained.wait())
        stopping: asyncio.Future[list[None]] | None = None
        try:
            await asyncio.wait([*polling, draining], return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                stopping = asyncio.gather(*(worker.shutdown() for worker in workers))
                await asyncio.get_running_loop().create_future()  # the drives in progress continue
        finally:
            draining.cancel()
            self._ending = True
            stopping = stopping or asyncio.gather(*(worker.shutdown() for worker in workers))
            await cancel(*self._drives)
            await asyncio.gather(*polling, return_exceptions=True)
            await stopping
        for task in polling:
            task.result()

    def drain(self) -> None:
        self._drained.set()

    @activity.defn(name=DRIVE)
    async def _activity(self, run: str, seq: int) -> None:
        """`seq` is part of what people see of it, and of its id."""
        if run in self._waiting:
            return  # the drive that waits has not read the journal yet
        info = activity.info()
        ended = self._here[info.activity_id] = asyncio.Event()
        heartbeat = asyncio.create_task(self._beat(), name=f"{run}: heartbeat")
        lock = self._locks.setdefault(run, asyncio.Lock())
        self._waiting.add(run)  # while the last drive of the run still ends
        try:
            async with lock:
                self._waiting.discard(run)
                await self._run(Claim(run, info.attempt, exclusive=True))
        finally:
            self._waiting.discard(run)
            heartbeat.cancel()
            asyncio.get_running_loop().call_later(_FINISHING_SECONDS, self._forget, info.activity_id, ended)

    async def _run(self, claim: Claim) -> None:
        assert self._drive is not None
        if self._ending or self._drained.is_set():  # a poll that was open may still have brought it
            raise _ends()
        drive = asyncio.create_task(self._drive(claim), name=f"worker: {claim.run}")
        self._drives[drive] = None
        try:
            await asyncio.wait([drive])
        except asyncio.CancelledError:
            # by the server: the run is another worker's now, or an operator has cancelled or paused the activity
            claim.lose()
            await asyncio.wait([drive])
            raise
        finally:
            del self._drives[drive]
        if drive.cancelled():
            raise _ends()
        if (error := drive.exception()) is not None:
            level = error.level if isinstance(error, StoreError) else logging.ERROR
            trace = error if claim.attempt == 1 and not isinstance(error, StoreError | OSError) else None
            logger.log(level, "run %s cannot continue yet, and is retried: %s", claim.run, error, exc_info=trace)
            raise ApplicationError(str(error), type=type(error).__name__, category=_BENIGN) from error

    def _forget(self, id_: str, ended: asyncio.Event) -> None:
        ended.set()
        if self._here.get(id_) is ended:
            del self._here[id_]

    async def _beat(self) -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(self.options.beat_seconds)


def _ends() -> ApplicationError:
    return ApplicationError("the worker ends", next_retry_delay=_AT_ONCE, category=_BENIGN)


def _queue(options: TemporalOptions, priority: Priority) -> str:
    """Runs that somebody waits for have a queue with slots of its own."""
    return options.interactive_queue if priority is Priority.INTERACTIVE else options.task_queue


def _search_attributes(work: ReadyRun) -> TypedSearchAttributes:
    pairs = ((RUN, work.run), (APP, work.app), (WORKSPACE, work.workspace))
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in pairs])


def _fairness_key(workspace: str) -> str:
    """A workspace's name, as far as Temporal takes it."""
    return workspace.encode()[:_LONGEST_KEY].decode(errors="ignore")
