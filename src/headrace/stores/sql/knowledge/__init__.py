"""Knowledge bases in a database; imported when they are first needed."""

from __future__ import annotations

from headrace.ports.knowledge_search import VectorIndex
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.stores.sql.database import Database
from headrace.stores.sql.knowledge.datasets import SqlDatasets
from headrace.stores.sql.knowledge.documents import SqlDocuments
from headrace.stores.sql.knowledge.embeddings import SqlEmbeddingCache
from headrace.stores.sql.knowledge.search import SqlKnowledgeSearch
from headrace.stores.sql.knowledge.segments import SqlSegments
from headrace.stores.sql.writer import Writer


def sql_knowledge(database: Database, writer: Writer) -> KnowledgeStore:
    search = SqlKnowledgeSearch(database, writer)
    return KnowledgeStore(
        datasets=SqlDatasets(database, writer),
        documents=SqlDocuments(database, writer),
        segments=SqlSegments(database, writer),
        embeddings=SqlEmbeddingCache(database, writer),
        search=search,
        index=_pgvector(database, search) if database.engine.dialect.name == "postgresql" else None,
    )


def _pgvector(database: Database, search: SqlKnowledgeSearch) -> VectorIndex:
    from headrace.stores.sql.knowledge.pgvector import PgvectorIndex

    return PgvectorIndex(database, search)
