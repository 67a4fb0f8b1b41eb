"""Idempotency records, callbacks and batches in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from headrace.kernel.events import RunId
from headrace.ports import Batch, BatchLine, Callback, IdempotencyRecord

FORGOTTEN = 24 * 3600.0  # seconds after which an expired response is deleted


class MemoryIdempotency:
    """Implements IdempotencyStore."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], IdempotencyRecord] = {}  # oldest first

    async def claim(self, app: str, key: str, digest: str, at: float, expired: float) -> IdempotencyRecord | None:
        record = self._records.get((app, key))
        if record is not None and record.created_at >= expired:
            return record
        self._records.pop((app, key), None)
        old = takewhile(lambda item: item[1].created_at < expired - FORGOTTEN, self._records.items())
        for name in [name for name, _ in old]:
            del self._records[name]
        self._records[app, key] = IdempotencyRecord(app, key, digest, at)
        return None

    async def complete(self, app: str, key: str, status: int, body: bytes) -> None:
        record = self._records.get((app, key))
        if record is not None and record.status is None:
            self._records[app, key] = replace(record, status=status, body=body)

    async def release(self, app: str, key: str) -> None:
        record = self._records.get((app, key))
        if record is not None and record.status is None:
            del self._records[app, key]

    def remove_of(self, app: str) -> None:
        self._records = {name: record for name, record in self._records.items() if record.app != app}


class MemoryCallbacks:
    """Implements Callbacks. Of those that are delivered or failed only the last `keep` are kept."""

    def __init__(self, keep: int = 10_000) -> None:
        self._keep = keep
        self._callbacks: dict[str, Callback] = {}
        self._of_runs: dict[RunId, list[str]] = {}  # ids, oldest first
        self._pending: dict[str, None] = {}
        self._settled: dict[str, None] = {}  # in the order in which they were

    def add(self, callback: Callback) -> None:
        self._callbacks[callback.id] = callback
        self._of_runs.setdefault(callback.run, []).append(callback.id)
        self._pending[callback.id] = None

    async def due_callbacks(self, now: float, limit: int = 100) -> list[Callback]:
        pending = [(self._callbacks[name].next_at, name) for name in self._pending]
        due = sorted((at, name) for at, name in pending if at is not None and at <= now)
        return [self._callbacks[name] for _, name in due[: max(0, limit)]]

    async def save_callback(self, callback: Callback) -> None:
        if callback.id not in self._callbacks:
            return  # removed with its app during the delivery
        self._callbacks[callback.id] = callback
        self._pending.pop(callback.id, None)
        self._settled.pop(callback.id, None)
        (self._pending if callback.status == "pending" else self._settled)[callback.id] = None
        if len(self._settled) > self._keep:
            self._remove_callback(next(iter(self._settled)))

    async def find_callback(self, callback: str) -> Callback | None:
        return self._callbacks.get(callback)

    async def callbacks_of(self, run: RunId) -> list[Callback]:
        return [self._callbacks[name] for name in self._of_runs.get(run, ())]

    def _remove_callback(self, name: str) -> None:
        run = self._callbacks.pop(name).run
        self._pending.pop(name, None)
        self._settled.pop(name, None)
        self._of_runs[run].remove(name)
        if not self._of_runs[run]:
            del self._of_runs[run]

    def remove_of(self, app: str) -> None:
        for name in [name for name in self._pending if self._callbacks[name].app == app]:
            self._remove_callback(name)


class MemoryBatches:
    """Implements Batches. Of those that have ended, the oldest are forgotten where they have more than `keep` lines
    in total."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._batches: dict[str, Batch] = {}
        self._lines: dict[str, list[BatchLine]] = {}  # by batch, in order

    async def add_batch(self, batch: Batch, lines: Sequence[BatchLine]) -> None:
        if batch.id not in self._batches:
            self._batches[batch.id] = batch
            self._lines[batch.id] = sorted(lines, key=lambda line: line.index)

    async def save_batch(self, batch: Batch) -> None:
        if batch.id not in self._batches:
            return  # removed with its app in the meantime
        self._batches[batch.id] = batch
        over = sorted(
            (batch for batch in self._batches.values() if batch.status != "running"),
            key=lambda batch: (batch.ended_at or 0.0, batch.created_at),
        )
        room = self._keep - sum(len(self._lines[batch.id]) for batch in over)
        for old in over[:-1]:  # the last one stays, however large
            if room >= 0:
                break
            room += len(self._lines[old.id])
            self._remove_batch(old.id)

    async def find_batch(self, batch: str) -> Batch | None:
        return self._batches.get(batch)

    async def batches(self, app: str | None = None, status: str | None = None) -> list[Batch]:
        batches = [
            batch
            for batch in self._batches.values()
            if (app is None or batch.app == app) and (status is None or batch.status == status)
        ]
        return sorted(batches, key=lambda batch: (batch.created_at, batch.id), reverse=True)

    async def batch_lines(self, batch: str, start: int = 0, limit: int = 1000) -> list[BatchLine]:
        lines = self._lines.get(batch, [])
        first = bisect_left(lines, start, key=lambda line: line.index)
        return lines[first : first + max(0, limit)]

    def _remove_batch(self, batch: str) -> None:
        del self._batches[batch]
        del self._lines[batch]

    def remove_of(self, app: str) -> None:
        for batch in [batch for batch in self._batches.values() if batch.app == app]:
            self._remove_batch(batch.id)
