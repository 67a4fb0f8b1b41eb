"""A store in memory: for one-off runs, tests, and services that need not remember."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

from headrace.errors import SequenceConflict
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused, RunQueued, pack
from headrace.ports import WORKSPACE, App, Audited, EndUser, Key, ListedRun, RunFilter, StoredFile, Version
from headrace.stores.memory.async_api import MemoryBatches, MemoryCallbacks, MemoryIdempotency
from headrace.stores.memory.buckets import MemoryBuckets
from headrace.stores.memory.conversations import MemoryConversations
from headrace.stores.projection import RunRow, assignments, callback_of, check_numbers
from headrace.values import DEEPEST, TOO_DEEP, nests_deeper


class MemoryJournal(MemoryCallbacks, MemoryConversations):
    """Journal, Runs, Callbacks and Conversations. Of the runs that have ended only the last `keep` are remembered, and
    with them their exchanges."""

    def __init__(self, keep: int = 10_000) -> None:
        MemoryCallbacks.__init__(self, keep)
        MemoryConversations.__init__(self)
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
            if late or run in self._refused or self._is_numbered(records[0]):
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
                    self._assign(queued.conversation, assigned)
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
            self._begin_exchange(record, record.event)
        elif row := self._rows.get(run):
            if row.apply(record):
                self._change_exchange(record, row.status)
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
            self._add_callback(callback)
        if isinstance(record.event, RunEnded) and queued.conversation is not None:
            self._move(queued.conversation, record.at)

    def _forget(self, run: RunId) -> None:
        self._forget_exchange(run)
        del self._records[run]
        self._tasks.pop(self._rows.pop(run).task, None)

    async def read(self, run: RunId, after: int = 0) -> list[Record]:
        return self._records.get(run, [])[max(0, after) :]

    async def claim(self, names: Collection[str]) -> set[str]:
        return set(names)  # there is nobody else

    async def release(self, names: Collection[str]) -> None:
        """Nobody else could claim them."""

    async def probe(self) -> None:
        """It can be written as long as there is memory."""

    async def changed(self) -> bool:
        return False  # there is nobody else

    async def numbers(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        return {run: len(records) for run in of if (records := self._records.get(run))}

    async def unfinished(self) -> list[RunId]:
        rows = sorted((self._rows[run] for run in self._open), key=lambda row: row.created_at)
        return [row.run for row in rows if row.unfinished]

    async def alive(self) -> bool:
        return False  # there is nobody else

    async def adrift(self) -> list[RunId]:
        return await self.unfinished()

    async def take_up(self, run: RunId) -> bool:
        return run in self._open

    async def hand_back(self, keep: Collection[RunId] = ()) -> None:
        """Nobody else could take them."""

    async def heads(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        return {}  # there is nobody else

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


class MemoryCatalog:
    """Catalog."""

    def __init__(self) -> None:
        self._apps: dict[str, App] = {}
        self._versions: dict[str, Version] = {}
        self._keys: dict[str, Key] = {}  # by digest
        self._audit: list[Audited] = []
        self._end_users: dict[tuple[str, str], EndUser] = {}
        self._end_users_by_id: dict[str, EndUser] = {}
        self._files: dict[str, StoredFile] = {}

    async def apps(self, workspace: str | None = None) -> list[App]:
        found = [app for app in self._apps.values() if workspace is None or app.workspace == workspace]
        return sorted(found, key=lambda app: (app.created_at, app.id))

    async def app(self, app: str) -> App | None:
        return self._apps.get(app)

    async def app_of_source(self, source: str, workspace: str = WORKSPACE) -> App | None:
        found = (app for app in self._apps.values() if (app.source, app.workspace) == (source, workspace))
        return next(found, None)

    async def save_app(self, app: App) -> None:
        self._apps[app.id] = app

    async def remove_app(self, app: str) -> bool:
        if self._apps.pop(app, None) is None:
            return False
        self._keys = {digest: key for digest, key in self._keys.items() if key.app != app}
        self._versions = {name: version for name, version in self._versions.items() if version.app != app}
        return True

    async def versions(self, app: str) -> list[Version]:
        found = [version for version in self._versions.values() if version.app == app]
        return sorted(found, key=lambda version: version.number, reverse=True)

    async def version(self, version: str) -> Version | None:
        return self._versions.get(version)

    async def add_version(self, version: Version) -> None:
        self._versions.setdefault(version.id, version)

    async def keys(self, app: str | None = None) -> list[Key]:
        found = [key for key in self._keys.values() if app is None or key.app == app]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    async def keys_of_workspace(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[Key]:
        found = [
            key
            for key in self._keys.values()
            if key.workspace == workspace and (older is None or (key.created_at, key.id) < older)
        ]
        return sorted(found, key=lambda key: (key.created_at, key.id), reverse=True)[: max(0, limit)]

    async def key_of(self, digest: str) -> Key | None:
        return self._keys.get(digest)

    async def find_key(self, key: str) -> Key | None:
        return next((each for each in self._keys.values() if each.id == key), None)

    async def add_key(self, key: Key, audited: Audited | None = None) -> None:
        if self._keys.setdefault(key.digest, key) is key:
            self._keep_audited(audited)

    async def replace_key(self, key: str, new: Key, until: float, audited: Audited) -> bool:
        old = await self.find_key(key)
        if old is None or not old.live(audited.at) or old.replaced_by is not None or new.digest in self._keys:
            return False
        until = until if old.expires_at is None else min(until, old.expires_at)
        self._keys[old.digest] = replace(old, expires_at=until, replaced_by=new.id)
        self._keys[new.digest] = new
        self._keep_audited(audited)
        return True

    async def revoke_key(self, key: str, at: float, audited: Audited | None = None) -> bool:
        known = await self.find_key(key)
        if known is None or known.revoked_at is not None:
            return False
        self._keys[known.digest] = replace(known, revoked_at=at)
        self._keep_audited(audited)
        return True

    async def touch_key(self, key: str, at: float) -> None:
        if known := await self.find_key(key):
            self._keys[known.digest] = replace(known, used_at=at)

    def _keep_audited(self, audited: Audited | None) -> None:
        if audited is not None:
            self._audit.append(audited)

    async def audit(self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20) -> list[Audited]:
        found = [
            each
            for each in self._audit
            if each.workspace == workspace and (older is None or (each.at, each.id) < older)
        ]
        return sorted(found, key=lambda each: (each.at, each.id), reverse=True)[: max(0, limit)]

    async def end_user(self, app: str, session: str, at: float) -> EndUser:
        known = self._end_users.get((app, session))
        if known is None:
            known = EndUser(str(uuid4()), app, session, at, at)
            self._end_users[app, session] = self._end_users_by_id[known.id] = known
        return known

    async def find_end_user(self, end_user: str) -> EndUser | None:
        return self._end_users_by_id.get(end_user)

    async def add_file(self, stored: StoredFile) -> None:
        self._files[stored.id] = stored

    async def find_file(self, file: str) -> StoredFile | None:
        return self._files.get(file)


class MemoryStore(MemoryJournal, MemoryCatalog, MemoryIdempotency, MemoryBatches, MemoryBuckets):
    """All that is kept, in one: Journal, Runs, Callbacks, Conversations, Catalog, IdempotencyStore and Batches."""

    def __init__(self, keep: int = 10_000) -> None:
        MemoryJournal.__init__(self, keep)
        MemoryCatalog.__init__(self)
        MemoryIdempotency.__init__(self)
        MemoryBatches.__init__(self, keep)
        MemoryBuckets.__init__(self, lambda run: self._rows.get(run))

    async def remove_app(self, app: str) -> bool:
        if not await MemoryCatalog.remove_app(self, app):
            return False
        self._remove_answers(app)
        self._remove_pending(app)
        self._remove_batches(app)
        self._remove_annotations(app)
        return True

    async def aclose(self) -> None:
        """Nothing to close; here so that every store can be closed."""
