"""The one thread that writes: all jobs that are queued are committed together.

Appends of all runs that arrive during one commit go into the next transaction, in few statements of many rows: SQLite
releases Python's lock in each, and a busy event loop is slow to return it. If the transaction fails, its jobs are tried
again one by one, so that a conflict or a bad value fails alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from headrace.errors import NewerSchema, StoreError
from headrace.stores.sql.database import Database
from headrace.stores.sql.failures import is_disconnected, is_transient, reason, write_error
from headrace.stores.sql.postgresql import is_closed
from headrace.stores.sql.transaction import Transaction

MOST = 1000  # jobs in one transaction
GATHER_TURNS, GATHER_SECONDS = 4, 0.0005  # of the event loop, whose jobs are queued together; a busy one has long turns


class Job(Protocol):
    """Something to write."""

    @property
    def key(self) -> str | None:
        """Jobs with the same key depend on each other: if one fails, so do those that were queued before its caller
        could know."""
        ...

    def failure(self, error: Exception) -> Exception:
        """What the caller receives if the database rejects this job, or an earlier one with the same key."""
        ...


@dataclass(slots=True)
class Call:
    """A job of any kind. `name` is the database's, for errors."""

    work: Callable[[Connection], object]
    name: str
    key: None = None

    def failure(self, error: Exception) -> Exception:
        return write_error(self.name, error)


class Work(Protocol):
    """What a Writer does with jobs: `write` is called within a transaction, then one of the others."""

    def write(self, transaction: Transaction, jobs: list[Any]) -> list[object]:
        """Writes the jobs, all or none, and returns their results: an Exception for a job that fails without harm to
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
class _Acknowledged:
    """The caller knows that a job with this key has failed: its next jobs no longer depend on it."""

    key: str


class Writer:
    """Runs `work` in a thread of its own; belongs to the event loop that it is created in."""

    def __init__(self, database: Database, work: Work) -> None:
        self._engine = database.engine
        self._name = database.name
        self._health = database.health
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Entry | _Acknowledged | None] = SimpleQueue()  # None closes
        self._waiting: list[_Entry | _Acknowledged | None] = []  # to be queued
        self._closed = False
        self._connection: Connection | None = None
        self._broken: dict[str, Exception] = {}  # by key, until it is acknowledged
        self._thread = threading.Thread(target=self._serve, name="headrace-write", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> asyncio.Future[Any]:
        """Queues a job; jobs are written in the order of calls. The future is done once it is committed."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreError(f"{self._name} is closed."))
        else:
            self._put(_Entry(job, future))
        return future

    async def aclose(self) -> None:
        """Writes what is queued, and ends the thread."""
        if not self._closed:
            self._closed = True
            self._put(None)
            self._hand_over()
        await asyncio.to_thread(self._thread.join)

    def _put(self, item: _Entry | _Acknowledged | None) -> None:
        """The thread receives at once what a few turns of the event loop queue: for each item alone it would wake up,
        and want Python's lock back from the loop. A new run and the first steps of its driver, which take two turns,
        share a transaction that way; the driver waits for one commit instead of two before it calls a model."""
        if not self._waiting:
            self._loop.call_soon(self._hand_over, GATHER_TURNS, perf_counter() + GATHER_SECONDS)
        self._waiting.append(item)

    def _hand_over(self, turns: int = 0, until: float = 0.0) -> None:
        """Hands over what waits: after so many turns, or at the first one after a time."""
        if turns > 1 and perf_counter() < until:
            self._loop.call_soon(self._hand_over, turns - 1, until)
            return
        for item in self._waiting:
            self._queue.put(item)
        self._waiting.clear()

    def _resolve(self, entries: list[_Entry]) -> None:
        for entry in entries:
            result, future = entry.result, entry.future
            if isinstance(result, Exception):
                if entry.job.key is not None:
                    self._put(_Acknowledged(entry.job.key))
                if not future.done():
                    future.set_exception(result)
            elif not future.done():  # it may have been cancelled
                future.set_result(result)

    # ------------------------------------------------------------------------------------------ in the thread

    def _serve(self) -> None:
        more = True
        while more:
            entries, end = self._next()
            if entries:
                self._commit(entries)
                try:
                    self._loop.call_soon_threadsafe(self._resolve, entries)
                except RuntimeError:  # the loop is closed, and with it all callers are gone
                    self._closed = True
            if isinstance(end, _Acknowledged):
                self._broken.pop(end.key, None)
            more = end is not None
        if self._connection is not None:
            self._connection.close()

    def _next(self) -> tuple[list[_Entry], _Entry | _Acknowledged | None]:
        """What is queued (waits for the first), and what ended it: the last entry, an acknowledgement, or None."""
        entry = self._queue.get()
        entries: list[_Entry] = []
        while isinstance(entry, _Entry):
            entries.append(entry)
            if len(entries) == MOST:
                break
            try:
                entry = self._queue.get_nowait()
            except Empty:
                break
        return entries, entry

    def _commit(self, entries: list[_Entry]) -> None:
        """Writes all in one transaction; one by one if that fails."""
        if self._broken:
            entries = [entry for entry in entries if not self._depends_on_failure(entry)]
            if not entries:
                return
        transaction, changes, results, failure = None, None, list[object](), None
        try:
            if (refusal := self._health.refusal) is not None:
                raise NewerSchema(refusal)
            if self._connection is not None and is_closed(self._connection):
                self._disconnect(self._connection)
            if self._connection is None:
                self._connection = self._engine.connect()
            transaction = Transaction(self._connection)
            if self._health.problem is not None:
                changes = self._changes()
            results = self._work.write(transaction, [entry.job for entry in entries])
            transaction.commit()
        except Exception as error:  # whatever it is, the callers receive it
            self._work.rolled_back()
            self._roll_back()
            failure = error
        if failure is None:
            self._work.committed()
            # an empty commit succeeds on a full disk, too
            if self._health.problem is not None and (changes is None or self._changes() != changes):
                self._health.succeeded("written")
        elif transaction is not None and len(entries) > 1 and not is_disconnected(failure):
            for entry in entries:
                self._commit([entry])
            return
        else:
            # locked for too long, the connection is gone, or the job itself is at fault
            if is_transient(failure):
                self._health.failed("written", reason(failure))
            results = [entry.job.failure(failure) for entry in entries]
        for entry, result in zip(entries, results, strict=True):
            entry.result = result
            if isinstance(result, Exception) and entry.job.key is not None:
                self._broken[entry.job.key] = result

    def _depends_on_failure(self, entry: _Entry) -> bool:
        """Whether an earlier job with the same key failed; then this one fails too."""
        error = self._broken.get(entry.job.key) if entry.job.key is not None else None
        if error is None:
            return False
        entry.result = entry.job.failure(error)
        return True

    def _changes(self) -> int | None:
        """How many rows SQLite has changed on this connection; None for another database."""
        connection = self._connection.connection.driver_connection if self._connection is not None else None
        return connection.total_changes if isinstance(connection, sqlite3.Connection) else None

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.exec_driver_sql("ROLLBACK")
        except SQLAlchemyError:
            # there is no transaction (none began, or SQLite rolled it back on a full disk), or the connection is gone:
            # a new one is right either way
            self._disconnect(connection)

    def _disconnect(self, connection: Connection) -> None:
        self._connection = None
        connection.invalidate()
        connection.close()
