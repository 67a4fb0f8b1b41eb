"""The progress of a batch, and the results of its lines in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from uuid import UUID, uuid5

from headrace.frozen import frozen
from headrace.kernel.events import RunEnded, RunId
from headrace.kernel.secrets import SecretMask
from headrace.kernel.summary import FINAL, RunLifecycle
from headrace.ports import Batch, Batches, BatchLine, RunFilter
from headrace.runs.service import RunService
from headrace.values import Value

NEVER_BEGUN = "The batch was stopped before this line was begun."
_PAGE = 200  # lines in memory at once
_PAUSED_PAGE = 100  # paused runs in one query
_CONCURRENT = 8  # results read at once, to leave readers to others


def run_of(batch: str, index: int) -> RunId:
    """The id of a line's run."""
    return str(uuid5(UUID(batch), str(index)))


def source_of(batch: str) -> str:
    """`RunQueued.source` of a batch's runs."""
    return f"batch:{batch}"


async def pages(batches: Batches, batch: str, start: int = 0) -> AsyncIterator[list[BatchLine]]:
    """The lines of a batch from an index on, in order, some at a time."""
    while lines := await batches.batch_lines(batch, start, _PAGE):
        yield lines
        start = lines[-1].index + 1


@frozen
class Progress:
    """How many lines of a batch have which status; their sum is all lines. `queued` ones have not been started; an
    invalid line is `failed`, one that was never started because the batch was stopped is `stopped`."""

    queued: int = 0
    running: int = 0
    paused: int = 0
    succeeded: int = 0
    partial_succeeded: int = 0
    failed: int = 0
    stopped: int = 0

    @property
    def over(self) -> int:
        return self.succeeded + self.partial_succeeded + self.failed + self.stopped


@frozen
class LineResult:
    """The result of a line. `run` is None if it has none; `elapsed` (seconds) and `tokens` until it has ended. Secrets
    are masked."""

    index: int
    run: RunId | None
    status: str  # queued, running, paused, succeeded, partial-succeeded, failed or stopped
    outputs: Mapping[str, Value] | None = None
    error: str | None = None
    elapsed: float | None = None
    tokens: int | None = None
    message: Mapping[str, Value] | None = None  # the answer and its conversation, of an app that answers messages

    @property
    def over(self) -> bool:
        return self.status in FINAL

    def wire(self) -> dict[str, Value]:
        """The body of the API and of `headrace batch`."""
        return {
            "index": self.index,
            "workflow_run_id": self.run,
            "status": self.status,
            "outputs": self.outputs,
            "error": self.error,
            "elapsed_time": self.elapsed,
            "total_tokens": self.tokens,
            **(self.message or {}),
        }


class BatchProgress:
    """Reports on batches, whichever process works on them."""

    def __init__(self, run_service: RunService, batches: Batches) -> None:
        self._run_service = run_service
        self._batches = batches
        self._invalid: dict[str, int] = {}  # by batch: how many lines

    async def unfinished(self, batch: Batch) -> set[RunId]:
        """Runs of this batch and others that have not ended, with paused ones."""
        unfinished_runs = set(await self._run_service.environment.journal.unfinished())
        page = 1
        while True:
            which = RunFilter(batch.app, "paused", page=page, limit=_PAUSED_PAGE)
            _, paused = await self._run_service.runs.list_runs(which)
            unfinished_runs.update(row.run for row in paused)
            if len(paused) < _PAUSED_PAGE:
                return unfinished_runs
            page += 1

    async def progress(self, batch: Batch) -> Progress:
        """How many lines of a batch have which status."""
        invalid = await self._count_invalid(batch)
        runs = Counter(await self._run_service.runs.count_runs(source_of(batch.id)))
        waiting = max(0, batch.total - invalid - runs.total())
        stopped = batch.status == "stopped"
        return Progress(
            queued=0 if stopped else waiting,
            running=runs["running"] + runs["queued"],
            paused=runs["paused"],
            succeeded=runs["succeeded"],
            partial_succeeded=runs["partial-succeeded"],
            failed=runs["failed"] + invalid,
            stopped=runs["stopped"] + (waiting if stopped else 0),
        )

    async def _count_invalid(self, batch: Batch) -> int:
        """Lines do not change, so they are counted once."""
        count = self._invalid.get(batch.id)
        if count is None:
            count = 0
            async for lines in pages(self._batches, batch.id):
                count += sum(line.error is not None for line in lines)
            self._invalid[batch.id] = count
        return count

    async def results(
        self, batch: Batch, until_over: Callable[[int], Awaitable[int]] | None = None, start: int = 0
    ) -> AsyncGenerator[LineResult]:
        """The results of the lines from `start` on, in order; with `until_over`, each once its line is over. That waits
        until the line with an index may be over, and returns the index before which lines may be.

        NotFound or LoadError if the batch's version is gone: its secrets are unknown then.
        """
        mask = SecretMask((await self._run_service.apps.flow(batch.app, batch.version)).secrets)
        async for lines in pages(self._batches, batch.id, start):
            batch = await self._batches.find_batch(batch.id) or batch
            at = 0
            while at < len(lines):
                over = await until_over(lines[at].index) if until_over else lines[-1].index + 1
                some = [line for line in lines[at : at + _CONCURRENT] if line.index < over]
                results = await asyncio.gather(*(self._result(batch, line, mask) for line in some))
                for line, result in zip(some, results, strict=True):
                    while until_over and not result.over and batch.ended_at is None:
                        await until_over(line.index)
                        batch = await self._batches.find_batch(batch.id) or batch
                        result = await self._result(batch, line, mask)
                    yield result
                at += len(some)

    async def _result(self, batch: Batch, line: BatchLine, mask: SecretMask) -> LineResult:
        if line.error is not None:
            return LineResult(line.index, None, "failed", error=line.error)
        run = run_of(batch.id, line.index)
        records = await self._run_service.environment.journal.read(run)
        if not records and batch.status == "stopped":
            return LineResult(line.index, None, "stopped", error=NEVER_BEGUN)
        lifecycle = RunLifecycle()
        for record in records:
            lifecycle.apply(record)
        if lifecycle.ended is None:
            return LineResult(line.index, run if records else None, lifecycle.status, message=_message(lifecycle))
        end = mask.event(lifecycle.ended) if mask else lifecycle.ended
        assert isinstance(end, RunEnded)
        return LineResult(
            line.index,
            run,
            lifecycle.status,
            end.outputs,
            end.error,
            lifecycle.elapsed,
            end.tokens,
            _message(lifecycle, end),
        )


def _message(run: RunLifecycle, end: RunEnded | None = None) -> Mapping[str, Value] | None:
    """The answer of a run to a message, and its conversation; None for other runs."""
    if run.queued is None or "query" not in run.queued.system:
        return None
    answer = end.outputs.get("answer") or "" if end else None
    return {"answer": answer, "conversation_id": run.queued.conversation, "message_id": run.run}
