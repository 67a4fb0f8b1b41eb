"""What follows from a run's events besides them: its line in the list of runs, the callbacks that it owes, its exchange
of a conversation, and what it assigns to the conversation's variables.

Every store uses these, so that all say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import NAMESPACE_OID, UUID, uuid5

import orjson

from headrace.kernel.events import (
    Event,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.kernel.summary import PAUSED, RUNNING, status_after
from headrace.ports import Callback, ListedRun, Message
from headrace.stores.encoding import clean
from headrace.times import duration
from headrace.values import File, Value, files_in, json_default

SEARCHED = 8192  # characters of a run's inputs, and as many of its outputs, that keywords are looked for in
_INTEGER, _BIG_INTEGER = 2**31 - 1, 2**63 - 1  # the highest numbers that the columns take
CONVERSATION = "conversation"  # the scope of a conversation's variables


@dataclass(slots=True)
class RunRow:
    """A run as lists show it. `inputs` and `outputs` are only what keywords are looked for in."""

    run: str
    task: str
    app: str
    version: str
    status: str
    source: str
    end_user: str | None
    session: str
    inputs: str
    created_at: float
    outputs: str = ""
    error: str | None = None
    elapsed: float = 0.0
    tokens: int = 0
    steps: int = 0
    exceptions: int = 0
    finished_at: float | None = None
    owner: str | None = None
    started_at: float | None = None

    @classmethod
    def of(cls, record: Record, event: RunQueued) -> RunRow:
        """The line of a run just asked for. It counts as running: a run waits for a worker only for moments."""
        return cls(
            run=record.run,
            task=event.task,
            app=event.app,
            version=event.version,
            status=RUNNING,
            source=event.source,
            end_user=event.end_user,
            session=event.user,
            inputs=searched(event.inputs),
            created_at=record.at,
        )

    def apply(self, record: Record) -> bool:
        """Takes one more event in; whether what lists show has changed."""
        before = self.status
        self.status = status_after(before, record.event)
        match record.event:
            case RunEnded() as event:
                self.outputs = searched(event.outputs)
                self.error = event.error
                self.tokens = min(event.tokens, _BIG_INTEGER)
                self.steps = min(event.steps, _INTEGER)
                self.exceptions = min(event.exceptions, _INTEGER)
                self.finished_at = record.at
                self.elapsed = duration(self.created_at if self.started_at is None else self.started_at, record.at)
                return True
            case RunStarted():
                self.started_at = record.at
            case _:
                pass
        return self.status != before

    def pass_on(self, event: Event, worker: str | None) -> bool:
        """Takes in whose the run is after an event that `worker` appends; whether that has changed."""
        match event:
            case RunQueued() | RunStarted() | RunResumed():
                owner = worker
            case RunPaused() | RunEnded():
                owner = None
            case _:
                return False
        changed = owner != self.owner
        self.owner = owner
        return changed

    @property
    def unfinished(self) -> bool:
        return self.finished_at is None and self.status != PAUSED

    def listed(self) -> ListedRun:
        return ListedRun(
            run=self.run,
            app=self.app,
            version=self.version,
            status=self.status,
            source=self.source,
            end_user=self.end_user,
            session=self.session,
            error=self.error,
            elapsed=self.elapsed,
            tokens=self.tokens,
            steps=self.steps,
            exceptions=self.exceptions,
            created_at=self.created_at,
            finished_at=self.finished_at,
        )


def callback_of(queued: RunQueued, record: Record) -> Callback | None:
    """The message that a record makes due, where the run was asked for with a callback and ends or pauses with it.

    Its id follows from the run and the record's number alone, so the same record never makes two.
    """
    match record.event:
        case RunEnded(status=status):
            pass
        case RunPaused():
            status = PAUSED
        case _:
            return None
    if queued.callback is None or record.seq is None:
        return None
    return Callback(
        id=str(uuid5(_namespace(record.run), str(record.seq))),
        app=queued.app,
        run=record.run,
        url=queued.callback,
        event=f"run.{status}",
        seq=record.seq,
        created_at=record.at,
        next_at=record.at,
    )


def _namespace(run: RunId) -> UUID:
    try:
        return UUID(run)
    except ValueError:  # a run may be named otherwise; ending it must not fail for that
        return uuid5(NAMESPACE_OID, run.encode("utf-8", "backslashreplace").decode())


def exchange_of(record: Record, event: RunQueued) -> Message | None:
    """The exchange that a run just asked for is; None where nobody said anything (`query`), as in a workflow's run."""
    query, number = event.system.get("query"), event.system.get("dialogue_count")
    if not isinstance(query, str):
        return None
    return Message(
        id=record.run,
        app=event.app,
        conversation=event.conversation,
        end_user=event.end_user,
        inputs=event.inputs,
        query=clean(query),
        files=_files(event.system),
        number=number if isinstance(number, int) and 0 <= number <= _INTEGER else 0,
        created_at=record.at,
        retry_of=event.retry_of,
    )


