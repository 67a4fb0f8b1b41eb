"""The runs that did not succeed, which are few among all, in the order of lists."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_CONDITION = sa.text("status NOT IN ('succeeded', 'running')")


def upgrade() -> None:
    op.create_index(
        "ix_runs_unusual",
        "runs",
        ["app", "status", "created_at"],
        sqlite_where=_CONDITION,
        postgresql_where=_CONDITION,
    )
