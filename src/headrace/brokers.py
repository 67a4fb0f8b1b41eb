"""Bus and wire within one process, and the bus of one process among several that share a database."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from headrace.background import Periodic
from headrace.kernel.events import Record, RunId
from headrace.ports import Journal, RecordReceiver, Signal, Wire, WireCounts

POLL_SECONDS = 0.04  # between polls of the journal: records of other processes are late by about half of it
WIRE_POLL_SECONDS = 1.0  # the same where a wire delivers them: for those that it loses
FOLLOW_SECONDS = 0.01  # after which other processes are asked for a run, unless it is driven here by then
_PAUSE_FACTOR = 4  # times the duration of a poll, so that many followers do not keep the database busy


class LocalBus:
    """Delivers records within this process. `observers` receive the numbered records that are published in it.

    A subscription has at most `backlog` records. While it is full, records without a number are dropped, and numbered
    ones replace the oldest: the reader notices the gap in the numbers and reads the journal. The newest numbered record
    always arrives.
    """

    def __init__(self, backlog: int = 10_000, wire: Wire | None = None) -> None:
        self._is_wired = wire is not None
        self.wire = wire or LocalWire()
        self.poll_seconds = inf
        self._backlog = backlog
        self._subscribers: dict[RunId, list[_Subscription]] = {}
        self.observers: list[Callable[[Sequence[Record]], None]] = []

    def publish(self, records: Sequence[Record]) -> None:
        self._deliver(records)
        if self._is_wired:
            self.wire.publish(records)
        if records[0].seq is not None:  # live text is published by itself
            for observer in self.observers:
                observer(records)

    def leave(self, run: RunId) -> None:
        """Nobody else publishes."""

    def _deliver(self, records: Sequence[Record]) -> None:
        for record in records:
            for subscription in self._subscribers.get(record.run, ()):
                if len(subscription.records) >= self._backlog:
                    if record.seq is None:
                        continue
                    subscription.records.popleft()
                subscription.records.append(record)
                if (waiter := subscription.waiter) is not None:
                    subscription.waiter = None
                    if not waiter.done():
                        waiter.set_result(None)

    @asynccontextmanager
    async def subscribe(self, run: RunId) -> AsyncGenerator[AsyncIterator[Sequence[Record]]]:
        subscription = _Subscription()
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

    records: deque[Record] = field(default_factory=deque[Record])
    waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> AsyncIterator[Sequence[Record]]:
        return self

    async def __anext__(self) -> Sequence[Record]:
        while not self.records:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        records = list(self.records)
        self.records.clear()
        return records


class SharedBus(LocalBus):
    """A bus whose subscribers also receive what other processes publish: by the wire, and from the journal, which is
    read every `poll_seconds` while a run that is driven elsewhere is followed.

    `driven_here` returns the runs that are driven in this process. `polling` reads the journal; its `run` is to be
    called by the owner of the bus.
    """

    def __init__(
        self,
        journal: Journal,
        driven_here: Callable[[], Container[RunId]],
        wire: Wire | None = None,
        poll_seconds: float | None = None,
        backlog: int = 10_000,
    ) -> None:
        super().__init__(backlog, wire)
        self._journal = journal
        self._driven_here = driven_here
        self.poll_seconds = poll_seconds or (POLL_SECONDS if wire is None else WIRE_POLL_SECONDS)
        self._next_poll = 0.0
        self._last_delivered: dict[RunId, int] = {}  # the last number, of runs that are driven elsewhere
        self._heads: dict[RunId, int] = {}  # numbers up to which the journal is to be read
        self._new: set[RunId] = set()  # runs that are followed since less than `FOLLOW_SECONDS`
        self.polling = Periodic("reading the records of other processes", self._poll)
        if wire is not None:
            wire.receiver = self

    @asynccontextmanager
    async def subscribe(self, run: RunId) -> AsyncGenerator[AsyncIterator[Sequence[Record]]]:
        if not self._subscribers:
            self._next_poll = monotonic() + self.poll_seconds
            self.polling.wake()
        if self._is_wired:
            if not self._new:
                asyncio.get_running_loop().call_later(FOLLOW_SECONDS, self._follow_new)
            self._new.add(run)
        try:
            async with super().subscribe(run) as records:
                yield records
        finally:
            if run not in self._subscribers:
                self._last_delivered.pop(run, None)
                if self._is_wired:
                    self._new.discard(run)
                    self.wire.unfollow(run)

    def leave(self, run: RunId) -> None:
        if run in self._subscribers:
            self._next_poll = monotonic()  # which also asks the other processes for it
            self.polling.wake()

    def _follow_new(self) -> None:
        """Asks other processes for the runs that were not to be driven here."""
        runs, self._new = self._new, set()
        driven_here = self._driven_here()
        for run in runs:
            if run not in driven_here:
                self.wire.follow(run)

    # ----------------------------------------------------------------------------------------- what the wire delivers

    def on_records(self, records: Sequence[Record]) -> None:
        self._deliver(records)
        for record in records:
            if record.seq is not None and record.run in self._subscribers:
                self._last_delivered[record.run] = max(record.seq, self._last_delivered.get(record.run, 0))

    def on_head(self, run: RunId, seq: int) -> None:
        if run in self._subscribers and seq > self._last_delivered.get(run, 0):
            self._heads[run] = seq
            self.polling.wake()

    # ---------------------------------------------------------------------------------------------- from the journal

    async def _poll(self) -> float:
        if not self._subscribers:
            return inf
        heads, self._heads = self._heads, {}
        started_at = monotonic()
        try:
            if heads:
                await self._deliver_up_to(heads)
            if started_at >= self._next_poll:
                await self._deliver_remote()
                seconds = monotonic() - started_at
                self._next_poll = monotonic() + max(self.poll_seconds, _PAUSE_FACTOR * seconds)
        except BaseException:
            self._last_delivered.clear()  # `changed` may not report again the records that were not read
            raise
        return max(0.0, self._next_poll - monotonic())

    async def _deliver_remote(self) -> None:
        driven_here = self._driven_here()
        runs = [run for run in self._subscribers if run not in driven_here]
        if not runs:
            return
        if self._is_wired:
            for run in runs:  # some may have been driven here before
                self.wire.follow(run)
        changed_runs = (
            await self._journal.changed()
        )  # first: records that are appended from here on are for the next poll
        if not changed_runs:
            runs = [run for run in runs if run not in self._last_delivered]
            if not runs:
                return
        await self._deliver_up_to(await self._journal.last_sequences(runs))

    async def _deliver_up_to(self, heads: Mapping[RunId, int]) -> None:
        for run, head in heads.items():
            # for a new run the last record is enough: a follower that lacks more notices the gap
            before = self._last_delivered.get(run, head - 1)
            if head > before:
                self._deliver(await self._journal.read(run, before))
            if run in self._subscribers:
                self._last_delivered[run] = max(head, self._last_delivered.get(run, 0))


class LocalWire:
    """A wire within one process: between the members of a `group`, which is empty in a process on its own."""

    def __init__(self, group: list[LocalWire] | None = None) -> None:
        self.receiver: RecordReceiver | None = None
        self.counts = WireCounts()
        self.is_connected = True
        self._group = [] if group is None else group
        self._group.append(self)
        self._signal_receivers: defaultdict[Signal, list[Callable[[str], None]]] = defaultdict(list)
        self._followed_runs: set[RunId] = set()

    def signal(self, signal: Signal, key: str = "") -> None:
        for other in self._others():
            for receive in other._signal_receivers[signal]:
                asyncio.get_running_loop().call_soon(receive, key)

    def on_signal(self, signal: Signal, receive: Callable[[str], None]) -> None:
        self._signal_receivers[signal].append(receive)

    def follow(self, run: RunId) -> None:
        self._followed_runs.add(run)

    def unfollow(self, run: RunId) -> None:
        self._followed_runs.discard(run)

    def publish(self, records: Sequence[Record]) -> None:
        for other in self._others():
            records_to_deliver = [record for record in records if record.run in other._followed_runs]
            if records_to_deliver and other.receiver is not None:
                asyncio.get_running_loop().call_soon(other.receiver.on_records, records_to_deliver)

    def _others(self) -> Iterator[LocalWire]:
        return (wire for wire in self._group if wire is not self)
