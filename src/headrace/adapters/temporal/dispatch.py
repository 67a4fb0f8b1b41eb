"""Temporal as what brings ready runs to workers: one standalone activity for each drive.

The id of an activity is `RUN:SEQ`, with the number of the record that made the run ready, so that starting it again
while it is open is harmless; one that is started again afterwards reads in the journal that there is nothing to do. An
activity carries these two and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from weakref import WeakValueDictionary

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client
from temporalio.common import ActivityIDConflictPolicy, ActivityIDReusePolicy
from temporalio.common import Priority as TaskPriority
from temporalio.exceptions import ApplicationError
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from headrace.adapters.temporal.connection import DRIVE, RETRY, RUN, Connection, TemporalOptions, search_attributes
from headrace.adapters.temporal.polling import BENIGN, GRACE, Polling, beat, left_to_others
from headrace.adapters.temporal.slots import tuner
from headrace.adapters.temporal.starts import AT_ONCE, MOST, Starts
from headrace.adapters.temporal.takeover import Takeover
from headrace.adapters.temporal.timers import TemporalTimers
from headrace.background import Periodic, background, cancel
from headrace.errors import StoreError
from headrace.kernel.events import RunId
from headrace.ports.dispatch import Backlog, Claim, Drive, Priority, ReadyRun, Slots
from headrace.ports.journal import Claims, Leases

logger = logging.getLogger(__name__)

RENEW_SECONDS = 3.0  # of this process's lease, which its claims of background work need
_POLLS = 2  # open polls of a worker: those of a paused process go on taking tasks
_FINISHING_SECONDS = 1.0  # in which the server has surely heard of the end of an activity
_LONGEST_KEY = 64  # bytes of a fairness key


class TemporalDispatch:
    """Implements Dispatch. `on_dead_worker` is called when another worker was found dead: what it did without an
    activity is to be looked for."""

    def __init__(self, options: TemporalOptions, environ: Mapping[str, str], leases: Leases, claims: Claims) -> None:
        self.leases = leases
        self.options = options
        self.connection = Connection(options, environ, leases.worker)
        self.timers = TemporalTimers(self.connection)
        self.on_dead_worker: Callable[[], None] = lambda: None
        self._takeover = Takeover(self.connection, leases, claims)
        self._starts = Starts(self.connection)
        # one that a caller waits for does not wait for those of a flood
        self._room = {priority: asyncio.Semaphore(AT_ONCE) for priority in Priority}
        self._drive: Drive | None = None
        self._drives: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._locks: WeakValueDictionary[RunId, asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[RunId, str] = {}  # for their locks: runs by their activities
        self._renewing = asyncio.Lock()
        self._here: dict[str, asyncio.Event] = {}  # activities of this process; set when the server knows of the end
        self._slots: Mapping[str, Slots] = {}  # by task queue
        self._polling = Polling(self.connection, self._workers, self._end, "no runs are taken from Temporal")

    def __len__(self) -> int:
        """How many runs wait in this process until Temporal has them."""
        return len(self._starts)

    # ------------------------------------------------------------------------------------------------------- starting

    async def ready(self, work: ReadyRun) -> None:
        """Returns at once: the caller of a run does not wait for Temporal."""
        if len(self._starts) >= MOST and work.priority != Priority.INTERACTIVE:
            logger.debug("run %s waits for the reconciler: too many runs wait for Temporal", work.run)
            return
        # the server would take an activity that ends for the one that is wanted
        end = self._here.get(self.activity_id(work))
        self._starts.add(f"dispatch {work.run}", partial(self.start, work), self._room[work.priority], end)

    def has_room(self) -> bool:
        return False

    def ready_here(self, work: ReadyRun) -> bool:
        return False

    async def start(self, work: ReadyRun) -> None:
        """HeadraceError if the activity was not started; TemporalUnavailable: it may have been."""
        await self.connection.call(partial(self._start, work))

    async def _start(self, work: ReadyRun, client: Client) -> None:
        options = self.options
        await client.start_activity(
            DRIVE,
            args=[work.run, work.seq],
            id=self.activity_id(work),
            task_queue=_queue(options, work.priority),
            heartbeat_timeout=timedelta(seconds=options.heartbeat_seconds),
            start_to_close_timeout=timedelta(seconds=options.drive_seconds),
            id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=ActivityIDReusePolicy.ALLOW_DUPLICATE,
            retry_policy=RETRY,
            search_attributes=search_attributes(work.run, work.app, work.workspace),
            priority=TaskPriority(priority_key=int(work.priority), fairness_key=_fairness_key(work.workspace)),
        )

    async def restore(self, work: ReadyRun) -> None:
        """Starts an activity for a run that has none. HeadraceError as for `start`."""
        query = f"{RUN.name} = '{work.run}' AND ActivityType = '{DRIVE}' AND ExecutionStatus = 'Running'"
        activities = await self.connection.call(lambda client: client.count_activities(query))
        if not activities.count:
            logger.info("run %s is started again: Temporal does not have it", work.run)
            await self.start(work)

    def activity_id(self, work: ReadyRun) -> str:
        return f"{work.run}:{work.seq}"

    async def backlog(self) -> Backlog:
        waiting, oldest = len(self._starts), 0.0
        for queue in (self.options.task_queue, self.options.interactive_queue):
            stats = (await self.connection.call(partial(_described, queue))).stats
            waiting += stats.approximate_backlog_count
            if stats.approximate_backlog_count:
                oldest = max(oldest, stats.approximate_backlog_age.ToTimedelta().total_seconds())
        return Backlog(waiting, oldest)

    async def aclose(self) -> None:
        """What has not been started is left to the reconciler of another process, or of the next one."""
        await self._starts.aclose()
        await self.timers.aclose()

    # -------------------------------------------------------------------------------------------------------- working

    async def work(self, drive: Drive, slots: Slots) -> None:
        self._drive = drive
        self._slots = {self.options.interactive_queue: slots.twin(), self.options.task_queue: slots}
        heartbeat = Periodic("heartbeat", self._heartbeat, RENEW_SECONDS)
        pause = await heartbeat.once()  # before any poll: others would take what a worker has that they do not know
        async with (
            background("heartbeat", heartbeat.run(pause)),
            background("taking over", self._takeover.run()),
        ):
            await self._polling.run()

    async def _heartbeat(self) -> float:
        """Returns the time until the next one."""
        if await self.leases.heartbeat():
            self.on_dead_worker()
            self._takeover.begin()
        return min(RENEW_SECONDS, self.leases.next_expiry)

    def _workers(self, client: Client) -> list[Worker]:
        beat_seconds = timedelta(seconds=self.options.beat_seconds)
        return [
            Worker(
                client,
                task_queue=queue,
                activities=[self._activity],
                tuner=tuner(own),
                activity_task_poller_behavior=PollerBehaviorSimpleMaximum(_POLLS),
                max_heartbeat_throttle_interval=beat_seconds,
                default_heartbeat_throttle_interval=beat_seconds,
                graceful_shutdown_timeout=GRACE,
            )
            for queue, own in self._slots.items()
        ]

    async def _end(self) -> None:
        await cancel(*self._drives)

    def drain(self) -> None:
        self._polling.drain()

    @activity.defn(name=DRIVE)
    async def _activity(self, run: str, seq: int) -> None:
        """`seq` is part of what people see of it, and of its id."""
        info = activity.info()
        if self._waiting.get(run, info.activity_id) != info.activity_id:
            return  # the drive that waits has not read the journal yet
        end = self._here[info.activity_id] = asyncio.Event()
        heartbeat = asyncio.create_task(beat(self.options.beat_seconds), name=f"{run}: heartbeat")
        lock = self._locks.setdefault(run, asyncio.Lock())
        self._waiting[run] = info.activity_id  # while the last drive of the run still ends
        try:
            async with lock:
                self._waiting.pop(run, None)
                await self._run(Claim(run, info.attempt, exclusive=True))
        finally:
            self._waiting.pop(run, None)
            heartbeat.cancel()
            asyncio.get_running_loop().call_later(_FINISHING_SECONDS, self._forget, info.activity_id, end)

    async def _run(self, claim: Claim) -> None:
        assert self._drive is not None
        if self._polling.ends:
            raise left_to_others()
        if self.leases.expired:
            await self._renew_for(claim.run)
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
            raise left_to_others()
        if (error := drive.exception()) is not None:
            level = error.level if isinstance(error, StoreError) else logging.ERROR
            trace = error if claim.attempt == 1 and not isinstance(error, StoreError | OSError) else None
            logger.log(level, "run %s cannot continue yet, and is retried: %s", claim.run, error, exc_info=trace)
            raise ApplicationError(str(error), type=type(error).__name__, category=BENIGN) from error

    async def _renew_for(self, run: RunId) -> None:
        """Others may have the run, and think that this worker is dead. ApplicationError if it may not drive the run."""
        try:
            async with self._renewing:
                if self.leases.expired:
                    await self._heartbeat()
            acquired = await self.leases.acquire([run])
        except StoreError as error:
            raise ApplicationError(str(error), type=type(error).__name__, category=BENIGN) from error
        if not acquired:
            raise ApplicationError("another worker has the run", category=BENIGN)

    def _forget(self, id_: str, end: asyncio.Event) -> None:
        end.set()
        if self._here.get(id_) is end:
            del self._here[id_]


async def _described(queue: str, client: Client) -> DescribeTaskQueueResponse:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        report_stats=True,
    )
    return await client.workflow_service.describe_task_queue(request)


def _queue(options: TemporalOptions, priority: Priority) -> str:
    """Runs that somebody waits for have a queue with slots of its own."""
    return options.interactive_queue if priority is Priority.INTERACTIVE else options.task_queue


def _fairness_key(workspace: str) -> str:
    """A workspace's name, as far as Temporal takes it."""
    return workspace.encode()[:_LONGEST_KEY].decode(errors="ignore")
