"""Which version of Headrace can read all of a run's records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("runs", sa.Column("min_version", sa.Integer(), nullable=False, server_default="1"))
