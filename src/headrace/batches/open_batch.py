"""A batch that this process works at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.ports import Batch


class OpenBatch:
    """A batch that this process works at. Of the lines below `begun` those are over that are not in `underway`."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.begun = 0
        self.underway: set[int] = set()
        self.room: set[int] = set()  # of those under way: all but the paused ones
        self.unsafe: dict[int, None] = {}  # those whose runs are not known to be in the journal, in order
        self.stopping = False
        self.task: asyncio.Task[None]
        self._news = asyncio.Event()

    def stop(self) -> None:
        self.stopping = True
        self.tell()

    def tell(self) -> None:
        """Something has changed."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def is_over(self, index: int) -> bool:
        return index < self.begun and index not in self.underway

    async def until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            await self._news.wait()
