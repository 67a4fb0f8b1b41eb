"""Keeping in a database: what is deleted once nobody needs it.

Everything goes a little at a time, so that the journal's appends never wait long for it, and each part whole or not at
all: whoever is cut off begins again, and finds less to do.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, literal, or_, select, text, tuple_

from headrace.kernel.events import RunId
from headrace.ports import Pruned, Snapshot
from headrace.stores.encoding import clean
from headrace.stores.sql.batches import MOST
from headrace.stores.sql.file_references import MENTIONING, scan
from headrace.stores.sql.schema import (
    PENDING,
    batch_lines,
    batches,
    callbacks,
    conversation_variables,
    conversations,
    events,
    exchanges,
    feedbacks,
    files,
    runs,
)
from headrace.stores.sql.statements import SqlRepository

_RUNS, _STEPS = 100, 1000  # runs deleted in one transaction, and nodes that they have started, about
_ROWS = 500  # rows of anything else
_SKEW = 300.0  # seconds by which another host's clock may be behind
_PAGES = 200  # given back to the file system in one transaction
_IN_ONE = 500  # values in one statement

_OF_A_RUN = {
    "events": events.c.run,
    "messages": exchanges.c.id,
    "feedbacks": feedbacks.c.message,
    "callbacks": callbacks.c.run,
    "runs": runs.c.run,
}


class SqlPruner(SqlRepository):
    """Keeping."""

    # --------------------------------------------------------------------------------------------------- pruning

    async def prune(
        self, ended_before: Mapping[str, float], all_before: float | None = None, *, dry_run: bool = False
    ) -> AsyncGenerator[tuple[Sequence[RunId], Pruned]]:
        conditions = _prunable(ended_before, all_before)
        if all_before is not None:  # a batch goes before its runs, or they would seem to be still to come
            async for found in self._old(_ended_batches(all_before)):
                for batch in () if dry_run else found:
                    await self._remove_batch(batch)
                yield (), Pruned(batches=len(found))
        async for found in self._old_runs(ended_before, conditions):
            if dry_run:
                yield found, await self._database.run(lambda connection, found=found: _count(connection, found))
            else:
                yield await self._write(lambda connection, found=found: _delete(connection, found, conditions))
        if all_before is not None:
            empty = _empty_conversations(all_before, conditions if dry_run else None)
            async for found in self._old(select(conversations.c.id).where(*empty)):
                if dry_run:
                    yield (), Pruned(conversations=len(found))
                else:
                    yield (), await self._write(lambda connection, found=found: _forget(connection, found, empty))

    async def _old(self, statement: Select[str]) -> AsyncGenerator[Sequence[str]]:
        """The ids that a statement finds, some at a time, while they are being deleted or not."""
        key = statement.selected_columns[0]
        last = ""
        while found := await self._database.rows(statement.where(key > last).order_by(key).limit(_ROWS)):
            yield [row["id"] for row in found]
            last = found[-1]["id"]

    async def _old_runs(
        self, ended_before: Mapping[str, float], conditions: Sequence[ColumnElement[bool]]
    ) -> AsyncGenerator[Sequence[RunId]]:
        latest = max(ended_before.values(), default=0.0)
        app: str | None = ""
        while (app := await self._next_app(app)) is not None:
            place: tuple[float, str] | None = None
            while found := await self._database.rows(_page(app, latest, place, conditions)):
                some = _few([(row["run"], row["steps"]) for row in found])
                yield some
                place = (found[len(some) - 1]["created_at"], some[-1])

    async def _next_app(self, after: str) -> str | None:
        """The apps that have runs, one after the other: each costs a look at the index."""
        row = await self._database.row(select(func.min(runs.c.app).label("app")).where(runs.c.app > after))
        return row["app"] if row else None

    async def _remove_batch(self, batch: str) -> None:
        """Its lines first: what is cut off can be found again."""
        some = select(batch_lines.c.number).where(batch_lines.c.batch == batch).limit(MOST)
        lines = delete(batch_lines).where(batch_lines.c.batch == batch, batch_lines.c.number.in_(some))
        while await self._write(lambda connection: connection.execute(lines).rowcount):
            pass
        itself = delete(batches).where(batches.c.id == batch)
        await self._write(lambda connection: connection.execute(itself).rowcount)

    # ----------------------------------------------------------------------------------------------------- files

    async def snapshot(self) -> Snapshot:
        at = time.time()
        open_ = await self._database.rows(select(runs.c.run).where(runs.c.finished_at.is_(None)))
        return Snapshot(at, frozenset(row["run"] for row in open_))

    async def old_files(self, added_before: float) -> list[str]:
        found = await self._database.rows(select(files.c.id).where(files.c.created_at < added_before))
        return [row["id"] for row in found]

    async def known_files(self, ids: Collection[str]) -> set[str]:
        found: set[str] = set()
        for some in _parts([clean(each) for each in ids]):
            found.update(row["id"] for row in await self._database.rows(select(files.c.id).where(files.c.id.in_(some))))
        return found

    async def referenced(self, ids: Collection[str], without: Collection[RunId] = ()) -> set[str]:
        wanted, passed = set(ids), frozenset(without)
        found: set[str] = set()
        # first what runs may change while this goes on: see `referenced_since`
        for table in sorted(MENTIONING, key=lambda table: table is events):
            if not wanted:
                break
            async for some in scan(self._database, table, wanted, passed):
                found |= some
                wanted -= some
        return found

    async def referenced_since(self, ids: Collection[str], since: Snapshot) -> set[str]:
        wanted = set(ids)
        fresh = set(since.open)
        app: str | None = ""
        while (app := await self._next_app(app)) is not None:
            later = select(runs.c.run).where(runs.c.app == app, runs.c.created_at >= since.at - _SKEW)
            fresh.update(row["run"] for row in await self._database.rows(later))
        found: set[str] = set()
        for some in _parts(sorted(fresh)):
            async for these in scan(self._database, events, wanted, only=events.c.run.in_(some)):
                found |= these
        return found

    async def remove_files(self, ids: Collection[str]) -> None:
        for some in _parts([*ids]):
            statement = delete(files).where(files.c.id.in_(some))
            await self._write(lambda connection, statement=statement: connection.execute(statement).rowcount)

    # ----------------------------------------------------------------------------------------------------- space

    async def shrink(self) -> int:
        if self._database.engine.dialect.name != "sqlite":
            return 0
        size = await self._pragma("page_size")
        free = began = await self._pragma("freelist_count")
        incremental = await self._pragma("auto_vacuum") == 2

        def work(connection: Connection) -> None:
            # the driver takes the one step that a statement without columns should need: here that is one page
            for _ in range(min(free, _PAGES)):
                connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")

        while incremental and free:
            await self._write(work)
            before, free = free, await self._pragma("freelist_count")
            if free >= before:
                break
        return (began - free) * size

    async def _pragma(self, name: str) -> int:
        def work(connection: Connection) -> int:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

        return await self._database.run(work)

    async def vacuum(self) -> None:
        def work(connection: Connection) -> None:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")  # takes effect with the next line
            connection.exec_driver_sql("VACUUM")

        await self._database.run(work)


def _prunable(ended_before: Mapping[str, float], all_before: float | None) -> tuple[ColumnElement[bool], ...]:
    """Runs that may go. The batch runner counts an open batch's runs, and its results are those of its runs: they go
    after the batch. Callbacks that are still to be delivered tell of their runs."""
    ended = (and_(runs.c.status == clean(status), runs.c.finished_at < at) for status, at in ended_before.items())
    kept = select(literal("batch:").op("||")(batches.c.id))
    if all_before is not None:
        kept = kept.where(or_(batches.c.ended_at.is_(None), batches.c.ended_at >= all_before))
    pending = select(callbacks.c.id).where(callbacks.c.run == runs.c.run, text(f"callbacks.{PENDING}"))
    return (or_(literal(False), *ended), runs.c.source.not_in(kept), ~pending.exists())


def _ended_batches(before: float) -> Select[str]:
    return select(batches.c.id).where(batches.c.ended_at < before)


def _empty_conversations(before: float, going: Sequence[ColumnElement[bool]] | None) -> Sequence[ColumnElement[bool]]:
    """Those that have no messages, or none but those of the runs that are `going`, and in which nothing has happened
    since a time."""
    staying = select(exchanges.c.id).where(exchanges.c.conversation == conversations.c.id)
    if going is not None:
        staying = staying.where(~select(runs.c.run).where(runs.c.run == exchanges.c.id, *going).exists())
    return (conversations.c.updated_at < before, ~staying.exists())


def _page(
    app: str, latest: float, after: tuple[float, str] | None, conditions: Sequence[ColumnElement[bool]]
) -> Select[Any]:
    """The oldest of an app's runs that may go, after the one at a place."""
    place = [runs.c.created_at, runs.c.run]
    page = select(*place, runs.c.steps).where(runs.c.app == app, runs.c.created_at < latest, *conditions)
    if after is not None:
        # the first condition is for the index
        page = page.where(runs.c.created_at >= after[0], tuple_(*place) > after)
    return page.order_by(*place).limit(_RUNS)


