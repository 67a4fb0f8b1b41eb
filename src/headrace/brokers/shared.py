"""The bus of one process among several on one database.

What is driven here is published here, at once. What another process drives is only in the journal: for runs that
somebody follows here, it is looked for there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager

from headrace.brokers.local import LocalBus
from headrace.errors import StoreError
from headrace.kernel.events import Record, RunId
from headrace.ports import Journal

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # from one look to the next: what is written elsewhere is late by about half of it
_REST = 4  # times as long as a look took, so that many followers do not keep the database busy


class SharedBus:
    """A bus whose subscribers also receive what other processes write. `driven` returns the runs that are driven here;
    `run` looks until it is cancelled. Nothing is looked for while nobody follows a run of another process."""

    def __init__(self, journal: Journal, driven: Callable[[], Container[RunId]]) -> None:
        self._journal = journal
        self._driven = driven
        self._local = LocalBus()
        self._followers: dict[RunId, int] = {}
        self._published: dict[RunId, int] = {}  # the last number, of runs that are driven elsewhere
        self._some = asyncio.Event()

    def publish(self, records: Sequence[Record]) -> None:
        self._local.publish(records)

    @asynccontextmanager
    async def subscribe(self, run: RunId) -> AsyncGenerator[AsyncIterator[Sequence[Record]]]:
        self._followers[run] = self._followers.get(run, 0) + 1
        self._some.set()
        try:
            async with self._local.subscribe(run) as live:
                yield live
        finally:
            self._followers[run] -= 1
            if not self._followers[run]:
                del self._followers[run]
                self._published.pop(run, None)

    async def run(self) -> None:
        """Looks again and again."""
        clock = asyncio.get_running_loop().time
        took = 0.0
        while True:
            await self._some.wait()
            await asyncio.sleep(max(LOOK_SECONDS, _REST * took))
            began = clock()
            try:
                await self._look()
            except StoreError as error:
                self._published.clear()  # what has changed is not known any more
                logger.log(error.level, "cannot look what other processes have written: %s", error)
            took = clock() - began

    async def _look(self) -> None:
        if not self._followers:
            self._some.clear()
            return
        driven = self._driven()
        runs = [run for run in self._followers if run not in driven]
        if not runs:
            return
        changed = await self._journal.changed()  # first: what is written from here on is seen by the next look
        if not changed:
            runs = [run for run in runs if run not in self._published]
            if not runs:
                return
        for run, head in (await self._journal.numbers(runs)).items():
            # of a run seen for the first time the last record is enough: whoever lacks more notices the gap
            before = self._published.get(run, head - 1)
            if head > before:
                self._local.publish(await self._journal.read(run, before))
            if run in self._followers:
                self._published[run] = head
