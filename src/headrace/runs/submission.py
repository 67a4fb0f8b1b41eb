"""A run asked for, and the records that it begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.apps.catalog import Served
from headrace.ids import new_id
from headrace.kernel.events import Record, RunEnded, RunId, RunQueued
from headrace.ports import Conversation, ConversationVariable, EndUser
from headrace.values import File, Value


class NewConversation(NamedTuple):
    """A conversation that begins with this run, and its variables."""

    conversation: Conversation
    variables: Sequence[ConversationVariable]


@dataclass(frozen=True, slots=True)
class Submission:
    """A run asked for: `inputs` are checked already (see `nodes.start`), `user` is the caller's own word."""

    served: Served
    user: str
    inputs: Mapping[str, Value]
    files: Sequence[File] = ()
    end_user: EndUser | None = None
    source: str = "service-api"
    callback: str | None = None  # a URL that is told when the run ends or pauses
    query: str | None = None  # of a chat or completion app
    conversation: str | None = None
    new_conversation: NewConversation | None = None  # set on the first message of `conversation`
    system: Mapping[str, Value] = field(default_factory=dict[str, Value])  # what else `sys.*` is to read
    answer: Mapping[str, Value] | None = None  # the outputs, where they are known and nothing is to be done
    trace: str | None = None  # the caller's W3C `traceparent`

    def records(self, now: float, run: RunId | None = None, number: int = 0) -> list[Record]:
        """How its run begins; one that has its answer ends there, too. `run`: the id it is to have; `number`: which
        message of its conversation it is, from 1."""
        run = run or new_id()
        queued = RunQueued(
            self.served.app.id,
            self.served.version.id,
            new_id(),
            self.user,
            self.inputs,
            self._system(run, now, number),
            self.end_user.id if self.end_user else None,
            self.source,
            self.callback,
            conversation=self.conversation,
            trace=self.trace,
        )
        records = [Record(run, 1, now, queued)]
        if self.answer is not None:
            records.append(Record(run, 2, now, RunEnded("succeeded", self.answer)))
        return records

    def _system(self, run: RunId, now: float, number: int) -> dict[str, Value]:
        """What `sys.*` reads, in Dify's order."""
        system: dict[str, Value] = {
            "files": list(self.files),
            "user_id": self.user,
            "app_id": self.served.app.id,
            "workflow_id": self.served.version.id,
            "workflow_run_id": run,
        }
        if self.query is not None:
            system["query"] = self.query
        if self.conversation is not None:
            system |= {"conversation_id": self.conversation, "dialogue_count": number}
        return {**system, **self.system, "timestamp": int(now)}
