"""Brings a database to the newest schema.

A database says which versions can work with it (`READABLE_BY`), so that those of one version can be replaced by those
of the next one by one: the first new process migrates it, and an old one that is started after that still works.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text

from headrace.errors import StoreError
from headrace.stores.sql.schema import READABLE_BY, REVISIONS, installation, metadata
from headrace.stores.sql.transaction import begin

FOLDER = Path(__file__).parent
_LOCK = int.from_bytes(b"headrace")
_READABLE_BY = "readable_by"
_REVISION = text("SELECT version_num FROM alembic_version")


def migrate(connection: Connection, name: str) -> None:
    """Creates or migrates the tables if necessary. `name` is the database's, for errors."""
    if not pending(revision_of(connection, name)):
        return
    begin(connection)
    try:
        if connection.dialect.name == "postgresql":
            # waits for another process that migrates, however long that takes; but not for a lock on a table, since
            # all others would wait behind it
            connection.exec_driver_sql("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")
            timeout = connection.exec_driver_sql("SHOW lock_timeout").scalar_one()
            connection.exec_driver_sql("SELECT set_config('lock_timeout', '0', true)")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            connection.exec_driver_sql("SELECT set_config('lock_timeout', %s, true)", (timeout,))
        # another process may have migrated it before this one got the lock
        if pending(revision_of(connection, name)):
            _create_or_upgrade(connection, name)
            connection.execute(installation.delete().where(installation.c.name == _READABLE_BY))
            connection.execute(installation.insert(), {"name": _READABLE_BY, "value": READABLE_BY})
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise


def pending(revision: str | None) -> Sequence[str]:
    """The migrations that a database lacks, in order; none if it is newer than this version of Headrace."""
    if revision is None:
        return REVISIONS
    return REVISIONS[REVISIONS.index(revision) + 1 :] if revision in REVISIONS else ()


def revision_of(connection: Connection, name: str) -> str | None:
    """The database's migration; None before the first one. StoreError if this version cannot work with it."""
    return check(connection, name) if inspect(connection).has_table("alembic_version") else None


def check(connection: Connection, name: str) -> str | None:
    """As `revision_of`, for a database that has been migrated before: one statement."""
    revision = connection.execute(_REVISION).scalar()
    if revision is None or revision in REVISIONS:
        return revision
    query = select(installation.c.value).where(installation.c.name == _READABLE_BY)
    readable_by = connection.execute(query).scalar()
    if readable_by not in REVISIONS:
        raise StoreError(
            f"{name} is of a newer version of Headrace (schema {revision}, which needs a version that knows "
            f"{readable_by or revision}; this one knows {REVISIONS[-1]}).",
            transient=False,
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
    metadata.create_all(connection, checkfirst=False)
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
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
