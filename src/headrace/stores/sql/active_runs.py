"""What is known of runs that are being written: their last numbers, and what their rows contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, case, func, select

from headrace.kernel.events import RunId, RunQueued, RunStarted
from headrace.ports import Message
from headrace.stores.encoding import decode
from headrace.stores.projection import RunRow, exchange_of
from headrace.stores.sql.exchanges import without_query
from headrace.stores.sql.schema import events, forms, runs

_NAMED = 500  # runs in one statement


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
    loaded = {run: ActiveRun(0, None) for run in names}
    for start in range(0, len(names), _NAMED):
        part = names[start : start + _NAMED]
        of_part = events.c.run.in_(part)
        started = func.min(case((events.c.type == RunStarted.__name__, events.c.at)))
        numbers = select(events.c.run, func.max(events.c.seq), started).where(of_part).group_by(events.c.run)
        started_at: dict[RunId, float | None] = {}
        for run, last, at in connection.execute(numbers):
            loaded[run].last, started_at[run] = last, at
        for row in connection.execute(select(runs).where(runs.c.run.in_(part))).mappings():
            loaded[row["run"]].row = RunRow(**row, started_at=started_at.get(row["run"]))
        first = select(events).where(of_part, events.c.seq == 1, events.c.type == RunQueued.__name__)
        for row in connection.execute(first):
            record = decode(tuple(row))
            if isinstance(queued := record.event, RunQueued):
                active = loaded[record.run]
                active.queued = None if queued.callback is None else callback_request(queued)
                active.exchange = without_query(exchange) if (exchange := exchange_of(record, queued)) else None
                active.conversation = queued.conversation
        for run in connection.execute(select(forms.c.run).where(forms.c.run.in_(part)).distinct()).scalars():
            loaded[run].forms = True
    return loaded


def callback_request(queued: RunQueued) -> RunQueued:
    """A run's request as far as it is needed until the run ends, to call back."""
    return replace(queued, inputs={}, system={})
