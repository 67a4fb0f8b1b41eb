"""Token buckets and slots in a database.

Requests that arrive while the writer is busy are settled together, in few statements however many they are; and in one
transaction, so that no two processes take the same token. SQLite lets one process write at a time; PostgreSQL locks the
buckets' rows, always in the order of their names.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from headrace.kernel.events import RunId
from headrace.ports import Bucket, Slot, Taken
from headrace.stores.buckets import BEGUN_SECONDS, Ask, Level, settle
from headrace.stores.encoding import clean
from headrace.stores.sql.bulk_insert import BulkInsert
from headrace.stores.sql.database import Database
from headrace.stores.sql.repository import SqlRepository
from headrace.stores.sql.writer import Call, Writer

_MOST = 200  # names in one statement
_SWEEP = 1000  # rows of a slot whose runs may have ended, before those are removed

_LEVELS = "SELECT name, tokens, at FROM buckets WHERE name IN ({}) ORDER BY name"
_KNOWN = "SELECT run FROM runs WHERE run IN ({})"
_COUNT = "SELECT name, count(*) FROM slots WHERE name IN ({}) GROUP BY name"
_COUNT_OPEN = (
    "SELECT slots.name, count(*) FROM slots LEFT JOIN runs ON runs.run = slots.run "
    "WHERE slots.name IN ({}) AND (runs.run IS NULL OR runs.status <> 'paused') GROUP BY slots.name"
)
_ENDED = (
    "DELETE FROM slots WHERE name IN ({}) AND EXISTS "
    "(SELECT 1 FROM runs WHERE runs.run = slots.run AND runs.finished_at IS NOT NULL)"
)
_NEVER_BEGUN = (
    "DELETE FROM slots WHERE name IN ({}) AND at < {{}} AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.run = slots.run)"
)


class SqlBuckets(SqlRepository):
    """Implements Buckets."""

    def __init__(self, database: Database, writer: Writer) -> None:
        super().__init__(database, writer)
        self._work = BucketWork()
        self._round: _Round | None = None

    async def take(self, buckets: Sequence[Bucket], now: float) -> list[Taken]:
        return await self._settle(Ask(buckets, now))

    async def admit(
        self, run: RunId, buckets: Sequence[Bucket], slots: Sequence[Slot], now: float, *, known: bool = False
    ) -> list[Taken]:
        return await self._settle(Ask(buckets, now, clean(run), slots, known))

    async def _settle(self, ask: Ask) -> list[Taken]:
        round_ = self._round
        place = round_.join(ask) if round_ is not None else None
        if round_ is None or place is None:
            round_ = self._round = _Round(self._work)
            place = round_.join(ask)
            assert place is not None
            round_.settled = self._writer.submit(Call(round_.write, self._database.name))
            # all its callers may be cancelled when it fails
            round_.settled.add_done_callback(lambda done: done.cancelled() or done.exception())
        return (await asyncio.shield(round_.settled))[place]


class _Round:
    """The requests that are settled together: all until the writer comes to them."""

    settled: asyncio.Future[list[list[Taken]]]

    def __init__(self, work: BucketWork) -> None:
        self._work = work
        self._asks: list[Ask] = []
        self._closed = False
        self._lock = threading.Lock()

    def join(self, ask: Ask) -> int | None:
        """The request's place; None if it is too late."""
        with self._lock:
            if self._closed or (self._asks and self.settled.done()):
                return None
            self._asks.append(ask)
            return len(self._asks) - 1

    def write(self, connection: Connection) -> list[list[Taken]]:
        with self._lock:
            self._closed = True
        return self._work.settle(connection, self._asks)


