"""Conversations with their variables, exchanges, feedbacks and annotations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("end_user", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("introduction", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("updated_at", SECONDS, nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
    )
    listed = sa.text("NOT deleted")
    for order in ("created_at", "updated_at"):
        columns = ["app", "end_user", order, "id"]
        name = f"ix_conversations_{order}"
        op.create_index(name, "conversations", columns, sqlite_where=listed, postgresql_where=listed)
    op.create_table(
        "conversation_variables",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("updated_at", SECONDS, nullable=False),
    )
    op.create_index("ix_conversation_variables_name", "conversation_variables", ["conversation", "name"])
    op.create_table(
        "exchanges",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("conversation", sa.String()),
        sa.Column("end_user", sa.String()),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("files", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("answer_files", sa.LargeBinary(), nullable=False),
        sa.Column("error", sa.Text()),
    )
    place = ["number", "created_at", "id"]
    op.create_index("ix_exchanges_place", "exchanges", ["conversation", *place])
    running = sa.text("status = 'running'")
    columns = ["conversation", "status", *place]
    op.create_index("ix_exchanges_running", "exchanges", columns, sqlite_where=running, postgresql_where=running)
    op.create_table(
        "feedbacks",
        sa.Column("message", sa.String(), primary_key=True),
        sa.Column("end_user", sa.String(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("rating", sa.String(), nullable=False),
        sa.Column("content", sa.Text()),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("updated_at", SECONDS, nullable=False),
    )
    op.create_index("ix_feedbacks_app_created_at", "feedbacks", ["app", "created_at", "id"])
    op.create_table(
        "annotations",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
    )
    op.create_index("ix_annotations_app_created_at", "annotations", ["app", "created_at", "id"])
    op.create_table(
        "annotation_replies",
        sa.Column("app", sa.String(), primary_key=True),
        sa.Column("setting", sa.LargeBinary(), nullable=False),
    )
