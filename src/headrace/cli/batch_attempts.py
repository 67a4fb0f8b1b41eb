"""The attempts of a command-line batch: the batch itself, then one batch for each `--retry-failed`, which has the lines
that had failed before it, in order.

The lines of an attempt follow from the results of those before, which do not change once they have ended: so nothing
more is stored, and each attempt continues after an interruption as any batch does.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from uuid import UUID, uuid5

from headrace.batches import BatchRunner, LineResult, Spool
from headrace.kernel.summary import ENDED_WELL
from headrace.ports import Batch


async def find_attempts(batch_runner: BatchRunner, name: str) -> list[Batch]:
    """The attempts so far; [] if there is no such batch."""
    attempts: list[Batch] = []
    while batch := await batch_runner.batches.find_batch(_id(name, len(attempts))):
        attempts.append(batch)
    return attempts


def _id(name: str, number: int) -> str:
    return str(uuid5(UUID(name), f"retry {number}")) if number else name


async def retry_failed(batch_runner: BatchRunner, attempts: Sequence[Batch], now: float) -> Batch | None:
    """Adds an attempt with the lines that have failed in those before; None if there are none."""
    name = attempts[0].id
    with tempfile.TemporaryFile() as file:
        lines = Spool(file)
        async with aclosing(results_of(batch_runner, attempts)) as results:
            async for result in results:
                if _can_retry(result):
                    (line,) = await batch_runner.batches.batch_lines(name, result.index, 1)
                    lines.append(replace(line, index=len(lines)))
        if not lines:
            return None
        retry = replace(attempts[-1], id=_id(name, len(attempts)), total=len(lines), created_at=now)
        return await batch_runner.add(replace(retry, status="running", ended_at=None), lines)


def _can_retry(result: LineResult) -> bool:
    """Whether a line was run and failed; an invalid one would fail again."""
    return result.run is not None and result.status not in ENDED_WELL


async def results_of(batch_runner: BatchRunner, attempts: Sequence[Batch]) -> AsyncGenerator[LineResult]:
    """The result of each line in its last attempt, in order, once it is over."""
    async with AsyncExitStack() as stack:
        first, *retries = [
            await stack.enter_async_context(aclosing(batch_runner.results(attempt))) for attempt in attempts
        ]
        async for result in first:
            last = result
            for results in retries:
                if not _can_retry(last):
                    break
                last = await anext(results)
            yield replace(last, index=result.index)
