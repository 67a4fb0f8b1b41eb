"""A batch that this process works on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.ports import Batch


class OpenBatch:
    """A batch that this process works on. The lines below `started` that are not `in_progress` are over."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.started = 0
        self.in_progress: set[int] = set()
        self.active: set[int] = set()  # of those in progress: all but the paused ones
        self.unconfirmed: dict[int, None] = {}  # those whose runs are not known to be in the journal, in order
        self.stopping = False
        self.task: asyncio.Task[None]
        self._change = asyncio.Event()

    def stop(self) -> None:
        self.stopping = True
        self.changed()

    def changed(self) -> None:
        """Wakes all that wait for a change."""
        change, self._change = self._change, asyncio.Event()
        change.set()

    def is_over(self, index: int) -> bool:
        return index < self.started and index not in self.in_progress

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._change.wait()
