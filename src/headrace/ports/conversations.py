"""Conversations with their messages and variables, feedback, and annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from headrace.frozen import frozen
from headrace.kernel.events import RunId
from headrace.ports.services import Turn
from headrace.values import File, Value


@frozen
class Conversation:
    """A conversation of an end user with an app. Its messages are runs; see `Message`."""

    id: str
    app: str
    end_user: str
    name: str
    inputs: Mapping[str, Value]
    introduction: str  # the opening statement, as it was when the conversation began
    created_at: float
    updated_at: float
    deleted: bool = False  # its runs stay


@frozen
class ConversationVariable:
    """A conversation variable's value now. `type` is Dify's (string, number, array[object] ...)."""

    id: str
    conversation: str
    name: str
    type: str
    description: str
    value: Value
    created_at: float
    updated_at: float


@frozen
class Feedback:
    """An end user's rating of a message: like or dislike."""

    id: str
    app: str
    message: RunId
    rating: str
    content: str | None
    end_user: str
    created_at: float
    updated_at: float


@frozen
class Message:
    """A message of a chat or completion app and its answer: a run, as lists show it. Its id is the run's.

    A projection of the journal: it is created by a RunQueued whose `system` has a `query`, and takes its answer and
    files from the RunEnded (`outputs` answer and files). `number` counts a conversation's messages from 1; a retry has
    that of the first run, and no other two have the same (0 is none).
    """

    id: RunId
    app: str
    conversation: str | None  # completion apps have none
    end_user: str | None
    inputs: Mapping[str, Value]
    query: str
    files: Sequence[File]
    number: int
    created_at: float
    status: str = "running"
    answer: str = ""
    answer_files: Sequence[File] = ()
    error: str | None = None
    retry_of: RunId | None = None


@frozen
class Annotation:
    """An answer written by a person, which replaces the app's for matching questions."""

    id: str
    app: str
    question: str
    answer: str
    hits: int
    created_at: float


class Conversations(Protocol):
    """Conversations and what belongs to them. Messages, and the variables that runs assign (`NodeSucceeded.assigned`
    under `conversation`), are written in the transaction that appends the event."""

    async def add_conversation(self, conversation: Conversation, variables: Sequence[ConversationVariable]) -> None: ...

    async def save_conversation(self, conversation: Conversation) -> bool:
        """Replaces the one with the same id, unless it was deleted. False if there is none to replace."""
        ...

    async def find_conversation(self, conversation: str) -> Conversation | None:
        """Deleted ones too."""
        ...

    async def conversations(
        self, app: str, end_user: str, *, after: str | None = None, limit: int = 20, order: str = "-updated_at"
    ) -> tuple[list[Conversation], bool]:
        """(those that are not deleted, whether there are more), after the one with the id `after`. The order is
        created_at or updated_at, newest first with a minus."""
        ...

    async def conversation_variables(self, conversation: str) -> list[ConversationVariable]:
        """Oldest first; those added together keep their order."""
        ...

    async def save_conversation_variable(self, variable: ConversationVariable) -> None:
        """Adds, or replaces the one with the same id."""
        ...

    async def messages(
        self, conversation: str, *, before: RunId | None = None, limit: int = 20
    ) -> tuple[list[Message], bool]:
        """(the newest messages before one, newest first; whether there are older ones)."""
        ...

    async def find_message(self, message: RunId) -> Message | None: ...

    async def next_message(self, conversation: str) -> RunId | None:
        """The oldest that has not ended and is not paused: the only one that may run."""
        ...

    async def turns(self, conversation: str, before: RunId, limit: int) -> list[Turn]:
        """The newest before a run that have an answer, oldest first (`History.turns`)."""
        ...

    async def save_feedback(self, feedback: Feedback) -> None:
        """Adds, or replaces the same end user's feedback on the same message."""
        ...

    async def remove_feedback(self, message: RunId, end_user: str) -> None: ...
    async def feedback_of(self, messages: Sequence[RunId], end_user: str) -> Mapping[RunId, Feedback]: ...

    async def feedbacks(self, app: str, page: int = 1, limit: int = 20) -> list[Feedback]:
        """Newest first."""
        ...

    async def annotations(
        self, app: str, keyword: str = "", page: int = 1, limit: int = 20
    ) -> tuple[int, list[Annotation]]:
        """(how many have the keyword in their question or answer, the requested page), newest first."""
        ...

    async def find_annotation(self, annotation: str) -> Annotation | None: ...

    async def save_annotation(self, annotation: Annotation) -> None:
        """Adds or replaces."""
        ...

    async def remove_annotation(self, annotation: str) -> bool: ...

    async def annotation_reply(self, app: str) -> Mapping[str, Value] | None:
        """The app's setting of annotation reply; None if it is off."""
        ...

    async def save_annotation_reply(self, app: str, setting: Mapping[str, Value] | None) -> None: ...
