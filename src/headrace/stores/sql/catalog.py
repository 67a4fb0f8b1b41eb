"""Catalog in a database. What every call asks for (its key, its app, its end user) is kept at hand."""

from __future__ import annotations

from dataclasses import asdict
from uuid import uuid4

from sqlalchemy import Connection, delete, or_, select, text, update
from sqlalchemy.engine import RowMapping

from headrace.ports import App, EndUser, Key, StoredFile, Version
from headrace.stores.encoding import clean, decode_value, encode_value
from headrace.stores.sql.cache import Cache
from headrace.stores.sql.database import Database
from headrace.stores.sql.schema import (
    PENDING,
    annotation_replies,
    answers,
    app_annotations,
    apps,
    batches,
    callbacks,
    end_users,
    files,
    keys,
    versions,
)
from headrace.stores.sql.statements import Part, add, put
from headrace.stores.sql.writer import Writer

FRESH = 1.0  # seconds after which what another process may have changed (keys, apps) is read again


class SqlCatalog(Part):
    """Catalog."""

    def __init__(self, database: Database, writer: Writer) -> None:
        super().__init__(database, writer)
        self._apps: Cache[App | None] = Cache(1000, FRESH)
        self._keys: Cache[Key | None] = Cache(10_000, FRESH)
        self._versions: Cache[Version | None] = Cache(16)  # never changed; some are megabytes
        self._end_users: Cache[EndUser] = Cache(10_000)

    # ------------------------------------------------------------------------------------------------------ apps

    async def apps(self) -> list[App]:
        return [_app(row) for row in await self._database.rows(select(apps).order_by(apps.c.created_at, apps.c.id))]

    async def app(self, app: str) -> App | None:
        async def load() -> App | None:
            row = await self._database.row(select(apps).where(apps.c.id == clean(app)))
            return _app(row) if row else None

        return await self._apps.get(app, load)

    async def app_of_source(self, source: str) -> App | None:
        row = await self._database.row(
            select(apps).where(apps.c.source == clean(source)).order_by(apps.c.created_at, apps.c.id)
        )
        return _app(row) if row else None

    async def save_app(self, app: App) -> None:
        values = {
            "id": app.id,
            "name": app.name,
            "mode": app.mode,
            "source": app.source,
            "version": app.version,
            "description": app.description,
            "created_at": app.created_at,
            "settings": encode_value(dict(app.settings)),
        }
        await self._write(lambda connection: put(connection, apps, values))
        self._apps.clear()

    async def remove_app(self, app: str) -> bool:
        def work(connection: Connection) -> bool:
            connection.execute(delete(keys).where(keys.c.app == app))
            connection.execute(delete(versions).where(versions.c.app == app))
            for table in (answers, app_annotations, annotation_replies):
                connection.execute(delete(table).where(table.c.app == app))
            connection.execute(delete(callbacks).where(callbacks.c.app == app, text(PENDING)))
            connection.execute(delete(batches).where(batches.c.app == app))
            return connection.execute(delete(apps).where(apps.c.id == app)).rowcount > 0

        removed = await self._write(work)
        self._apps.clear()
        self._keys.clear()
        self._versions.clear()
        return removed

    # -------------------------------------------------------------------------------------------------- versions

    async def versions(self, app: str) -> list[Version]:
        statement = select(versions).where(versions.c.app == clean(app)).order_by(versions.c.number.desc())
        return [Version(**row) for row in await self._database.rows(statement)]

    async def version(self, version: str) -> Version | None:
        async def load() -> Version | None:
            row = await self._database.row(select(versions).where(versions.c.id == clean(version)))
            return Version(**row) if row else None

        return await self._versions.get(version, load)

    async def add_version(self, version: Version) -> None:
        await self._write(lambda connection: add(connection, versions, asdict(version)))

    # ------------------------------------------------------------------------------------------------------ keys

    async def keys(self, app: str | None = None) -> list[Key]:
        statement = select(keys).order_by(keys.c.created_at, keys.c.id)
        if app is not None:
            statement = statement.where(keys.c.app == clean(app))
        return [Key(**row) for row in await self._database.rows(statement)]

    async def key_of(self, digest: str) -> Key | None:
        async def load() -> Key | None:
            row = await self._database.row(select(keys).where(keys.c.digest == clean(digest)))
            return Key(**row) if row else None

        return await self._keys.get(digest, load)

    async def add_key(self, key: Key) -> None:
        await self._write(lambda connection: add(connection, keys, asdict(key)))

    async def revoke_key(self, key: str, at: float) -> bool:
        named = or_(keys.c.id == clean(key), keys.c.prefix == clean(key))
        statement = update(keys).where(named, keys.c.revoked_at.is_(None)).values(revoked_at=at)
        revoked = await self._write(lambda connection: connection.execute(statement).rowcount > 0)
        self._keys.clear()
        return revoked

    # ------------------------------------------------------------------------------------------------- end users

    async def end_user(self, app: str, session: str, at: float) -> EndUser:
        app, name = clean(app), clean(session)

        async def load() -> EndUser:
            found = select(end_users).where(end_users.c.app == app, end_users.c.session == name)
            row = await self._database.row(found)
            if row is None:
                new = EndUser(str(uuid4()), app, name, at, at)

                def work(connection: Connection) -> RowMapping:
                    add(connection, end_users, asdict(new))
                    return connection.execute(found).mappings().one()

                row = await self._write(work)
            return EndUser(**row)

        return await self._end_users.get((app, name), load)

    async def find_end_user(self, end_user: str) -> EndUser | None:
        row = await self._database.row(select(end_users).where(end_users.c.id == clean(end_user)))
        return EndUser(**row) if row else None

    # ----------------------------------------------------------------------------------------------------- files

    async def add_file(self, stored: StoredFile) -> None:
        values = {
            "id": stored.id,
            "app": stored.app,
            "owner": stored.owner,
            "created_at": stored.created_at,
            "file": encode_value(stored.file),
        }
        await self._write(lambda connection: add(connection, files, values))

    async def find_file(self, file: str) -> StoredFile | None:
        row = await self._database.row(select(files).where(files.c.id == clean(file)))
        return StoredFile(**{**row, "file": decode_value(row["file"])}) if row else None


def _app(row: RowMapping) -> App:
    return App(**{**row, "settings": decode_value(row["settings"])})
