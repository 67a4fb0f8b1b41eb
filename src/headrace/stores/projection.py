"""What is derived from a run's events: its row in the list of runs, its callbacks, its message in a conversation, and
the values it assigns to the conversation's variables.

Every store uses these functions, so that all derive the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from math import log2
from typing import NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

import orjson

from headrace.frozen import frozen
from headrace.kernel.events import (
    Event,
    FormExpired,
    FormRequested,
    FormSubmitted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.kernel.summary import FAILED, PAUSED, RUN_EVENTS, RUNNING, count_of, duration, price_of, status_after
from headrace.ports import BUCKETS_PER_OCTAVE, Callback, ListedRun, Message
from headrace.stores.encoding import clean
from headrace.values import File, Value, files_in, json_default

_SEARCHED = 8192  # characters of a run's inputs, and as many of its outputs, in which keywords are found
_INTEGER, _BIG_INTEGER = 2**31 - 1, 2**63 - 1  # the highest numbers that the columns take
CONVERSATION = "conversation"  # the scope of a conversation's variables
PROJECTED = RUN_EVENTS | {FormRequested, FormSubmitted, FormExpired}
"""The events that may change a run's row, or a form."""

_LISTED = tuple(field.name for field in fields(ListedRun))


@dataclass(slots=True)
class RunRow:
    """A run as lists show it. `inputs` and `outputs` are the texts in which keywords are found; `owner` is the worker
    that drives it."""

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
    key: str | None = None
    price: int | None = None
    currency: str | None = None
    error_node: str | None = None
    min_version: int = 1  # of a worker that can read all its records: see `encoding.VERSION`
    started_at: float | None = None

    @classmethod
    def of(cls, record: Record, event: RunQueued, worker: str | None = None) -> RunRow:
        """The row of a new run, queued by `worker`. It counts as running: a run waits for a worker only briefly."""
        return cls(
            run=record.run,
            task=event.task,
            app=event.app,
            version=event.version,
            status=RUNNING,
            source=event.source,
            end_user=event.end_user,
            session=event.user,
            inputs=_searched(event.inputs),
            created_at=record.at,
            owner=worker,
            key=event.key,
        )

    def apply(self, record: Record, worker: str | None = None) -> bool:
        """Applies the run's next event, appended by `worker`. Whether the row has changed."""
        before = self.status, self.owner
        self.status = status_after(self.status, record.event)
        match record.event:
            case RunEnded() as event:
                self.outputs = _searched(event.outputs)
                self.error = event.error
                self._count(record, event)
                self.error_node = event.node
                currencies = {str(cost.get("currency") or "USD") for cost in event.costs} or {"USD"}
                if len(currencies) == 1:
                    self.price = nanos(sum((price_of(cost) for cost in event.costs), Decimal(0)))
                    (self.currency,) = currencies
                self.finished_at = record.at
                self.owner = None
                return True
            case RunStarted():
                self.started_at = record.at
                self.owner = worker
            case RunResumed():
                self.owner = worker
            case RunPaused() as event:
                self._count(record, event)
                self.owner = None
            case _:
                pass
        return (self.status, self.owner) != before

    def _count(self, record: Record, event: RunEnded | RunPaused) -> None:
        self.tokens = min(event.tokens, _BIG_INTEGER)
        self.steps = min(event.steps, _INTEGER)
        self.exceptions = min(event.exceptions, _INTEGER)
        self.elapsed = duration(self.created_at if self.started_at is None else self.started_at, record.at)

    @property
    def unfinished(self) -> bool:
        return self.finished_at is None and self.status != PAUSED

    def listed(self) -> ListedRun:
        return ListedRun(**{name: getattr(self, name) for name in _LISTED})


def callback_of(request: RunQueued, record: Record) -> Callback | None:
    """The callback that a record makes due, if the run has a callback URL and ends or pauses with this record.

    Its id follows from the run and the record's number alone, so the same record never makes two.
    """
    match record.event:
        case RunEnded(status=status):
            pass
        case RunPaused():
            status = PAUSED
        case _:
            return None
    if request.callback is None or record.seq is None:
        return None
    return Callback(
        id=str(uuid5(namespace(record.run), str(record.seq))),
        app=request.app,
        run=record.run,
        url=request.callback,
        event=f"run.{status}",
        seq=record.seq,
        created_at=record.at,
        next_at=record.at,
    )


def namespace(run: RunId) -> UUID:
    """The namespace of the ids that follow from a run."""
    try:
        return UUID(run)
    except ValueError:  # a run's id may be another text; that must not keep it from ending
        return uuid5(NAMESPACE_OID, run.encode("utf-8", "backslashreplace").decode())


