"""The journal in a database, and the rows of runs and callbacks that its events change."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from sqlalchemy import Connection, func, select, update

from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import (
    FormEvent,
    FormRequested,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunQueued,
)
from headrace.kernel.summary import PAUSED
from headrace.ports import Callback
from headrace.stores.encoding import SINCE, PackedRow, clean, pack, unpack
from headrace.stores.form_projection import mails_of
from headrace.stores.projection import (
    LARGEST_SUM,
    PROJECTED,
    RunRow,
    Sum,
    SumKey,
    assignments,
    callback_of,
    check_numbers,
    sums_of,
)
from headrace.stores.sql.active_runs import ActiveRun, callback_request, load
from headrace.stores.sql.bulk_insert import BulkInsert
from headrace.stores.sql.exchanges import Assigned, ExchangeWork
from headrace.stores.sql.failures import is_duplicate, write_error
from headrace.stores.sql.forms import FormWork
from headrace.stores.sql.repository import SqlRepository
from headrace.stores.sql.schema import UNFINISHED, callbacks, events, installation, runs
from headrace.stores.sql.transaction import Transaction
from headrace.stores.sql.writer import Call

_LAST = 2**31 - 1  # the highest number that the column takes
_NAMED = 500  # runs in one statement
_PROBED = "probed_at"
_ACTIVE = 20_000  # runs whose last number and row are kept in memory; any other costs a query

_RUN = tuple(column.name for column in runs.columns)
_CALLBACK = tuple(column.name for column in callbacks.columns)
_UPDATE_RUN = "ON CONFLICT (run) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}"
    for name in (
        "status",
        "outputs",
        "error",
        "elapsed",
        "tokens",
        "steps",
        "exceptions",
        "finished_at",
        "owner",
        "price",
        "currency",
        "error_node",
        "min_version",
    )
)


_SUMMED = tuple(field.name for field in fields(Sum))
_ADD_SUM = f"ON CONFLICT ({', '.join(SumKey._fields)}) DO UPDATE SET " + ", ".join(
    f"{name} = CASE WHEN abs(run_sums.{name}) < {LARGEST_SUM} THEN run_sums.{name} + excluded.{name} "
    f"ELSE run_sums.{name} END"
    for name in _SUMMED
)


@dataclass(slots=True)
class Append:
    """`count` records of one run to be written, those of them that change its row, and what they assign to variables of
    its conversation. `key` is the run's id, `name` the database's."""

    key: RunId
    first: int
    count: int
    rows: list[PackedRow]
    listed: list[Record]
    assigned: list[Assigned]
    name: str

    def failure(self, error: Exception) -> Exception:
        if isinstance(error, SequenceConflict) or is_duplicate(error):
            return SequenceConflict(self.key, self.first)
        return write_error(self.name, error)


class JournalWork:
    """Writes appends and calls. Used by the writer's thread alone."""

    def __init__(self) -> None:
        self.owner: str | None = None  # the worker that owns the runs started here; None: any worker may take them
        self._active: OrderedDict[RunId, ActiveRun] = OrderedDict()
        self._touched: dict[RunId, ActiveRun] = {}  # by this transaction
        self._events = BulkInsert("events", ("run", "seq", "at", "type", "body", "more"))
        self._runs = BulkInsert("runs", _RUN, _UPDATE_RUN)
        self._callbacks = BulkInsert("callbacks", _CALLBACK, "ON CONFLICT DO NOTHING")
        self._sums = BulkInsert("run_sums", (*SumKey._fields, *_SUMMED), _ADD_SUM)
        self._exchanges = ExchangeWork()
        self._forms = FormWork()

    def write(self, transaction: Transaction, jobs: list[Append | Call]) -> list[object]:
        results: list[object] = []
        rows: list[PackedRow] = []
        changed: dict[RunId, RunRow] = {}
        due: list[Callback] = []
        sums: dict[SumKey, Sum] = {}
        conflicts: set[RunId] = set()
        for job in jobs:
            if isinstance(job, Call):
                # a call may replace what an append before it has changed, and must not be undone
                self._exchanges.write(transaction)
                results.append(job.work(transaction.connection))
                continue
            active = self._active_run(transaction, job, jobs)
            if job.first != active.last + 1 or job.key in conflicts:
                conflicts.add(job.key)
                results.append(SequenceConflict(job.key, job.first))
                continue
            active.last += job.count
            rows += job.rows
            for record in job.listed:
                self._project(active, record, changed)
                if active.row and isinstance(record.event, RunEnded):
                    for key, sum_ in sums_of(active.row, record.event):
                        sums.setdefault(key, Sum()).add(sum_)
                if active.queued and (callback := callback_of(active.queued, record)):
                    due.append(callback)
                if active.row and isinstance(record.event, FormRequested):
                    due += mails_of(record, record.event, active.row.app)
            if job.assigned and active.conversation is not None:
                self._exchanges.assign(active.conversation, job.assigned)
            results.append(None)
        transaction.insert(self._events, rows)
        transaction.insert(self._runs, [_values(row, _RUN) for row in changed.values()])
        # in order: processes that add to the same sums must not wait for each other
        transaction.insert(self._sums, [(*key, *astuple(sums[key])) for key in sorted(sums)])
        transaction.insert(self._callbacks, [_values(callback, _CALLBACK) for callback in due])
        if self._exchanges.pending:
            self._exchanges.write(transaction)
        if self._forms.pending:
            self._forms.write(transaction)
        return results

    def committed(self) -> None:
        for run, active in self._touched.items():
            if active.ended or (active.row and active.row.status == PAUSED):
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
        self._exchanges.clear()
        if self._forms.pending:
            self._forms.clear()

    def release(self, connection: Connection, owner: str, keep: frozenset[RunId]) -> None:
        """Releases the unfinished runs of an owner, except those to keep."""
        owned = connection.execute(select(runs.c.run).where(runs.c.finished_at.is_(None), runs.c.owner == owner))
        released = [run for (run,) in owned if run not in keep]
        for start in range(0, len(released), _NAMED):
            part = runs.c.run.in_(released[start : start + _NAMED])
            connection.execute(update(runs).where(part, runs.c.owner == owner).values(owner=None))
        for known in (self._active, self._touched):  # what is in memory must not be ahead of the database
            for run, active in known.items():
                if active.row and run not in keep:
                    active.row.owner = None

    def disown(self, connection: Connection, owner: str, run: RunId) -> None:
        """Releases one run of an owner."""
        connection.execute(update(runs).where(runs.c.run == run, runs.c.owner == owner).values(owner=None))
        for known in (self._active, self._touched):
            if (active := known.get(run)) and active.row:
                active.row.owner = None

    def _active_run(self, transaction: Transaction, job: Append, jobs: Sequence[Append | Call]) -> ActiveRun:
        active = self._touched.get(job.key)
        if active is None:
            # a first event needs no query: if there is one already, the primary key says so
            active = self._active.get(job.key) or ActiveRun(0, None)
            if job.first > active.last + 1:  # another process has written to it
                # with all others of the transaction: a worker that takes over the runs of a dead one knows none of them
                unknown = {other.key for other in jobs if isinstance(other, Append) and self._is_unknown(other)}
                self._touched |= load(transaction.connection, [*unknown])
                return self._touched[job.key]
            self._touched[job.key] = active
        return active

    def _is_unknown(self, job: Append) -> bool:
        """Whether another process has written to a run since this one did, if ever."""
        active = self._active.get(job.key)
        return job.key not in self._touched and job.first > (1 if active is None else active.last + 1)

    def _project(self, active: ActiveRun, record: Record, changed: dict[RunId, RunRow]) -> None:
        """Applies a record to its run's row, and to its message and conversation if it has any."""
        event = record.event
        if isinstance(event, RunQueued):
            active.row = changed[record.run] = RunRow.of(record, event, self.owner)
            active.conversation = event.conversation
            if event.callback is not None:
                active.queued = callback_request(event)
            if "query" in event.system:
                active.exchange = self._exchanges.begin(record, event)
        elif isinstance(event, FormEvent):
            if active.row:
                active.forms = True
                self._forms.apply(record, active.row.app)
        elif active.row and active.row.apply(record, self.owner):
            changed[record.run] = active.row
            if active.exchange:
                self._exchanges.change(active.exchange, record, active.row.status)
        if active.row and (version := SINCE.get(type(event), 1)) > active.row.min_version:
            active.row.min_version = version
            changed[record.run] = active.row
        if isinstance(event, RunEnded):
            active.ended = True
            if active.forms:
                self._forms.end(record)
        if active.conversation is not None and isinstance(event, RunQueued | RunEnded):
            self._exchanges.move(active.conversation, record.at)


