"""Queue and bus within one process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headrace.kernel.events import Record, RunId


class LocalQueue:
    """The runs that wait in this process, first in, first out.

    A run that is put again while it waits is claimed once; put again while it is claimed, once more after its release.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[RunId, None] = OrderedDict()
        self._claimed: dict[RunId, bool] = {}  # whether it was put again meanwhile
        self._waiters: deque[asyncio.Future[RunId]] = deque()

    def __len__(self) -> int:
        """How many runs wait."""
        return len(self._waiting)

    async def put(self, run: RunId) -> None:
        self._put(run)

    def _put(self, run: RunId) -> None:
        if run in self._claimed:
            self._claimed[run] = True
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._claimed[run] = False
                waiter.set_result(run)
                return
        self._waiting[run] = None

    @asynccontextmanager
    async def claim(self, worker: str) -> AsyncGenerator[RunId]:
        """Waits for a run. It returns to the queue if the block is left by an exception (also by cancellation)."""
        run = await self._next()
        completed = False
        try:
            yield run
            completed = True
        finally:
            was_put_again = self._claimed.pop(run)
            if was_put_again or not completed:
                self._put(run)

    async def _next(self) -> RunId:
        if self._waiting:
            run, _ = self._waiting.popitem(last=False)
            self._claimed[run] = False
            return run
        waiter: asyncio.Future[RunId] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it received a run and was cancelled at the same time
                run = waiter.result()
                del self._claimed[run]
                self._put(run)
            raise


class LocalBus:
    """Delivers records within this process. `observers` receive all records that are published in it.

    A subscription has at most `backlog` records. While it is full, records without a number are dropped, and numbered
    ones replace the oldest: the reader notices the gap in the numbers and reads the journal. The newest numbered record
    always arrives.
    """

    def __init__(self, backlog: int = 10_000) -> None:
        self._backlog = backlog
        self._subscribers: dict[RunId, list[_Subscription]] = {}
        self.observers: list[Callable[[Sequence[Record]], None]] = []

    def publish(self, records: Sequence[Record]) -> None:
        self._deliver(records)
        for observer in self.observers:
            observer(records)

    def _deliver(self, records: Sequence[Record]) -> None:
        for record in records:
            for subscription in self._subscribers.get(record.run, ()):
                subscription.push(record)

    @asynccontextmanager
    async def subscribe(self, run: RunId) -> AsyncGenerator[AsyncIterator[Sequence[Record]]]:
        subscription = _Subscription(self._backlog)
        subscriptions = self._subscribers.setdefault(run, [])
        subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            subscriptions.remove(subscription)
            if not subscriptions:
                del self._subscribers[run]


@dataclass(slots=True, eq=False)
class _Subscription:
    """The records that one subscriber has not read yet. It is read by one task."""

    backlog: int
    records: deque[Record] = field(default_factory=deque[Record])
    waiter: asyncio.Future[None] | None = None

    def push(self, record: Record) -> None:
        if len(self.records) >= self.backlog:
            if record.seq is None:
                return
            self.records.popleft()
        self.records.append(record)
        if self.waiter is not None:
            if not self.waiter.done():
                self.waiter.set_result(None)
            self.waiter = None

    def __aiter__(self) -> AsyncIterator[Sequence[Record]]:
        return self

    async def __anext__(self) -> Sequence[Record]:
        while not self.records:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        records = list(self.records)
        self.records.clear()
        return records
