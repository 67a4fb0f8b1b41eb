"""What is known of runs that are being written: their last numbers, and what their rows contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select

from headrace.kernel.events import Record, RunId, RunQueued, RunStarted
from headrace.ports import Message
from headrace.stores.encoding import unpack
from headrace.stores.projection import RunRow, exchange_of
from headrace.stores.sql.exchanges import without_query
from headrace.stores.sql.schema import events, forms, runs

_NAMED = 500  # runs in one statement
_FIRST = (RunQueued.__name__, RunStarted.__name__)  # one of these begins the row that has a run's start


@dataclass(slots=True)
class ActiveRun:
    """A run that is being written: its last number, its row (None before RunQueued), its request if it has a callback,
    and its message of which conversation. `forms`: it has requested some."""

    last: int
    row: RunRow | None
    ended: bool = False
    queued: RunQueued | None = None
    exchange: Message | None = None
    conversation: str | None = None
    forms: bool = False


def load(connection: Connection, names: Sequence[RunId]) -> dict[RunId, ActiveRun]:
    """Reads what the database has of these runs."""
    active_runs = {run: ActiveRun(0, None) for run in names}
    for start in range(0, len(names), _NAMED):
        part = names[start : start + _NAMED]
        of_part = events.c.run.in_(part)
        last = func.max(events.c.seq + events.c.more)
        for run, number in connection.execute(select(events.c.run, last).where(of_part).group_by(events.c.run)):
            active_runs[run].last = number
        for row in connection.execute(select(runs).where(runs.c.run.in_(part))).mappings():
            active_runs[row["run"]].row = RunRow(**row)
        begin = select(events).where(of_part, events.c.type.in_(_FIRST)).order_by(events.c.run, events.c.seq)
        for row in connection.execute(begin):
            for record in unpack(tuple(row)):
                _begin(active_runs[record.run], record)
        for run in connection.execute(select(forms.c.run).where(forms.c.run.in_(part)).distinct()).scalars():
            active_runs[run].forms = True
    return active_runs


def _begin(active: ActiveRun, record: Record) -> None:
    """What a run's first records say about it."""
    event = record.event
    if isinstance(event, RunQueued) and record.seq == 1:
        active.queued = None if event.callback is None else callback_request(event)
        active.exchange = without_query(exchange) if (exchange := exchange_of(record, event)) else None
        active.conversation = event.conversation
    elif isinstance(event, RunStarted) and active.row and active.row.started_at is None:
        active.row.started_at = record.at


def callback_request(request: RunQueued) -> RunQueued:
    """A run's request as far as it is needed until the run ends, to call back."""
    return replace(request, inputs={}, system={})
