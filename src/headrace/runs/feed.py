"""A run's records, from the journal and then live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from headrace.errors import StoreError
from headrace.kernel.events import Record, RunId
from headrace.ports import Journal

logger = logging.getLogger(__name__)


class RecordFeed:
    """The records of a run in order, each numbered one once: those already read from the journal, then those of a
    subscription to the bus.

    The bus may lose records. The journal is read again when a number is missing, and when nothing has arrived for
    `poll` seconds.
    """

    __slots__ = ("_incoming", "_journal", "_live", "_poll", "_run", "has_gap", "last")

    def __init__(
        self,
        journal: Journal,
        run: RunId,
        live: AsyncIterator[Sequence[Record]],
        known: Sequence[Record],
        poll: float,
    ) -> None:
        self.last = 0  # the number of the last record that was returned
        self.has_gap = False  # records after it were lost
        self._journal = journal
        self._run = run
        self._live = live
        self._incoming: Sequence[Record] = known
        self._poll = poll

    async def next(self) -> Sequence[Record]:
        """The next records, as many as there are; none if nothing new has arrived for `poll` seconds."""
        records = self._incoming or await self._receive()
        self._incoming = ()
        fresh: list[Record] = []
        for record in records:
            if record.seq is not None:
                if record.seq <= self.last:
                    continue
                if record.seq > self.last + 1:
                    self.has_gap = True
                    break
                self.last = record.seq
            fresh.append(record)
        return fresh

    async def _receive(self) -> Sequence[Record]:
        if not self.has_gap:
            try:
                async with asyncio.timeout(self._poll):
                    return await anext(self._live)
            except TimeoutError:
                pass
        self.has_gap = False
        try:
            return await self._journal.read(self._run, self.last)
        except StoreError as error:
            if not error.transient:
                raise
            # the next live record reveals the gap again, or nothing arrives for `poll` seconds
            logger.log(error.level, "cannot read the records of run %s that were lost: %s", self._run, error)
            return ()
