"""Whose turn it is in a conversation: its messages are answered one after the other, in the order of their numbers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from headrace.errors import StoreError
from headrace.kernel.events import RunId
from headrace.runs.service import RunService

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2


@dataclass(slots=True)
class _Line:
    """Those of a conversation that wait here, and the one that they wait for."""

    waiting: set[RunId] = field(default_factory=set[RunId])
    first: RunId | None = None


class Turns:
    """The messages of one worker: each is answered where it was taken in, as whoever sent it hears it live only there.

    Where the one before is driven here too, its end calls the next (`pass_on`). Nobody tells of the end of one that is
    driven in another process: whatever waits for such a one, `look` asks for every `LOOK_SECONDS`.
    """

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service
        self._lines: dict[str, _Line] = {}  # by conversation
        self._some = asyncio.Event()

    async def has(self, run: RunId, conversation: str) -> bool:
        """Whether it is a run's turn. If not, the run is put back into the queue when it may be."""
        line = self._lines.setdefault(conversation, _Line())
        line.waiting.add(run)  # before it is asked: whatever ends meanwhile calls it
        first = await self._run_service.conversations.next_message(conversation)
        if first in (run, None):
            self._leave(conversation, {run})
            return True
        line.first = first
        self._some.set()
        return False

    async def pass_on(self, conversation: str) -> None:
        """Calls the one whose turn it is, if it waits here: one has ended or paused."""
        line = self._lines.get(conversation)
        if line is None:
            return
        waited = set(line.waiting)
        line.first = await self._run_service.conversations.next_message(conversation)
        if line.first is None:
            self._leave(conversation, waited)  # they were stopped
        elif line.first in line.waiting:
            self._leave(conversation, {line.first})
            await self._run_service.queue.put(line.first)

    def _leave(self, conversation: str, runs: set[RunId]) -> None:
        line = self._lines.get(conversation)
        if line is None:
            return
        line.waiting -= runs
        if not line.waiting:
            del self._lines[conversation]

    async def look(self) -> None:
        """Calls those that wait for one that is answered elsewhere, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(LOOK_SECONDS)
            try:
                for conversation, line in [*self._lines.items()]:
                    if line.first not in self._run_service.driving:
                        await self.pass_on(conversation)
            except StoreError as error:
                logger.log(error.level, "cannot look whose turn it is: %s", error)
            if not self._lines:
                self._some.clear()
