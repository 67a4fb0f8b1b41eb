"""Knowledge bases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

SECONDS: sa.Double[float] = sa.Double()
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
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


def upgrade() -> None:
    op.create_table(
        "dataset",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("updated_at", SECONDS, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("permission", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("technique", sa.String()),
        sa.Column("doc_form", sa.String()),
        sa.Column("embedding_model", sa.String(), nullable=False),
        sa.Column("embedding_provider", sa.String(), nullable=False),
        sa.Column("retrieval_model", sa.LargeBinary(), nullable=False),
        sa.Column("summary_index", sa.LargeBinary(), nullable=False),
        sa.Column("process_rule", sa.LargeBinary()),
        sa.Column("built_in_fields", sa.Boolean(), nullable=False),
        sa.Column("enable_api", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("updated_by", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
    )
    op.create_index(
        "ix_dataset_deleted", "dataset", ["id"], sqlite_where=sa.text("deleted"), postgresql_where=sa.text("deleted")
    )
    op.create_index(
        "ix_dataset_name",
        "dataset",
        ["workspace", "name"],
        unique=True,
        sqlite_where=sa.text("NOT deleted"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_table(
        "dataset_document",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("batch", sa.String(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("updated_at", SECONDS, nullable=False),
        sa.Column("process_rule", sa.LargeBinary(), nullable=False),
        sa.Column("doc_form", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("doc_language", sa.String(), nullable=False),
        sa.Column("doc_type", sa.String()),
        sa.Column("data_source_type", sa.String(), nullable=False),
        sa.Column("created_from", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_at", SECONDS),
        sa.Column("disabled_by", sa.String()),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("word_count", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.Column("need_summary", sa.Boolean(), nullable=False),
        sa.Column("processing_started_at", SECONDS),
        sa.Column("parsing_completed_at", SECONDS),
        sa.Column("cleaning_completed_at", SECONDS),
        sa.Column("splitting_completed_at", SECONDS),
        sa.Column("completed_at", SECONDS),
        sa.Column("paused_at", SECONDS),
        sa.Column("stopped_at", SECONDS),
        sa.Column("claim", sa.String(), nullable=False),
        sa.Column("claimed_until", SECONDS, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", SECONDS, nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_dataset_document_batch", "dataset_document", ["dataset", "batch"])
    op.create_index("ix_dataset_document_created_at", "dataset_document", ["dataset", "created_at", "id"])
    op.create_index(
        "ix_dataset_document_deleted",
        "dataset_document",
        ["id"],
        sqlite_where=sa.text("deleted"),
        postgresql_where=sa.text("deleted"),
    )
    op.create_index(
        "ix_dataset_document_open",
        "dataset_document",
        ["next_at"],
        sqlite_where=sa.text("status NOT IN ('completed', 'error', 'paused')"),
        postgresql_where=sa.text("status NOT IN ('completed', 'error', 'paused')"),
    )
    op.create_table(
        "dataset_segment",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("updated_at", SECONDS, nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("word_count", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("keywords", sa.LargeBinary(), nullable=False),
        sa.Column("attachments", sa.LargeBinary(), nullable=False),
        sa.Column("index_node_id", sa.String(), nullable=False),
        sa.Column("index_node_hash", sa.String(), nullable=False),
        sa.Column("hit_count", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_at", SECONDS),
        sa.Column("disabled_by", sa.String()),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("updated_by", sa.String()),
        sa.Column("indexing_at", SECONDS),
        sa.Column("completed_at", SECONDS),
        sa.Column("stopped_at", SECONDS),
        sa.Column("summary", sa.Text()),
    )
    op.create_index("ix_dataset_segment_position", "dataset_segment", ["document", "position", "id"])
    op.create_table(
        "dataset_child_chunk",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("segment", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("updated_at", SECONDS, nullable=False),
        sa.Column("word_count", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
    )
    op.create_index("ix_dataset_child_chunk_position", "dataset_child_chunk", ["segment", "position", "id"])
    op.create_table(
        "dataset_vector",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("segment", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
    )
    op.create_index("ix_dataset_vector_segment", "dataset_vector", ["segment"])
    op.create_index("ix_dataset_vector_version", "dataset_vector", ["dataset", "version"])
    op.create_table(
        "dataset_text",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("segment", sa.String(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
    )
    op.create_index("ix_dataset_text_dataset", "dataset_text", ["dataset"])
    op.create_index("ix_dataset_text_segment", "dataset_text", ["segment"])
    op.create_table(
        "dataset_keyword",
        sa.Column("dataset", sa.String(), primary_key=True),
        sa.Column("keyword", sa.String(), primary_key=True),
        sa.Column("segment", sa.String(), primary_key=True),
    )
    op.create_index("ix_dataset_keyword_segment", "dataset_keyword", ["segment"])
    op.create_table(
        "embedding_cache",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", SECONDS, nullable=False),
    )
    op.create_index("ix_embedding_cache_used_at", "embedding_cache", ["used_at"])
    op.create_table(
        "dataset_metadata",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
    )
    op.create_index("ix_dataset_metadata_name", "dataset_metadata", ["dataset", "name"], unique=True)
    op.create_table(
        "dataset_tag",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
    )
    op.create_index("ix_dataset_tag_name", "dataset_tag", ["workspace", "name"], unique=True)
    op.create_table(
        "dataset_tag_binding",
        sa.Column("tag", sa.String(), primary_key=True),
        sa.Column("dataset", sa.String(), primary_key=True),
    )
    op.create_index("ix_dataset_tag_binding_dataset", "dataset_tag_binding", ["dataset"])
    if op.get_bind().dialect.name == "sqlite":
        for statement in TEXT_INDEX_OF_SQLITE:
            op.execute(sa.DDL(statement))
    else:
        op.execute(sa.DDL(TEXT_INDEX_OF_POSTGRESQL))
