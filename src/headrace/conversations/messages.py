"""Messages of chat and completion apps: which conversation they belong to, and the runs that answer them.

A message is a run, and a conversation is a view of its runs. So this only finds or begins the conversation, and adds it
to a checked submission.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from headrace import values
from headrace.errors import NotFound
from headrace.kernel.events import RunId
from headrace.node import DeclaredVariable, Flow
from headrace.ports import Annotation, Conversation, ConversationVariable
from headrace.runs.service import NewConversation, RunService, Submission
from headrace.values import Value

CHATS = frozenset({"chat", "agent-chat", "advanced-chat"})
"""Modes of apps that hold conversations."""
AGENT = "agent-chat"
COMPLETION = "completion"
MESSAGES = CHATS | {COMPLETION}
"""Modes of apps that answer messages."""
BASIC = frozenset({"chat", AGENT, COMPLETION})
"""Modes of apps whose files need no graph: their streams have only the answer, not the nodes."""
UNNAMED = "New conversation"
ANNOTATION = "annotation_id"
"""In a run's `system`: the annotation that was the answer."""

_LONGEST_TITLE = 50
_PLACEHOLDER = re.compile(r"\{\{([a-zA-Z_][a-zA-Z0-9_]{0,29}|#histories#|#query#|#context#)\}\}")
_MARK = re.compile(r"<\|.*?\|>")

Annotated = Callable[[str, str], Awaitable[Annotation | None]]
"""(app's id, query) -> the annotation that answers it, if annotation reply is on and one matches."""


class Chats:
    """Finds the conversation of a message, or begins it."""

    def __init__(self, run_service: RunService, annotated: Annotated | None = None) -> None:
        self.run_service = run_service
        self.annotated = annotated

    async def find(self, app: str, end_user: str, conversation: str) -> Conversation:
        """An end user's conversation with an app. NotFound if there is none with this id, or it was deleted."""
        existing = await self.run_service.conversations.find_conversation(conversation)
        if existing is None or existing.deleted or existing.app != app or existing.end_user != end_user:
            raise NotFound("Conversation Not Exists.")
        return existing

    async def message(
        self,
        submission: Submission,
        conversation: Conversation | None = None,
        *,
        named: bool = True,
        run: RunId | None = None,
    ) -> Submission:
        """A checked submission with a query and an end user, as the next message of a conversation, or of a new one,
        which is named after the query if `named`. A message that an annotation matches gets its answer.

        `run`: the id that the message's run will have. A new conversation's id follows from it, so that a message that
        is submitted again begins no second one."""
        assert submission.query is not None
        assert submission.end_user is not None
        if conversation is None:
            new = self._new_conversation(submission, run, named=named)
            message = replace(submission, conversation=new.conversation.id, new_conversation=new)
        else:
            await self._continue(conversation, submission.release.flow)
            message = replace(submission, conversation=conversation.id)
        annotation = await self.annotated(submission.release.app.id, submission.query) if self.annotated else None
        if annotation is None:
            return message
        system = {**submission.system, ANNOTATION: annotation.id}
        return replace(message, system=system, answer={"answer": annotation.answer, "files": []})

    def _new_conversation(self, submission: Submission, run: RunId | None, *, named: bool) -> NewConversation:
        release, now = submission.release, self.run_service.environment.clock()
        assert submission.end_user is not None
        conversation = Conversation(
            str(uuid.uuid5(uuid.UUID(run), "conversation")) if run else str(uuid.uuid4()),
            release.app.id,
            submission.end_user.id,
            title_of(submission.query or "") if named else UNNAMED,
            submission.inputs,
            introduction(release.flow, submission.inputs),
            now,
            now,
        )
        variables = [_variable(conversation.id, variable, now) for variable in release.flow.conversation]
        return NewConversation(conversation, variables)

    async def _continue(self, conversation: Conversation, flow: Flow) -> None:
        """Adds the variables that the app's version declares, and the version before did not."""
        conversations, now = self.run_service.conversations, self.run_service.environment.clock()
        if not flow.conversation:
            return
        names = {variable.name for variable in await conversations.conversation_variables(conversation.id)}
        for item in flow.conversation:
            if item.name not in names:
                await conversations.save_conversation_variable(_variable(conversation.id, item, now))


def _variable(conversation: str, variable: DeclaredVariable, now: float) -> ConversationVariable:
    """A declared variable of a new conversation. Its id follows from the name, so that it is the same in two
    processes."""
    id_ = str(uuid.uuid5(uuid.UUID(conversation), variable.name))
    return ConversationVariable(
        id_, conversation, variable.name, variable.type, variable.description, variable.value, now, now
    )


def title_of(query: str) -> str:
    """The name of a conversation that began with this query: the query itself, shortened. (Dify asks a model, and does
    the same if that fails.)"""
    title = " ".join(query.split())
    return f"{title[: _LONGEST_TITLE - 3]}..." if len(title) > _LONGEST_TITLE else title or UNNAMED


def introduction(flow: Flow, inputs: Mapping[str, Value]) -> str:
    """The app's opening statement, with `{{name}}` replaced by the input of that name; empty if it has none."""
    statement = flow.features.get("opening_statement")

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        # a placeholder that remains, in the statement or an input, loses a pair of braces, so it is not filled later
        return _PLACEHOLDER.sub(r"{\1}", values.text(inputs[name]) if name in inputs else match[0])

    return _MARK.sub("", _PLACEHOLDER.sub(replaced, statement)) if isinstance(statement, str) else ""
