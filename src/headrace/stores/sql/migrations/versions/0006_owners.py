"""Workers that show that they live, and which of them a run belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.add_column("runs", sa.Column("owner", sa.String()))
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("seen_at", SECONDS, nullable=False),
        sa.Column("host", sa.String()),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("began", sa.String()),
    )
