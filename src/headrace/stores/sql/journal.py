"""The journal in a database."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import (
    Record,
    RunEnded,
    RunId,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.ports import Callback, Message
from headrace.stores.encoding import Row, clean, decode, encode
from headrace.stores.projection import RunRow, assignments, callback_of, check_numbers, exchange_of
from headrace.stores.sql.exchanges import Assigned, ExchangeWork, light
from headrace.stores.sql.failures import is_duplicate, write_error
from headrace.stores.sql.schema import callbacks, events, installation, runs
from headrace.stores.sql.statements import Call, SqlRepository, Statements, put

_LISTED = frozenset({RunQueued, RunStarted, RunPaused, RunResumed, StopRequested, RunEnded})
_LAST = 2**31 - 1  # the highest number that the column takes
_NAMED = 500  # runs in one statement
_PROBED = "probed_at"
_ACTIVE = 20_000  # runs whose last number and line are kept at hand; one that is not costs a query


@dataclass(slots=True)
class Append:
    """Records of one run to be written, those of them that change its line in the list of runs, and what they assign
    to variables of its conversation."""

    run: RunId
    first: int
    rows: list[Row]
    listed: list[Record]
    assigned: list[Assigned]
    name: str  # of the database

    @property
    def key(self) -> str:
        return self.run

    def refused(self, error: Exception) -> Exception:
        if isinstance(error, SequenceConflict) or is_duplicate(error):
            return SequenceConflict(self.run, self.first)
        return write_error(self.name, error)


@dataclass(slots=True)
class _Active:
    """A run being written: its last number, its line (None before RunQueued), what it was asked for with where there
    is a callback, and the exchange that it is of which conversation."""

    last: int
    row: RunRow | None
    ended: bool = False
    queued: RunQueued | None = None
    exchange: Message | None = None
    conversation: str | None = None


class JournalWork:
    """Writes appends and calls. Used by the writer's thread alone."""

    def __init__(self) -> None:
        self.owner: str | None = None  # of the runs that are begun or taken up here; None: anybody may have them
        self._active: OrderedDict[RunId, _Active] = OrderedDict()
        self._touched: dict[RunId, _Active] = {}
        self._events = Statements("events", ("run", "seq", "at", "type", "body"))
        self._runs = Statements("runs", _COLUMNS, _UPSERT)
        self._callbacks = Statements("callbacks", _CALLBACK, "ON CONFLICT DO NOTHING")
        self._exchanges = ExchangeWork()

    def write(self, connection: Connection, jobs: list[Append | Call]) -> list[object]:
        results: list[object] = []
        rows: list[Row] = []
        lines: dict[RunId, RunRow] = {}
        due: list[Callback] = []
        refused: set[RunId] = set()
        self._exchanges.clear()
        for job in jobs:
            if isinstance(job, Call):
                self._exchanges.write(connection)  # a call may replace what was changed before it, and not be undone
                results.append(job.work(connection))
                continue
            active = self._at_hand(connection, job)
            if job.first != active.last + 1 or job.run in refused:
                refused.add(job.run)
                results.append(SequenceConflict(job.run, job.first))
                continue
            active.last += len(job.rows)
            rows += job.rows
            for record in job.listed:
                self._list(active, record, lines)
                if active.queued and (callback := callback_of(active.queued, record)):
                    due.append(callback)
            if job.assigned and active.conversation is not None:
                self._exchanges.assign(active.conversation, job.assigned)
            results.append(None)
        self._events.execute(connection, rows)
        self._runs.execute(connection, [_values(row, _COLUMNS) for row in lines.values()])
        if due:
            self._callbacks.execute(connection, [_values(callback, _CALLBACK) for callback in due])
        self._exchanges.write(connection)
        return results

    def committed(self) -> None:
        for run, active in self._touched.items():
            if active.ended or (active.row and active.row.status == "paused"):
                self._active.pop(run, None)
                continue
            if active.row:
                active.row.inputs = ""  # written once, and never changed
            self._active[run] = active
            self._active.move_to_end(run)
        self._touched.clear()
        while len(self._active) > _ACTIVE:
            self._active.popitem(last=False)

    def rolled_back(self) -> None:
        # what is known of these runs is ahead of the database, or behind what another process wrote
        for run in self._touched:
            self._active.pop(run, None)
        self._touched.clear()

    def release(self, connection: Connection, owner: str, keep: frozenset[RunId]) -> None:
        """Makes the runs of an owner that have not ended nobody's, but for those to keep."""
        mine = connection.execute(select(runs.c.run).where(runs.c.finished_at.is_(None), runs.c.owner == owner))
        given = [run for (run,) in mine if run not in keep]
        for start in range(0, len(given), _NAMED):
            some = runs.c.run.in_(given[start : start + _NAMED])
            connection.execute(update(runs).where(some, runs.c.owner == owner).values(owner=None))
        for known in (self._active, self._touched):  # what is at hand must not be ahead of the database
            for run, active in known.items():
                if active.row and run not in keep:
                    active.row.owner = None

    def _at_hand(self, connection: Connection, job: Append) -> _Active:
        active = self._touched.get(job.run)
        if active is None:
            active = self._active.get(job.run)
            if active is None and job.first == 1:
                # a first event needs no look: if there is one already, the primary key says so
                active = _Active(0, None)
            elif active is None or job.first > active.last + 1:  # behind, where another process wrote
                active = _load(connection, job.run)
            self._touched[job.run] = active
        return active

    def _list(self, active: _Active, record: Record, lines: dict[RunId, RunRow]) -> None:
        event = record.event
        if isinstance(event, RunQueued):
            active.row = lines[record.run] = RunRow.of(record, event)
            active.row.pass_on(event, self.owner)
            active.queued = _calling(event)
            active.exchange = self._exchanges.begin(record, event)
            active.conversation = event.conversation
        elif active.row:
            if active.row.pass_on(event, self.owner):
                lines[record.run] = active.row
            if active.row.apply(record):
                lines[record.run] = active.row
                if active.exchange:
                    self._exchanges.change(active.exchange, record, active.row.status)
        active.ended = active.ended or isinstance(event, RunEnded)
        if active.conversation is not None and isinstance(event, RunQueued | RunEnded):
            self._exchanges.move(active.conversation, record.at)


