"""Calls of models under a limit, by worker."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "model_slots",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("worker", sa.String(), primary_key=True),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
    )
