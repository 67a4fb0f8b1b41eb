"""The catalog in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

from headrace.ports import WORKSPACE, App, AuditEntry, EndUser, Key, StoredFile, Version


class MemoryCatalog:
    """Implements Catalog. `owned` is called with the id of a removed app, to remove what else belongs to it."""

    def __init__(self, owned: Sequence[Callable[[str], None]] = ()) -> None:
        self._owned = owned
        self._apps: dict[str, App] = {}
        self._versions: dict[str, Version] = {}
        self._keys: dict[str, Key] = {}  # by digest
        self._audit: list[AuditEntry] = []
        self._end_users: dict[tuple[str, str], EndUser] = {}
        self._end_users_by_id: dict[str, EndUser] = {}
        self._files: dict[str, StoredFile] = {}

    async def apps(self, workspace: str | None = None) -> list[App]:
        apps = [app for app in self._apps.values() if workspace is None or app.workspace == workspace]
        return sorted(apps, key=_place)

    async def app(self, app: str) -> App | None:
        return self._apps.get(app)

    async def app_of_source(self, source: str, workspace: str = WORKSPACE) -> App | None:
        matching = (app for app in self._apps.values() if (app.source, app.workspace) == (source, workspace))
        return next(matching, None)

    async def add_app(self, app: App) -> App:
        existing = await self.app_of_source(app.source, app.workspace)
        return existing or self._apps.setdefault(app.id, app)

    async def save_app(self, app: App) -> None:
        self._apps[app.id] = app

    async def remove_app(self, app: str) -> bool:
        if self._apps.pop(app, None) is None:
            return False
        self._keys = {digest: key for digest, key in self._keys.items() if key.app != app}
        self._versions = {name: version for name, version in self._versions.items() if version.app != app}
        for remove_of in self._owned:
            remove_of(app)
        return True

    async def versions(self, app: str) -> list[Version]:
        versions = [version for version in self._versions.values() if version.app == app]
        return sorted(versions, key=lambda version: version.number, reverse=True)

    async def version(self, version: str) -> Version | None:
        return self._versions.get(version)

    async def add_version(self, version: Version) -> None:
        self._versions.setdefault(version.id, version)

    async def keys(self, app: str | None = None) -> list[Key]:
        return sorted((key for key in self._keys.values() if app is None or key.app == app), key=_place)

    async def keys_of_workspace(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[Key]:
        keys = (key for key in self._keys.values() if key.workspace == workspace)
        page = sorted((key for key in keys if older is None or _place(key) < older), key=_place, reverse=True)
        return page[: max(0, limit)]

    async def key_of(self, digest: str) -> Key | None:
        return self._keys.get(digest)

    async def find_key(self, key: str) -> Key | None:
        return next((record for record in self._keys.values() if record.id == key), None)

    async def add_key(self, key: Key, entry: AuditEntry | None = None) -> None:
        if self._keys.setdefault(key.digest, key) is key:
            self._keep_audited(entry)

    async def replace_key(self, key: str, new: Key, until: float, entry: AuditEntry) -> bool:
        old = await self.find_key(key)
        if old is None or not old.live(entry.at) or old.replaced_by is not None or new.digest in self._keys:
            return False
        until = until if old.expires_at is None else min(until, old.expires_at)
        self._keys[old.digest] = replace(old, expires_at=until, replaced_by=new.id)
        self._keys[new.digest] = new
        self._keep_audited(entry)
        return True

    async def revoke_key(self, key: str, at: float, entry: AuditEntry | None = None) -> bool:
        record = await self.find_key(key)
        if record is None or record.revoked_at is not None:
            return False
        self._keys[record.digest] = replace(record, revoked_at=at)
        self._keep_audited(entry)
        return True

    async def touch_key(self, key: str, at: float) -> None:
        if record := await self.find_key(key):
            self._keys[record.digest] = replace(record, used_at=at)

    def _keep_audited(self, entry: AuditEntry | None) -> None:
        if entry is not None:
            self._audit.append(entry)

    async def audit(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[AuditEntry]:
        entries = [(entry.at, entry.id, entry) for entry in self._audit if entry.workspace == workspace]
        page = sorted((at, name, entry) for at, name, entry in entries if older is None or (at, name) < older)
        return [entry for _, _, entry in reversed(page)][: max(0, limit)]

    async def end_user(self, app: str, session: str, at: float) -> EndUser:
        end_user = self._end_users.get((app, session))
        if end_user is None:
            end_user = EndUser(str(uuid4()), app, session, at, at)
            self._end_users[app, session] = self._end_users_by_id[end_user.id] = end_user
        return end_user

    async def find_end_user(self, end_user: str) -> EndUser | None:
        return self._end_users_by_id.get(end_user)

    async def add_file(self, file: StoredFile) -> None:
        self._files[file.id] = file

    async def find_file(self, file: str) -> StoredFile | None:
        return self._files.get(file)


def _place(item: App | Key) -> tuple[float, str]:
    return item.created_at, item.id
