"""The tables of triggers; part of `schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, String, Table, Text

from headrace.stores.sql.schema_base import metadata

triggers = Table(
    "triggers",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False, index=True),
    Column("paused", Boolean, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("handled", Double, nullable=False),
)

trigger_subscriptions = Table(
    "trigger_subscriptions",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", String, nullable=False),
    Column("name", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("hook", String, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("credentials", String, nullable=False),
    Column("manual", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("parameters", LargeBinary, nullable=False),
    Column("properties", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("refresh_at", Double, index=True),
    Column("failures", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("claim", String, nullable=False),
    Column("claimed_until", Double, nullable=False),
)
Index("ix_trigger_subscriptions_name", trigger_subscriptions.c.workspace, trigger_subscriptions.c.name, unique=True)
