"""The journal in memory, and the list of runs made from it."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence

from headrace.errors import SequenceConflict
from headrace.kernel.events import FormRequested, Record, RunEnded, RunId, RunPaused, RunQueued
from headrace.kernel.summary import FAILED
from headrace.ports import ListedRun, RunActivity, RunFilter, RunSums
from headrace.stores.encoding import field_values
from headrace.stores.form_projection import mails_of
from headrace.stores.memory.async_api import MemoryCallbacks
from headrace.stores.memory.conversations import MemoryConversations
from headrace.stores.memory.forms import MemoryForms
from headrace.stores.projection import (
    PROJECTED,
    RunRow,
    Sum,
    SumKey,
    assignments,
    callback_of,
    check_numbers,
    sums_of,
)
from headrace.values import DEEPEST, TOO_DEEP, nests_deeper


class MemoryJournal:
    """Implements Journal and Runs, and writes to `callbacks`, `conversations` and `forms` what follows from events. Of
    the runs that have ended only the last `keep` are kept, with their messages and forms."""

    def __init__(
        self,
        callbacks: MemoryCallbacks | None = None,
        conversations: MemoryConversations | None = None,
        keep: int = 10_000,
    ) -> None:
        self.callbacks = callbacks or MemoryCallbacks()
        self.conversations = conversations or MemoryConversations()
        self.forms = MemoryForms()
        self._keep = keep
        self._records: dict[RunId, list[Record]] = {}
        self._rows: dict[RunId, RunRow] = {}
        self._open: dict[RunId, None] = {}  # unfinished and paused runs, oldest first
        self._ended_runs: OrderedDict[RunId, None] = OrderedDict()  # oldest first
        self._sums: dict[SumKey, Sum] = {}
        self._tasks: dict[str, RunId] = {}
        self._conflicts: set[RunId] = set()  # runs whose appends fail until the caller can know that one did

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if records:
            run, first = check_numbers(records)
            if nests_deeper([value for record in records for value in field_values(record.event)], DEEPEST):
                raise ValueError(TOO_DEEP)  # as in every other store
            existing = self._records.get(run)
            conflict = first != (len(existing) if existing else 0) + 1
            if conflict or run in self._conflicts or self.conversations.is_numbered(records[0]):
                self._conflicts.add(run)
                loop.call_soon(self._fail, done, SequenceConflict(run, first))
                return done
            if existing is None:
                self._records[run] = list(records)
            else:
                existing.extend(records)
            for record in records:
                if type(record.event) in PROJECTED:
                    self._project(record)
            if variables := assignments(records):
                request = self._records[run][0].event
                if isinstance(request, RunQueued) and request.conversation is not None:
                    self.conversations.assign(request.conversation, variables)
        done.set_result(None)
        return done

    def _fail(self, done: asyncio.Future[None], conflict: SequenceConflict) -> None:
        self._conflicts.discard(conflict.run)
        if not done.done():
            done.set_exception(conflict)

    def _project(self, record: Record) -> None:
        run = record.run
        if isinstance(record.event, RunQueued):
            self._rows[run] = RunRow.of(record, record.event)
            self._tasks[record.event.task] = run
            self._open[run] = None
            self.conversations.begin(record, record.event)
        elif row := self._rows.get(run):
            self.forms.apply(record, row.app)
            if isinstance(record.event, FormRequested):
                for mail in mails_of(record, record.event, row.app):
                    self.callbacks.add(mail)
            if row.apply(record):
                self.conversations.change(record, row.status)
            if isinstance(record.event, RunEnded | RunPaused):
                self._leave(record)
            if isinstance(record.event, RunEnded):
                self.forms.end(record)
                for key, sum_ in sums_of(row, record.event):
                    self._sums.setdefault(key, Sum()).add(sum_)
                self._open.pop(run, None)
                self._ended_runs[run] = None
                if len(self._ended_runs) > self._keep:
                    self._forget(self._ended_runs.popitem(last=False)[0])

    def _leave(self, record: Record) -> None:
        request = self._records[record.run][0].event
        if not isinstance(request, RunQueued):
            return
        if callback := callback_of(request, record):
            self.callbacks.add(callback)
        if isinstance(record.event, RunEnded) and request.conversation is not None:
            self.conversations.move(request.conversation, record.at)

    def _forget(self, run: RunId) -> None:
        self.conversations.forget(run)
        self.forms.forget(run)
        del self._records[run]
        self._tasks.pop(self._rows.pop(run).task, None)

    async def read(self, run: RunId, after: int = 0, limit: int | None = None) -> list[Record]:
        return self._records.get(run, [])[max(0, after) :][:limit]

    async def read_all(self, of: Collection[RunId]) -> Mapping[RunId, list[Record]]:
        return {run: records for run in of if (records := await self.read(run))}

    async def probe(self) -> None:
        """It can be written as long as there is memory."""

    async def changed(self) -> bool:
        return False  # there is no other process

    async def last_sequences(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        return {run: len(records) for run in of if (records := self._records.get(run))}

    async def unfinished(self) -> list[RunId]:
        rows = sorted((self._rows[run] for run in self._open), key=lambda row: row.created_at)
        return [row.run for row in rows if row.unfinished]

    def row(self, run: RunId) -> RunRow | None:
        return self._rows.get(run)

    async def list_runs(self, which: RunFilter) -> tuple[int, list[ListedRun]]:
        rows = [row for row in self._rows.values() if _matches(which, row)]
        rows.sort(key=_place, reverse=True)
        start = max(0, which.page - 1) * which.limit
        return len(rows), [row.listed() for row in rows[start : start + max(0, which.limit)]]

    async def activity(self, apps: Sequence[str], since: float, last: int) -> Mapping[str, RunActivity]:
        activities: dict[str, RunActivity] = {}
        for app in apps:
            rows = sorted((row for row in self._rows.values() if row.app == app), key=_place, reverse=True)
            lately = [row for row in rows if row.created_at >= since]
            failures = sum(row.status == FAILED for row in lately)
            activities[app] = RunActivity([row.listed() for row in rows[:last]], len(lately), failures)
        return activities

    async def sums(self, apps: Sequence[str], days: tuple[int, int], by: str) -> list[RunSums]:
        groups: dict[tuple[str, int, str], Sum] = {}
        for key, sum_ in self._sums.items():
            if key.app in apps and days[0] <= key.day <= days[1] and (key.model != "") == (by == "model"):
                groups.setdefault((str(getattr(key, by)), key.bucket, key.currency), Sum()).add(sum_)
        return [RunSums(*group, sum_.runs, sum_.failed, sum_.tokens, sum_.price) for group, sum_ in groups.items()]

    async def find_run(self, run: RunId) -> ListedRun | None:
        row = self._rows.get(run)
        return row.listed() if row else None

    async def find_runs(self, run_ids: Sequence[RunId]) -> list[ListedRun]:
        return [row.listed() for run in run_ids if (row := self._rows.get(run))]

    async def find_task(self, task: str) -> RunId | None:
        return self._tasks.get(task)

    async def count_runs(self, source: str) -> Mapping[str, int]:
        return Counter(row.status for row in self._rows.values() if row.source == source)


def _place(row: RunRow) -> tuple[float, str]:
    return row.created_at, row.run


def _matches(which: RunFilter, row: RunRow) -> bool:
    keyword = (which.keyword or "").lower()
    return (
        row.app in which.apps
        and all(
            (value := getattr(which, name)) is None or getattr(row, name) == value
            for name in ("status", "session", "version", "source")
        )
        and (which.before is None or row.created_at <= which.before)
        and (which.after is None or row.created_at >= which.after)
        and (which.older is None or (row.created_at, row.run) < which.older)
        and (not keyword or any(keyword in text.lower() for text in (row.inputs, row.outputs, row.run)))
    )
