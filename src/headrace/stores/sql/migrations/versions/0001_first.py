"""The first schema: events, runs, and the catalog."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("run", sa.String(), primary_key=True),
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("run", sa.String(), primary_key=True),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("end_user", sa.String()),
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("elapsed", SECONDS, nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("exceptions", sa.Integer(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("finished_at", SECONDS),
    )
    op.create_index("ix_runs_app_created_at", "runs", ["app", "created_at"])
    op.create_index("ix_runs_task", "runs", ["task"])
    unfinished = sa.text("finished_at IS NULL")
    op.create_index("ix_runs_open", "runs", ["created_at"], sqlite_where=unfinished, postgresql_where=unfinished)
    op.create_table(
        "apps",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("settings", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_apps_source", "apps", ["source"])
    op.create_table(
        "versions",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
    )
    op.create_index("ix_versions_app_number", "versions", ["app", "number"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False, unique=True),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("revoked_at", SECONDS),
    )
    op.create_index("ix_keys_app", "keys", ["app"])
    op.create_table(
        "end_users",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("updated_at", SECONDS, nullable=False),
        sa.UniqueConstraint("app", "session"),
    )
    op.create_table(
        "files",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String()),
        sa.Column("owner", sa.String()),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("file", sa.LargeBinary(), nullable=False),
    )
