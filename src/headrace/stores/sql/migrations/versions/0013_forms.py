"""The forms that runs ask people to fill in, and the tokens that open them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "forms",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("token", sa.String()),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("action", sa.String()),
        sa.Column("settled_at", SECONDS),
    )
    op.create_index("ix_forms_run", "forms", ["run", "seq"])
    waiting = sa.text("status = 'waiting'")
    op.create_index("ix_forms_due", "forms", ["expires_at"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_table(
        "form_tokens",
        sa.Column("token", sa.String(), primary_key=True),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False, index=True),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
    )
