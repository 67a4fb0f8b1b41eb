"""Pruning of a database: deletes what is no longer needed.

Everything goes a little at a time, so that the journal's appends never wait long for it, and each part whole or not at
all: whatever is interrupted begins again, and finds less to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, literal, or_, select, text, tuple_

from headrace.errors import StoreError
from headrace.kernel.events import RunId
from headrace.ports import Pruned, Snapshot
from headrace.stores.encoding import clean
from headrace.stores.sql.batches import MOST
from headrace.stores.sql.file_references import REFERENCING, scan
from headrace.stores.sql.partitions import Partition, add, drop, droppable, missing
from headrace.stores.sql.repository import SqlRepository
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
    form_tokens,
    forms,
    runs,
)

logger = logging.getLogger(__name__)

_RUNS, _STEPS = 100, 1000  # runs deleted in one transaction, and nodes that they have started, about
_ROWS = 500  # rows of anything else
_SKEW = 300.0  # seconds by which another host's clock may be behind
_PAGES = 200  # returned to the file system in one transaction
_NAMED = 500  # ids in one statement

_OF_A_RUN = {
    "events": events.c.run,
    "messages": exchanges.c.id,
    "feedbacks": feedbacks.c.message,
    "callbacks": callbacks.c.run,
    "runs": runs.c.run,
}


class SqlPruner(SqlRepository):
    """Implements Pruner."""

    # --------------------------------------------------------------------------------------------------- pruning

    async def prune(
        self, ended_before: Mapping[str, float], all_before: float | None = None, *, dry_run: bool = False
    ) -> AsyncGenerator[tuple[Sequence[RunId], Pruned]]:
        conditions = _prunable(ended_before, all_before)
        partitions = [] if dry_run else await self._droppable(and_(*conditions))
        if all_before is not None:  # a batch goes before its runs, or its lines would seem not to have begun
            async for ids in self._pages(select(batches.c.id).where(batches.c.ended_at < all_before)):
                for batch in () if dry_run else ids:
                    await self._remove_batch(batch)
                yield (), Pruned(batches=len(ids))
        async for ids in self._old_runs(ended_before, conditions):
            if dry_run:
                yield ids, await self._database.run(lambda connection, ids=ids: _count(connection, ids))
            else:
                yield await self._write(
                    lambda connection, ids=ids: _delete_runs(connection, ids, conditions, partitions)
                )
        async for count in self._drop(partitions):
            yield (), Pruned(events=count)
        if all_before is not None:
            empty = _empty_conversations(all_before, conditions if dry_run else None)
            async for ids in self._pages(select(conversations.c.id).where(*empty)):
                if dry_run:
                    yield (), Pruned(conversations=len(ids))
                else:
                    yield (
                        (),
                        await self._write(lambda connection, ids=ids: _delete_conversations(connection, ids, empty)),
                    )

    async def _droppable(self, prunable: ColumnElement[bool]) -> list[Partition]:
        """Makes the partitions of the days to come, and returns those that can be dropped once their runs are gone."""
        for partition in await self._database.run(missing):
            try:
                await self._database.write(partial(add, partition=partition))
            except StoreError as error:
                logger.warning("%s is made another time: %s", partition.name, error)
        return await self._database.run(partial(droppable, prunable=prunable))

    async def _drop(self, partitions: Sequence[Partition]) -> AsyncGenerator[int]:
        """The number of events in each that is dropped. Ends where others use the table for too long."""
        for partition in partitions:
            try:
                count = await self._database.write(partial(drop, partition=partition))
            except StoreError as error:
                logger.warning("%s is dropped another time: %s", partition.name, error)
                return
            yield count

    async def _pages(self, statement: Select[str]) -> AsyncGenerator[Sequence[str]]:
        """The ids that a statement selects, some at a time, whether they are deleted meanwhile or not."""
        key = statement.selected_columns[0]
        last = ""
        while rows := await self._database.rows(statement.where(key > last).order_by(key).limit(_ROWS)):
            yield [row["id"] for row in rows]
            last = rows[-1]["id"]

    async def _old_runs(
        self, ended_before: Mapping[str, float], conditions: Sequence[ColumnElement[bool]]
    ) -> AsyncGenerator[Sequence[RunId]]:
        latest = max(ended_before.values(), default=0.0)
        app: str | None = ""
        while (app := await self._next_app(app)) is not None:
            place: tuple[float, str] | None = None
            while rows := await self._database.rows(_page(app, latest, place, conditions)):
                some = _few([(row["run"], row["steps"]) for row in rows])
                yield some
                place = (rows[len(some) - 1]["created_at"], some[-1])

    async def _next_app(self, after: str) -> str | None:
        """The next app that has runs, in the order of ids, found in the index."""
        row = await self._database.row(select(func.min(runs.c.app).label("app")).where(runs.c.app > after))
        return row["app"] if row else None

    async def _remove_batch(self, batch: str) -> None:
        """Its lines first: if it is interrupted, the batch is found again."""
        some = select(batch_lines.c.number).where(batch_lines.c.batch == batch).limit(MOST)
        lines = delete(batch_lines).where(batch_lines.c.batch == batch, batch_lines.c.number.in_(some))
        while await self._execute(lines):
            pass
        await self._execute(delete(batches).where(batches.c.id == batch))

    # ----------------------------------------------------------------------------------------------------- files

    async def snapshot(self) -> Snapshot:
        at = time.time()
        unfinished_runs = await self._database.rows(select(runs.c.run).where(runs.c.finished_at.is_(None)))
        return Snapshot(at, frozenset(row["run"] for row in unfinished_runs))

    async def old_files(self, added_before: float) -> list[str]:
        rows = await self._database.rows(select(files.c.id).where(files.c.created_at < added_before))
        return [row["id"] for row in rows]

    async def known_files(self, ids: Collection[str]) -> set[str]:
        known_files: set[str] = set()
        for part in _parts([clean(file) for file in ids]):
            known_files.update(
                row["id"] for row in await self._database.rows(select(files.c.id).where(files.c.id.in_(part)))
            )
        return known_files

    async def referenced(self, ids: Collection[str], without: Collection[RunId] = ()) -> set[str]:
        remaining, without_runs = set(ids), frozenset(without)
        # events last: for those that are written meanwhile, see `referenced_since`
        for table in sorted(REFERENCING, key=lambda table: table is events):
            if not remaining:
                break
            async for some in scan(self._database, table, remaining, without_runs):
                remaining -= some
        return set(ids) - remaining

    async def referenced_since(self, ids: Collection[str], since: Snapshot) -> set[str]:
        recent = set(since.open)
        app: str | None = ""
        while (app := await self._next_app(app)) is not None:
            later = select(runs.c.run).where(runs.c.app == app, runs.c.created_at >= since.at - _SKEW)
            recent.update(row["run"] for row in await self._database.rows(later))
        references: set[str] = set()
        for part in _parts(sorted(recent)):
            async for some in scan(self._database, events, set(ids), only=events.c.run.in_(part)):
                references |= some
        return references

    async def remove_files(self, ids: Collection[str]) -> None:
        for part in _parts([*ids]):
            await self._execute(delete(files).where(files.c.id.in_(part)))

    # ----------------------------------------------------------------------------------------------------- space

    async def shrink(self) -> int:
        if self._database.engine.dialect.name != "sqlite":
            return 0
        size = await self._pragma("page_size")
        free = free_before = await self._pragma("freelist_count")
        incremental = await self._pragma("auto_vacuum") == 2

        def work(connection: Connection) -> None:
            # the driver executes one step of a statement without columns: here that is one page
            for _ in range(min(free, _PAGES)):
                connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")

        while incremental and free:
            await self._write(work)
            before, free = free, await self._pragma("freelist_count")
            if free >= before:
                break
        return (free_before - free) * size

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
    """Runs that may be deleted. An open batch counts its runs, and its results are theirs: they go after the batch.
    Pending callbacks need their runs."""
    end_conditions = (
        and_(runs.c.status == clean(status), runs.c.finished_at < at) for status, at in ended_before.items()
    )
    kept_ids = select(literal("batch:").op("||")(batches.c.id))
    if all_before is not None:
        kept_ids = kept_ids.where(or_(batches.c.ended_at.is_(None), batches.c.ended_at >= all_before))
    pending = select(callbacks.c.id).where(callbacks.c.run == runs.c.run, text(f"callbacks.{PENDING}"))
    return (or_(literal(False), *end_conditions), runs.c.source.not_in(kept_ids), ~pending.exists())


def _empty_conversations(
    before: float, conditions: Sequence[ColumnElement[bool]] | None
) -> Sequence[ColumnElement[bool]]:
    """Those in which nothing has happened since a time and that have no messages, or only those of runs that would be
    `conditions`."""
    kept_ids = select(exchanges.c.id).where(exchanges.c.conversation == conversations.c.id)
    if conditions is not None:
        kept_ids = kept_ids.where(~select(runs.c.run).where(runs.c.run == exchanges.c.id, *conditions).exists())
    return (conversations.c.updated_at < before, ~kept_ids.exists())


def _page(
    app: str, latest: float, after: tuple[float, str] | None, conditions: Sequence[ColumnElement[bool]]
) -> Select[Any]:
    """The oldest of an app's runs that may be deleted, after the one at a place."""
    place = [runs.c.created_at, runs.c.run]
    page = select(*place, runs.c.steps).where(runs.c.app == app, runs.c.created_at < latest, *conditions)
    if after is not None:
        # the first condition is for the index
        page = page.where(runs.c.created_at >= after[0], tuple_(*place) > after)
    return page.order_by(*place).limit(_RUNS)


