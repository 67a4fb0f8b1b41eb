"""Token buckets and slots in a database.

What is asked for while the writer is busy is settled together, in few statements however many ask; and in one
transaction, so that no two processes take the same token. SQLite lets one process write at a time; PostgreSQL locks
the buckets' rows, always in the order of their names.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from headrace.kernel.events import RunId
from headrace.ports import Bucket, Slot, Taken
from headrace.stores.encoding import clean
from headrace.stores.memory.buckets import BEGUN_SECONDS, Ask, Level, settle
from headrace.stores.sql.database import Database
from headrace.stores.sql.statements import Call, SqlRepository, Statements
from headrace.stores.sql.writer import Writer

_MOST = 200  # names in one statement
_SWEEP = 1000  # places of runs that may have ended, kept for each slot before they are looked through

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
    """Buckets."""

    def __init__(self, database: Database, writer: Writer) -> None:
        super().__init__(database, writer)
        self._work = BucketWork()
        self._round: _Round | None = None

    async def take(self, buckets: Sequence[Bucket], now: float) -> list[Taken]:
        return await self._ask(Ask(buckets, now))

    async def admit(
        self, run: RunId, buckets: Sequence[Bucket], slots: Sequence[Slot], now: float, *, known: bool = False
    ) -> list[Taken]:
        return await self._ask(Ask(buckets, now, clean(run), slots, known))

    async def _ask(self, ask: Ask) -> list[Taken]:
        round_ = self._round
        place = round_.join(ask) if round_ is not None else None
        if round_ is None or place is None:
            round_ = self._round = _Round(self._work)
            place = round_.join(ask)
            assert place is not None
            round_.settled = self._writer.submit(Call(round_.write, self._database.name))
            # whoever asked may be gone when it fails
            round_.settled.add_done_callback(lambda done: done.cancelled() or done.exception())
        return (await asyncio.shield(round_.settled))[place]


class _Round:
    """What is settled together: all that is asked for until the writer comes to it."""

    settled: asyncio.Future[list[list[Taken]]]

    def __init__(self, work: BucketWork) -> None:
        self._work = work
        self._asks: list[Ask] = []
        self._closed = False
        self._lock = threading.Lock()

    def join(self, ask: Ask) -> int | None:
        """The ask's place; None where it comes too late."""
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
    """Settles asks, in a transaction. Used by the writer's thread alone."""

    def __init__(self) -> None:
        self._buckets = Statements(
            "buckets",
            ("name", "tokens", "at"),
            "ON CONFLICT (name) DO UPDATE SET tokens = excluded.tokens, at = excluded.at",
        )
        self._new = Statements("buckets", ("name", "tokens", "at"), "ON CONFLICT DO NOTHING")
        self._places = Statements("slots", ("name", "run", "at"), "ON CONFLICT DO NOTHING")
        self._left: dict[str, int] = {}  # by slot, how many were left when it was looked through last

    def settle(self, connection: Connection, asks: Sequence[Ask]) -> list[list[Taken]]:
        levels = self._levels(connection, asks)
        counts = self._counts(connection, asks)
        asked = [ask.run for ask in asks if ask.known and ask.run is not None]
        there = {row[0] for row in _each(connection, _KNOWN, asked)}
        told: list[list[Taken]] = []
        taken: set[str] = set()
        places: list[tuple[str, str, float]] = []
        for ask in asks:
            if ask.known and ask.run in there:
                told.append([])
                continue
            all_, each = settle(ask, levels, counts)
            told.append(each)
            if all_:
                taken.update(bucket.name for bucket in ask.buckets)
                if ask.run is not None:
                    places += [(clean(slot.name), ask.run, ask.now) for slot in ask.slots]
                    there.add(ask.run)
        if taken:
            self._buckets.execute(connection, [(clean(name), *levels[name]) for name in sorted(taken)])
        if places:
            self._places.execute(connection, places)
        return told

    def _levels(self, connection: Connection, asks: Sequence[Ask]) -> dict[str, Level]:
        """How much is in the buckets, whose rows nobody else changes until the transaction ends. Slots have such a row
        too, to be locked by."""
        fresh: dict[str, Level] = {}
        for ask in asks:
            for bucket in ask.buckets:
                fresh[bucket.name] = Level(bucket.capacity, ask.now)
            for slot in ask.slots:
                fresh[slot.name] = Level(0.0, ask.now)
        names = {clean(name): name for name in sorted(fresh)}
        lock = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
        found = {names[row[0]]: Level(row[1], row[2]) for row in _each(connection, _LEVELS + lock, list(names))}
        missing = [name for name in names if names[name] not in found]
        if missing:
            self._new.execute(connection, [(name, *fresh[names[name]]) for name in missing])
            found |= {names[row[0]]: Level(row[1], row[2]) for row in _each(connection, _LEVELS + lock, missing)}
        return found

    def _counts(self, connection: Connection, asks: Sequence[Ask]) -> dict[str, int]:
        """How many runs hold a place of each slot: at most, where there is room for all that ask."""
        wanted: dict[str, int] = {}
        limits: dict[str, int] = {}
        for ask in asks:
            for slot in ask.slots:
                wanted[slot.name] = wanted.get(slot.name, 0) + 1
                limits[slot.name] = min(slot.limit, limits.get(slot.name, slot.limit))
        if not wanted:
            return {}
        names = {clean(name): name for name in wanted}
        counts = dict.fromkeys(wanted, 0) | {names[row[0]]: row[1] for row in _each(connection, _COUNT, list(names))}
        tight = {
            name
            for name, count in counts.items()
            if count + wanted[name] > min(limits[name], 2 * self._left.get(name, 0) + _SWEEP)
        }
        if tight:
            swept = [name for name in names if names[name] in tight]
            before = min(ask.now for ask in asks) - BEGUN_SECONDS
            list(_each(connection, _ENDED, swept))
            list(_each(connection, _NEVER_BEGUN, swept, before))
            counts |= dict.fromkeys(tight, 0)
            counts |= {names[row[0]]: row[1] for row in _each(connection, _COUNT_OPEN, swept)}
            self._left.update((name, counts[name]) for name in tight)
        return counts


def _each(connection: Connection, statement: str, names: Sequence[str], *more: Any) -> Iterator[Any]:
    """The rows of a statement for so many names, a part of them at a time."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    for start in range(0, len(names), _MOST):
        some = names[start : start + _MOST]
        made = statement.format(", ".join([mark] * len(some))).format(mark)
        result = connection.exec_driver_sql(made, (*some, *more))
        if result.returns_rows:
            yield from result
