"""The bus of one process among several on one database.

What is driven here is published here, at once. What another process drives is only in the journal: for runs that
somebody follows here, it is looked for there.
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

POLL_SECONDS = 0.1  # from one look to the next: what is written elsewhere is late by about half of it
_PAUSE_FACTOR = 4  # times as long as a look took, so that many followers do not keep the database busy


class SharedBus:
    """A bus whose subscribers also receive what other processes write. `driven` returns the runs that are driven here;
    `run` polls the journal until it is cancelled. It is not polled while nobody follows a run of another process."""

    def __init__(self, journal: Journal, driven_here: Callable[[], Container[RunId]]) -> None:
        self._journal = journal
        self._driven_here = driven_here
        self._local = LocalBus()
        self._followers: dict[RunId, int] = {}
        self._published: dict[RunId, int] = {}  # the last number, of runs that are driven elsewhere
        self._polling = Periodic("reading what other processes have written", self._poll, delay=POLL_SECONDS)

    def publish(self, records: Sequence[Record]) -> None:
        self._local.publish(records)

    @asynccontextmanager
    async def subscribe(self, run: RunId) -> AsyncGenerator[AsyncIterator[Sequence[Record]]]:
        if not self._followers:
            self._polling.wake()
        self._followers[run] = self._followers.get(run, 0) + 1
        try:
            async with self._local.subscribe(run) as live:
                yield live
        finally:
            self._followers[run] -= 1
            if not self._followers[run]:
                del self._followers[run]
                self._published.pop(run, None)

    async def run(self) -> None:
        """Polls the journal until cancelled."""
        await self._polling.run()

    async def _poll(self) -> float:
        if not self._followers:
            return inf
        began = monotonic()
        try:
            await self._publish_remote()
        except BaseException:
            self._published.clear()  # `changed` may not report again what was not read
            raise
        return max(POLL_SECONDS, _PAUSE_FACTOR * (monotonic() - began))

    async def _publish_remote(self) -> None:
        driven = self._driven_here()
        runs = [run for run in self._followers if run not in driven]
        if not runs:
            return
        changed = await self._journal.changed()  # first: what is written from here on is seen by the next look
        if not changed:
            runs = [run for run in runs if run not in self._published]
            if not runs:
                return
        for run, head in (await self._journal.last_sequences(runs)).items():
            # of a run seen for the first time the last record is enough: a follower who lacks more notices the gap
            before = self._published.get(run, head - 1)
            if head > before:
                self._local.publish(await self._journal.read(run, before))
            if run in self._followers:
                self._published[run] = head
