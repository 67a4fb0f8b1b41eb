"""The list of runs in a database. Its rows are written with the journal (`JournalWork`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from sqlalchemy import ColumnElement, Connection, func, literal_column, or_, select

from headrace.kernel.events import RunId
from headrace.ports import ListedRun, RunFilter
from headrace.stores.encoding import clean
from headrace.stores.sql.repository import SqlRepository
from headrace.stores.sql.schema import SERVICE, runs


class SqlRuns(SqlRepository):
    """Implements Runs."""

    async def list_runs(self, which: RunFilter) -> tuple[int, list[ListedRun]]:
        conditions = _conditions(which)
        page = (
            select(*_LISTED)
            .where(*conditions)
            .order_by(runs.c.created_at.desc(), runs.c.run.desc())
            .limit(max(0, which.limit))
            .offset(max(0, which.page - 1) * max(0, which.limit))
        )

        def work(connection: Connection) -> tuple[int, list[ListedRun]]:
            listed = [ListedRun(**row) for row in connection.execute(page).mappings()]
            if not which.counted:
                return len(listed), listed
            return connection.execute(select(func.count()).select_from(runs).where(*conditions)).scalar_one(), listed

        return await self._database.run(work)

    async def find_run(self, run: RunId) -> ListedRun | None:
        row = await self._database.row(select(*_LISTED).where(runs.c.run == clean(run)))
        return ListedRun(**row) if row else None

    async def find_task(self, task: str) -> RunId | None:
        row = await self._database.row(select(runs.c.run).where(runs.c.task == clean(task)))
        return row["run"] if row else None

    async def count_runs(self, source: str) -> Mapping[str, int]:
        conditions = [runs.c.source == clean(source)]
        if source != SERVICE:
            # in these words, so that the index can be used
            conditions.append(runs.c.source != literal_column(f"'{SERVICE}'"))
        statement = select(runs.c.status, func.count()).where(*conditions).group_by(runs.c.status)

        def work(connection: Connection) -> dict[str, int]:
            return {row[0]: row[1] for row in connection.execute(statement)}

        return await self._database.run(work)


_LISTED = tuple(runs.c[field.name] for field in fields(ListedRun))


def _conditions(which: RunFilter) -> list[ColumnElement[bool]]:
    conditions = [
        runs.c[name] == clean(value)
        for name in ("app", "status", "session", "version", "source")
        if (value := getattr(which, name)) is not None
    ]
    if which.before is not None:
        conditions.append(runs.c.created_at <= which.before)
    if which.after is not None:
        conditions.append(runs.c.created_at >= which.after)
    if which.older is not None:
        at, run = which.older
        # the first condition is for the index
        conditions.append(runs.c.created_at <= at)
        conditions.append(or_(runs.c.created_at < at, runs.c.run < clean(run)))
    if which.keyword:
        keyword = clean(which.keyword)
        texts = (runs.c.inputs, runs.c.outputs, runs.c.run)
        conditions.append(or_(*(column.icontains(keyword, autoescape=True) for column in texts)))
    return conditions
