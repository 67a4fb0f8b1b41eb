"""Callbacks in a database. They come into being in the journal's own transactions (`JournalWork`)."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import literal, select, text, update

from headrace.kernel.events import RunId
from headrace.ports import CALLBACK, Callback
from headrace.stores.encoding import clean
from headrace.stores.sql.schema import PENDING, callbacks, claims, workers
from headrace.stores.sql.statements import SqlRepository, cleaned

_CLAIMED = (
    select(claims.c.name)
    .join(workers, workers.c.id == claims.c.owner)
    .where(claims.c.name == literal(CALLBACK).concat(callbacks.c.id))
    .exists()
)
"""Whether a worker that lives is at work on it."""


class SqlCallbacks(SqlRepository):
    """Callbacks."""

    async def due_callbacks(self, now: float, limit: int = 100) -> list[Callback]:
        statement = (
            select(callbacks)
            .where(text(PENDING), callbacks.c.next_at <= now, ~_CLAIMED)
            .order_by(callbacks.c.next_at, callbacks.c.id)
            .limit(max(0, limit))
        )
        return [Callback(**row) for row in await self._database.rows(statement)]

    async def save_callback(self, callback: Callback) -> None:
        # one that is gone was removed with its app while it was being delivered: it stays so
        statement = update(callbacks).where(callbacks.c.id == callback.id).values(cleaned(asdict(callback)))
        await self._write(lambda connection: connection.execute(statement).rowcount)

    async def find_callback(self, callback: str) -> Callback | None:
        row = await self._database.row(select(callbacks).where(callbacks.c.id == clean(callback)))
        return Callback(**row) if row else None

    async def callbacks_of(self, run: RunId) -> list[Callback]:
        statement = select(callbacks).where(callbacks.c.run == clean(run)).order_by(callbacks.c.seq)
        return [Callback(**row) for row in await self._database.rows(statement)]
