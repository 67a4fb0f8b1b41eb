"""Runs batches: many runs of one version, started a few at a time.

The id of a line's run follows from the batch's id and the line's index, and lines are started in order. So a process
that continues a batch after a crash needs no notes: it counts the existing runs, and continues after them. A line whose
run exists is never started again; its run is driven by a worker, as all runs are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import monotonic
from typing import Any

from headrace.background import Periodic, cancel
from headrace.batches.line_submitter import LineSubmitter
from headrace.batches.open_batch import OpenBatch
from headrace.batches.progress import BatchProgress, LineResult, pages, run_of, source_of
from headrace.conversations.messages import Chats
from headrace.errors import LoadError, NotFound, RequestError, StoreError, store_error
from headrace.kernel.events import Record, RunId
from headrace.kernel.summary import FINAL, PAUSED, RUNNING, status_of
from headrace.ports import BATCH, Batch, Batches, BatchLine, Claims, HandledElsewhere, Timer, TimerKind
from headrace.runs.service import RunService, Submission

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # how often the store is polled for batches that other processes have added, changed or stopped
_AHEAD = 100  # how far lines may be started beyond the first whose run is not known to be in the journal
_LISTEN_SECONDS = 10.0  # a run without records for so long is looked up: the bus may have lost something
_ELSEWHERE_SECONDS = 0.2  # how often a batch is looked up that another process works on, or none yet
_IN_A_ROW = 50  # lines reported as over at once


class BatchRunner:
    """Works on the open batches. `run` continues until it is cancelled; the next process then continues the batches. Of
    several processes on one database one works on a batch: it claims it first.

    A timer is set to the beginning of a batch, and is handled until its end: an engine that brings timers notices when
    the process dies. What no timer has brought is found by a look at the database."""

    def __init__(self, run_service: RunService, batches: Batches, claims: Claims, chats: Chats) -> None:
        self.batches = batches
        self.lines = BatchProgress(run_service, batches)
        self._run_service = run_service
        self._lines = LineSubmitter(run_service, chats)
        self._clock = run_service.environment.clock
        self._claims = claims
        self._timers = run_service.timers
        self._takes_at = 0.0  # when a look starts work on what no timer has brought
        self._taking = asyncio.Lock()
        self._claims_to_release: set[str] = set()  # claims to be released
        self._open: dict[str, OpenBatch] = {}
        self._all = True  # also look for stopped batches, which may have unfinished runs
        self._changing = asyncio.Lock()
        self._looking = Periodic("looking for batches", self._look, LOOK_SECONDS)

    async def add(self, batch: Batch, lines: Sequence[BatchLine]) -> Batch:
        """Adds a batch and starts it, unless there is one with the same id. Returns the stored one."""
        await self.batches.add_batch(batch, lines)
        self._set_timer(batch)
        return await self.batches.find_batch(batch.id) or batch

    async def stop(self, batch: Batch) -> Batch:
        """Starts no more lines of a batch, and stops its runs; nothing happens to one that is over. Returns the changed
        batch: its `ended_at` is set once the last run has ended."""
        new = await self._change(batch.id, status="stopped") or batch
        if batch.id in self._open:
            self._open[batch.id].stop()
        self._all = True
        self._set_timer(batch)
        return new

    def _set_timer(self, batch: Batch) -> None:
        self._timers.set(Timer(TimerKind.BATCH, batch.id, batch.created_at, batch.app))

    async def set_pace(self, batch: Batch, concurrency: int, rpm: int | None) -> Batch:
        """Makes a batch faster or slower; nothing happens to one that is over."""
        new = await self._change(batch.id, concurrency=concurrency, rpm=rpm) or batch
        if (open_ := self._open.get(batch.id)) is not None:
            open_.batch = new
            open_.changed()
        return new

    async def _change(self, name: str, **changes: Any) -> Batch | None:
        """Changes a batch that is not over, and returns it. None if it was removed."""
        async with self._changing:
            batch = await self.batches.find_batch(name)
            if batch is None or batch.ended_at is not None:
                return batch
            new = replace(batch, **changes)
            if new != batch:
                await self.batches.save_batch(new)
            return new

    async def results(self, batch: Batch) -> AsyncGenerator[LineResult]:
        """As `BatchProgress.results`, each once its line is over."""

        async def until_over(index: int) -> int:
            if (open_ := self._open.get(batch.id)) is not None:
                await open_.until(lambda: open_.task.done() or open_.is_over(index))
                last = index + 1
                while last < index + _IN_A_ROW and open_.is_over(last):
                    last += 1
                return last
            record = await self.batches.find_batch(batch.id)
            if record is not None and record.ended_at is None:
                await asyncio.sleep(_ELSEWHERE_SECONDS)
                return index + 1
            return batch.total

        async with aclosing(self.lines.results(batch, until_over)) as results:
            async for result in results:
                yield result

    # ------------------------------------------------------------------------------------------------------ polling

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            async with self._timers.serving(TimerKind.BATCH, self):
                await self._looking.run()
        finally:
            await cancel(*(open_.task for open_ in self._open.values()))
            try:
                await self._release()  # another process can continue at once
            except StoreError as error:
                logger.log(error.level, "batches continue elsewhere after the lease expires: %s", error)

    def wake(self) -> None:
        self._takes_at = 0.0
        self._looking.wake()

    async def handle(self, row: str) -> None:
        """Works on a batch until its end."""
        batch = await self.batches.find_batch(row)
        if batch is None or batch.ended_at is not None:
            return
        async with self._taking:
            await self._release()
            await self._take([batch])
        open_ = self._open.get(row)
        if open_ is None:
            raise HandledElsewhere(f"another process works on the batch {row}")
        if batch.status == "stopped":
            open_.stop()
        self._looking.wake()  # from now on, for changes by other processes
        try:
            await asyncio.wait([open_.task])
        finally:
            async with self._taking:
                await self._release()
        if open_.task.cancelled() or open_.task.exception() is not None:
            raise HandledElsewhere(f"the batch {row} is postponed")

    async def _look(self) -> float:
        """Starts work on open batches, and stops it on those that were stopped. Returns when to look again."""
        async with self._taking:
            await self._release()
            await self._look_at_open()
        return LOOK_SECONDS if self._open else self._timers.look_seconds(LOOK_SECONDS)

    async def _look_at_open(self) -> None:
        running = {batch.id: batch for batch in await self.batches.batches(status="running")}
        for name, open_ in self._open.items():
            if name not in running:
                open_.stop()
            elif running[name] != open_.batch:
                open_.batch = running[name]
                open_.changed()
        if (now := monotonic()) < self._takes_at:
            return
        self._takes_at = now + self._timers.look_seconds(LOOK_SECONDS) - LOOK_SECONDS
        if self._all:
            # stopped, but they may have unfinished runs
            stopped_batches = await self.batches.batches(status="stopped")
            running |= {batch.id: batch for batch in stopped_batches if batch.ended_at is None}
            self._all = False
        await self._take(reversed(running.values()))

    async def _take(self, batches: Iterable[Batch]) -> None:
        """Starts work on those batches that no other process works on."""
        new = [batch for batch in batches if batch.id not in self._open]
        names = await self._claims.claim([f"{BATCH}{batch.id}" for batch in new])
        for batch in new:
            if f"{BATCH}{batch.id}" in names:
                self._start(batch)

    async def _release(self) -> None:
        names = set(self._claims_to_release)
        await self._claims.release(names)
        self._claims_to_release -= names

    def _start(self, batch: Batch) -> None:
        open_ = self._open[batch.id] = OpenBatch(batch)
        open_.stopping = batch.status == "stopped"
        open_.task = asyncio.create_task(self._work(open_), name=f"batch {batch.id}")

        def done(task: asyncio.Task[None]) -> None:
            del self._open[batch.id]
            self._claims_to_release.add(f"{BATCH}{batch.id}")
            open_.changed()
            if not task.cancelled() and (error := task.exception()):
                self._all = True
                if (failure := store_error(error)) is not None:
                    logger.log(failure.level, "%s is postponed: %s", task.get_name(), failure)
                else:
                    logger.error("%s is postponed: %s", task.get_name(), error, exc_info=error)

        open_.task.add_done_callback(done)

    # ------------------------------------------------------------------------------------------------------- working

    async def _work(self, open_: OpenBatch) -> None:
        """Runs a batch to its end. A failure postpones it: it is continued as after a crash."""
        batch, apps = open_.batch, self._run_service.apps
        try:
            app = await apps.find(batch.app)
            if app is None:
                raise NotFound(f"App not found with id: {batch.app}")
            release = await apps.version(app, batch.version)
            end_user = await apps.end_user(app, batch.user)
        except (RequestError, LoadError) as error:
            logger.error("batch %s cannot continue: %s", batch.id, error)
            await self._change(batch.id, status="stopped", ended_at=self._clock())
            return
        common = Submission(release, batch.user, {}, end_user=end_user, source=source_of(batch.id), key=batch.key)
        async with asyncio.TaskGroup() as group:
            stopper = group.create_task(self._stop_runs(open_), name=f"batch {batch.id}: stop")
            await self._start_lines(open_, group, common)
            await open_.until(lambda: not open_.in_progress)
            stopper.cancel()
        await self._change(batch.id, status="stopped" if open_.stopping else "ended", ended_at=self._clock())

    async def _start_lines(self, open_: OpenBatch, group: asyncio.TaskGroup, common: Submission) -> None:
        """Starts line after line, and finds those that were started before."""
        batch, run_service = open_.batch, self._run_service
        before = sum((await self._run_service.runs.count_runs(source_of(batch.id))).values())
        unfinished_runs = await self.lines.unfinished(batch) if before else set[RunId]()
        number = -1  # of valid lines
        next_at = 0.0  # when the next line may be started, by the loop's clock

        async for lines in pages(self.batches, batch.id):
            for line in lines:
                if line.error is None:
                    number += 1
                    run = run_of(batch.id, line.index)
                    # lines are started in order, except for a few: see `_AHEAD`
                    if number < before - _AHEAD:
                        started, over = True, run not in unfinished_runs
                    elif number < before + _AHEAD:
                        row = await run_service.runs.find_run(run) if before else None
                        started, over = row is not None, row is not None and row.status in FINAL
                    else:
                        started = over = False
                    if not started:
                        next_at = await self._wait_for_turn(open_, line.index, next_at)
                        if open_.stopping:
                            return
                        open_.unconfirmed[line.index] = None
                    if not over:
                        open_.in_progress.add(line.index)
                        open_.active.add(line.index)
                        task = self._run_line(open_, line, run, None if started else common)
                        group.create_task(task, name=f"line {line.index}")
                open_.started = line.index + 1
            open_.changed()

    async def _wait_for_turn(self, open_: OpenBatch, index: int, at: float) -> float:
        """Waits until a line may be started, or the batch is stopped. Returns when the next one may be."""

        def has_turn() -> bool:
            first_unconfirmed = next(iter(open_.unconfirmed), index)
            return open_.stopping or (
                len(open_.active) < open_.batch.concurrency and index - first_unconfirmed < _AHEAD
            )

        open_.changed()
        await open_.until(has_turn)
        clock = asyncio.get_running_loop().time
        while not open_.stopping and open_.batch.rpm and (left := at - clock()) > 0:
            try:
                async with asyncio.timeout(left):
                    await open_.until(lambda: open_.stopping)
            except TimeoutError:
                break
        return max(at, clock()) + 60 / open_.batch.rpm if open_.batch.rpm else 0.0

    async def _run_line(self, open_: OpenBatch, line: BatchLine, run: RunId, common: Submission | None) -> None:
        """Starts a line's run, unless it was started before (None), and waits for its end."""
        run_service, index = self._run_service, line.index
        async with run_service.environment.bus.subscribe(run) as live:
            if common is not None:
                submission = await self._lines.submit(open_, line, common, run)
                del open_.unconfirmed[index]
                open_.changed()
                if not submission:
                    self._over(open_, index)
                    return
            if open_.stopping:
                await run_service.stop(run, open_.batch.user)
            # it may have ended before the subscription; a message that an annotation answers ends at once
            look_up = common is None or line.query is not None
            while True:
                status = await self._status(run) if look_up else await _next_status(live)
                look_up = status is None
                if status in FINAL:
                    break
                if status == PAUSED:
                    open_.active.discard(index)
                    open_.changed()
        self._over(open_, index)

    def _over(self, open_: OpenBatch, index: int) -> None:
        open_.in_progress.discard(index)
        open_.active.discard(index)
        open_.changed()

    async def _status(self, run: RunId) -> str:
        row = await self._run_service.runs.find_run(run)
        return row.status if row else RUNNING

    async def _stop_runs(self, open_: OpenBatch) -> None:
        """Once the batch is stopped, stops its runs; one that is just being submitted stops itself."""
        await open_.until(lambda: open_.stopping)
        for index in sorted(open_.in_progress - open_.unconfirmed.keys()):
            await self._run_service.stop(run_of(open_.batch.id, index), open_.batch.user)


async def _next_status(live: AsyncIterator[Sequence[Record]]) -> str | None:
    """A run's status after its next records; None if there are none for a while."""
    try:
        async with asyncio.timeout(_LISTEN_SECONDS):
            return status_of(await anext(live), RUNNING)
    except TimeoutError:
        return None
