"""Conversations, and what belongs to them, in memory."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import nlargest, nsmallest
from itertools import islice
from math import inf
from typing import TypeVar

from headrace.kernel.events import Record, RunId, RunQueued
from headrace.ports import Annotation, Conversation, ConversationVariable, Feedback, Message
from headrace.ports.services import Turn
from headrace.stores.projection import Assignment, exchange_after, exchange_of, order_of
from headrace.values import Value

T = TypeVar("T", Annotation, Feedback)

Place = tuple[int, float, RunId]
"""Where a message stands in its conversation: its number, when it began, its id."""


class MemoryConversations:
    """Implements Conversations."""

    def __init__(self) -> None:
        self._conversations: dict[str, Conversation] = {}
        self._variables: dict[str, ConversationVariable] = {}
        self._variables_of: dict[str, dict[str, None]] = {}  # ids by conversation
        self._exchanges: dict[RunId, Message] = {}
        self._places: dict[str, list[Place]] = {}  # by conversation, in order
        self._running: dict[str, set[Place]] = {}  # by conversation
        self._feedbacks: dict[RunId, dict[str, Feedback]] = {}  # by end user
        self._of_end_users: dict[tuple[str, str], dict[str, None]] = {}  # by app and end user
        self._annotations: dict[str, Annotation] = {}
        self._replies: dict[str, Mapping[str, Value]] = {}  # by app

    # ------------------------------------------------------------------------------------------- from the journal

    def is_numbered(self, record: Record) -> bool:
        """Whether another message of its conversation has the number of the one that begins with this record."""
        event = record.event
        if not isinstance(event, RunQueued) or event.conversation not in self._places:
            return False
        exchange = exchange_of(record, event)
        if exchange is None or exchange.number == 0 or exchange.retry_of is not None:
            return False
        places, number = self._places[event.conversation], exchange.number
        same = places[bisect_left(places, (number, -inf, "")) : bisect_left(places, (number + 1, -inf, ""))]
        return any(self._exchanges[run].retry_of is None for _, _, run in same)

    def begin(self, record: Record, request: RunQueued) -> None:
        if exchange := exchange_of(record, request):
            self._keep_exchange(exchange)
            if exchange.conversation is not None:
                insort(self._places.setdefault(exchange.conversation, []), _place(exchange))
        if request.conversation is not None:
            self.move(request.conversation, record.at)

    def change(self, record: Record, status: str) -> None:
        if exchange := self._exchanges.get(record.run):
            self._keep_exchange(exchange_after(exchange, record.event, status))

    def _keep_exchange(self, exchange: Message) -> None:
        self._exchanges[exchange.id] = exchange
        if exchange.conversation is None:
            return
        running = self._running.setdefault(exchange.conversation, set())
        if exchange.status == "running":
            running.add(_place(exchange))
        else:
            running.discard(_place(exchange))

    def move(self, conversation: str, at: float) -> None:
        existing = self._conversations.get(conversation)
        if existing is not None and existing.updated_at < at:
            self._conversations[conversation] = replace(existing, updated_at=at)

    def assign(self, conversation: str, assignments: Sequence[Assignment]) -> None:
        variables = [self._variables[name] for name in self._variables_of.get(conversation, ())]
        ids = {variable.name: variable.id for variable in variables}
        for assignment in assignments:
            if existing := ids.get(assignment.name):
                self._variables[existing] = replace(
                    self._variables[existing], value=assignment.value, updated_at=assignment.at
                )

    def forget(self, run: RunId) -> None:
        self._feedbacks.pop(run, None)
        exchange = self._exchanges.pop(run, None)
        if exchange is None or exchange.conversation is None:
            return
        places = self._places[exchange.conversation]
        del places[bisect_left(places, _place(exchange))]
        if not places:
            del self._places[exchange.conversation], self._running[exchange.conversation]

    # --------------------------------------------------------------------------------------------- conversations

    async def add_conversation(self, conversation: Conversation, variables: Sequence[ConversationVariable]) -> None:
        if conversation.id in self._conversations:
            return
        self._conversations[conversation.id] = conversation
        self._of_end_users.setdefault((conversation.app, conversation.end_user), {})[conversation.id] = None
        for variable in variables:
            await self.save_conversation_variable(variable)

    async def save_conversation(self, conversation: Conversation) -> bool:
        existing = self._conversations.get(conversation.id)
        if existing is None or existing.deleted:
            return False
        del self._of_end_users[existing.app, existing.end_user][existing.id]
        self._conversations[conversation.id] = conversation
        self._of_end_users.setdefault((conversation.app, conversation.end_user), {})[conversation.id] = None
        return True

    async def find_conversation(self, conversation: str) -> Conversation | None:
        return self._conversations.get(conversation)

    async def conversations(
        self, app: str, end_user: str, *, after: str | None = None, limit: int = 20, order: str = "-updated_at"
    ) -> tuple[list[Conversation], bool]:
        by, newest_first = order_of(order)

        def place(conversation: Conversation) -> tuple[float, str]:
            return getattr(conversation, by), conversation.id

        ids = self._of_end_users.get((app, end_user), {})
        items = [item for item in map(self._conversations.__getitem__, ids) if not item.deleted]
        if after is not None:
            if after not in ids:
                return [], False
            start = place(self._conversations[after])
            items = [item for item in items if (place(item) < start if newest_first else place(item) > start)]
        limit = max(0, limit)
        return (nlargest if newest_first else nsmallest)(limit, items, key=place), len(items) > limit

    async def conversation_variables(self, conversation: str) -> list[ConversationVariable]:
        variables = [self._variables[name] for name in self._variables_of.get(conversation, ())]
        return sorted(variables, key=lambda variable: variable.created_at)

    async def save_conversation_variable(self, variable: ConversationVariable) -> None:
        existing = self._variables.get(variable.id)
        if existing is not None and existing.conversation != variable.conversation:
            del self._variables_of[existing.conversation][existing.id]
        self._variables[variable.id] = variable
        self._variables_of.setdefault(variable.conversation, {})[variable.id] = None

    # -------------------------------------------------------------------------------------------------- messages

    async def messages(
        self, conversation: str, *, before: RunId | None = None, limit: int = 20
    ) -> tuple[list[Message], bool]:
        older = self._older(conversation, before)
        limit = max(0, limit)
        page = older[max(0, len(older) - limit) :]
        return [self._exchanges[run] for _, _, run in reversed(page)], len(older) > limit

    def _older(self, conversation: str, before: RunId | None) -> list[Place]:
        places = self._places.get(conversation, [])
        if before is None:
            return places
        existing = self._exchanges.get(before)
        if existing is None or existing.conversation != conversation:
            return []
        return places[: bisect_left(places, _place(existing))]

    async def find_message(self, message: RunId) -> Message | None:
        return self._exchanges.get(message)

    async def next_message(self, conversation: str) -> RunId | None:
        running = self._running.get(conversation)
        return min(running)[2] if running else None

    async def turns(self, conversation: str, before: RunId, limit: int) -> list[Turn]:
        exchanges = (self._exchanges[run] for _, _, run in reversed(self._older(conversation, before)))
        with_answers = (exchange for exchange in exchanges if exchange.answer)
        newest = islice(with_answers, max(0, min(limit, len(self._exchanges))))
        return [Turn(exchange.query, exchange.answer, exchange.files, exchange.id) for exchange in newest][::-1]

    # ------------------------------------------------------------------------------------------------- feedbacks

    async def save_feedback(self, feedback: Feedback) -> None:
        self._feedbacks.setdefault(feedback.message, {})[feedback.end_user] = feedback

    async def remove_feedback(self, message: RunId, end_user: str) -> None:
        self._feedbacks.get(message, {}).pop(end_user, None)

    async def feedback_of(self, messages: Sequence[RunId], end_user: str) -> Mapping[RunId, Feedback]:
        feedbacks = ((message, self._feedbacks.get(message, {}).get(end_user)) for message in messages)
        return {message: feedback for message, feedback in feedbacks if feedback is not None}

    async def feedbacks(self, app: str, page: int = 1, limit: int = 20) -> list[Feedback]:
        all_ = (feedback for of_message in self._feedbacks.values() for feedback in of_message.values())
        return _page([feedback for feedback in all_ if feedback.app == app], page, limit)

    # ----------------------------------------------------------------------------------------------- annotations

    async def annotations(
        self, app: str, keyword: str = "", page: int = 1, limit: int = 20
    ) -> tuple[int, list[Annotation]]:
        keyword = keyword.lower()
        annotations = [
            annotation
            for annotation in self._annotations.values()
            if annotation.app == app
            and (keyword in annotation.question.lower() or keyword in annotation.answer.lower())
        ]
        return len(annotations), _page(annotations, page, limit)

    async def find_annotation(self, annotation: str) -> Annotation | None:
        return self._annotations.get(annotation)

    async def save_annotation(self, annotation: Annotation) -> None:
        self._annotations[annotation.id] = annotation

    async def remove_annotation(self, annotation: str) -> bool:
        return self._annotations.pop(annotation, None) is not None

    async def annotation_reply(self, app: str) -> Mapping[str, Value] | None:
        return self._replies.get(app)

    async def save_annotation_reply(self, app: str, setting: Mapping[str, Value] | None) -> None:
        if setting is None:
            self._replies.pop(app, None)
        else:
            self._replies[app] = setting

    def remove_of(self, app: str) -> None:
        self._replies.pop(app, None)
        self._annotations = {
            name: annotation for name, annotation in self._annotations.items() if annotation.app != app
        }


def _place(exchange: Message) -> Place:
    return exchange.number, exchange.created_at, exchange.id


def _page(items: Sequence[T], page: int, limit: int) -> list[T]:
    """A page of the newest items, counted from 1."""
    start = max(0, page - 1) * max(0, limit)
    newest = sorted(items, key=lambda item: (item.created_at, item.id), reverse=True)
    return newest[start : start + max(0, limit)]
