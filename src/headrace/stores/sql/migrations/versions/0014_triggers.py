"""Which triggers are paused, and up to when their schedules are handled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "triggers",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("handled", SECONDS, nullable=False),
    )
    op.create_index("ix_triggers_app", "triggers", ["app"])
