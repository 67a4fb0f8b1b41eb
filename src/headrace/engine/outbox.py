"""Records of one run on their way to the journal, and from there, in order, to followers.

Nobody outside is told a numbered record before the journal has it. Live text has no number; it waits only for what was
noted before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.kernel.events import Record
from headrace.ports import Bus, Journal

MOST_BATCHES = 10  # turns of instant nodes that one run may be ahead of the journal


@dataclass(slots=True)
class _Batch:
    records: Sequence[Record]
    safe: bool


class Outbox:
    """`on_broken` is called once an append has failed; `broken` says how."""

    def __init__(self, journal: Journal, bus: Bus, on_broken: Callable[[], None]) -> None:
        self._journal = journal
        self._bus = bus
        self._on_broken = on_broken
        self._batches: deque[_Batch] = deque()
        self._written: asyncio.Future[None] | None = None  # the newest append
        self.broken: BaseException | None = None

    def write(self, records: Sequence[Record]) -> None:
        """Hands numbered records to the journal; followers are told once it has them."""
        batch = _Batch(records, safe=False)
        self._batches.append(batch)
        try:
            written = self._written = asyncio.ensure_future(self._journal.append(records))
        except ValueError as error:  # a value that no journal takes: nested too deep
            self.give_up(error)
            return
        if written.done():
            self._on_written(batch, written)
        else:
            written.add_done_callback(lambda done: self._on_written(batch, done))

    def tell(self, record: Record) -> None:
        """Tells followers a record without a number, after all that was written before it."""
        if self._batches:
            self._batches.append(_Batch((record,), safe=True))
        else:
            self._bus.publish((record,))

    async def durable(self) -> bool:
        """Waits until all that was written is safe; False if it cannot be. (A bare `await` would let whoever is
        cancelled take the append with it.)"""
        if self._written is not None:
            await asyncio.wait((self._written,))
        return self.broken is None

    async def room(self) -> None:
        """Lets others have a turn; waits for the disk where too much is on its way to it."""
        if len(self._batches) > MOST_BATCHES:
            await self.durable()
        else:
            await asyncio.sleep(0)

    def first_unsafe(self) -> int | None:
        """The lowest number that the journal is not known to have; None where it has all."""
        unsafe = (record.seq for batch in self._batches if not batch.safe for record in batch.records if record.seq)
        return min(unsafe, default=None)

    def _on_written(self, batch: _Batch, done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            self.give_up(error)
            return
        batch.safe = True
        while self._batches and self._batches[0].safe:
            self._bus.publish(self._batches.popleft().records)

    def give_up(self, error: BaseException) -> None:
        """Nothing more can be written: somebody else has, or the journal cannot."""
        self.broken = self.broken or error
        self._on_broken()
