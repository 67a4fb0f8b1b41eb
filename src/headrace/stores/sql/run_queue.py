"""The runs that wait for a worker of any process, in a database.

A claim takes the most urgent priority first, and within it one run of each workspace in turn, so that 10,000 waiting
runs of one workspace do not hold back another. It reads the first entry of each (priority, workspace) by the index,
whatever their number, and passes over runs that only a newer version can read. On PostgreSQL it is one statement, whose
locks no other claim waits for; SQLite has one writer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from time import time
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, delete, func, or_, select, text, update

from headrace.kernel.events import RunId
from headrace.ports import WORKSPACE, Backlog, Priority, ReadyRun, priority_of
from headrace.stores.encoding import VERSION, clean
from headrace.stores.sql.database import Database
from headrace.stores.sql.leases import SqlLeases, available
from headrace.stores.sql.repository import SqlRepository, inserting
from headrace.stores.sql.schema import apps, ready_runs, runs
from headrace.stores.sql.writer import Writer

_NAMED = 500  # runs in one statement
_TURN = (
    "workspace <= CASE priority "
    + " ".join(f"WHEN {priority:d} THEN CAST(:after_{priority:d} AS VARCHAR)" for priority in Priority)
    + " END, workspace"
)
"""Workspaces that come after the last one served first, then the others."""


def _readable(row: str) -> str:
    """Whether this version can read the run of a row. A scalar subquery, since PostgreSQL never makes a join of it,
    which could read all runs."""
    return f"coalesce((SELECT min_version FROM runs WHERE runs.run = {row}.run), 1) <= :version"


_SQLITE = text(f"""
WITH RECURSIVE walk(id) AS (
    SELECT * FROM (SELECT rowid FROM ready_runs WHERE {_readable("ready_runs")}
        ORDER BY priority, workspace LIMIT 1)
    UNION ALL
    SELECT coalesce(
        (SELECT next.rowid FROM ready_runs AS next WHERE next.priority = last.priority
            AND next.workspace > last.workspace AND {_readable("next")} ORDER BY next.workspace LIMIT 1),
        (SELECT next.rowid FROM ready_runs AS next WHERE next.priority > last.priority
            AND {_readable("next")} ORDER BY next.priority, next.workspace LIMIT 1)
    ) FROM walk JOIN ready_runs AS last ON last.rowid = walk.id
), shares AS (
    SELECT priority, workspace FROM walk JOIN ready_runs ON ready_runs.rowid = walk.id
    ORDER BY priority, {_TURN} LIMIT :most
), candidates AS (
    SELECT waiting.run, waiting.priority, waiting.workspace, row_number() OVER (
        PARTITION BY waiting.priority, waiting.workspace ORDER BY waiting.ready_at, waiting.run
    ) AS place
    FROM shares JOIN ready_runs AS waiting ON waiting.rowid IN (
        SELECT rowid FROM ready_runs AS one
        WHERE one.priority = shares.priority AND one.workspace = shares.workspace AND {_readable("one")}
        ORDER BY one.ready_at, one.run LIMIT :most
    )
)
SELECT run, priority, workspace FROM candidates ORDER BY priority, place, {_TURN} LIMIT :most
""")

_POSTGRESQL = text(f"""
WITH RECURSIVE walk AS (
    (SELECT priority, workspace FROM ready_runs WHERE {_readable("ready_runs")}
        ORDER BY priority, workspace LIMIT 1)
    UNION ALL
    SELECT next.priority, next.workspace FROM walk CROSS JOIN LATERAL (
        SELECT priority, workspace FROM ready_runs
        WHERE (ready_runs.priority, ready_runs.workspace) > (walk.priority, walk.workspace)
            AND {_readable("ready_runs")}
        ORDER BY priority, workspace LIMIT 1
    ) AS next
), shares AS (
    SELECT priority, workspace FROM walk ORDER BY priority, {_TURN} LIMIT :most
), candidates AS (
    SELECT waiting.run, shares.priority, shares.workspace, row_number() OVER (
        PARTITION BY shares.priority, shares.workspace ORDER BY waiting.ready_at, waiting.run
    ) AS place
    FROM shares CROSS JOIN LATERAL (
        SELECT run, ready_at FROM ready_runs AS one
        WHERE one.priority = shares.priority AND one.workspace = shares.workspace AND {_readable("one")}
        ORDER BY one.ready_at, one.run LIMIT :most FOR UPDATE SKIP LOCKED
    ) AS waiting
), picked AS (
    SELECT run, priority, workspace, row_number() OVER (ORDER BY priority, place, {_TURN}) AS turn
    FROM candidates ORDER BY turn LIMIT :most
), taken AS (
    DELETE FROM ready_runs USING picked WHERE ready_runs.run = picked.run RETURNING ready_runs.run
), owned AS (
    UPDATE runs SET owner = :worker FROM taken WHERE runs.run = taken.run AND (
        runs.owner IS NULL OR NOT EXISTS (SELECT 1 FROM workers WHERE workers.id = runs.owner)
    )
)
SELECT picked.run, priority, workspace FROM picked JOIN taken ON taken.run = picked.run ORDER BY turn
""")

_FIRST = select(ready_runs.c.run).where(text(_readable("ready_runs")).bindparams(version=VERSION)).limit(1)


class _Claimed(NamedTuple):
    run: RunId
    priority: int
    workspace: str


class SqlRunQueue(SqlRepository):
    """Implements RunQueue, for the worker of the leases."""

    def __init__(self, database: Database, writer: Writer, leases: SqlLeases) -> None:
        super().__init__(database, writer)
        self._leases = leases
        self._is_postgresql = database.engine.dialect.name == "postgresql"
        self._served = dict.fromkeys(Priority, "")  # the workspace that was served last

    async def put(self, work: ReadyRun) -> None:
        row = _row(work.run, work.workspace, work.priority, time())
        await self._write(lambda connection: self._add(connection, [row]))

    async def restore(self, orphans: Collection[RunId]) -> set[RunId]:
        ids = [clean(run) for run in orphans]

        def work(connection: Connection) -> set[RunId]:
            restored_runs = set[RunId]()
            statement = select(runs.c.run, runs.c.source, runs.c.created_at, apps.c.workspace)
            statement = statement.outerjoin(apps, apps.c.id == runs.c.app)
            others = or_(runs.c.owner.is_(None), runs.c.owner != self._leases.worker)
            is_unclaimed = and_(others, available(self._leases.worker))  # another reconciler's may be claimed already
            for start in range(0, len(ids), _NAMED):
                part = runs.c.run.in_(ids[start : start + _NAMED])
                rows = [
                    _row(run, workspace or WORKSPACE, priority_of(source, interactive=True), created_at)
                    for run, source, created_at, workspace in connection.execute(statement.where(part, is_unclaimed))
                ]
                if rows:
                    self._add(connection, rows)
                restored_runs.update(row["run"] for row in rows)
            return restored_runs

        return await self._write(work)

    def _add(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        connection.execute(inserting(connection, ready_runs).on_conflict_do_nothing(), rows)
        mine = update(runs).where(runs.c.run == bindparam("waiting"), runs.c.owner == self._leases.worker)
        connection.execute(mine.values(owner=None), [{"waiting": row["run"]} for row in rows])

    async def claim(self, most: int) -> list[RunId]:
        values: dict[str, object] = {f"after_{priority:d}": workspace for priority, workspace in self._served.items()}
        values |= {"most": most, "worker": self._leases.worker, "version": VERSION}
        # on PostgreSQL beside the writer: who waits for a lock in it would keep others from claiming
        claims = await (self._database.write if self._is_postgresql else self._write)(
            lambda connection: self._claim(connection, values)
        )
        for run in claims:
            self._served[Priority(run.priority)] = run.workspace
        return [run.run for run in claims]

    def _claim(self, connection: Connection, values: Mapping[str, object]) -> list[_Claimed]:
        if self._is_postgresql:
            return [_Claimed(*row) for row in connection.execute(_POSTGRESQL, values)]
        rows = [_Claimed(*row) for row in connection.execute(_SQLITE, values)]
        for start in range(0, len(rows), _NAMED):
            ids = [row.run for row in rows[start : start + _NAMED]]
            connection.execute(delete(ready_runs).where(ready_runs.c.run.in_(ids)))
            mine = update(runs).where(runs.c.run.in_(ids), available(self._leases.worker))
            connection.execute(mine.values(owner=self._leases.worker))
        return rows

    async def is_empty(self) -> bool:
        return await self._database.row(_FIRST) is None

    async def backlogs(self, since: float = 0.0) -> Mapping[str, Backlog]:
        at = ready_runs.c.ready_at
        earlier = func.sum(case((at <= since, 1), else_=0))
        statement = select(ready_runs.c.workspace, func.count(), func.min(at), func.max(at), earlier)
        statement = statement.group_by(ready_runs.c.workspace)
        rows, now = await self._database.run(lambda connection: connection.execute(statement).all()), time()
        return {
            workspace: Backlog(waiting, max(0.0, now - first), last, earlier)
            for workspace, waiting, first, last, earlier in rows
        }


def _row(run: RunId, workspace: str, priority: Priority, ready_at: float) -> dict[str, Any]:
    return {"run": clean(run), "workspace": clean(workspace), "priority": int(priority), "ready_at": ready_at}
