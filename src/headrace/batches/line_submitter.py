"""Submits the runs of the lines of batches."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace

from headrace.background import back_off
from headrace.batches.open_batch import OpenBatch
from headrace.conversations.messages import CHATS, Chats
from headrace.errors import StoreError
from headrace.kernel.events import RunId
from headrace.ports import BatchLine, Principal
from headrace.rate_limits import CURRENT_CALL, Call, LimitReached
from headrace.runs.service import RunService, Submission

logger = logging.getLogger(__name__)

_BACK_OFF_SECONDS = 1.0  # before a retry after a failure of the store or a reached limit
_LONGEST_PAUSE = 30.0  # before a retry after many failures of the store


class LineSubmitter:
    def __init__(self, run_service: RunService, chats: Chats) -> None:
        self._run_service = run_service
        self._chats = chats

    async def submit(self, open_: OpenBatch, line: BatchLine, common: Submission, run: RunId) -> bool:
        """Submits a run, as soon as the store and the limits allow it. False if the batch is stopped before, or the run
        can never be stored."""
        caller = Principal(open_.batch.key, common.release.app.workspace, frozenset()) if open_.batch.key else None
        failures = 0
        while True:
            CURRENT_CALL.set(Call(caller))  # of this line's task alone
            try:
                await self._run_service.submit(await self._submission(line, common, run), run)
                return True
            except StoreError as error:
                logger.log(error.level, "run %s cannot be submitted: %s", run, error)
                if not error.transient:
                    return False
                failures += 1
                await asyncio.sleep(back_off(failures, _BACK_OFF_SECONDS, _LONGEST_PAUSE))
            except LimitReached as limit:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(limit.wait, _BACK_OFF_SECONDS)):
                        await open_.until(lambda: open_.stopping)
                    return False

    async def _submission(self, line: BatchLine, common: Submission, run: RunId) -> Submission:
        """The submission of a line. If its conversation has been removed, it starts a new one."""
        submission = replace(common, inputs=line.inputs, query=line.query)
        if common.release.app.mode not in CHATS:
            return submission
        conversation = None
        if line.conversation is not None:
            conversation = await self._run_service.conversations.find_conversation(line.conversation)
        return await self._chats.message(submission, conversation, run=run)
