"""Callbacks in a database. The journal's own transactions add them (`JournalWork`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Select, literal, select, text, update

from headrace.kernel.events import RunId
from headrace.ports import CALLBACK, Callback
from headrace.stores.encoding import clean, cleaned
from headrace.stores.sql.repository import SqlRepository
from headrace.stores.sql.schema import PENDING, callbacks, claims, workers

_CLAIMED = (
    select(claims.c.name)
    .join(workers, workers.c.id == claims.c.owner)
    .where(claims.c.name == literal(CALLBACK).concat(callbacks.c.id))
    .exists()
)
"""Whether a living worker delivers it."""


class SqlCallbacks(SqlRepository):
    """Implements Callbacks."""

    async def due_callbacks(self, now: float, limit: int = 100) -> list[Callback]:
        due = select(callbacks).where(text(PENDING), callbacks.c.next_at <= now, ~_CLAIMED)
        return await self._callbacks(due.order_by(callbacks.c.next_at, callbacks.c.id).limit(max(0, limit)))

    async def save_callback(self, callback: Callback) -> None:
        # if it was removed with its app during the delivery, it stays so
        await self._execute(update(callbacks).where(callbacks.c.id == callback.id).values(cleaned(asdict(callback))))

    async def find_callback(self, callback: str) -> Callback | None:
        row = await self._database.row(select(callbacks).where(callbacks.c.id == clean(callback)))
        return Callback(**row) if row else None

    async def callbacks_of(self, run: RunId) -> list[Callback]:
        return await self._callbacks(select(callbacks).where(callbacks.c.run == clean(run)).order_by(callbacks.c.seq))

    async def _callbacks(self, statement: Select[Any]) -> list[Callback]:
        return [Callback(**row) for row in await self._database.rows(statement)]