def _few(candidates: Sequence[tuple[RunId, int]]) -> list[RunId]:
    """As many of the first (run, steps) as can be deleted quickly."""
    some: list[RunId] = []
    steps = 0
    for run, run_steps in candidates:
        steps += run_steps
        if some and steps > _STEPS:
            break
        some.append(run)
    return some


def _delete_runs(
    connection: Connection,
    ids: Sequence[RunId],
    conditions: Sequence[ColumnElement[bool]],
    partitions: Sequence[Partition],
) -> tuple[Sequence[RunId], Pruned]:
    # once more: another process may have deleted them in the meantime, or resent a callback
    still = select(runs.c.run).where(runs.c.run.in_(ids), *conditions).with_for_update(skip_locked=True)
    run_ids = list(connection.execute(still).scalars())
    remaining = [~partition.has(events.c.run) for partition in partitions]
    counts = _count(connection, run_ids, remaining)
    for column in _OF_A_RUN.values():
        conditions = remaining if column.table is events else ()
        connection.execute(delete(column.table).where(column.in_(run_ids), *conditions))
    for table in (forms, form_tokens):
        connection.execute(delete(table).where(table.c.run.in_(run_ids)))
    return run_ids, counts


def _delete_conversations(connection: Connection, ids: Sequence[str], empty: Sequence[ColumnElement[bool]]) -> Pruned:
    statement = delete(conversations).where(conversations.c.id.in_(ids), *empty).returning(conversations.c.id)
    run_ids = list(connection.execute(statement).scalars())
    connection.execute(delete(conversation_variables).where(conversation_variables.c.conversation.in_(run_ids)))
    return Pruned(conversations=len(run_ids))


def _count(connection: Connection, ids: Sequence[RunId], of_events: Sequence[ColumnElement[bool]] = ()) -> Pruned:
    """What belongs to some runs; of their events those that meet conditions."""
    counts: dict[str, int] = {}
    for name, column in _OF_A_RUN.items():
        if column.table is events:  # a row may have several
            statement = select(func.coalesce(func.sum(1 + events.c.more), 0)).where(column.in_(ids), *of_events)
        else:
            statement = select(func.count()).select_from(column.table).where(column.in_(ids))
        counts[name] = connection.execute(statement).scalar_one()
    return Pruned(**counts)


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _NAMED] for start in range(0, len(ids), _NAMED)]
