"""The runs that nobody has started yet, counted from the journal: for an engine that keeps what waits to itself."""

from __future__ import annotations

from collections.abc import Mapping
from time import time

from sqlalchemy import case, func, select

from headrace.ports import WORKSPACE, Backlog
from headrace.stores.sql.repository import SqlRepository
from headrace.stores.sql.schema import UNFINISHED, apps, events, runs


class SqlUnstartedRuns(SqlRepository):
    """Implements Backlogs. A run has waited since it was created; one that waits to continue is not counted. The
    first row has what the run was queued with."""

    async def backlogs(self, since: float = 0.0) -> Mapping[str, Backlog]:
        at = runs.c.created_at
        # a scalar subquery, since PostgreSQL never makes a join of it, which could read all events
        later = select(events.c.seq).where(events.c.run == runs.c.run, events.c.seq > 1).limit(1).scalar_subquery()
        earlier = func.sum(case((at <= since, 1), else_=0))
        of_app = select(runs.c.app, func.count(), func.min(at), func.max(at), earlier)
        of_app = of_app.where(*UNFINISHED, later.is_(None)).group_by(runs.c.app).subquery()
        app, count, first, last, before = of_app.c
        statement = select(apps.c.workspace, func.sum(count), func.min(first), func.max(last), func.sum(before))
        statement = statement.select_from(of_app.outerjoin(apps, apps.c.id == app)).group_by(apps.c.workspace)
        rows, now = await self._database.run(lambda connection: connection.execute(statement).all()), time()
        return {
            workspace or WORKSPACE: Backlog(int(waiting), max(0.0, now - oldest), newest, int(earlier))
            for workspace, waiting, oldest, newest, earlier in rows
        }
