"""Several events in one row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("events", sa.Column("more", sa.Integer(), nullable=False, server_default="0"))
