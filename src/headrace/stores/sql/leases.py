"""Which worker drives which run, in a database.

A run has an owner: the worker that accepted it, or acquired it. A worker shows that it is alive by renewing its row. If
it has not done so for a while, or its process is known to be dead, it loses its row; and a run whose owner has no row
may be acquired by any worker.

How long a worker has been silent is measured by the database's clock: hosts' clocks need not agree. A worker that could
not look for a while, because the database, its host or itself was stopped, measures anew: the others could not show
that they are alive, either.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Collection, Sequence
from functools import cache, partial
from math import inf
from pathlib import Path
from time import monotonic

from sqlalchemy import ColumnElement, Connection, Double, and_, case, cast, delete, extract, func, or_, select, update
from sqlalchemy.engine import RowMapping

from headrace.errors import StoreError
from headrace.ids import new_id
from headrace.kernel.events import RunId
from headrace.stores.encoding import VERSION, clean
from headrace.stores.sql.database import Database
from headrace.stores.sql.journal import JournalWork
from headrace.stores.sql.repository import SqlRepository, inserting
from headrace.stores.sql.schema import UNFINISHED, claims, events, ready_runs, runs, workers
from headrace.stores.sql.writer import Writer

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0  # of silence, after which a worker counts as dead
RENEW_SECONDS = 2.5  # after which a heartbeat renews the worker's row
OUTAGE_SECONDS = 5.0  # between two looks, after which silence is measured anew
_SHORTEST_PAUSE = 0.05  # seconds between two looks
_NAMED = 500  # claims in one statement
_DEAD = frozenset({b"Z", b"X"})  # states of a process that has ended, but was not waited for


class SqlLeases(SqlRepository):
    """Implements Leases."""

    def __init__(self, database: Database, writer: Writer, journal: JournalWork) -> None:
        super().__init__(database, writer)
        self._journal = journal
        self.worker = new_id()
        self.registered = False  # the worker's row is there
        self._shown_at = -inf  # by this process's clock
        self._looked_at: float | None = None  # by the database's clock, as all times here
        self._others: dict[str, tuple[float, float]] = {}  # `seen_at` of other workers, and since when it is the same
        self.next_expiry = inf

    @property
    def expired(self) -> bool:
        return monotonic() - self._shown_at > LEASE_SECONDS

    @property
    def shared(self) -> bool:
        return bool(self._others)

    @property
    def others(self) -> int:
        return len(self._others)

    async def heartbeat(self) -> bool:
        began = monotonic()
        rows = await self._database.look(_look)
        dead = self._silent(rows)
        own = next((row for row in rows if row["id"] == self.worker), None)
        if dead or own is None or not 0 <= own["now"] - own["seen_at"] < RENEW_SECONDS:
            # on PostgreSQL a transaction may wait for another process; that does not make this one dead
            postgresql = self._database.engine.dialect.name == "postgresql"
            await (self._database.heartbeat if postgresql else self._write)(partial(self._renew, dead=dead))
        self._shown_at = began
        self._looked_at = rows[0]["now"] if rows else None
        self.registered = True
        self._journal.owner = self.worker  # only now: others would acquire runs whose owner has no row
        return bool(dead)

    def register(self, connection: Connection) -> None:
        """Adds the worker's row, if it is not there."""
        if not self.registered:
            self._put_row(connection)

    def _put_row(self, connection: Connection) -> None:
        pid = os.getpid()
        began = None if (stat := _stat(pid)) is None else stat[1]
        row = {"seen_at": clock(connection), "host": _host(), "pid": pid, "began": began}
        statement = inserting(connection, workers).values(id=self.worker, **row)
        connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=row))

    def _renew(self, connection: Connection, dead: Collection[RowMapping]) -> None:
        """Renews the worker's row, and removes those of dead ones."""
        self._put_row(connection)
        for other in dead:
            # unless it has renewed its row in the meantime
            same = (workers.c.id == other["id"], workers.c.seen_at == other["seen_at"])
            connection.execute(delete(workers).where(*same))
        if dead:
            connection.execute(delete(claims).where(claims.c.owner.not_in(select(workers.c.id))))

    def _silent(self, rows: Sequence[RowMapping]) -> list[RowMapping]:
        """The other workers that are dead."""
        others = [row for row in rows if row["id"] != self.worker]
        if not others:
            self._others, self.next_expiry = {}, inf
            return []
        now, before, known = others[0]["now"], self._looked_at, self._others
        if before is None or not 0 <= now - before <= OUTAGE_SECONDS:
            before, known = now, {}
        self._others = {}
        for other in others:
            id, seen_at = other["id"], other["seen_at"]
            # a row that has changed was renewed since the last look, whatever clock an older version took for it
            same = id in known and known[id][0] == seen_at
            self._others[id] = known[id] if same else (seen_at, min(max(seen_at, before), now))
        expiring = (since + LEASE_SECONDS - now for _, since in self._others.values())
        # a dead one's row is still there at the next look, if this one could not remove it
        self.next_expiry = _SHORTEST_PAUSE + max(0.0, min(expiring))
        host = _host()
        return [other for other in others if self._is_dead(other, now, host)]

    def _is_dead(self, other: RowMapping, now: float, host: str | None) -> bool:
        if now - self._others[other["id"]][1] > LEASE_SECONDS:
            return True
        return host is not None and host == other["host"] and not is_alive(other["pid"], other["began"])

    async def orphaned(self) -> list[RunId]:
        queued = select(ready_runs.c.run).where(ready_runs.c.run == runs.c.run).exists()
        orphaned = (*UNFINISHED, available(self.worker), ~queued)
        statement = select(runs.c.run).where(*orphaned).order_by(runs.c.created_at, runs.c.run)
        return [row["run"] for row in await self._database.rows(statement)]

    async def undriven(self, most: int) -> list[RunId]:
        # a scalar subquery, since PostgreSQL never makes a join of it, which could read all events
        later = select(events.c.seq).where(events.c.run == runs.c.run, events.c.seq > 1).limit(1).scalar_subquery()
        living = select(workers.c.id).where(workers.c.id == runs.c.owner).exists()
        dead = and_(runs.c.owner.is_not(None), ~living)
        undriven = or_(runs.c.owner.is_(None), dead, later.is_(None))
        statement = select(runs.c.run).where(*UNFINISHED, runs.c.min_version <= VERSION, undriven)
        statement = statement.order_by(case((dead, 0), else_=1), runs.c.created_at, runs.c.run).limit(most)
        return [row["run"] for row in await self._database.rows(statement)]

    async def living_workers(self) -> set[str]:
        return {row["id"] for row in await self._database.rows(select(workers.c.id))}

    async def acquire(self, of: Collection[RunId]) -> set[RunId]:
        ids = [clean(run) for run in of]
        # in order, so that workers that acquire the same ones do not wait for each other in a circle
        free = select(runs.c.run).where(available(self.worker)).order_by(runs.c.run).with_for_update()
        free = free.correlate(None)

        def work(connection: Connection) -> set[RunId]:
            acquired = set[RunId]()
            for start in range(0, len(ids), _NAMED):
                part = free.where(runs.c.run.in_(ids[start : start + _NAMED]))
                statement = update(runs).where(runs.c.run.in_(part))
                statement = statement.values(owner=self._journal.owner).returning(runs.c.run)
                acquired.update(connection.execute(statement).scalars())
            return acquired

        return await self._write(work)

    async def disown(self, run: RunId) -> None:
        await self._write(lambda connection: self._journal.disown(connection, self.worker, run))

    async def release(self, keep: Collection[RunId] = ()) -> None:
        kept = frozenset(keep)
        await self._write(lambda connection: self._journal.release(connection, self.worker, kept))

    async def leave(self) -> None:
        """Removes the worker's row: other workers can acquire its runs at once."""
        if not self.registered:
            return
        self._journal.owner = None
        self.registered = False

        def work(connection: Connection) -> None:
            connection.execute(delete(workers).where(workers.c.id == self.worker))
            connection.execute(delete(claims).where(claims.c.owner == self.worker))

        try:
            await self._write(work)
        except StoreError as error:
            logger.warning("this process's runs will be picked up by another worker after the lease expires: %s", error)


