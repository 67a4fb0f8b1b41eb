"""Runs that another run calls: a workflow as a tool, or an app that a plugin calls back for.

Such a run has its own journal. Its source, `run:ID`, names the run that called it, and its id follows from the call, so
that a call which is repeated after a crash follows the run that it began.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from uuid import NAMESPACE_OID, uuid5

from headrace.background import back_off
from headrace.errors import NodeError, StoreError
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused, RunQueued, StopRequested
from headrace.kernel.graph import attempt_key
from headrace.kernel.trace import RunTrace
from headrace.runs.service import RunService

logger = logging.getLogger(__name__)

MAX_DEPTH = 5  # of runs that call runs; Dify's limit
CALLED_BY = "run:"  # the source of a run that another one called
INVOKE_ERROR = "ToolInvokeError"
_PAUSES = (0.1, 10.0)  # seconds between attempts to stop a run, at first and at most


def called_run(key: str) -> RunId:
    """The id of the run that a call with this idempotency key makes."""
    return str(uuid5(NAMESPACE_OID, key))


async def callers(run_service: RunService, run: RunId) -> Sequence[RunQueued]:
    """A run that is about to call another one, and those that have called it. NodeError if they are too many."""
    runs: list[RunQueued] = []
    for _ in range(MAX_DEPTH):
        records = await run_service.environment.journal.read(run)
        request = records[0].event if records else None
        if not isinstance(request, RunQueued):
            return runs
        runs.append(request)
        if not request.source.startswith(CALLED_BY):
            return runs
        run = request.source.removeprefix(CALLED_BY)
    raise NodeError(f"Max workflow call depth {MAX_DEPTH} reached.", INVOKE_ERROR)


async def follow_called(run_service: RunService, run: RunId, caller: RunId, user: str) -> AsyncGenerator[Record]:
    """The records of a called run until it ends or pauses. It is stopped if the run that called it is over before."""
    ended = False
    try:
        with run_service.slots.lend():
            async for record in run_service.follow(run):
                ended = isinstance(record.event, RunEnded | RunPaused)
                yield record
    finally:
        if not ended:
            await _stop_unless_continued(run_service, run, caller, user)


async def _stop_unless_continued(run_service: RunService, run: RunId, caller: RunId, user: str) -> None:
    """Stops a called run if its caller has come to its end, however often the database has to be tried."""
    for failures in count(1):
        try:
            if await _is_over(run_service, caller):
                await run_service.stop(run, user)
        except StoreError as error:
            if not error.transient:
                raise
            logger.log(error.level, "run %s cannot be stopped yet: %s", run, error)
            await asyncio.sleep(back_off(failures, *_PAUSES))
        else:
            return


async def _is_over(run_service: RunService, run: RunId) -> bool:
    """Whether the calling run is not continued: one that this process only ceases to drive is taken up again."""
    driver = run_service.driving.get(run)
    if driver is None or driver.state.stop is not None or driver.state.ended is not None:
        return True
    records = await run_service.environment.journal.read(run)  # another process may have stopped it
    return any(isinstance(record.event, StopRequested | RunEnded) for record in records)


async def stop_called(run_service: RunService, records: Sequence[Record]) -> None:
    """Stops the runs that a run had called when its process died. `records` are those until then: it ended before its
    nodes could follow what they had called."""
    trace = RunTrace()
    for record in records:
        trace.apply(record)
    for path, node in trace.running.items():
        attempt = attempt_key(records[0].run, path, len(node.retries))
        for key in (attempt, *(step.key for step in node.steps.values() if not step.ended)):
            await run_service.stop(called_run(key), "")


async def is_abandoned(run_service: RunService, records: Sequence[Record]) -> bool:
    """Whether a run was called by one that has ended, which its process did not live to stop. A run that has paused
    continues without its caller, which was given the pause as the answer."""
    request = records[0].event
    if not isinstance(request, RunQueued) or not request.source.startswith(CALLED_BY):
        return False
    if any(isinstance(record.event, RunPaused) for record in records):
        return False
    calling = await run_service.environment.journal.read(request.source.removeprefix(CALLED_BY))
    return bool(calling) and isinstance(calling[-1].event, RunEnded)