def _values(row: object, names: Sequence[str]) -> tuple[Any, ...]:
    values = [getattr(row, name) for name in names]
    return tuple([clean(value) if isinstance(value, str) else value for value in values])


class SqlJournal(SqlRepository):
    """Implements Journal."""

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """See `Journal.append`. Also SequenceConflict if the number before the first is not written. StoreError: the
        database is locked, full or gone; none of these records is written. ValueError: a value is nested too deeply, or
        the records are not of one run with consecutive numbers."""
        if not records:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        run, first = check_numbers(records)
        # encoded here and now, so that it does not matter if the values change later
        rows = pack(records)
        listed: list[Record] = []
        assigns = False
        for record in records:
            event = record.event
            kind = type(event)
            if kind in PROJECTED or kind in SINCE:
                listed.append(record)
            elif isinstance(event, NodeSucceeded) and event.assigned:
                assigns = True
        assigned = [Assigned.of(assignment) for assignment in assignments(records)] if assigns else []
        return self._writer.submit(Append(run, first, len(records), rows, listed, assigned, self._database.name))

    async def read(self, run: RunId, after: int = 0, limit: int | None = None) -> list[Record]:
        """See `Journal.read`. StoreError if a record is damaged or of a newer version."""
        statement = select(events).where(events.c.run == clean(run)).order_by(events.c.seq).limit(limit)
        if after > 0:
            place = min(after, _LAST)
            row = events.alias()  # the last one that begins up to there
            begins = select(func.max(row.c.seq)).where(row.c.run == clean(run), row.c.seq <= place).scalar_subquery()
            statement = statement.where(events.c.seq >= begins, events.c.seq + events.c.more > place)

        def work(connection: Connection) -> list[Record]:
            records = [record for row in connection.execute(statement) for record in unpack(tuple(row))]
            return records[max(0, after + 1 - (records[0].seq or 0)) :][:limit] if records else []

        return await self._database.run(work)

    async def read_all(self, of: Collection[RunId]) -> Mapping[RunId, list[Record]]:
        ids = [*{clean(run) for run in of}]
        statement = select(events).order_by(events.c.run, events.c.seq)

        def work(connection: Connection) -> dict[RunId, list[Record]]:
            records = dict[RunId, list[Record]]()
            unreadable = set[RunId]()
            for start in range(0, len(ids), _NAMED):
                for row in connection.execute(statement.where(events.c.run.in_(ids[start : start + _NAMED]))):
                    try:
                        records.setdefault(row.run, []).extend(unpack(tuple(row)))
                    except StoreError:
                        unreadable.add(row.run)
            return {run: items for run, items in records.items() if run not in unreadable}

        return await self._database.run(work)

    async def changed(self) -> bool:
        return await self._database.changed()

    async def unfinished(self) -> list[RunId]:
        rows = await self._database.rows(select(runs.c.run).where(*UNFINISHED).order_by(runs.c.created_at, runs.c.run))
        return [row["run"] for row in rows]

    async def probe(self) -> None:
        """See `Journal.probe`; fails at once while the database is known to be unavailable."""
        if (problem := self._database.health.problem) is not None:
            raise StoreError(problem, reason=problem)
        await self._put(installation, {"name": _PROBED, "value": f"{time.time():.3f}"})

    async def last_sequences(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        ids = [clean(run) for run in of]
        parts = [ids[start : start + _NAMED] for start in range(0, len(ids), _NAMED)]
        # two steps into the index for each run, however many events it has
        later = events.alias()
        of_run = select(later.c.seq + later.c.more).where(later.c.run == events.c.run)
        last = of_run.order_by(later.c.seq.desc()).limit(1).scalar_subquery()
        statement = select(events.c.run, last).where(events.c.seq == 1)

        def work(connection: Connection) -> dict[RunId, int]:
            pages = (connection.execute(statement.where(events.c.run.in_(part))) for part in parts)
            return {row[0]: row[1] for page in pages for row in page}

        return await self._database.run(work)
