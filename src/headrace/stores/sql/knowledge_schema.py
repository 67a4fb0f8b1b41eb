"""The tables of knowledge bases; part of `schema`.

`dataset_text` has a full-text index: SQLite's is a table of its own, which triggers keep up to date.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    event,
)

from headrace.stores.sql.schema_base import LISTED, metadata, partial_index

OPEN = "status NOT IN ('completed', 'error', 'paused')"
DELETED = "deleted"

dataset = Table(
    "dataset",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("description", Text, nullable=False),
    Column("permission", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("technique", String),
    Column("doc_form", String),
    Column("embedding_model", String, nullable=False),
    Column("embedding_provider", String, nullable=False),
    Column("retrieval_model", LargeBinary, nullable=False),
    Column("summary_index", LargeBinary, nullable=False),
    Column("process_rule", LargeBinary),
    Column("built_in_fields", Boolean, nullable=False),
    Column("enable_api", Boolean, nullable=False),
    Column("created_by", String, nullable=False),
    Column("updated_by", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("deleted", Boolean, nullable=False),
)
partial_index("ix_dataset_name", LISTED, dataset.c.workspace, dataset.c.name, unique=True)
partial_index("ix_dataset_deleted", DELETED, dataset.c.id)

dataset_document = Table(
    "dataset_document",
    metadata,
    Column("id", String, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("file", String, nullable=False),
    Column("batch", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("process_rule", LargeBinary, nullable=False),
    Column("doc_form", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("doc_language", String, nullable=False),
    Column("doc_type", String),
    Column("data_source_type", String, nullable=False),
    Column("created_from", String, nullable=False),
    Column("created_by", String, nullable=False),
    Column("status", String, nullable=False),
    Column("error", Text),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_at", Double),
    Column("disabled_by", String),
    Column("archived", Boolean, nullable=False),
    Column("word_count", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("metadata", LargeBinary, nullable=False),
    Column("need_summary", Boolean, nullable=False),
    Column("processing_started_at", Double),
    Column("parsing_completed_at", Double),
    Column("cleaning_completed_at", Double),
    Column("splitting_completed_at", Double),
    Column("completed_at", Double),
    Column("paused_at", Double),
    Column("stopped_at", Double),
    Column("claim", String, nullable=False),
    Column("claimed_until", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("deleted", Boolean, nullable=False),
)
Index("ix_dataset_document_created_at", *(dataset_document.c[name] for name in ("dataset", "created_at", "id")))
Index("ix_dataset_document_batch", dataset_document.c.dataset, dataset_document.c.batch)
partial_index("ix_dataset_document_open", OPEN, dataset_document.c.next_at)
partial_index("ix_dataset_document_deleted", DELETED, dataset_document.c.id)

dataset_segment = Table(
    "dataset_segment",
    metadata,
    Column("id", String, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("document", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("answer", Text),
    Column("word_count", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("keywords", LargeBinary, nullable=False),
    Column("attachments", LargeBinary, nullable=False),
    Column("index_node_id", String, nullable=False),
    Column("index_node_hash", String, nullable=False),
    Column("hit_count", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_at", Double),
    Column("disabled_by", String),
    Column("status", String, nullable=False),
    Column("error", Text),
    Column("created_by", String, nullable=False),
    Column("updated_by", String),
    Column("indexing_at", Double),
    Column("completed_at", Double),
    Column("stopped_at", Double),
    Column("summary", Text),
)
Index("ix_dataset_segment_position", dataset_segment.c.document, dataset_segment.c.position, dataset_segment.c.id)

dataset_child_chunk = Table(
    "dataset_child_chunk",
    metadata,
    Column("id", String, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("document", String, nullable=False),
    Column("segment", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("word_count", Integer, nullable=False),
    Column("type", String, nullable=False),
)
Index("ix_dataset_child_chunk_position", *(dataset_child_chunk.c[name] for name in ("segment", "position", "id")))

# `id` is that of an IndexNode; `version` the dataset's when the row was written
dataset_vector = Table(
    "dataset_vector",
    metadata,
    Column("id", String, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("segment", String, nullable=False, index=True),
    Column("model", String, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
)
Index("ix_dataset_vector_version", dataset_vector.c.dataset, dataset_vector.c.version)

dataset_text = Table(
    "dataset_text",
    metadata,
    Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("id", String, nullable=False),
    Column("dataset", String, nullable=False, index=True),
    Column("segment", String, nullable=False, index=True),
    Column("terms", Text, nullable=False),
)
# the tokens are what spaces separate: marks belong to the letters before them
TEXT_INDEX_OF_SQLITE = (
    "CREATE VIRTUAL TABLE dataset_text_index USING fts5(terms, content='dataset_text', content_rowid='number', "
    """tokenize="unicode61 remove_diacritics 0 categories 'L* M* N* Co'")""",
    "CREATE TRIGGER dataset_text_added AFTER INSERT ON dataset_text BEGIN "
    "INSERT INTO dataset_text_index(rowid, terms) VALUES (new.number, new.terms); END",
    "CREATE TRIGGER dataset_text_removed AFTER DELETE ON dataset_text BEGIN "
    "INSERT INTO dataset_text_index(dataset_text_index, rowid, terms) VALUES ('delete', old.number, old.terms); END",
)
TEXT_INDEX_OF_POSTGRESQL = (
    "CREATE INDEX ix_dataset_text_terms ON dataset_text USING gin (to_tsvector('simple'::regconfig, terms))"
)
for statement in TEXT_INDEX_OF_SQLITE:
    event.listen(dataset_text, "after_create", DDL(statement).execute_if(dialect="sqlite"))
event.listen(dataset_text, "after_create", DDL(TEXT_INDEX_OF_POSTGRESQL).execute_if(dialect="postgresql"))

dataset_keyword = Table(
    "dataset_keyword",
    metadata,
    Column("dataset", String, primary_key=True),
    Column("keyword", String, primary_key=True),
    Column("segment", String, primary_key=True, index=True),
)

embedding_cache = Table(
    "embedding_cache",
    metadata,
    Column("key", String, primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    Column("used_at", Double, nullable=False, index=True),
)

dataset_metadata = Table(
    "dataset_metadata",
    metadata,
    Column("id", String, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("type", String, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("ix_dataset_metadata_name", dataset_metadata.c.dataset, dataset_metadata.c.name, unique=True)

dataset_tag = Table(
    "dataset_tag",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("ix_dataset_tag_name", dataset_tag.c.workspace, dataset_tag.c.name, unique=True)

dataset_tag_binding = Table(
    "dataset_tag_binding",
    metadata,
    Column("tag", String, primary_key=True),
    Column("dataset", String, primary_key=True, index=True),
)
