"""Lines of batches may be messages: with a query, and of a conversation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("batch_lines", sa.Column("query", sa.Text()))
    op.add_column("batch_lines", sa.Column("conversation", sa.String()))