def _load(connection: Connection, run: RunId) -> _Active:
    started = func.min(case((events.c.type == RunStarted.__name__, events.c.at)))
    found = connection.execute(select(func.max(events.c.seq), started).where(events.c.run == run)).one()
    line = connection.execute(select(runs).where(runs.c.run == run)).mappings().first()
    row = RunRow(**line, started_at=found[1]) if line else None
    active = _Active(found[0] or 0, row)
    first = connection.execute(
        select(events).where(events.c.run == run, events.c.seq == 1, events.c.type == RunQueued.__name__)
    ).first()
    if first is not None and isinstance(queued := (record := decode(tuple(first))).event, RunQueued):
        active.queued = _calling(queued)
        active.exchange = light(exchange) if (exchange := exchange_of(record, queued)) else None
        active.conversation = queued.conversation
    return active


def _calling(queued: RunQueued) -> RunQueued | None:
    """What has to be known of a run until it ends, to call back: nothing, mostly."""
    return replace(queued, inputs={}, system={}) if queued.callback is not None else None


class SqlJournal(SqlRepository):
    """Implements Journal."""

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """See `Journal.append`. Also SequenceConflict where the number before the first is not written. StoreError: the
        database is locked, full or gone; nothing of these records is written. ValueError: a value is nested too
        deeply, or the records are not of one run with numbers that follow on."""
        if not records:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        run, first = check_numbers(records)
        # encoded here and now, so that what becomes of the values later does not matter
        rows = [
            (run, seq, at, type(event).__name__, encode(event)) for seq, (_, _, at, event) in enumerate(records, first)
        ]
        listed = [record for record in records if type(record.event) in _LISTED]
        assigned = [Assigned.of(each) for each in assignments(records)]
        return self._writer.submit(Append(run, first, rows, listed, assigned, self._database.name))

    async def read(self, run: RunId, after: int = 0) -> list[Record]:
        """See `Journal.read`. StoreError where a record is damaged or of a newer version."""
        later = events.c.seq > min(after, _LAST)
        statement = select(events).where(events.c.run == clean(run), later).order_by(events.c.seq)

        def work(connection: Connection) -> list[Record]:
            return [decode(tuple(row)) for row in connection.execute(statement)]

        return await self._database.run(work)

    async def changed(self) -> bool:
        return await self._database.changed()

    async def unfinished(self) -> list[RunId]:
        open_ = (runs.c.finished_at.is_(None), runs.c.status != "paused")
        found = await self._database.rows(select(runs.c.run).where(*open_).order_by(runs.c.created_at))
        return [row["run"] for row in found]

    async def probe(self) -> None:
        """See `Journal.probe`; fails at once while the database is known to be away."""
        if (problem := self._database.health.problem) is not None:
            raise StoreError(problem, reason=problem)
        values = {"name": _PROBED, "value": f"{time.time():.3f}"}
        await self._write(lambda connection: put(connection, installation, values))

    async def last_sequences(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        named = [clean(run) for run in of]
        parts = [named[start : start + _NAMED] for start in range(0, len(named), _NAMED)]
        statement = select(events.c.run, func.max(events.c.seq)).group_by(events.c.run)

        def work(connection: Connection) -> dict[RunId, int]:
            found = (connection.execute(statement.where(events.c.run.in_(part))) for part in parts)
            return {row[0]: row[1] for rows in found for row in rows}

        return await self._database.run(work)


# ----------------------------------------------------------------------------------------------------------- lines

_COLUMNS = tuple(column.name for column in runs.columns)
_CALLBACK = tuple(column.name for column in callbacks.columns)
_UPSERT = "ON CONFLICT (run) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}"
    for name in ("status", "outputs", "error", "elapsed", "tokens", "steps", "exceptions", "finished_at", "owner")
)


def _values(row: object, names: Sequence[str]) -> tuple[Any, ...]:
    values = (getattr(row, name) for name in names)
    return tuple([clean(value) if isinstance(value, str) else value for value in values])
