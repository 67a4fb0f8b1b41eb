"""The idempotency store in a database."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, select, update
from sqlalchemy.engine import RowMapping

from headrace.ports import IdempotencyRecord
from headrace.stores.encoding import clean
from headrace.stores.sql.repository import SqlRepository, inserting
from headrace.stores.sql.schema import answers

FORGOTTEN = 24 * 3600.0  # seconds after which an expired response is deleted


class SqlIdempotency(SqlRepository):
    """Implements IdempotencyStore. If two processes claim a key at once, the primary key lets one win."""

    async def claim(self, app: str, key: str, digest: str, at: float, expired: float) -> IdempotencyRecord | None:
        app, key = clean(app), clean(key)
        new = {"app": app, "key": key, "digest": clean(digest), "created_at": at, "status": None, "body": b""}

        def work(connection: Connection) -> RowMapping | None:
            insert = inserting(connection, answers)
            new_values = {name: insert.excluded[name] for name in ("digest", "created_at", "status", "body")}
            claim = insert.on_conflict_do_update(
                index_elements=["app", "key"], set_=new_values, where=answers.c.created_at < expired
            ).returning(answers.c.app)  # not every driver counts the rows of an INSERT
            if connection.execute(claim, new).first() is not None:
                connection.execute(delete(answers).where(answers.c.created_at < expired - FORGOTTEN))
                return None
            existing = select(answers).where(answers.c.app == app, answers.c.key == key)
            return connection.execute(existing).mappings().one()

        row = await self._write(work)
        return IdempotencyRecord(**row) if row else None

    async def complete(self, app: str, key: str, status: int, body: bytes) -> None:
        await self._execute(update(answers).where(*_incomplete(app, key)).values(status=status, body=body))

    async def release(self, app: str, key: str) -> None:
        await self._execute(delete(answers).where(*_incomplete(app, key)))


def _incomplete(app: str, key: str) -> tuple[ColumnElement[bool], ...]:
    """A complete one never changes."""
    return (answers.c.app == clean(app), answers.c.key == clean(key), answers.c.status.is_(None))
