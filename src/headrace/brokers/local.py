"""Queue and bus within one process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from headrace.kernel.events import Record, RunId


class LocalQueue:
    """Runs waiting in this process, first come first served.

    A run put again while it waits is handed out once; put again while it is claimed, once more after its release.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[RunId, None] = OrderedDict()
        self._claimed: dict[RunId, bool] = {}  # whether it was put again since
        self._waiters: deque[asyncio.Future[RunId]] = deque()

    def __len__(self) -> int:
        """How many wait."""
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
        """Waits for a run. It goes back into the queue if the block is left by an exception (also if cancelled)."""
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
            if waiter.done() and not waiter.cancelled():  # handed a run and cancelled in the same moment
                run = waiter.result()
                del self._claimed[run]
                self._put(run)
            raise


class LocalBus:
    """Records told within this process.

    A subscriber holds at most `backlog` records. While it is that far behind, records without a number are dropped,
    and numbered ones push out the oldest: whoever reads notices the gap in the numbers and reads the journal. The
    newest numbered record always arrives.
    """

    def __init__(self, backlog: int = 10_000) -> None:
        self._backlog = backlog
        self._subscribers: dict[RunId, list[_Subscription]] = {}

    def publish(self, records: Sequence[Record]) -> None:
        if not self._subscribers:
            return
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


class _Subscription:
    """What one subscriber has not read yet; read by one task."""

    __slots__ = ("_backlog", "_records", "_waiter")

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self._records: deque[Record] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def push(self, record: Record) -> None:
        if len(self._records) >= self._backlog:
            if record.seq is None:
                return
            self._records.popleft()
        self._records.append(record)
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    def __aiter__(self) -> AsyncIterator[Sequence[Record]]:
        return self

    async def __anext__(self) -> Sequence[Record]:
        while not self._records:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        records = list(self._records)
        self._records.clear()
        return records
