"""Vectors of texts that were embedded before, in a database."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, select, update

from headrace.ports.knowledge import Vector
from headrace.stores.sql.knowledge.repository import KnowledgeRepository
from headrace.stores.sql.knowledge.rows import pack_vector, parts, unpack_vector
from headrace.stores.sql.knowledge_schema import embedding_cache
from headrace.stores.sql.repository import inserting

_FRESH = 86_400.0  # seconds for which a use is not recorded again


class SqlEmbeddingCache(KnowledgeRepository):
    """Implements EmbeddingCache."""

    async def cached_vectors(self, keys: Collection[str], at: float) -> Mapping[str, Vector]:
        def work(connection: Connection) -> tuple[dict[str, Vector], list[str]]:
            vectors: dict[str, Vector] = {}
            old: list[str] = []
            for some in parts(keys):
                for stored in connection.execute(select(embedding_cache).where(embedding_cache.c.key.in_(some))):
                    vectors[stored.key] = unpack_vector(stored.vector)
                    if stored.used_at < at - _FRESH:
                        old.append(stored.key)
            return vectors, old

        vectors, old = await self._database.run(work)
        for some in parts(old):
            used = update(embedding_cache).where(embedding_cache.c.key.in_(some)).values(used_at=at)
            await self._execute(used)
        return vectors

    async def cache_vectors(self, vectors: Mapping[str, Vector], at: float) -> None:
        def pack() -> list[dict[str, object]]:
            return [
                {"key": key, "vector": pack_vector(vector), "used_at": at} for key, vector in sorted(vectors.items())
            ]

        rows = await asyncio.to_thread(pack)

        def work(connection: Connection) -> None:
            if rows:
                connection.execute(inserting(connection, embedding_cache).on_conflict_do_nothing(), rows)

        await self._write(work)

    async def forget_vectors(self, before: float) -> None:
        await self._execute(delete(embedding_cache).where(embedding_cache.c.used_at < before))
