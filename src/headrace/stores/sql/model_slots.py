"""Slots for calls of models, in a database: a row for each limit and worker, which is replaced by each request.

Requests of one limit are made one after the other: SQLite has one writer, and on PostgreSQL they take a lock that lasts
as long as the transaction. A slot that another worker is to have stays free until it makes its next request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select

from headrace.ports import Granted
from headrace.stores.encoding import clean
from headrace.stores.sql.database import Database
from headrace.stores.sql.leases import SqlLeases
from headrace.stores.sql.repository import SqlRepository, inserting
from headrace.stores.sql.schema import model_slots, workers
from headrace.stores.sql.writer import Writer


class _Share(NamedTuple):
    """What a worker has of a limit."""

    active: int
    waiting: int
    turn: int  # of several that wait with as many calls, the lowest comes first


class SqlModelSlots(SqlRepository):
    """Implements ModelSlots, for the worker of the leases."""

    def __init__(self, database: Database, writer: Writer, leases: SqlLeases) -> None:
        super().__init__(database, writer)
        self._leases = leases
        self._is_postgresql = database.engine.dialect.name == "postgresql"

    async def request(self, name: str, limit: int, active: int, waiting: int) -> Granted:
        # on PostgreSQL beside the writer, which is not to wait for another process's transaction
        return await (self._database.write if self._is_postgresql else self._write)(
            lambda connection: self._request(connection, clean(name), limit, active, waiting)
        )

    def _request(self, connection: Connection, name: str, limit: int, active: int, waiting: int) -> Granted:
        self._leases.register(connection)  # other workers must see that this one is alive
        if self._is_postgresql:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"model_slots:{name}"))))
        shares, worker = self._shares(connection, name), self._leases.worker
        last = 1 + max((share.turn for share in shares.values()), default=0)
        before = shares.get(worker)
        turn = before.turn if before is not None and before.waiting else last
        shares[worker] = _Share(active, waiting, turn)
        granted = _granted(limit, shares, worker)
        self._store(connection, name, _Share(active + granted, waiting - granted, last if granted else turn))
        return Granted(granted, any(share.waiting for id, share in shares.items() if id != worker))

    def _shares(self, connection: Connection, name: str) -> dict[str, _Share]:
        """The shares of living workers; those of dead ones are removed."""
        living = workers.c.id.is_not(None).label("living")
        statement = select(model_slots, living).outerjoin(workers, workers.c.id == model_slots.c.worker)
        rows = connection.execute(statement.where(model_slots.c.name == name)).mappings().all()
        if dead := [row["worker"] for row in rows if not row["living"]]:
            connection.execute(delete(model_slots).where(model_slots.c.worker.in_(dead)))
        return {row["worker"]: _Share(row["active"], row["waiting"], row["turn"]) for row in rows if row["living"]}

    def _store(self, connection: Connection, name: str, share: _Share) -> None:
        if share.active or share.waiting:
            values = share._asdict()
            insert = inserting(connection, model_slots).values(name=name, worker=self._leases.worker, **values)
            connection.execute(insert.on_conflict_do_update(index_elements=["name", "worker"], set_=values))
        else:
            row = (model_slots.c.name == name, model_slots.c.worker == self._leases.worker)
            connection.execute(delete(model_slots).where(*row))


def _granted(limit: int, shares: Mapping[str, _Share], worker: str) -> int:
    """How many free slots are this worker's: each goes to the one that waits with the fewest calls."""
    shares, granted = dict(shares), 0
    last = max(share.turn for share in shares.values())
    for turn in range(last + 1, last + 1 + limit - sum(share.active for share in shares.values())):
        if not shares[worker].waiting:
            break
        waiting = (id for id, share in shares.items() if share.waiting)
        first = min(waiting, key=lambda id: (shares[id].active, shares[id].turn))
        share = shares[first]
        shares[first] = _Share(share.active + 1, share.waiting - 1, turn)
        granted += first == worker
    return granted