def exchange_of(record: Record, event: RunQueued) -> Message | None:
    """The message that a new run answers; None if it has no query, as a workflow's run."""
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
    """The message after an event that changed its run's status to this one (`RunRow.apply`)."""
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


@frozen
class Assignment:
    """A value that a run assigned to a variable of its conversation."""

    name: str
    value: Value
    at: float


def assignments(records: Sequence[Record]) -> list[Assignment]:
    """What the records of one append assign to variables of the run's conversation, in order.

    A retry begins with a copy of the failed run's records. Their values were assigned then, and may be out of date.
    """
    all_assignments: list[Assignment] = []
    for record in records:
        event = record.event
        if isinstance(event, NodeSucceeded):
            if event.assigned:
                values = event.assigned.get(CONVERSATION, {})
                all_assignments += [Assignment(name, value, record.at) for name, value in values.items()]
        elif isinstance(event, RunQueued) and event.retry_of is not None:
            return []
    return all_assignments


def order_of(order: str) -> tuple[str, bool]:
    """(field, newest first) of an order in which conversations are listed. ValueError for any other."""
    field = order.removeprefix("-")
    if field not in ("created_at", "updated_at"):
        raise ValueError(f"Conversations are listed by created_at or updated_at, not by {order!r}.")
    return field, order != field


def check_numbers(records: Sequence[Record]) -> tuple[RunId, int]:
    """(run, first number). ValueError if the records are not of one run with consecutive numbers, which is a bug of the
    caller."""
    run, first = records[0].run, records[0].seq
    if first is None or first < 1:
        raise ValueError(f"run {run}: a record without a number cannot be journaled: {records[0].event!r:.200}")
    for seq, record in enumerate(records, first):
        if record.seq != seq or record.run != run:
            raise ValueError(f"run {run}: expected event {seq}, not event {record.seq} of run {record.run}")
    return run, first


def _searched(values: Mapping[str, Value]) -> str:
    """The text in which keywords are found: the values in order, texts as they are and all others as JSON."""
    texts: list[str] = []
    room = _SEARCHED
    for value in values.values():
        if room <= 0:
            break
        text = (value if isinstance(value, str) else _json(value))[:room]
        texts.append(text)
        room -= len(text) + 1
    return "\n".join(texts)


_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


def _json(value: Value) -> str:
    try:
        return orjson.dumps(value, default=json_default, option=_OPTIONS).decode()
    except TypeError:  # integers beyond 64 bits, half surrogate pairs, hundreds of levels: not worth a search
        return ""


# ---------------------------------------------------------------------------------------------------------------- sums
# How many runs there were, how many failed, what they used and cost, and how long they took: kept by day, app, key, end
# user and model when a run ends, so that statistics need not read the runs. Of durations only buckets are kept, each
# 19 % longer than the one before.

_DAY = 24 * 3600
_SHORTEST, _LONGEST = 0.001, 1e6  # seconds
_NANO = 10**9
LARGEST_SUM = 2**61  # two of these still fit into 64 bits


class SumKey(NamedTuple):
    """Which sum. `model` is "" for the runs themselves; `key` and `end_user` are "" if unknown."""

    app: str
    day: int  # since the epoch, in UTC
    model: str
    key: str
    end_user: str
    currency: str
    bucket: int


@dataclass(slots=True)
class Sum:
    runs: int = 0
    failed: int = 0
    tokens: int = 0
    price: int = 0  # in billionths

    def add(self, other: Sum) -> None:
        self.runs += other.runs
        self.failed += other.failed
        self.tokens = min(self.tokens + other.tokens, LARGEST_SUM)
        self.price = max(-LARGEST_SUM, min(self.price + other.price, LARGEST_SUM))


def sums_of(row: RunRow, end: RunEnded) -> Iterator[tuple[SumKey, Sum]]:
    """What an ended run adds to the sums: itself, and each model that it has called."""
    seconds = max(_SHORTEST, min(row.elapsed, _LONGEST))
    bucket, failures = round(log2(seconds) * BUCKETS_PER_OCTAVE), int(end.status == FAILED)
    of_run = SumKey(
        clean(row.app),
        int(row.created_at // _DAY),
        "",
        clean(row.key or ""),
        clean(row.session),
        clean(row.currency or ""),
        bucket,
    )
    yield of_run, Sum(1, failures, min(end.tokens, LARGEST_SUM), row.price or 0)
    for entry in end.costs:
        key = of_run._replace(
            model=clean(f"{entry.get('provider')}/{entry.get('model')}"),
            currency=clean(str(entry.get("currency") or "USD")),
        )
        yield key, Sum(1, failures, count_of(entry, "total_tokens"), nanos(price_of(entry)))


def nanos(price: Decimal) -> int:
    return max(-LARGEST_SUM, min(int(price * _NANO), LARGEST_SUM))
