"""What runs have cost, and sums of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("runs", sa.Column("key", sa.String()))
    op.add_column("runs", sa.Column("price", sa.BigInteger()))
    op.add_column("runs", sa.Column("currency", sa.String()))
    op.add_column("runs", sa.Column("error_node", sa.Text()))
    key = ("app", "day", "model", "key", "end_user", "currency", "bucket")
    types = (sa.String(), sa.Integer(), sa.Text(), sa.Text(), sa.Text(), sa.String(), sa.Integer())
    sums = ("runs", "failed", "tokens", "price")
    op.create_table(
        "run_sums",
        *(
            sa.Column(name, type_, primary_key=True, autoincrement=False)
            for name, type_ in zip(key, types, strict=True)
        ),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in sums),
        sqlite_with_rowid=False,
    )
