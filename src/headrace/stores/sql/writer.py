"""The one thread that writes: whatever waits is committed together.

Appends of all runs that came in while the last commit was under way go into one transaction, in few statements of many
rows: SQLite gives Python's lock away in each, and a busy event loop is slow to give it back. If the transaction fails,
what was in it is tried again one by one, so that a conflict or a bad value fails alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from headrace.errors import StoreError
from headrace.stores.sql.database import begin
from headrace.stores.sql.failures import is_transient, reason
from headrace.stores.sql.health import Health

MOST = 1000  # jobs in one transaction


class Job(Protocol):
    """Something to write."""

    @property
    def key(self) -> str | None:
        """Jobs with the same key stand on one another: where one fails, so do those that were enqueued before its
        caller could know."""
        ...

    def refused(self, error: Exception) -> Exception:
        """What the caller is told where the database refused this job alone, or one of the same key before it."""
        ...


class Work(Protocol):
    """What a Writer does with jobs: `write` is called within a transaction, then one of the others."""

    def write(self, connection: Connection, jobs: list[Any]) -> list[object]:
        """Writes the jobs, all or none, and returns their results: an Exception where a job fails without harm to
        the others."""
        ...

    def committed(self) -> None: ...
    def rolled_back(self) -> None: ...


@dataclass(slots=True)
class _Entry:
    job: Job
    future: asyncio.Future[Any]
    result: object = None


@dataclass(slots=True)
class _Told:
    """The caller knows that a job with this key has failed: what comes from here on is meant."""

    key: str


class Writer:
    """Runs `work` in a thread of its own; belongs to the event loop that it is made in."""

    def __init__(self, engine: Engine, name: str, work: Work, health: Health) -> None:
        self._engine = engine
        self._name = name
        self._health = health
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Entry | _Told | None] = SimpleQueue()  # None closes
        self._closed = False
        self._connection: Connection | None = None
        self._broken: dict[str, Exception] = {}  # by key, until its caller is told
        self._thread = threading.Thread(target=self._serve, name="headrace-write", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> asyncio.Future[Any]:
        """Enqueues a job; jobs are written in the order of calls. The future is done once it is committed."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreError(f"{self._name} is closed."))
        else:
            self._queue.put(_Entry(job, future))
        return future

    async def aclose(self) -> None:
        """Writes what waits, and ends the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _resolve(self, batch: list[_Entry]) -> None:
        for entry in batch:
            result, future = entry.result, entry.future
            if isinstance(result, Exception):
                if entry.job.key is not None:
                    self._queue.put(_Told(entry.job.key))
                if not future.done():
                    future.set_exception(result)
            elif not future.done():  # else given up by its caller
                future.set_result(result)

    # ------------------------------------------------------------------------------------------ in the thread

    def _serve(self) -> None:
        more = True
        while more:
            batch, stop = self._next()
            if batch:
                self._commit(batch)
                try:
                    self._loop.call_soon_threadsafe(self._resolve, batch)
                except RuntimeError:  # the loop is closed: nobody is left to be told
                    self._closed = True
            if isinstance(stop, _Told):
                self._broken.pop(stop.key, None)
            more = stop is not None
        if self._connection is not None:
            self._connection.close()

    def _next(self) -> tuple[list[_Entry], _Entry | _Told | None]:
        """What waits (waiting for the first), and what ended it: the last entry of it, a word, or None to close."""
        entry = self._queue.get()
        batch: list[_Entry] = []
        while isinstance(entry, _Entry):
            batch.append(entry)
            if len(batch) == MOST:
                break
            try:
                entry = self._queue.get_nowait()
            except Empty:
                break
        return batch, entry

    def _commit(self, batch: list[_Entry]) -> None:
        """Writes all in one transaction; one by one where that fails."""
        going = [entry for entry in batch if not self._behind(entry)]
        if not going:
            return
        error = self._begin()
        if error is None:
            error = self._try(going)
            if error is not None and len(going) > 1:
                for entry in going:
                    self._commit([entry])
                return
        if error is not None and is_transient(error):
            self._health.failed("written", reason(error))
        for entry in going:
            if error is not None:
                entry.result = entry.job.refused(error)
            if isinstance(entry.result, Exception) and entry.job.key is not None:
                self._broken[entry.job.key] = entry.result

    def _behind(self, entry: _Entry) -> bool:
        """Whether the job stands on one that failed; then it fails too."""
        error = self._broken.get(entry.job.key) if entry.job.key is not None else None
        if error is None:
            return False
        entry.result = entry.job.refused(error)
        return True

    def _begin(self) -> Exception | None:
        """Begins a transaction, or returns why it cannot: locked for too long, or the connection is gone."""
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            begin(self._connection)
        except Exception as error:  # whatever it is, it is told to whoever waits for it
            self._roll_back()
            return error
        return None

    def _try(self, going: list[_Entry]) -> Exception | None:
        """Writes all in the transaction begun and notes their results; or none, and returns why."""
        assert self._connection is not None
        before = self._changes() if self._health.problem else None
        try:
            results = self._work.write(self._connection, [entry.job for entry in going])
            self._connection.exec_driver_sql("COMMIT")
        except Exception as error:  # as above
            self._work.rolled_back()
            self._roll_back()
            return error
        self._work.committed()
        if before is None or self._changes() != before:  # to commit nothing takes no room
            self._health.succeeded("written")
        for entry, result in zip(going, results, strict=True):
            entry.result = result
        return None

    def _changes(self) -> int | None:
        """How many rows SQLite has changed on this connection; None of another database."""
        connection = self._connection.connection.driver_connection if self._connection is not None else None
        return connection.total_changes if isinstance(connection, sqlite3.Connection) else None

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.exec_driver_sql("ROLLBACK")
        except SQLAlchemyError:
            # nothing to roll back (none was begun, or SQLite has done it on a full disk), or the connection is gone:
            # a new one is in order either way
            self._connection = None
            connection.invalidate()
            connection.close()
