"""Batches: many runs of one version, begun a few at a time and told in order.

Which run is a line's follows from the batch's id and the line's index, and lines are begun in order. So a process that
takes a batch up after a crash needs no notes: it counts the runs that there are, and goes on behind them. A line whose
run exists is never begun again; runs under way are the worker's business, as all runs are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from headrace.background import Periodic, back_off, cancel
from headrace.batches.open_batch import OpenBatch
from headrace.batches.progress import BatchProgress, LineResult, pages, run_of, source_of
from headrace.conversations.messages import CHATS, Chats
from headrace.errors import LoadError, NotFound, RequestError, StoreError, store_error
from headrace.kernel.events import Record, RunId
from headrace.kernel.summary import FINAL, PAUSED, RUNNING, status_of
from headrace.ports import BATCH, Batch, Batches, BatchLine, Claims, Principal, RunFilter
from headrace.rate_limits import CURRENT_CALL, Call, LimitReached
from headrace.runs.service import RunService
from headrace.runs.submission import Submission

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # how often the store is asked which batches other processes have added, changed or stopped
_PAGE = 100  # paused runs looked up at once
_AHEAD = 100  # how far lines may be begun beyond the first whose run is not known to be in the journal
_LISTEN_SECONDS = 10.0  # a run of which nothing is heard is looked up: the bus may have lost something
_ELSEWHERE_SECONDS = 0.2  # how often a batch is looked at that another process works at, or nobody yet
_IN_A_ROW = 50  # lines told to be over at once
_BACK_OFF_SECONDS = 1.0  # before a store that failed, or a plan that allows no more, is tried again
_LONGEST_PAUSE = 30.0  # before a store that failed again and again is tried again


class BatchRunner:
    """Works at the open batches. `run` goes on until it is cancelled; batches then go on in the next process. Of
    several processes on one database one works at a batch: it claims it before it begins."""

    def __init__(self, run_service: RunService, batches: Batches, claims: Claims, chats: Chats) -> None:
        self.batches = batches
        self.lines = BatchProgress(run_service, batches)
        self._run_service = run_service
        self._chats = chats
        self._clock = run_service.environment.clock
        self._claims = claims
        self._unclaimed: set[str] = set()  # claims that are to be released
        self._open: dict[str, OpenBatch] = {}
        self._all = True  # look for batches, too, that were stopped and may have runs under way
        self._changing = asyncio.Lock()
        self._looking = Periodic("looking for batches", self._look, LOOK_SECONDS)

    # ----------------------------------------------------------------------------------------------------- outside

    async def add(self, batch: Batch, lines: Sequence[BatchLine]) -> Batch:
        """Keeps a batch and begins with it; one of the same id that is there already is left as it is. Returns it as
        it is kept."""
        await self.batches.add_batch(batch, lines)
        self._looking.wake()
        return await self.batches.find_batch(batch.id) or batch

    async def stop(self, batch: Batch) -> Batch:
        """Begins no more of its lines, and stops its runs; nothing happens to one that is over. Returns it as it is
        then: its `ended_at` is set once the last run has ended."""
        stopped = await self._change(batch.id, status="stopped") or batch
        if batch.id in self._open:
            self._open[batch.id].stop()
        self._all = True
        self._looking.wake()
        return stopped

    async def set_pace(self, batch: Batch, concurrency: int, rpm: int | None) -> Batch:
        """Lets a batch go on faster or slower; nothing happens to one that is over."""
        changed = await self._change(batch.id, concurrency=concurrency, rpm=rpm) or batch
        if (open_ := self._open.get(batch.id)) is not None:
            open_.batch = changed
            open_.tell()
        return changed

    async def _change(self, name: str, **changes: Any) -> Batch | None:
        """Changes a batch that is not over; returns it as it is then. None where there is none any more."""
        async with self._changing:
            batch = await self.batches.find_batch(name)
            if batch is None or batch.ended_at is not None:
                return batch
            changed = replace(batch, **changes)
            if changed != batch:
                await self.batches.save_batch(changed)
            return changed

    async def results(self, batch: Batch) -> AsyncGenerator[LineResult]:
        """As `BatchProgress.results`, each once its line is over: for whoever waits for a batch."""

        async def until_over(index: int) -> int:
            if (open_ := self._open.get(batch.id)) is not None:
                await open_.until(lambda: open_.task.done() or open_.is_over(index))
                last = index + 1
                while last < index + _IN_A_ROW and open_.is_over(last):
                    last += 1
                return last
            found = await self.batches.find_batch(batch.id)
            if found is not None and found.ended_at is None:
                await asyncio.sleep(_ELSEWHERE_SECONDS)
                return index + 1
            return batch.total

        async with aclosing(self.lines.results(batch, until_over)) as results:
            async for result in results:
                yield result

    # ------------------------------------------------------------------------------------------------------ taking up

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            await self._looking.run()
        finally:
            await cancel(*(open_.task for open_ in self._open.values()))
            try:
                await self._release()  # another process can continue at once
            except StoreError as error:
                logger.log(error.level, "batches continue elsewhere after the lease expires: %s", error)

    async def _look(self) -> None:
        """Takes up what is open, and lets go of what somebody stopped."""
        await self._release()
        running = {batch.id: batch for batch in await self.batches.batches(status="running")}
        for name, open_ in self._open.items():
            if name not in running:
                open_.stop()
            elif running[name] != open_.batch:
                open_.batch = running[name]
                open_.tell()
        if self._all:
            # stopped, but not known to have no more runs
            stopped = await self.batches.batches(status="stopped")
            running |= {batch.id: batch for batch in stopped if batch.ended_at is None}
            self._all = False
        found = [batch for batch in reversed(running.values()) if batch.id not in self._open]
        claimed = await self._claims.claim([f"{BATCH}{batch.id}" for batch in found])
        for batch in found:
            if f"{BATCH}{batch.id}" in claimed:
                self._take_up(batch)

    async def _release(self) -> None:
        names = set(self._unclaimed)
        await self._claims.release(names)
        self._unclaimed -= names

    def _take_up(self, batch: Batch) -> None:
        open_ = self._open[batch.id] = OpenBatch(batch)
        open_.stopping = batch.status == "stopped"
        open_.task = asyncio.create_task(self._work(open_), name=f"batch {batch.id}")

        def done(task: asyncio.Task[None]) -> None:
            del self._open[batch.id]
            self._unclaimed.add(f"{BATCH}{batch.id}")
            open_.tell()
            if not task.cancelled() and (error := task.exception()):
                self._all = True
                if (failed := store_error(error)) is not None:
                    logger.log(failed.level, "%s is put off: %s", task.get_name(), failed)
                else:
                    logger.error("%s is put off: %s", task.get_name(), error, exc_info=error)

        open_.task.add_done_callback(done)

    # ------------------------------------------------------------------------------------------------------- working

    async def _work(self, open_: OpenBatch) -> None:
        """Brings a batch to its end. Whatever fails here puts it off: it is taken up again like after a crash."""
        batch, apps = open_.batch, self._run_service.apps
        try:
            app = await apps.find(batch.app)
            if app is None:
                raise NotFound(f"App not found with id: {batch.app}")
            served = await apps.version(app, batch.version)
            end_user = await apps.end_user(app, batch.user)
        except (RequestError, LoadError) as error:
            logger.error("batch %s cannot go on: %s", batch.id, error)
            await self._change(batch.id, status="stopped", ended_at=self._clock())
            return
        common = Submission(served, batch.user, {}, end_user=end_user, source=source_of(batch.id))
        async with asyncio.TaskGroup() as group:
            stopper = group.create_task(self._stop_runs(open_), name=f"batch {batch.id}: stop")
            await self._begin(open_, group, common)
            await open_.until(lambda: not open_.underway)
            stopper.cancel()
        await self._change(batch.id, status="stopped" if open_.stopping else "ended", ended_at=self._clock())

    async def _begin(self, open_: OpenBatch, group: asyncio.TaskGroup, common: Submission) -> None:
        """Begins line after line, and finds those that were begun before."""
        batch, run_service = open_.batch, self._run_service
        before = sum((await self._run_service.runs.count_runs(source_of(batch.id))).values())
        unfinished = await self._unfinished(batch) if before else set[RunId]()
        number = -1  # of lines that can become runs
        next_at = 0.0  # when the next may be begun, by the loop's clock

        async for lines in pages(self.batches, batch.id):
            for line in lines:
                if line.error is None:
                    number += 1
                    run = run_of(batch.id, line.index)
                    # lines are begun in order, but for a few: see `_AHEAD`
                    if number < before - _AHEAD:
                        begun, over = True, run not in unfinished
                    elif number < before + _AHEAD:
                        found = await run_service.runs.find_run(run) if before else None
                        begun, over = found is not None, found is not None and found.status in FINAL
                    else:
                        begun = over = False
                    if not begun:
                        next_at = await self._may_begin(open_, line.index, next_at)
                        if open_.stopping:
                            return
                        open_.unsafe[line.index] = None
                    if not over:
                        open_.underway.add(line.index)
                        open_.room.add(line.index)
                        task = self._line(open_, line, run, None if begun else common)
                        group.create_task(task, name=f"line {line.index}")
                open_.begun = line.index + 1
            open_.tell()

    async def _unfinished(self, batch: Batch) -> set[RunId]:
        """Runs that have not ended, paused ones too, of this batch and others."""
        found = set(await self._run_service.environment.journal.unfinished())
        page = 1
        while True:
            which = RunFilter(batch.app, "paused", page=page, limit=_PAGE)
            _, paused = await self._run_service.runs.list_runs(which)
            found.update(summary.run for summary in paused)
            if len(paused) < _PAGE:
                return found
            page += 1

    async def _may_begin(self, open_: OpenBatch, index: int, at: float) -> float:
        """Waits until a line may be begun, or the batch is stopped. Returns when the next one may be."""

        def may() -> bool:
            first_unsafe = next(iter(open_.unsafe), index)
            return open_.stopping or (len(open_.room) < open_.batch.concurrency and index - first_unsafe < _AHEAD)

        open_.tell()
        await open_.until(may)
        clock = asyncio.get_running_loop().time
        while not open_.stopping and open_.batch.rpm and (left := at - clock()) > 0:
            try:
                async with asyncio.timeout(left):
                    await open_.until(lambda: open_.stopping)
            except TimeoutError:
                break
        return max(at, clock()) + 60 / open_.batch.rpm if open_.batch.rpm else 0.0

    async def _line(self, open_: OpenBatch, line: BatchLine, run: RunId, common: Submission | None) -> None:
        """Begins a line's run, unless it was begun before (None), and waits for its end."""
        run_service, index = self._run_service, line.index
        async with run_service.environment.bus.subscribe(run) as live:
            if common is not None:
                begun = await self._submit(open_, line, common, run)
                del open_.unsafe[index]
                open_.tell()
                if not begun:
                    self._over(open_, index)
                    return
            if open_.stopping:
                await run_service.stop(run, open_.batch.user)
            # it may have ended before we listened; a message that an annotation answers ends as it begins
            look = common is None or line.query is not None
            while True:
                status = await self._status(run) if look else await _heard(live)
                look = status is None
                if status in FINAL:
                    break
                if status == PAUSED:
                    open_.room.discard(index)
                    open_.tell()
        self._over(open_, index)

    def _over(self, open_: OpenBatch, index: int) -> None:
        open_.underway.discard(index)
        open_.room.discard(index)
        open_.tell()

    async def _submit(self, open_: OpenBatch, line: BatchLine, common: Submission, run: RunId) -> bool:
        """Begins a run, as soon as the disk and the plans allow it. False where the batch is stopped before, or the run
        can never be written down."""
        asked = Principal(open_.batch.key, common.served.app.workspace, frozenset()) if open_.batch.key else None
        failures = 0
        while True:
            CURRENT_CALL.set(Call(asked))  # of this line's task alone
            try:
                await self._run_service.submit(await self._submission(line, common, run), run)
                return True
            except StoreError as error:
                logger.log(error.level, "run %s cannot be begun: %s", run, error)
                if not error.transient:
                    return False
                failures += 1
                await asyncio.sleep(back_off(failures, _BACK_OFF_SECONDS, _LONGEST_PAUSE))
            except LimitReached as reached:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(reached.wait, _BACK_OFF_SECONDS)):
                        await open_.until(lambda: open_.stopping)
                    return False

    async def _submission(self, line: BatchLine, common: Submission, run: RunId) -> Submission:
        """What a line asks for. A conversation that was removed after the line was taken in is begun anew."""
        submission = replace(common, inputs=line.inputs, query=line.query)
        if common.served.app.mode not in CHATS:
            return submission
        conversation = None
        if line.conversation is not None:
            conversation = await self._run_service.conversations.find_conversation(line.conversation)
        return await self._chats.message(submission, conversation, run=run)

    async def _status(self, run: RunId) -> str:
        found = await self._run_service.runs.find_run(run)
        return found.status if found else RUNNING

    async def _stop_runs(self, open_: OpenBatch) -> None:
        """Once the batch is stopped, stops what is under way; a run that is only just being begun stops itself."""
        await open_.until(lambda: open_.stopping)
        for index in sorted(open_.underway - open_.unsafe.keys()):
            await self._run_service.stop(run_of(open_.batch.id, index), open_.batch.user)


async def _heard(live: AsyncIterator[Sequence[Record]]) -> str | None:
    """What the next records say of a run's status; None where nothing is heard for long."""
    try:
        async with asyncio.timeout(_LISTEN_SECONDS):
            return status_of(await anext(live), RUNNING)
    except TimeoutError:
        return None
