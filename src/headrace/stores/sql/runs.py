"""The list of runs in a database. Its rows are written with the journal (`JournalWork`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from sqlalchemy import ColumnElement, Connection, func, literal_column, or_, select

from headrace.kernel.events import RunId
from headrace.ports import ListedRun, RunFilter
from headrace.stores.encoding import clean
from headrace.stores.sql.schema import SERVICE, runs
from headrace.stores.sql.statements import SqlRepository


class SqlRuns(SqlRepository):
    """Implements Runs."""

    async def list_runs(self, which: RunFilter) -> tuple[int, list[ListedRun]]:
        wanted = _wanted(which)
        page = (
            select(*_LISTED_COLUMNS)
            .where(*wanted)
            .order_by(runs.c.created_at.desc(), runs.c.run.desc())
            .limit(max(0, which.limit))
            .offset(max(0, which.page - 1) * max(0, which.limit))
        )

        def work(connection: Connection) -> tuple[int, list[ListedRun]]:
            found = [ListedRun(**row) for row in connection.execute(page).mappings()]
            if not which.counted:
                return len(found), found
            return connection.execute(select(func.count()).select_from(runs).where(*wanted)).scalar_one(), found

        return await self._database.run(work)

    async def find_run(self, run: RunId) -> ListedRun | None:
        row = await self._database.row(select(*_LISTED_COLUMNS).where(runs.c.run == clean(run)))
        return ListedRun(**row) if row else None

    async def find_task(self, task: str) -> RunId | None:
        row = await self._database.row(select(runs.c.run).where(runs.c.task == clean(task)))
        return row["run"] if row else None

    async def count_runs(self, source: str) -> Mapping[str, int]:
        wanted = [runs.c.source == clean(source)]
        if source != SERVICE:
            wanted.append(runs.c.source != literal_column(f"'{SERVICE}'"))  # so said, the index can be used
        statement = select(runs.c.status, func.count()).where(*wanted).group_by(runs.c.status)

        def work(connection: Connection) -> dict[str, int]:
            return {row[0]: row[1] for row in connection.execute(statement)}

        return await self._database.run(work)


_LISTED_COLUMNS = tuple(runs.c[field.name] for field in fields(ListedRun))


def _wanted(which: RunFilter) -> list[ColumnElement[bool]]:
    wanted = [runs.c.app == clean(which.app)]
    if which.status is not None:
        wanted.append(runs.c.status == clean(which.status))
    if which.before is not None:
        wanted.append(runs.c.created_at <= which.before)
    if which.after is not None:
        wanted.append(runs.c.created_at >= which.after)
    if which.session is not None:
        wanted.append(runs.c.session == clean(which.session))
    if which.version is not None:
        wanted.append(runs.c.version == clean(which.version))
    if which.source is not None:
        wanted.append(runs.c.source == clean(which.source))
    if which.older is not None:
        at, run = which.older
        # the first condition is for the index
        wanted.append(runs.c.created_at <= at)
        wanted.append(or_(runs.c.created_at < at, runs.c.run < clean(run)))
    if which.keyword:
        keyword = clean(which.keyword)
        searched = (runs.c.inputs, runs.c.outputs, runs.c.run)
        wanted.append(or_(*(column.icontains(keyword, autoescape=True) for column in searched)))
    return wanted