class BucketWork:
    """Settles requests, in a transaction. Used by the writer's thread alone."""

    def __init__(self) -> None:
        self._buckets = BulkInsert(
            "buckets",
            ("name", "tokens", "at"),
            "ON CONFLICT (name) DO UPDATE SET tokens = excluded.tokens, at = excluded.at",
        )
        self._new = BulkInsert("buckets", ("name", "tokens", "at"), "ON CONFLICT DO NOTHING")
        self._slots = BulkInsert("slots", ("name", "run", "at"), "ON CONFLICT DO NOTHING")
        self._left: dict[str, int] = {}  # by slot, how many runs were left when ended ones were removed last

    def settle(self, connection: Connection, asks: Sequence[Ask]) -> list[list[Taken]]:
        levels = self._levels(connection, asks)
        counts = self._counts(connection, asks)
        may_exist = [ask.run for ask in asks if ask.known and ask.run is not None]
        existing = {row[0] for row in _rows(connection, _KNOWN, may_exist)}
        results: list[list[Taken]] = []
        names_to_write: set[str] = set()
        admissions: list[tuple[str, str, float]] = []
        for ask in asks:
            if ask.known and ask.run in existing:
                results.append([])
                continue
            taken, result = settle(ask, levels, counts)
            results.append(result)
            if taken:
                names_to_write.update(bucket.name for bucket in ask.buckets)
                if ask.run is not None:
                    admissions += [(clean(slot.name), ask.run, ask.now) for slot in ask.slots]
                    existing.add(ask.run)
        if names_to_write:
            self._buckets.execute(connection, [(clean(name), *levels[name]) for name in sorted(names_to_write)])
        if admissions:
            self._slots.execute(connection, admissions)
        return results

    def _levels(self, connection: Connection, asks: Sequence[Ask]) -> dict[str, Level]:
        """The buckets' levels, whose rows no other process changes until the transaction ends. Slots have such a row
        too, as a lock."""
        new: dict[str, Level] = {}
        for ask in asks:
            for bucket in ask.buckets:
                new[bucket.name] = Level(bucket.capacity, ask.now)
            for slot in ask.slots:
                new[slot.name] = Level(0.0, ask.now)
        names = {clean(name): name for name in sorted(new)}
        lock = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
        levels = {names[row[0]]: Level(row[1], row[2]) for row in _rows(connection, _LEVELS + lock, list(names))}
        missing = [name for name in names if names[name] not in levels]
        if missing:
            self._new.execute(connection, [(name, *new[names[name]]) for name in missing])
            levels |= {names[row[0]]: Level(row[1], row[2]) for row in _rows(connection, _LEVELS + lock, missing)}
        return levels

    def _counts(self, connection: Connection, asks: Sequence[Ask]) -> dict[str, int]:
        """How many runs occupy each slot; maybe too many, as long as there is room for all that ask."""
        demands: dict[str, int] = {}
        limits: dict[str, int] = {}
        for ask in asks:
            for slot in ask.slots:
                demands[slot.name] = demands.get(slot.name, 0) + 1
                limits[slot.name] = min(slot.limit, limits.get(slot.name, slot.limit))
        if not demands:
            return {}
        names = {clean(name): name for name in demands}
        counts = dict.fromkeys(demands, 0) | {names[row[0]]: row[1] for row in _rows(connection, _COUNT, list(names))}
        tight = {
            name
            for name, count in counts.items()
            if count + demands[name] > min(limits[name], 2 * self._left.get(name, 0) + _SWEEP)
        }
        if tight:
            names_to_clean = [name for name in names if names[name] in tight]
            before = min(ask.now for ask in asks) - BEGUN_SECONDS
            list(_rows(connection, _ENDED, names_to_clean))
            list(_rows(connection, _NEVER_BEGUN, names_to_clean, before))
            counts |= dict.fromkeys(tight, 0)
            counts |= {names[row[0]]: row[1] for row in _rows(connection, _COUNT_OPEN, names_to_clean)}
            self._left.update((name, counts[name]) for name in tight)
        return counts


def _rows(connection: Connection, statement: str, names: Sequence[str], *more: Any) -> Iterator[Any]:
    """The rows of a statement that takes names, some of them at a time."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    for start in range(0, len(names), _MOST):
        part = names[start : start + _MOST]
        values_clause = statement.format(", ".join([mark] * len(part))).format(mark)
        result = connection.exec_driver_sql(values_clause, (*part, *more))
        if result.returns_rows:
            yield from result
