"""The catalog in a database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import Connection, Select, and_, case, delete, func, or_, select, text, tuple_, update
from sqlalchemy.engine import RowMapping

from headrace.ports import WORKSPACE, App, AuditEntry, EndUser, Key, StoredFile, Version
from headrace.stores.encoding import clean, decode_value, decoded, encode_value, values_of
from headrace.stores.sql.batches import SqlBatches
from headrace.stores.sql.repository import SqlRepository, add, put
from headrace.stores.sql.schema import (
    PENDING,
    annotation_replies,
    answers,
    app_annotations,
    apps,
    audit,
    batches,
    callbacks,
    end_users,
    files,
    keys,
    triggers,
    versions,
)


class SqlCatalog(SqlRepository):
    """Implements Catalog."""

    # ------------------------------------------------------------------------------------------------------ apps

    async def apps(self, workspace: str | None = None) -> list[App]:
        statement = select(apps).order_by(apps.c.created_at, apps.c.id)
        if workspace is not None:
            statement = statement.where(apps.c.workspace == clean(workspace))
        return [App(**decoded(row, "settings")) for row in await self._database.rows(statement)]

    async def app(self, app: str) -> App | None:
        row = await self._database.row(select(apps).where(apps.c.id == clean(app)))
        return App(**decoded(row, "settings")) if row else None

    async def app_of_source(self, source: str, workspace: str = WORKSPACE) -> App | None:
        row = await self._database.row(_of_source(source, workspace))
        return App(**decoded(row, "settings")) if row else None

    async def add_app(self, app: App) -> App:
        def work(connection: Connection) -> App:
            if connection.dialect.name == "postgresql":  # two transactions may write at once
                connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(clean(app.source)))))
            row = connection.execute(_of_source(app.source, app.workspace)).mappings().first()
            if row is None:
                put(connection, apps, values_of(app, "settings"))
            return App(**decoded(row, "settings")) if row else app

        return await self._write(work)

    async def save_app(self, app: App) -> None:
        await self._put(apps, values_of(app, "settings"))

    async def remove_app(self, app: str) -> bool:
        """See `Catalog.remove_app`; its pending callbacks and its batches are removed too."""
        batch_store = SqlBatches(self._database, self._writer)
        removed_batches = await batch_store.batches(app)

        def work(connection: Connection) -> bool:
            for table in (keys, versions, answers, app_annotations, annotation_replies, batches, triggers):
                connection.execute(delete(table).where(table.c.app == app))
            connection.execute(delete(callbacks).where(callbacks.c.app == app, text(PENDING)))
            return connection.execute(delete(apps).where(apps.c.id == app)).rowcount > 0

        is_removed = await self._write(work)
        for batch in removed_batches:
            await batch_store.remove_lines(batch.id)
        return is_removed

    # -------------------------------------------------------------------------------------------------- versions

    async def versions(self, app: str) -> list[Version]:
        statement = select(versions).where(versions.c.app == clean(app)).order_by(versions.c.number.desc())
        return [Version(**row) for row in await self._database.rows(statement)]

    async def version(self, version: str) -> Version | None:
        row = await self._database.row(select(versions).where(versions.c.id == clean(version)))
        return Version(**row) if row else None

    async def add_version(self, version: Version) -> None:
        await self._write(lambda connection: add(connection, versions, asdict(version)))

    # ------------------------------------------------------------------------------------------------------ keys

    async def keys(self, app: str | None = None) -> list[Key]:
        statement = select(keys).order_by(keys.c.created_at, keys.c.id)
        if app is not None:
            statement = statement.where(keys.c.app == clean(app))
        return [_key(row) for row in await self._database.rows(statement)]

    async def keys_of_workspace(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[Key]:
        statement = select(keys).where(keys.c.workspace == clean(workspace)).limit(max(0, limit))
        if older is not None:
            statement = statement.where(tuple_(keys.c.created_at, keys.c.id) < tuple_(older[0], clean(older[1])))
        newest = statement.order_by(keys.c.created_at.desc(), keys.c.id.desc())
        return [_key(row) for row in await self._database.rows(newest)]

    async def key_of(self, digest: str) -> Key | None:
        row = await self._database.row(select(keys).where(keys.c.digest == clean(digest)))
        return _key(row) if row else None

    async def find_key(self, key: str) -> Key | None:
        row = await self._database.row(select(keys).where(keys.c.id == clean(key)))
        return _key(row) if row else None

    async def add_key(self, key: Key, entry: AuditEntry | None = None) -> None:
        def work(connection: Connection) -> None:
            existing = connection.execute(select(keys.c.id).where(keys.c.digest == clean(key.digest))).first()
            add(connection, keys, _key_row(key))
            if entry is not None and existing is None:
                add(connection, audit, values_of(entry, "about"))

        await self._write(work)

    async def replace_key(self, key: str, new: Key, until: float, entry: AuditEntry) -> bool:
        ends = keys.c.expires_at
        sooner = case((and_(ends.is_not(None), ends < until), ends), else_=until)
        statement = (
            update(keys)
            .where(
                keys.c.id == clean(key),
                keys.c.revoked_at.is_(None),
                keys.c.replaced_by.is_(None),
                or_(ends.is_(None), ends > entry.at),
            )
            .values(expires_at=sooner, replaced_by=clean(new.id))
        )

        def work(connection: Connection) -> bool:
            if connection.execute(statement).rowcount == 0:
                return False
            add(connection, keys, _key_row(new))
            add(connection, audit, values_of(entry, "about"))
            return True

        return await self._write(work)

    async def revoke_key(self, key: str, at: float, entry: AuditEntry | None = None) -> bool:
        statement = update(keys).where(keys.c.id == clean(key), keys.c.revoked_at.is_(None)).values(revoked_at=at)

        def work(connection: Connection) -> bool:
            if connection.execute(statement).rowcount == 0:
                return False
            if entry is not None:
                add(connection, audit, values_of(entry, "about"))
            return True

        return await self._write(work)

    async def touch_key(self, key: str, at: float) -> None:
        await self._execute(update(keys).where(keys.c.id == clean(key)).values(used_at=at))

    async def audit(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[AuditEntry]:
        statement = select(audit).where(audit.c.workspace == clean(workspace)).limit(max(0, limit))
        if older is not None:
            statement = statement.where(tuple_(audit.c.at, audit.c.id) < tuple_(older[0], clean(older[1])))
        newest = statement.order_by(audit.c.at.desc(), audit.c.id.desc())
        return [AuditEntry(**decoded(row, "about")) for row in await self._database.rows(newest)]

    # ------------------------------------------------------------------------------------------------- end users

    async def end_user(self, app: str, session: str, at: float) -> EndUser:
        app, name = clean(app), clean(session)
        statement = select(end_users).where(end_users.c.app == app, end_users.c.session == name)
        row = await self._database.row(statement)
        if row is None:
            new = EndUser(str(uuid4()), app, name, at, at)

            def work(connection: Connection) -> RowMapping:
                add(connection, end_users, asdict(new))
                return connection.execute(statement).mappings().one()

            row = await self._write(work)
        return EndUser(**row)

    async def find_end_user(self, end_user: str) -> EndUser | None:
        row = await self._database.row(select(end_users).where(end_users.c.id == clean(end_user)))
        return EndUser(**row) if row else None

    # ----------------------------------------------------------------------------------------------------- files

    async def add_file(self, file: StoredFile) -> None:
        await self._write(lambda connection: add(connection, files, values_of(file, "file")))

    async def find_file(self, file: str) -> StoredFile | None:
        row = await self._database.row(select(files).where(files.c.id == clean(file)))
        return StoredFile(**decoded(row, "file")) if row else None


def _of_source(source: str, workspace: str) -> Select[Any]:
    statement = select(apps).where(apps.c.source == clean(source), apps.c.workspace == clean(workspace))
    return statement.order_by(apps.c.created_at, apps.c.id)


def _key(row: RowMapping) -> Key:
    app_ids: bytes | None = row["apps"]
    values: dict[str, Any] = {
        "permissions": frozenset(row["permissions"].split()),
        "apps": None if app_ids is None else frozenset(cast("list[str]", decode_value(app_ids))),
    }
    return Key(**{**row, **values})


def _key_row(key: Key) -> dict[str, Any]:
    return {
        **values_of(key),
        "permissions": " ".join(sorted(key.permissions)),
        "apps": None if key.apps is None else encode_value(sorted(key.apps)),
    }
