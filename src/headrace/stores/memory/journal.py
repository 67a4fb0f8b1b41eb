"""The journal in memory, and the list of runs made from it."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence

from headrace.errors import SequenceConflict
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused, RunQueued, pack
from headrace.ports import ListedRun, RunFilter
from headrace.stores.memory.async_api import MemoryCallbacks
from headrace.stores.memory.conversations import MemoryConversations
from headrace.stores.projection import RunRow, assignments, callback_of, check_numbers
from headrace.values import DEEPEST, TOO_DEEP, nests_deeper


class MemoryJournal:
    """Implements Journal and Runs. What runs do to `callbacks` and `conversations` is written there. Of the runs that
    have ended only the last `keep` are kept, with their messages."""

    def __init__(
        self,
        callbacks: MemoryCallbacks | None = None,
        conversations: MemoryConversations | None = None,
        keep: int = 10_000,
    ) -> None:
        self.callbacks = callbacks or MemoryCallbacks()
        self.conversations = conversations or MemoryConversations()
        self._keep = keep
        self._records: dict[RunId, list[Record]] = {}
        self._rows: dict[RunId, RunRow] = {}
        self._open: dict[RunId, None] = {}  # what has not ended, oldest first
        self._ended: OrderedDict[RunId, None] = OrderedDict()  # oldest first
        self._tasks: dict[str, RunId] = {}
        self._refused: set[RunId] = set()  # whose appends fail until the caller can know that one did

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if records:
            run, first = check_numbers(records)
            if any(nests_deeper(pack(record.event), DEEPEST) for record in records):
                raise ValueError(TOO_DEEP)  # as every other store
            known = self._records.get(run)
            late = first != (len(known) if known else 0) + 1
            if late or run in self._refused or self.conversations.is_numbered(records[0]):
                self._refused.add(run)
                loop.call_soon(self._refuse, done, SequenceConflict(run, first))
                return done
            if known is None:
                self._records[run] = list(records)
            else:
                known.extend(records)
            for record in records:
                self._project(record)
            if assigned := assignments(records):
                queued = self._records[run][0].event
                if isinstance(queued, RunQueued) and queued.conversation is not None:
                    self.conversations.assign(queued.conversation, assigned)
        done.set_result(None)
        return done

    def _refuse(self, done: asyncio.Future[None], conflict: SequenceConflict) -> None:
        self._refused.discard(conflict.run)
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
            if row.apply(record):
                self.conversations.change(record, row.status)
            if isinstance(record.event, RunEnded | RunPaused):
                self._leave(record)
            if isinstance(record.event, RunEnded):
                self._open.pop(run, None)
                self._ended[run] = None
                if len(self._ended) > self._keep:
                    self._forget(self._ended.popitem(last=False)[0])

    def _leave(self, record: Record) -> None:
        queued = self._records[record.run][0].event
        if not isinstance(queued, RunQueued):
            return
        if callback := callback_of(queued, record):
            self.callbacks.add(callback)
        if isinstance(record.event, RunEnded) and queued.conversation is not None:
            self.conversations.move(queued.conversation, record.at)

    def _forget(self, run: RunId) -> None:
        self.conversations.forget(run)
        del self._records[run]
        self._tasks.pop(self._rows.pop(run).task, None)

    async def read(self, run: RunId, after: int = 0) -> list[Record]:
        return self._records.get(run, [])[max(0, after) :]

    async def probe(self) -> None:
        """It can be written as long as there is memory."""

    async def changed(self) -> bool:
        return False  # there is nobody else

    async def last_sequences(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        return {run: len(records) for run in of if (records := self._records.get(run))}

    async def unfinished(self) -> list[RunId]:
        rows = sorted((self._rows[run] for run in self._open), key=lambda row: row.created_at)
        return [row.run for row in rows if row.unfinished]

    def row(self, run: RunId) -> RunRow | None:
        return self._rows.get(run)

    async def list_runs(self, which: RunFilter) -> tuple[int, list[ListedRun]]:
        found = [row for row in self._rows.values() if _shows(which, row)]
        found.sort(key=lambda row: (row.created_at, row.run), reverse=True)
        start = max(0, which.page - 1) * which.limit
        return len(found), [row.listed() for row in found[start : start + max(0, which.limit)]]

    async def find_run(self, run: RunId) -> ListedRun | None:
        row = self._rows.get(run)
        return row.listed() if row else None

    async def find_task(self, task: str) -> RunId | None:
        return self._tasks.get(task)

    async def count_runs(self, source: str) -> Mapping[str, int]:
        return Counter(row.status for row in self._rows.values() if row.source == source)


def _shows(which: RunFilter, row: RunRow) -> bool:
    if row.app != which.app or (which.status is not None and row.status != which.status):
        return False
    if which.before is not None and row.created_at > which.before:
        return False
    if which.after is not None and row.created_at < which.after:
        return False
    if which.session is not None and row.session != which.session:
        return False
    if which.version is not None and row.version != which.version:
        return False
    if which.source is not None and row.source != which.source:
        return False
    if which.older is not None and (row.created_at, row.run) >= which.older:
        return False
    if not which.keyword:
        return True
    keyword = which.keyword.lower()
    return any(keyword in text.lower() for text in (row.inputs, row.outputs, row.run))
