"""Brings a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from headrace.errors import StoreError
from headrace.stores.sql.schema import REVISIONS, metadata
from headrace.stores.sql.transaction import begin

_LOCK = int.from_bytes(b"headrace")


def migrate(connection: Connection, name: str) -> None:
    """Creates or migrates the tables if necessary. `name` is the database's, for errors."""
    if revision_of(connection, name) == REVISIONS[-1]:
        return
    begin(connection)
    try:
        if connection.dialect.name == "postgresql":
            # waits for another process that migrates, however long that takes
            connection.exec_driver_sql("SELECT set_config('lock_timeout', '0', true)")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        # another process may have migrated it before this one got the lock
        if revision_of(connection, name) != REVISIONS[-1]:
            _create_or_upgrade(connection, name)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise


def revision_of(connection: Connection, name: str) -> str | None:
    """The database's migration; None before the first one. StoreError if this version does not know it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision is not None and revision not in REVISIONS:
        raise StoreError(
            f"{name} is of a newer version of Headrace (schema {revision}, this one knows {REVISIONS[-1]})."
        )
    return revision


def _create_or_upgrade(connection: Connection, name: str) -> None:
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        upgrade(connection)
        return
    if foreign := tables & set(metadata.tables):
        raise StoreError(f"{name} has tables that Headrace did not make: {', '.join(sorted(foreign))}.")
    # a new database gets today's schema at once: what Alembic would arrive at, without the time to import it
    metadata.create_all(connection)
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISIONS[-1]})


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrates with Alembic, within the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
