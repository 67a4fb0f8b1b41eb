"""Knowledge bases in a database: what reads and writes them is imported when they are first needed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import select

from headrace.stores.sql.knowledge_schema import dataset
from headrace.stores.sql.repository import SqlRepository

if TYPE_CHECKING:
    from headrace.ports.knowledge_store import KnowledgeStore


class SqlKnowledgeStorage(SqlRepository):
    """Implements KnowledgeStorage."""

    async def is_used(self) -> bool:
        return await self._database.row(select(dataset.c.id).limit(1)) is not None

    def open(self) -> KnowledgeStore:
        return self._store

    @cached_property
    def _store(self) -> KnowledgeStore:
        from headrace.stores.sql.knowledge import sql_knowledge

        return sql_knowledge(self._database, self._writer)
