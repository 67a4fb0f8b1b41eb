"""No two messages of a conversation have the same number, but for retries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("retry_of", sa.String()))
    # which ones were retries is told by their events alone; two processes may also have given one number twice. All but
    # the first count as retries of the first: that keeps them, and their order
    op.execute(
        """
        UPDATE exchanges SET retry_of = (
            SELECT first.id FROM exchanges AS first
            WHERE first.conversation = exchanges.conversation AND first.number = exchanges.number
            AND (first.created_at < exchanges.created_at
                 OR (first.created_at = exchanges.created_at AND first.id < exchanges.id))
            ORDER BY first.created_at, first.id LIMIT 1
        )
        WHERE conversation IS NOT NULL AND number > 0
        """
    )
    numbered = sa.text("number > 0 AND retry_of IS NULL")
    columns = ["conversation", "number"]
    name = "ix_exchanges_number"
    op.create_index(name, "exchanges", columns, unique=True, sqlite_where=numbered, postgresql_where=numbered)