def exchange_after(exchange: Message, event: Event, status: str) -> Message:
    """The exchange after an event that changed its run's status to this one (`RunRow.apply`)."""
    if not isinstance(event, RunEnded):
        return replace(exchange, status=status)
    answer = event.outputs.get("answer") if event.response_text is None else event.response_text
    return replace(
        exchange,
        status=status,
        answer=clean(answer) if isinstance(answer, str) else "",
        answer_files=_files(event.outputs),
        error=None if event.error is None else clean(event.error),
    )


def _files(values: Mapping[str, Value]) -> tuple[File, ...]:
    return tuple(files_in({"files": values.get("files")}))


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value that a run gave to a variable of its conversation."""

    name: str
    value: Value
    at: float


def assignments(records: Sequence[Record]) -> list[Assignment]:
    """What the records of one append assign to variables of the run's conversation, in order.

    A retry begins with a copy of what the run before it had done. That was assigned then, and may be out of date.
    """
    found: list[Assignment] = []
    for record in records:
        event = record.event
        if isinstance(event, NodeSucceeded):
            if event.assigned:
                values = event.assigned.get(CONVERSATION, {})
                found += [Assignment(name, value, record.at) for name, value in values.items()]
        elif isinstance(event, RunQueued) and event.retry_of is not None:
            return []
    return found


def order_of(order: str) -> tuple[str, bool]:
    """(field, whether the newest come first) of an order that conversations are listed in. ValueError for any other."""
    field = order.removeprefix("-")
    if field not in ("created_at", "updated_at"):
        raise ValueError(f"Conversations are listed by created_at or updated_at, not by {order!r}.")
    return field, order != field


def check_numbers(records: Sequence[Record]) -> tuple[RunId, int]:
    """(run, first number). ValueError where records are not of one run, numbered without gaps: a caller's defect."""
    run, first = records[0].run, records[0].seq
    if first is None or first < 1:
        raise ValueError(f"run {run}: a record without a number cannot be journaled: {records[0].event!r:.200}")
    for seq, record in enumerate(records, first):
        if record.seq != seq or record.run != run:
            raise ValueError(f"run {run}: expected event {seq}, not event {record.seq} of run {record.run}")
    return run, first


def searched(values: Mapping[str, Value]) -> str:
    """What keywords are looked for in: the values one after another, texts as they are and all else as JSON."""
    found: list[str] = []
    room = SEARCHED
    for value in values.values():
        if room <= 0:
            break
        text = value[:room] if isinstance(value, str) else _json(value)[:room]
        found.append(text)
        room -= len(text) + 1
    return "\n".join(found)


_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


def _json(value: Value) -> str:
    try:
        return orjson.dumps(value, default=json_default, option=_OPTIONS).decode()
    except TypeError:  # integers beyond 64 bits, half surrogate pairs, hundreds of levels: nobody searches for these
        return ""
