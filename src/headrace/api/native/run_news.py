"""News of runs: which runs have begun, changed their status or ended, in any process on the database.

While there are listeners, the list of runs is read when this process publishes such an event, and otherwise once a
second: other processes write to the same table. Changes are kept for a while under numbers, so that a listener that was
disconnected can continue; one that missed some gets `reset`, and reads the list again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import time

from headrace.api.http.responses import encode
from headrace.api.native.run_lines import RunLines
from headrace.errors import RequestError, StoreError
from headrace.frozen import frozen
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
_LONGEST_NUMBER = 18  # digits
_INCLUDE = frozenset({"app", "version", "cost", "error_node", "input"})

Apps = Callable[[], Awaitable[Mapping[str, App]]]


@frozen
class _News:
    number: int
    app: str
    line: bytes


@dataclass(eq=False, slots=True)
class _Listener:
    apps: Mapping[str, App]
    news: asyncio.Event  # also set without news, because apps may have been added


class RunNews:
    """The news of this process and its neighbours. Nothing is read while nobody listens."""

    def __init__(self, run_service: RunService, lines: RunLines) -> None:
        self._run_service = run_service
        self._lines = lines
        self._listeners: set[_Listener] = set()
        self._change = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._feed = ""  # names the numbers of one time of listening
        self._news: deque[_News] = deque(maxlen=_KEPT)
        self._last = 0
        self._watched_apps: set[str] = set()  # apps
        self._statuses: OrderedDict[RunId, str] = OrderedDict()
        self._unfinished_runs: dict[RunId, None] = {}

    async def listen(self, apps: Apps, after: str | None, longest: float = LONGEST_SECONDS) -> AsyncGenerator[bytes]:
        """Server-sent events: first `ready`, or `reset` where `after` (the id of an event) is too long ago, then `run`
        with a line for each change of a run of these apps."""
        listener = _Listener(await apps(), asyncio.Event())
        self._listeners.add(listener)
        try:
            self._start()
            await self._watch(listener.apps)
            position = self._position(after)
            is_late = after is not None and position is None
            position = self._last if position is None else position
            yield _event("reset" if is_late else "ready", self._id(position))
            async with asyncio.timeout(longest):
                while True:
                    if position < (self._news[0].number - 1 if self._news else self._last):
                        position = self._last
                        yield _event("reset", self._id(position))
                    for news in [item for item in self._news if item.number > position]:
                        position = news.number
                        if news.app in listener.apps:
                            yield _event("run", self._id(position), news.line)
                    await listener.news.wait()
                    listener.news.clear()
                    listener.apps = await apps()
                    self._watched_apps.update(listener.apps)  # all runs of an app that was added since are news
        except TimeoutError:
            return
        except RequestError as error:  # the response to the client's next request says what is wrong
            logger.debug("a stream of news of runs ends: %s", error)
        except StoreError as error:  # the client connects again
            logger.log(error.level, "the runs of a listener cannot be read: %s", error)
        finally:
            self._listeners.discard(listener)
            self._watched_apps.intersection_update(app for other in self._listeners for app in other.apps)
            if not self._listeners:
                self._stop()

    def _position(self, after: str | None) -> int | None:
        """The number of the last event that a listener has received, if all since then are still there."""
        feed, _, number = (after or "").partition(".")
        if feed != self._feed or not (number.isascii() and number.isdigit()) or len(number) > _LONGEST_NUMBER:
            return None
        return int(number) if int(number) <= self._last else None

    def _id(self, number: int) -> str:
        return f"{self._feed}.{number}"

    # ----------------------------------------------------------------------------------------------------- reading

    def _start(self) -> None:
        """Begins to read."""
        if self._reading is None:
            self._feed, self._last = new_id()[:8], 0
            self._news.clear()
            self._watched_apps.clear()
            self._statuses.clear()
            self._unfinished_runs.clear()
            self._run_service.environment.bus.observers.append(self._on_records)
            self._reading = asyncio.create_task(self._read(), name="news of runs")

    async def _watch(self, apps: Collection[str]) -> None:
        """Includes these apps. The runs that they have by now are not news."""
        if not (new := [app for app in apps if app not in self._watched_apps]):
            return
        since = time() - _LATE_SECONDS
        for which in (
            RunFilter(new, status=RUNNING, limit=_UNFINISHED, counted=False),
            RunFilter(new, after=since, limit=_NEWEST, counted=False),
        ):
            _, runs = await self._run_service.runs.list_runs(which)
            for run in runs:
                self._is_news(run)
        self._watched_apps.update(new)

    def _stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
            self._run_service.environment.bus.observers.remove(self._on_records)

    def _on_records(self, records: Sequence[Record]) -> None:
        if any(type(record.event) in RUN_EVENTS for record in records):
            self._change.set()

    async def _read(self) -> None:
        since = time()
        while True:
            try:
                now = time()
                await self._read_once(since - _LATE_SECONDS)
                since = now
            except StoreError as error:
                logger.log(error.level, "the list of runs cannot be read: %s", error)
            except Exception:
                logger.exception("the list of runs cannot be read")
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                async with asyncio.timeout(_EVERY_SECONDS - _PAUSE_SECONDS):
                    await self._change.wait()
            except TimeoutError:
                pass
            self._change.clear()

    async def _read_once(self, since: float) -> None:
        apps = {id_: app for listener in self._listeners for id_, app in listener.apps.items()}
        runs, watched_apps = self._run_service.runs, [app for app in apps if app in self._watched_apps]
        unfinished_runs = await runs.find_runs(list(self._unfinished_runs))
        _, newest = await runs.list_runs(RunFilter(watched_apps, after=since, limit=_NEWEST, counted=False))
        news = [run for run in {run.run: run for run in (*unfinished_runs, *newest)}.values() if self._is_news(run)]
        try:
            for run in sorted(news, key=lambda run: run.finished_at or run.created_at):
                if (app := apps.get(run.app)) is not None:
                    line = encode(await self._lines.line(app, run, _INCLUDE, live=False))
                    self._last += 1
                    self._news.append(_News(self._last, run.app, line))
        except Exception:
            # these changes will not be found again: all listeners have to read the list
            self._news.clear()
            self._last += 1
            raise
        finally:
            for listener in self._listeners:
                listener.news.set()

    def _is_news(self, run: ListedRun) -> bool:
        """Whether a run's status is another than before; it is known from then on."""
        if run.finished_at is None and len(self._unfinished_runs) < _UNFINISHED:
            self._unfinished_runs[run.run] = None
        elif run.finished_at is not None:
            self._unfinished_runs.pop(run.run, None)
        if self._statuses.get(run.run) == run.status:
            return False
        self._statuses[run.run] = run.status
        self._statuses.move_to_end(run.run)
        if len(self._statuses) > _KNOWN:
            self._statuses.popitem(last=False)
        return True


def _event(name: str, id_: str, data: bytes = b"{}") -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), id_.encode(), data)