def _few(found: Sequence[tuple[RunId, int]]) -> list[RunId]:
    """As many of the first as are deleted in a moment."""
    some: list[RunId] = []
    steps = 0
    for run, more in found:
        steps += more
        if some and steps > _STEPS:
            break
        some.append(run)
    return some


def _delete(
    connection: Connection, some: Sequence[RunId], conditions: Sequence[ColumnElement[bool]]
) -> tuple[Sequence[RunId], Pruned]:
    # looked at again: since they were found another process may have deleted them, or sent a callback again
    still = select(runs.c.run).where(runs.c.run.in_(some), *conditions).with_for_update(skip_locked=True)
    gone = list(connection.execute(still).scalars())
    counts = {name: connection.execute(delete(of.table).where(of.in_(gone))).rowcount for name, of in _OF_A_RUN.items()}
    return gone, Pruned(**counts)


def _forget(connection: Connection, some: Sequence[str], empty: Sequence[ColumnElement[bool]]) -> Pruned:
    itself = delete(conversations).where(conversations.c.id.in_(some), *empty).returning(conversations.c.id)
    gone = list(connection.execute(itself).scalars())
    connection.execute(delete(conversation_variables).where(conversation_variables.c.conversation.in_(gone)))
    return Pruned(conversations=len(gone))


def _count(connection: Connection, some: Sequence[RunId]) -> Pruned:
    counted = {
        name: connection.execute(select(func.count()).select_from(of.table).where(of.in_(some))).scalar_one()
        for name, of in _OF_A_RUN.items()
    }
    return Pruned(**counted)


def _parts(values: Sequence[str]) -> list[Sequence[str]]:
    return [values[start : start + _IN_ONE] for start in range(0, len(values), _IN_ONE)]
