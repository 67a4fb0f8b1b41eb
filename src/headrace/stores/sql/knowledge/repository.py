"""The base of the ports of knowledge bases."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from headrace.stores.sql.repository import SqlRepository

T = TypeVar("T")


class KnowledgeRepository(SqlRepository):
    """On PostgreSQL it writes beside the writer, so that no append of a run waits for a document or its lock."""

    async def _write(self, work: Callable[[Connection], T]) -> T:
        if self._database.engine.dialect.name == "postgresql":
            return await self._database.write(work)
        return await super()._write(work)
