"""The tables of forms, see `schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, String, Table, Text

from headrace.stores.sql.schema_base import WAITING, metadata, partial_index

forms = Table(
    "forms",
    metadata,
    Column("id", String, primary_key=True),
    Column("run", String, nullable=False),
    Column("app", String, nullable=False),
    Column("node", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("token", String),
    Column("created_at", Double, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Column("action", String),
    Column("settled_at", Double),
)
Index("ix_forms_run", forms.c.run, forms.c.seq)
# the reconciler looks for those that are due every few seconds
partial_index("ix_forms_due", WAITING, forms.c.expires_at)

form_tokens = Table(
    "form_tokens",
    metadata,
    Column("token", String, primary_key=True),
    Column("form", String, nullable=False),
    Column("run", String, nullable=False, index=True),
    Column("channel", String, nullable=False),
    Column("recipient", Text, nullable=False),
)