def clock(connection: Connection) -> ColumnElement[float]:
    """The seconds since 1970 by the clock of the database, which for SQLite is that of the only machine."""
    if connection.dialect.name == "postgresql":
        return cast(extract("epoch", func.clock_timestamp()), Double)
    return (func.julianday("now") - 2440587.5) * 86400.0


def _look(connection: Connection) -> Sequence[RowMapping]:
    """The rows of all workers, each with the time `now`."""
    return connection.execute(select(workers, clock(connection).label("now"))).mappings().all()


def available(worker: str) -> ColumnElement[bool]:
    """Whether a run belongs to no other living worker than this one, which can read it."""
    living = select(workers.c.id).where(workers.c.id == runs.c.owner).exists()
    free = or_(runs.c.owner.is_(None), runs.c.owner == worker, ~living)
    return and_(free, runs.c.min_version <= VERSION)


class SqlClaims(SqlRepository):
    """Implements Claims, for the worker of the leases."""

    def __init__(self, database: Database, writer: Writer, leases: SqlLeases) -> None:
        super().__init__(database, writer)
        self._leases = leases

    async def claim(self, names: Collection[str]) -> set[str]:
        if not names:
            return set()
        ordered = sorted({clean(name) for name in names})

        def work(connection: Connection) -> set[str]:
            self._leases.register(connection)  # other workers must see that the owner of a claim is alive
            owner, claimed = self._leases.worker, set[str]()
            insert = inserting(connection, claims)
            dead = claims.c.owner.not_in(select(workers.c.id))
            statement = insert.on_conflict_do_update(
                index_elements=["name"], set_={"owner": owner}, where=or_(claims.c.owner == owner, dead)
            ).returning(claims.c.name)
            for start in range(0, len(ordered), _NAMED):
                rows = [{"name": name, "owner": owner} for name in ordered[start : start + _NAMED]]
                claimed.update(connection.execute(statement.values(rows)).scalars())
            return claimed

        claimed = await self._write(work)
        self._leases.registered = True
        return claimed

    async def release(self, names: Collection[str]) -> None:
        if names:
            named = [clean(name) for name in names]
            owned = claims.c.owner == self._leases.worker
            await self._execute(delete(claims).where(claims.c.name.in_(named), owned))


# ------------------------------------------------------------------------------------------------------- processes


@cache
def _host() -> str | None:
    """The scope in which a process id names one process: a machine since its start, and a container of it. None if it
    is unknown."""
    name = socket.gethostname()
    if sys.platform != "linux":
        return name
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{name} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def is_alive(pid: int, began: str | None) -> bool:
    """Whether a process of this host is still running, and not a later one with the same id. True if unknown."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's process
        pass
    stat = _stat(pid)
    if stat is None:
        return True
    return stat[0] not in _DEAD and (began is None or stat[1] == began)


def _stat(pid: int) -> tuple[bytes, str] | None:
    """(state, start in ticks since the machine's start) of a process; None if /proc does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # the name before may contain anything
    return (fields[0], fields[19].decode()) if len(fields) > 19 else None
