"""Token buckets, the runs that hold a place where only so many may run at once, and who asked for a batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

NUMBER: sa.Double[float] = sa.Double()  # of tokens, or of seconds since the epoch


def upgrade() -> None:
    op.add_column("batches", sa.Column("key", sa.String()))
    op.create_table(
        "buckets",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("tokens", NUMBER, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
    )
    op.create_table(
        "slots",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("run", sa.String(), primary_key=True),
        sa.Column("at", NUMBER, nullable=False),
    )
