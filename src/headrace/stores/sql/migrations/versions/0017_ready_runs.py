"""The runs that wait for a worker of any process."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "ready_runs",
        sa.Column("run", sa.String(), primary_key=True),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("ready_at", SECONDS, nullable=False),
    )
    op.create_index("ix_ready_runs_turn", "ready_runs", ["priority", "workspace", "ready_at", "run"])
