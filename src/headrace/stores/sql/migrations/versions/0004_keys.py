"""Workspaces, their keys with permissions, and who did what to keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

SECONDS: sa.Double[float] = sa.Double()


def upgrade() -> None:
    with op.batch_alter_table("apps") as apps:
        apps.add_column(sa.Column("workspace", sa.String(), nullable=False, server_default="default"))
    with op.batch_alter_table("keys") as keys:
        keys.alter_column("app", existing_type=sa.String(), nullable=True)
        keys.add_column(sa.Column("workspace", sa.String(), nullable=False, server_default="default"))
        keys.add_column(sa.Column("name", sa.Text(), nullable=False, server_default=""))
        keys.add_column(sa.Column("permissions", sa.String(), nullable=False, server_default="manage read run"))
        keys.add_column(sa.Column("apps", sa.LargeBinary()))
        keys.add_column(sa.Column("expires_at", SECONDS))
        keys.add_column(sa.Column("replaced_by", sa.String()))
        keys.add_column(sa.Column("used_at", SECONDS))
    op.create_index("ix_keys_workspace", "keys", ["workspace", "created_at", "id"])
    op.create_table(
        "audit",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("about", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_audit_workspace", "audit", ["workspace", "at", "id"])
