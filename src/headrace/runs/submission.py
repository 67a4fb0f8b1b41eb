"""What belongs to a submitted run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from headrace.frozen import frozen
from headrace.kernel.events import Record, RunId
from headrace.node import Flow
from headrace.ports import WORKSPACE, App, Conversation, ConversationVariable, ReadyRun, priority_of


class NewConversation(NamedTuple):
    """A conversation that starts with this run, and its variables."""

    conversation: Conversation
    variables: Sequence[ConversationVariable]


class SubmittedRun(NamedTuple):
    """A run that is durable. `at`: when it was submitted, in seconds since the epoch; `message`: whether it answers a
    message, of this conversation if there is one."""

    run: RunId
    task: str
    at: float
    version: str
    message: bool = False
    conversation: str | None = None


@frozen
class StartedRun:
    """A new run, followed from its first record."""

    run: RunId
    task: str
    records: AsyncGenerator[Record]
    flow: Flow


def ready_run(run: RunId, seq: int, app: str, known: App | None, source: str, *, interactive: bool = False) -> ReadyRun:
    """A run to be dispatched. `known` is its app, unless that was deleted."""
    workspace = WORKSPACE if known is None else known.workspace
    return ReadyRun(run, seq, workspace, app, priority_of(source, interactive=interactive))
