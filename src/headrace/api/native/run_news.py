"""News of runs: which runs have begun, changed their status or ended, in any process on the database.

While somebody listens, the list of runs is read when this process publishes such an event, and otherwise once a second:
other processes write to the same table. What has changed is kept for a while under numbers, so that listeners who were
disconnected continue; those for whom it is too late are told to read the list again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time

from headrace.api.http.responses import encode
from headrace.api.native.run_lines import RunLines
from headrace.errors import StoreError
from headrace.ids import new_id
from headrace.kernel.events import Record, RunId
from headrace.kernel.summary import RUN_EVENTS, RUNNING
from headrace.ports import App, ListedRun, RunFilter
from headrace.runs.service import RunService

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 1.0  # the list is read at least so often, and after an event in this process
_PAUSE_SECONDS = 0.2  # at least, between two reads
_LATE_SECONDS = 10.0  # a run may appear in the table so long after its time
_NEWEST, _UNFINISHED = 500, 2000  # runs in one read; runs that are watched
_KEPT = 2000  # lines
_KNOWN = 20_000  # runs whose last status is known
LONGEST_SECONDS = 600  # of one stream: a listener continues with another, for which its key is checked again
_INCLUDE = frozenset({"app", "version", "cost", "error_node"})

Apps = Callable[[], Awaitable[Mapping[str, App]]]


@dataclass(frozen=True, slots=True)
class _News:
    number: int
    app: str
    line: bytes


@dataclass(eq=False, slots=True)
class _Listener:
    apps: Mapping[str, App]
    news: asyncio.Event


class RunNews:
    """The news of this process and its neighbours. Nothing is read while nobody listens."""

    def __init__(self, run_service: RunService, lines: RunLines) -> None:
        self._run_service = run_service
        self._lines = lines
        self._listeners: set[_Listener] = set()
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._started: asyncio.Event = asyncio.Event()
        self._feed = ""  # names the numbers of one time of listening
        self._news: deque[_News] = deque(maxlen=_KEPT)
        self._last = 0
        self._statuses: OrderedDict[RunId, str] = OrderedDict()
        self._unfinished: dict[RunId, None] = {}

    async def listen(self, apps: Apps, after: str | None, longest: float = LONGEST_SECONDS) -> AsyncGenerator[bytes]:
        """Server-sent events: first `ready`, or `reset` where `after` (the id of an event) is too long ago, then `run`
        with a line for each change of a run of these apps."""
        listener = _Listener(await apps(), asyncio.Event())
        self._listeners.add(listener)
        try:
            await self._start()
            position = self._position(after)
            yield _event("ready" if position is not None or after is None else "reset", self._id(self._last))
            position = self._last if position is None else position
            async with asyncio.timeout(longest):
                while True:
                    if self._news and position < self._news[0].number - 1:
                        position = self._last
                        yield _event("reset", self._id(position))
                    for news in [item for item in self._news if item.number > position]:
                        position = news.number
                        if news.app in listener.apps:
                            yield _event("run", self._id(position), news.line)
                    await listener.news.wait()
                    listener.news.clear()
                    listener.apps = await apps()
        except TimeoutError:
            return
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._stop()

    def _position(self, after: str | None) -> int | None:
        """The number of the last event that a listener has received, if all since then are still there."""
        feed, _, number = (after or "").partition(".")
        if feed != self._feed or not (number.isascii() and number.isdigit()) or int(number[:18]) > self._last:
            return None
        return int(number)

    def _id(self, number: int) -> str:
        return f"{self._feed}.{number}"

    # ----------------------------------------------------------------------------------------------------- reading

    async def _start(self) -> None:
        """Begins to read, and waits until what is unfinished is known."""
        if self._reading is None:
            self._feed, self._last = new_id()[:8], 0
            self._news.clear()
            self._statuses.clear()
            self._unfinished.clear()
            self._started = asyncio.Event()
            self._run_service.environment.bus.observers.append(self._on_records)
            self._reading = asyncio.create_task(self._read(), name="news of runs")
        await self._started.wait()

    def _stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
            self._run_service.environment.bus.observers.remove(self._on_records)

    def _on_records(self, records: Sequence[Record]) -> None:
        if any(type(record.event) in RUN_EVENTS for record in records):
            self._changed.set()

    async def _read(self) -> None:
        since = time()
        while True:
            try:
                now = time()
                await self._read_once(since - _LATE_SECONDS)
                since = now
                self._started.set()
            except StoreError as error:
                logger.log(error.level, "the list of runs cannot be read: %s", error)
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                async with asyncio.timeout(_EVERY_SECONDS - _PAUSE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()

    async def _read_once(self, since: float) -> None:
        apps = {id_: app for listener in self._listeners for id_, app in listener.apps.items()}
        runs, silent = self._run_service.runs, not self._started.is_set()
        if silent:  # what was there before is no news
            unfinished = RunFilter(list(apps), status=RUNNING, limit=_UNFINISHED, counted=False)
            _, known = await runs.list_runs(unfinished)
        else:
            known = await runs.find_runs(list(self._unfinished))
        _, newest = await runs.list_runs(RunFilter(list(apps), after=since, limit=_NEWEST, counted=False))
        changed = [run for run in {run.run: run for run in (*known, *newest)}.values() if self._is_news(run)]
        if silent:
            return
        for run in sorted(changed, key=lambda run: run.finished_at or run.created_at):
            if (app := apps.get(run.app)) is not None:
                self._last += 1
                line = encode(await self._lines.line(app, run, _INCLUDE, live=False))
                self._news.append(_News(self._last, run.app, line))
        if changed:
            for listener in self._listeners:
                listener.news.set()

    def _is_news(self, run: ListedRun) -> bool:
        """Whether a run's status is another than before; it is known from then on."""
        if run.finished_at is None and len(self._unfinished) < _UNFINISHED:
            self._unfinished[run.run] = None
        elif run.finished_at is not None:
            self._unfinished.pop(run.run, None)
        if self._statuses.get(run.run) == run.status:
            return False
        self._statuses[run.run] = run.status
        self._statuses.move_to_end(run.run)
        if len(self._statuses) > _KNOWN:
            self._statuses.popitem(last=False)
        return True


def _event(name: str, id_: str, data: bytes = b"{}") -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), id_.encode(), data)
