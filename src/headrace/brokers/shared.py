"""The bus of one process among several that share a database.

Records of runs that are driven here are published here at once. Those of other processes are only in the journal; for
runs that are followed here, they are read from it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager
from math import inf
from time import monotonic

from headrace.background import Periodic
from headrace.brokers.local import LocalBus
from headrace.kernel.events import Record, RunId
from headrace.ports import Journal

POLL_SECONDS = 0.1  # between polls: records of other processes are late by about half of it
_PAUSE_FACTOR = 4  # times the duration of a poll, so that many followers do not keep the database busy


class SharedBus(LocalBus):
    """A bus whose subscribers also receive the records of other processes.

    `driven_here` returns the runs that are driven in this process. `polling` reads the journal while a run is followed;
    its `run` is to be called by the owner of the bus.
    """

    def __init__(self, journal: Journal, driven_here: Callable[[], Container[RunId]]) -> None:
        super().__init__()
        self._journal = journal
        self._driven_here = driven_here
        self._delivered: dict[RunId, int] = {}  # the last number, of runs that are driven elsewhere
        self.polling = Periodic("reading the records of other processes", self._poll, delay=POLL_SECONDS)

    @asynccontextmanager
    async def subscribe(self, run: RunId) -> AsyncGenerator[AsyncIterator[Sequence[Record]]]:
        if not self._subscribers:
            self.polling.wake()
        try:
            async with super().subscribe(run) as live:
                yield live
        finally:
            if run not in self._subscribers:
                self._delivered.pop(run, None)

    async def _poll(self) -> float:
        if not self._subscribers:
            return inf
        started_at = monotonic()
        try:
            await self._deliver_remote()
        except BaseException:
            self._delivered.clear()  # `changed` may not report again the records that were not read
            raise
        return max(POLL_SECONDS, _PAUSE_FACTOR * (monotonic() - started_at))

    async def _deliver_remote(self) -> None:
        driven_here = self._driven_here()
        runs = [run for run in self._subscribers if run not in driven_here]
        if not runs:
            return
        changed = await self._journal.changed()  # first: records that are appended from here on are for the next poll
        if not changed:
            runs = [run for run in runs if run not in self._delivered]
            if not runs:
                return
        for run, head in (await self._journal.last_sequences(runs)).items():
            # for a new run the last record is enough: a follower that lacks more notices the gap
            before = self._delivered.get(run, head - 1)
            if head > before:
                self._deliver(await self._journal.read(run, before))
            if run in self._subscribers:
                self._delivered[run] = head
