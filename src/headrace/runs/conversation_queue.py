"""The order of messages in a conversation: one after the other, by their numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from headrace.background import Periodic
from headrace.kernel.events import RunId
from headrace.ports import Signal
from headrace.runs.service import RunService

POLL_SECONDS = 0.2


@dataclass(slots=True)
class _WaitingRuns:
    """The runs of one conversation that wait in this process, and the run that they wait for."""

    runs: set[RunId] = field(default_factory=set[RunId])
    next: RunId | None = None


class ConversationQueue:
    """Holds back the messages of one worker whose predecessors have not finished.

    A message runs in the process that accepted it, since only there does its caller receive streamed text. When the
    predecessor runs in this process too, its end releases the next message (`release_next`). The end of a run in
    another process is announced by the wire, if there is one; `remote` also looks for it every `POLL_SECONDS` while a
    message waits.
    """

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service
        self._waiting: dict[str, _WaitingRuns] = {}  # by conversation
        self.remote = Periodic("releasing messages", self._release_remote)
        self._wire = run_service.environment.bus.wire
        self._wire.on_signal(Signal.ENDED, self._on_ended)

    async def may_run(self, run: RunId, conversation: str) -> bool:
        """Whether the run is the next of its conversation. If not, it is dispatched again once it is."""
        waiting = self._waiting.setdefault(conversation, _WaitingRuns())
        waiting.runs.add(run)  # before the query: a run that ends meanwhile releases it
        next_run = await self._run_service.conversations.next_message(conversation)
        if next_run in (run, None):
            self._remove(conversation, {run})
            return True
        waiting.next = next_run
        self.remote.wake()
        return False

    async def release_next(self, conversation: str) -> None:
        """Dispatches the next run of a conversation if it waits here; called when a run has ended or paused."""
        self._wire.signal(Signal.ENDED, conversation)
        await self._release(conversation)

    def _on_ended(self, conversation: str) -> None:
        if conversation in self._waiting:
            self.remote.wake()

    async def _release(self, conversation: str) -> None:
        waiting = self._waiting.get(conversation)
        if waiting is None:
            return
        runs = set(waiting.runs)
        waiting.next = await self._run_service.conversations.next_message(conversation)
        if waiting.next is None:
            self._remove(conversation, runs)  # they were stopped
        elif waiting.next in waiting.runs:
            self._remove(conversation, {waiting.next})
            await self._run_service.dispatch_again(waiting.next)

    def _remove(self, conversation: str, runs: set[RunId]) -> None:
        waiting = self._waiting.get(conversation)
        if waiting is None:
            return
        waiting.runs -= runs
        if not waiting.runs:
            del self._waiting[conversation]

    async def _release_remote(self) -> float:
        """Releases the messages whose predecessor ran in another process."""
        for conversation, waiting in [*self._waiting.items()]:
            if waiting.next not in self._run_service.driving:
                await self._release(conversation)
        return POLL_SECONDS if self._waiting else inf
