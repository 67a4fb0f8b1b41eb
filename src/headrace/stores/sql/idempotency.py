"""The idempotency store in a database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.engine import RowMapping

from headrace.ports import IdempotencyRecord
from headrace.stores.encoding import clean
from headrace.stores.sql.schema import answers
from headrace.stores.sql.statements import SqlRepository, inserting

FORGOTTEN = 24 * 3600.0  # seconds past the moment when an answer stops to count, after which it is deleted


class SqlIdempotency(SqlRepository):
    """Implements IdempotencyStore. Of two processes that claim a key at once, the primary key lets one win."""

    async def claim(self, app: str, key: str, digest: str, at: float, expired: float) -> IdempotencyRecord | None:
        app, key = clean(app), clean(key)
        new = {"app": app, "key": key, "digest": clean(digest), "created_at": at, "status": None, "body": b""}

        def work(connection: Connection) -> RowMapping | None:
            insert = inserting(connection, answers)
            replaced = {name: insert.excluded[name] for name in ("digest", "created_at", "status", "body")}
            claim = insert.on_conflict_do_update(
                index_elements=["app", "key"], set_=replaced, where=answers.c.created_at < expired
            ).returning(answers.c.app)  # not every driver counts the rows of an INSERT
            if connection.execute(claim, new).first() is not None:
                connection.execute(delete(answers).where(answers.c.created_at < expired - FORGOTTEN))
                return None
            known = select(answers).where(answers.c.app == app, answers.c.key == key)
            return connection.execute(known).mappings().one()

        row = await self._write(work)
        return IdempotencyRecord(**row) if row else None

    async def complete(self, app: str, key: str, status: int, body: bytes) -> None:
        keep = update(answers).where(*_open(app, key)).values(status=status, body=body)
        await self._write(lambda connection: connection.execute(keep).rowcount)

    async def release(self, app: str, key: str) -> None:
        release = delete(answers).where(*_open(app, key))
        await self._write(lambda connection: connection.execute(release).rowcount)


def _open(app: str, key: str) -> Any:
    """Of a kept answer nothing changes any more."""
    return (answers.c.app == clean(app), answers.c.key == clean(key), answers.c.status.is_(None))
