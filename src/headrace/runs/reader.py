"""Reading runs: as they are now, and their records, from the journal and then live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress

from headrace.apps.catalog import Apps, Release
from headrace.engine import EngineEnvironment
from headrace.errors import NotFound, StoreError
from headrace.frozen import frozen
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused, RunQueued
from headrace.kernel.secrets import SecretMask
from headrace.kernel.summary import RunSummary
from headrace.ports import Journal

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0  # without a record, after which a follower reads the journal: the bus may lose records


@frozen
class RunView:
    """The current state of a run."""

    summary: RunSummary
    release: Release
    records: Sequence[Record]


class RunReader:
    """Reads runs. The secrets of the workflow are masked in all results."""

    def __init__(self, apps: Apps, environment: EngineEnvironment) -> None:
        self.apps = apps
        self.environment = environment

    async def get(self, run: RunId) -> RunView | None:
        """The current state of a run; None for an unknown one."""
        records = await self.environment.journal.read(run)
        if not records:
            return None
        request = records[0].event
        assert isinstance(request, RunQueued)
        app = await self.apps.find(request.app)
        if app is None:
            return None
        release = await self.apps.version(app, request.version)
        mask = release.flow.mask
        masked_records = [mask.record(record) for record in records] if mask else records
        summary = RunSummary(release.flow.graph)
        for record in masked_records:
            summary.apply(record)
        return RunView(summary, release, masked_records)

    async def follow(self, run: RunId, after: int = 0, *, on_pause: bool = False) -> AsyncGenerator[Record]:
        """The run's records after a number, from the journal and then live, until it ends (or pauses, unless
        `on_pause`). Streamed text arrives live and again in journaled pieces; `kernel.response` removes the duplicates.
        NotFound for an unknown run."""
        async with self.environment.bus.subscribe(run) as live:
            records = await self.environment.journal.read(run)
            if not records:
                raise NotFound(f"Workflow run not found with id: {run}")
            mask = await self._mask_of(records)
            async for record in self._live(run, live, records, mask, after, on_pause=on_pause):
                yield record

    async def _live(
        self,
        run: RunId,
        live: AsyncIterator[Sequence[Record]],
        past_records: Sequence[Record],
        mask: SecretMask | None,
        after: int,
        *,
        on_pause: bool = False,
    ) -> AsyncGenerator[Record]:
        feed = RecordFeed(self.environment.journal, run, live, past_records, POLL_SECONDS)
        seq = 0
        while True:
            records = await feed.next()
            for record in records:
                seq = record.seq or seq
                if record.seq is None or seq > after:
                    yield mask.record(record) if mask else record
                if isinstance(record.event, RunEnded):
                    return
            if records and isinstance(records[-1].event, RunPaused) and not feed.has_gap and not on_pause:
                return

    async def _mask_of(self, records: Sequence[Record]) -> SecretMask | None:
        request = records[0].event
        assert isinstance(request, RunQueued)
        return (await self.apps.flow(request.app, request.version)).mask


async def replay(records: Sequence[Record], mask: SecretMask | None) -> AsyncGenerator[Record]:
    """Records that are all there, as a follower gets them."""
    for record in records:
        yield mask.record(record) if mask else record


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
        past_records: Sequence[Record],
        poll: float,
    ) -> None:
        self.last = 0  # the number of the last record that was returned
        self.has_gap = False  # records after it were lost
        self._journal = journal
        self._run = run
        self._live = live
        self._incoming: Sequence[Record] = past_records
        self._poll = poll

    async def next(self) -> Sequence[Record]:
        """The next records, as many as there are; none if nothing new has arrived for `poll` seconds."""
        records, self._incoming = self._incoming, ()
        if not records and not self.has_gap:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    records = await anext(self._live)
        if not records:
            self.has_gap = False
            try:
                records = await self._journal.read(self._run, self.last)
            except StoreError as error:
                if not error.transient:
                    raise
                # the next live record reveals the gap again, or nothing arrives for `poll` seconds
                logger.log(error.level, "cannot read the records of run %s that were lost: %s", self._run, error)
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
