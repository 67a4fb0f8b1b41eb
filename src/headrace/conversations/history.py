"""The earlier messages of a conversation, as nodes read them."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.kernel.events import NodeRetried, RunId, StepEnded, StepStarted
from headrace.kernel.steps import Step, Steps, apply_step
from headrace.ports import Conversations, Journal
from headrace.ports.services import Turn


class ConversationHistory:
    """Implements `resources.History`."""

    def __init__(self, conversations: Conversations, journal: Journal) -> None:
        self._conversations = conversations
        self._journal = journal

    async def turns(self, conversation: str, before: RunId, limit: int) -> Sequence[Turn]:
        """See `History.turns`."""
        return await self._conversations.turns(conversation, before, limit)

    async def steps(self, run: RunId) -> Sequence[Step]:
        """See `History.steps`."""
        steps: Steps = {}
        for record in await self._journal.read(run):
            event = record.event
            if isinstance(event, StepStarted | StepEnded):
                apply_step(steps, event.path, event, record.at)
            elif isinstance(event, NodeRetried):
                steps.clear()
        return [*steps.values()]
