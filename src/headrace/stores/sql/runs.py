"""The list of runs in a database. Its rows are written with the journal (`JournalWork`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, Select, case, cast, func, literal_column, or_, select

from headrace.kernel.events import RunId
from headrace.kernel.summary import FAILED, RUNNING, SUCCEEDED
from headrace.ports import ListedRun, RunActivity, RunFilter, RunSums
from headrace.stores.encoding import clean
from headrace.stores.sql.repository import SqlRepository
from headrace.stores.sql.schema import SERVICE, UNUSUAL, run_sums, runs


class SqlRuns(SqlRepository):
    """Implements Runs."""

    async def list_runs(self, which: RunFilter) -> tuple[int, list[ListedRun]]:
        sqlite = self._database.engine.dialect.name == "sqlite"
        conditions, limit = _conditions(which, sqlite=sqlite), max(0, which.limit)
        start = max(0, which.page - 1) * limit
        single = len(which.apps) == 1
        # those of each app come from the index in order; all in one statement would be sorted first
        page = _NEWEST.where(*conditions).limit(limit if single else start + limit).offset(start if single else 0)

        def work(connection: Connection) -> tuple[int, list[ListedRun]]:
            list_rows: list[ListedRun] = []
            total = 0
            for app in map(clean, which.apps):
                of_app = _of(app, which)
                rows = connection.execute(page.where(of_app)).mappings()
                list_rows += [ListedRun(**row) for row in rows]
                if which.counted:
                    counting = _COUNT.where(of_app, *conditions)
                    total += connection.execute(counting).scalar_one()
            if not single:
                list_rows.sort(key=lambda run: (run.created_at, run.run), reverse=True)
                list_rows = list_rows[start : start + limit]
            return total if which.counted else len(list_rows), list_rows

        return await self._database.run(work)

    async def activity(self, apps: Sequence[str], since: float, last: int) -> Mapping[str, RunActivity]:
        def work(connection: Connection) -> dict[str, RunActivity]:
            activities: dict[str, RunActivity] = {}
            for app in apps:
                of_app = runs.c.app == clean(app)
                newest = connection.execute(_NEWEST.where(of_app).limit(last)).mappings()
                lately = _COUNT.where(of_app, runs.c.created_at >= since)  # from the index alone
                recent_failures = lately.where(runs.c.status == FAILED, literal_column(UNUSUAL))
                count, failures = (connection.execute(counting).scalar_one() for counting in (lately, recent_failures))
                activities[app] = RunActivity([ListedRun(**row) for row in newest], count, failures)
            return activities

        return await self._database.run(work)

    async def sums(self, apps: Sequence[str], days: tuple[int, int], by: str) -> list[RunSums]:
        statement = _grouped(apps, days, by)

        def work(connection: Connection) -> list[RunSums]:
            return [
                RunSums(
                    name=str(row["name"]),
                    bucket=row["bucket"],
                    currency=row["currency"],
                    **{name: int(row[name]) for name in _SUMMED},
                )
                for row in connection.execute(statement).mappings()
            ]

        return await self._database.run(work)

    async def find_run(self, run: RunId) -> ListedRun | None:
        row = await self._database.row(select(*_LISTED).where(runs.c.run == clean(run)))
        return ListedRun(**row) if row else None

    async def find_runs(self, run_ids: Sequence[RunId]) -> list[ListedRun]:
        def work(connection: Connection) -> list[ListedRun]:
            list_rows: list[ListedRun] = []
            for start in range(0, len(run_ids), _NAMED):
                names = [clean(run) for run in run_ids[start : start + _NAMED]]
                rows = connection.execute(select(*_LISTED).where(runs.c.run.in_(names))).mappings()
                list_rows += [ListedRun(**row) for row in rows]
            return list_rows

        return await self._database.run(work)

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


_SUMMED = ("runs", "failed", "tokens", "price")
_NAMED = 500  # runs in one statement
_LISTED = tuple(runs.c[field.name] for field in fields(ListedRun))
_NEWEST = select(*_LISTED).order_by(runs.c.created_at.desc(), runs.c.run.desc())
_COUNT = select(func.count()).select_from(runs)


def _of(app: str, which: RunFilter) -> ColumnElement[bool]:
    """Runs of an app. Where a filter leaves few of all runs, its own index is better than that of the app, which SQLite
    would prefer for its order."""
    if which.status == RUNNING or which.source not in (None, SERVICE):
        return case((runs.c.app == app, 1), else_=0) == 1
    return runs.c.app == app


def _conditions(which: RunFilter, *, sqlite: bool) -> list[ColumnElement[bool]]:
    """Those of a filter, except for the app."""
    conditions = [
        runs.c[name] == clean(value)
        for name in ("status", "session", "version", "source")
        if (value := getattr(which, name)) is not None
    ]
    if which.status not in (None, RUNNING, SUCCEEDED):
        conditions.append(literal_column(UNUSUAL))  # in these words, so that the index can be used
    if which.status == RUNNING:
        conditions.append(runs.c.finished_at.is_(None))  # likewise
    if which.source not in (None, SERVICE):
        conditions.append(runs.c.source != literal_column(f"'{SERVICE}'"))  # likewise
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
        # LIKE ignores case in SQLite anyway, and takes less than half the time of one with `lower`
        contains = (column.contains if sqlite else column.icontains for column in texts)
        conditions.append(or_(*(operator(keyword, autoescape=True) for operator in contains)))
    return conditions


def _grouped(apps: Sequence[str], days: tuple[int, int], by: str) -> Select[Any]:
    """A query for the fields of RunSums."""
    of = run_sums.c
    group = (of[by], of.bucket, of.currency)
    of_rows = of.model != "" if by == "model" else of.model == ""
    conditions = (of.app.in_([clean(app) for app in apps]), of.day.between(*days), of_rows)
    # as floats, because SQLite refuses a sum beyond 64 bits
    sums = (func.sum(cast(of[name], Double)).label(name) for name in _SUMMED)
    return select(of[by].label("name"), of.bucket, of.currency, *sums).where(*conditions).group_by(*group)
