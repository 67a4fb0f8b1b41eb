"""Who goes on with which run, in a database.

A run has an owner: the worker that took it in, or took it up. A worker shows that it lives by renewing its row. One
that has not done so for a while, or whose process is known to be dead, loses its row; and a run whose owner has no row
is anybody's.

How long a worker is silent is measured by whoever listens: hosts' clocks need not agree, and a machine that slept takes
nobody for dead when it wakes.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Collection
from pathlib import Path
from time import monotonic, time
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update
from sqlalchemy.engine import RowMapping

from headrace.errors import StoreError
from headrace.ids import new_id
from headrace.kernel.events import RunId
from headrace.stores.encoding import clean
from headrace.stores.sql.database import Database
from headrace.stores.sql.journal import JournalWork
from headrace.stores.sql.schema import claims, runs, workers
from headrace.stores.sql.statements import SqlRepository, inserting, put
from headrace.stores.sql.writer import Writer

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0  # of silence, after which a worker counts as dead

_NAMED = 500  # runs in one statement

_DEAD = frozenset({b"Z", b"X"})  # states of a process that has ended, and that nobody has asked about


class SqlLeases(SqlRepository):
    """Implements Leases."""

    def __init__(self, database: Database, writer: Writer, journal: JournalWork) -> None:
        super().__init__(database, writer)
        self._journal = journal
        self.worker = new_id()
        self.enlisted = False  # the worker's row is there
        self._away = False  # the database was, when this worker was to show that it lives
        self._heard: dict[str, tuple[float, float]] = {}  # of others: `seen_at`, and since when it is that

    @property
    def shared(self) -> bool:
        return bool(self._heard)

    async def heartbeat(self) -> bool:
        try:
            found = await self._write(self._renew)
        except StoreError:
            self._away = True
            raise
        self.enlisted, self._away = True, False
        self._journal.owner = self.worker  # from now on: others would take what has an owner without a row
        return found

    def enlist(self, connection: Connection) -> None:
        """Adds the worker's row, if it is not there."""
        if not self.enlisted:
            self._renew(connection)

    def _renew(self, connection: Connection) -> bool:
        pid, host = os.getpid(), _host()
        began = None if (stat := _stat(pid)) is None else stat[1]
        if self._away:
            self._heard.clear()  # nobody else could show that it lives, either
        mine = {"id": self.worker, "seen_at": time(), "host": host, "pid": pid, "began": began}
        put(connection, workers, mine)
        others = connection.execute(select(workers).where(workers.c.id != self.worker)).mappings().all()
        gone = [other for other in others if self._gone(other, host)]
        self._heard = {other["id"]: self._heard[other["id"]] for other in others}
        for other in gone:
            # not one that has shown itself again meanwhile
            same = (workers.c.id == other["id"], workers.c.seen_at == other["seen_at"])
            connection.execute(delete(workers).where(*same))
        if gone:
            connection.execute(delete(claims).where(claims.c.owner.not_in(select(workers.c.id))))
        return bool(gone)

    def _gone(self, other: RowMapping, host: str | None) -> bool:
        now, seen_at = monotonic(), other["seen_at"]
        known = self._heard.get(other["id"])
        since = known[1] if known is not None and known[0] == seen_at else now
        self._heard[other["id"]] = (seen_at, since)
        if now - since > LEASE_SECONDS:
            return True
        return host is not None and host == other["host"] and not lives(other["pid"], other["began"])

    async def orphaned(self) -> list[RunId]:
        open_ = (runs.c.finished_at.is_(None), runs.c.status != "paused")
        found = await self._database.rows(select(runs.c.run).where(*open_, self._free()).order_by(runs.c.created_at))
        return [row["run"] for row in found]

    async def acquire(self, run: RunId) -> bool:
        statement = update(runs).where(runs.c.run == clean(run), self._free()).values(owner=self._journal.owner)
        return bool(await self._write(lambda connection: connection.execute(statement).rowcount))

    async def release(self, keep: Collection[RunId] = ()) -> None:
        kept = frozenset(keep)
        await self._write(lambda connection: self._journal.release(connection, self.worker, kept))

    def _free(self) -> Any:
        """The condition that a run is nobody else's."""
        living = select(workers.c.id).where(workers.c.id == runs.c.owner).exists()
        return or_(runs.c.owner.is_(None), runs.c.owner == self.worker, ~living)

    async def leave(self) -> None:
        """Takes the worker's row away: its runs are anybody's at once."""
        if not self.enlisted:
            return
        self._journal.owner = None
        self.enlisted = False

        def work(connection: Connection) -> None:
            connection.execute(delete(workers).where(workers.c.id == self.worker))
            connection.execute(delete(claims).where(claims.c.owner == self.worker))

        try:
            await self._write(work)
        except StoreError as error:
            logger.warning("the runs of this process are taken up elsewhere only in a while: %s", error)


class SqlClaims(SqlRepository):
    """Implements Claims, for the worker of the leases."""

    def __init__(self, database: Database, writer: Writer, leases: SqlLeases) -> None:
        super().__init__(database, writer)
        self._leases = leases

    async def claim(self, names: Collection[str]) -> set[str]:
        wanted = sorted({clean(name) for name in names})
        if not wanted:
            return set()

        def work(connection: Connection) -> set[str]:
            self._leases.enlist(connection)  # other workers must see that the owner of a claim is alive
            owner, found = self._leases.worker, set[str]()
            for start in range(0, len(wanted), _NAMED):
                some = wanted[start : start + _NAMED]
                insert = inserting(connection, claims).values([{"name": each, "owner": owner} for each in some])
                owned = claims.c.owner == owner
                dead = ~select(workers.c.id).where(workers.c.id == claims.c.owner).exists()
                taken = insert.on_conflict_do_update(
                    index_elements=["name"], set_={"owner": owner}, where=or_(owned, dead)
                )
                found.update(connection.execute(taken.returning(claims.c.name)).scalars())
            return found

        found = await self._write(work)
        self._leases.enlisted = True
        return found

    async def release(self, names: Collection[str]) -> None:
        if not names:
            return
        named = [clean(name) for name in names]
        statement = delete(claims).where(claims.c.name.in_(named), claims.c.owner == self._leases.worker)
        await self._write(lambda connection: connection.execute(statement).rowcount)


# ------------------------------------------------------------------------------------------------------- processes


def _host() -> str | None:
    """Within what a process id names one process: a machine since its start, and a container of it. None: unknown."""
    name = socket.gethostname()
    if sys.platform != "linux":
        return name
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{name} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def lives(pid: int, began: str | None) -> bool:
    """Whether a process of this host still is: not another one that has come by its id. True where nobody can tell."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    stat = _stat(pid)
    if stat is None:
        return True
    return stat[0] not in _DEAD and (began is None or stat[1] == began)


def _stat(pid: int) -> tuple[bytes, str] | None:
    """(state, when it began, in ticks since the machine's start) of a process; None where /proc does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # its name comes before, and may be anything
    return (fields[0], fields[19].decode()) if len(fields) > 19 else None
