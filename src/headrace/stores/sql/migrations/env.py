"""Run by Alembic: migrates over the connection that the store hands in, within the store's transaction."""

from __future__ import annotations

from alembic import context

from headrace.stores.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
