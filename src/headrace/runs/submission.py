"""A run to be submitted, and what belongs to it once it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from headrace.apps.catalog import Release
from headrace.frozen import frozen, new_dict
from headrace.ids import new_id, new_run_id
from headrace.kernel.events import Record, RunEnded, RunId, RunQueued
from headrace.node import Flow
from headrace.ports import WORKSPACE, App, Conversation, ConversationVariable, EndUser, ReadyRun, priority_of
from headrace.values import File, Value


class NewConversation(NamedTuple):
    """A conversation that starts with this run, and its variables."""

    conversation: Conversation
    variables: Sequence[ConversationVariable]


@frozen
class Submission:
    """A run to be submitted: `inputs` are validated (see `nodes.start`), `user` is as the caller sends it."""

    release: Release
    user: str
    inputs: Mapping[str, Value]
    files: Sequence[File] = ()
    end_user: EndUser | None = None
    source: str = "service-api"
    callback: str | None = None  # a URL that is called when the run ends or pauses
    query: str | None = None  # of a chat or completion app
    conversation: str | None = None
    new_conversation: NewConversation | None = None  # set on the first message of `conversation`
    system: Mapping[str, Value] = field(default_factory=new_dict)  # more values of the scope `sys`
    answer: Mapping[str, Value] | None = None  # the outputs, if they are known and no node has to run
    trace: str | None = None  # the caller's W3C `traceparent`
    metadata: Mapping[str, Value] | None = None  # what the API that was called returns with the run
    key: str | None = None  # the id of the principal that submits it
    replay_of: str | None = None  # the run whose inputs it has
    start: str | None = None  # the trigger that begins it

    def records(self, now: float, run: RunId | None = None, number: int = 0) -> list[Record]:
        """The first records of the run; with an answer, also the last. `run`: its id, if it is given; `number`: that of
        the message in its conversation, from 1."""
        run = run or new_run_id(now)
        request = RunQueued(
            self.release.app.id,
            self.release.version.id,
            new_id(),
            self.user,
            self.inputs,
            self._system(run, now, number),
            self.end_user.id if self.end_user else None,
            self.source,
            self.callback,
            conversation=self.conversation,
            trace=self.trace,
            metadata=self.metadata,
            key=self.key,
            replay_of=self.replay_of,
            start=self.start,
        )
        records = [Record(run, 1, now, request)]
        if self.answer is not None:
            records.append(Record(run, 2, now, RunEnded("succeeded", self.answer)))
        return records

    def _system(self, run: RunId, now: float, number: int) -> dict[str, Value]:
        """The values of the scope `sys`, in Dify's order."""
        system: dict[str, Value] = {
            "files": list(self.files),
            "user_id": self.user,
            "app_id": self.release.app.id,
            "workflow_id": self.release.version.id,
            "workflow_run_id": run,
        }
        if self.query is not None:
            system["query"] = self.query
        if self.conversation is not None:
            system |= {"conversation_id": self.conversation, "dialogue_count": number}
        return {**system, **self.system, "timestamp": int(now)}


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


def ready_run(
    run: RunId, seq: int, app: str, app_record: App | None, source: str, *, interactive: bool = False
) -> ReadyRun:
    """A run to be dispatched. `app_record` is its app, unless that was deleted."""
    workspace = WORKSPACE if app_record is None else app_record.workspace
    return ReadyRun(run, seq, workspace, app, priority_of(source, interactive=interactive))
