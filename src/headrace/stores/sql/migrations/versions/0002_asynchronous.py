"""What the asynchronous API remembers: kept answers, callbacks, batches; and an index that counts a batch's runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    counted = sa.text("source <> 'service-api'")
    op.create_index("ix_runs_source", "runs", ["source", "status"], sqlite_where=counted, postgresql_where=counted)
    op.create_table(
        "answers",
        sa.Column("app", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_answers_created_at", "answers", ["created_at"])
    op.create_table(
        "callbacks",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", SECONDS),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.Text()),
        sa.Column("delivered_at", SECONDS),
    )
    op.create_index("ix_callbacks_run", "callbacks", ["run", "seq"])
    pending = sa.text("status = 'pending'")
    op.create_index("ix_callbacks_due", "callbacks", ["next_at"], sqlite_where=pending, postgresql_where=pending)
    op.create_table(
        "batches",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("rpm", sa.Integer()),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("ended_at", SECONDS),
    )
    op.create_index("ix_batches_app_created_at", "batches", ["app", "created_at"])
    running = sa.text("status = 'running'")
    op.create_index("ix_batches_running", "batches", ["created_at"], sqlite_where=running, postgresql_where=running)
    op.create_table(
        "batch_lines",
        sa.Column("batch", sa.String(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("error", sa.Text()),
    )
