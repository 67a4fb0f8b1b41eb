"""The runs of a user and of a version, in the order of lists."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index("ix_runs_session", "runs", ["app", "session", "created_at"])
    op.create_index("ix_runs_version", "runs", ["app", "version", "created_at"])
