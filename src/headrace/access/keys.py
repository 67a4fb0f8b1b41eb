"""API keys: what each may do with which apps, and the record of their changes.

A key is 192 random bits, so a plain hash of it is as good as a slow one. Only the hash is stored: a key is shown once,
when it is created.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from headrace.cache import MAX_AGE_SECONDS, Cache
from headrace.errors import Forbidden, InvalidParam, NotFound, RequestError, StoreError, Unauthorized
from headrace.frozen import frozen
from headrace.ports import WORKSPACE, WORKSPACE_NAME, App, AuditEntry, Catalog, Identity, Key, Principal
from headrace.values import Value

logger = logging.getLogger(__name__)

PERMISSIONS = ("run", "read", "manage")
"""run: start and stop runs, chat, upload, rate; read: requests and their results; manage: versions, annotations,
keys."""
KNOWLEDGE = "knowledge"
"""The only permission of a knowledge key, which opens the knowledge bases of its workspace and nothing else."""

INVALID_KEY = "Access token is invalid"
APP_PREFIX, WORKSPACE_PREFIX, KNOWLEDGE_PREFIX = "app-", "ws-", "dataset-"
OVERLAP, LONGEST_OVERLAP = 24 * 3600.0, 30 * 24 * 3600.0  # seconds for which a rotated key stays valid
ITSELF = "headrace"  # who created the keys that come with an app
_SHOWN = 8  # characters of a key that identify it in lists
_SHOWN_KNOWLEDGE = len(KNOWLEDGE_PREFIX) + 4
_USED_SECONDS = 60.0  # the use of a key is stored once in so many
_REMEMBERED = 10_000
_LONGEST_NAME = 100


class Rights(NamedTuple):
    """What a new key may do: with `apps` of a workspace (None: all), or, with `app`, as that app's own key. A knowledge
    key has the permission KNOWLEDGE alone."""

    workspace: str = WORKSPACE
    permissions: frozenset[str] = frozenset(PERMISSIONS)
    apps: frozenset[str] | None = None
    app: str | None = None

    @property
    def prefix(self) -> str:
        if self.app is not None:
            return APP_PREFIX
        return KNOWLEDGE_PREFIX if KNOWLEDGE in self.permissions else WORKSPACE_PREFIX


@frozen
class _CachedKey:
    principal: Principal
    expires_at: float | None

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def digest(text: str) -> str:
    """sha256 of a key or a file's content, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_key(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(24)


def can_access(principal: Principal, app: App) -> bool:
    """Whether a principal may call an app."""
    return app.workspace == principal.workspace and (principal.apps is None or app.id in principal.apps)


def can_manage_key(principal: Principal, key: Key) -> bool:
    """Whether a key is only for apps that a principal may call."""
    if key.workspace != principal.workspace:
        return False
    if principal.apps is None:
        return True
    app_ids = key.apps if key.app is None else {key.app}
    return app_ids is not None and app_ids <= principal.apps


class Access:
    """Checks, creates and revokes keys. With an `identity`, it checks other bearer tokens.

    `clock` gives seconds since the epoch.
    """

    def __init__(
        self, catalog: Catalog, clock: Callable[[], float] = time.time, identity: Identity | None = None
    ) -> None:
        self.catalog = catalog
        self.identity = identity
        self.clock = clock
        self._keys: Cache[_CachedKey | None] = Cache(_REMEMBERED, MAX_AGE_SECONDS)  # by digest
        self._last_uses: dict[str, float] = {}  # by the key's id, when its use was last stored
        self._writing: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------------------------------------------- check

    async def principal(self, authorization: str | None) -> Principal:
        """Who calls with this `Authorization` header, `Bearer KEY`. Unauthorized if the key is missing or not
        valid."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        key = key.strip()
        if not key:
            raise Unauthorized("Authorization header must be provided and start with 'Bearer'")
        if scheme.lower() != "bearer":
            raise Unauthorized("Authorization scheme must be 'Bearer'")
        if self.identity is not None and _is_token(key):
            return await self.identity.principal(key)
        key_digest = digest(key)
        entry = await self._keys.get(key_digest, lambda: self._find(key_digest))
        if entry is None or entry.expired(self.clock()):
            raise Unauthorized(INVALID_KEY)
        return entry.principal

    async def _find(self, key_digest: str) -> _CachedKey | None:
        now = self.clock()
        key = await self.catalog.key_of(key_digest)
        if key is None or not hmac.compare_digest(key.digest, key_digest) or key.revoked_at is not None:
            return None
        apps = key.apps if key.app is None else frozenset({key.app})
        entry = _CachedKey(Principal(key.id, key.workspace, key.permissions, apps, key.app), key.expires_at)
        if not entry.expired(now) and now - max(key.used_at or 0.0, self._last_uses.get(key.id, 0.0)) >= _USED_SECONDS:
            self._touch(key, now)
        return entry

    def _touch(self, key: Key, now: float) -> None:
        """Stores that a key was used; no request waits for that."""
        if len(self._last_uses) >= _REMEMBERED:
            self._last_uses.clear()
        self._last_uses[key.id] = now
        writing = asyncio.create_task(self._write_used(key, now))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _write_used(self, key: Key, now: float) -> None:
        try:
            await self.catalog.touch_key(key.id, now)
        except StoreError as error:
            # requests that only read still work while the disk is full
            logger.log(error.level, "cannot store when key %s was last used: %s", key.id, error)

    # ------------------------------------------------------------------------------------------------------ change

    async def create(
        self, rights: Rights, by: str, *, name: str = "", expires_at: float | None = None
    ) -> tuple[Key, str]:
        """(the record of a new key, the key itself). InvalidParam for rights that are not valid, NotFound for an app
        that the workspace does not have."""
        await self._check(rights)
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise InvalidParam(f"name: Input should be at most {_LONGEST_NAME} printable characters")
        if expires_at is not None and expires_at <= self.clock():
            raise InvalidParam("expires_at: Input should be in the future")
        key = new_key(rights.prefix)
        return await self.keep(key, rights, by, name=name, expires_at=expires_at), key

    async def keep(self, key: str, rights: Rights, by: str, *, name: str = "", expires_at: float | None = None) -> Key:
        """Stores a key's hash with its rights."""
        key_record = Key(
            str(uuid.uuid4()),
            rights.app,
            digest(key),
            _shown(key),
            self.clock(),
            None,
            rights.workspace,
            name,
            rights.permissions,
            None if rights.app is not None else rights.apps,
            expires_at,
        )
        about: dict[str, Value] = {
            "prefix": key_record.prefix,
            "name": name,
            "permissions": in_order(key_record.permissions),
            "apps": None if key_record.apps is None else sorted(key_record.apps),
            "app_id": key_record.app,
            "expires_at": expires_at,
        }
        await self.catalog.add_key(key_record, self._audited("created", by, key_record, about))
        return key_record

    async def rotate(self, key: Key, by: str, overlap: float = OVERLAP) -> tuple[Key, str]:
        """A new key with the rights of an old one, which stays valid for `overlap` seconds; see `create`. The new one
        has the same lifetime, if the old one has one. 409 `key_not_live` where the old one was revoked, has expired, or
        has been rotated."""
        if not 0 <= overlap <= LONGEST_OVERLAP:
            raise InvalidParam(f"overlap: Input should be from 0 to {LONGEST_OVERLAP:.0f} seconds")
        rights = Rights(key.workspace, key.permissions, key.apps, key.app)
        secret, now = new_key(rights.prefix), self.clock()
        new = replace(
            key,
            id=str(uuid.uuid4()),
            digest=digest(secret),
            prefix=_shown(secret),
            created_at=now,
            expires_at=None if key.expires_at is None else now + (key.expires_at - key.created_at),
            used_at=None,
        )
        until = now + overlap
        about: dict[str, Value] = {"replaced_by": new.id, "prefix": new.prefix, "expires_at": until}
        if not await self.catalog.replace_key(key.id, new, until, self._audited("rotated", by, key, about)):
            raise await self._not_live(key.id)
        self._keys.invalidate()
        return new, secret

    async def revoke(self, key: Key, by: str) -> bool:
        """Revokes a key permanently; False if it was revoked already."""
        is_revoked = await self.catalog.revoke_key(key.id, self.clock(), self._audited("revoked", by, key, {}))
        self._keys.invalidate()
        return is_revoked

    async def _check(self, rights: Rights) -> None:
        if not re.fullmatch(WORKSPACE_NAME, rights.workspace):
            raise InvalidParam("workspace: Input should be 1 to 100 letters, digits, '.', '_' or '-'")
        if rights.permissions == frozenset({KNOWLEDGE}):
            if rights.apps is not None or rights.app is not None:
                raise InvalidParam("permissions: Input should not be knowledge for a key that is for apps")
        elif not rights.permissions or not rights.permissions <= set(PERMISSIONS):
            raise InvalidParam(
                f"permissions: Input should be one or more of {', '.join(PERMISSIONS)}, or {KNOWLEDGE} alone"
            )
        if rights.apps is not None and not rights.apps:
            raise InvalidParam("apps: Input should name an app, or be null for all of the workspace")
        for app in sorted(rights.apps or ()) if rights.app is None else [rights.app]:
            app_record = await self.catalog.app(app)
            if app_record is None or app_record.workspace != rights.workspace:
                raise NotFound(f"App not found with id: {app}")

    async def _not_live(self, key: str) -> RequestError:
        key_record = await self.catalog.find_key(key)
        if key_record is not None and key_record.replaced_by is not None:
            reason = f"This key was rotated already: its successor is {key_record.replaced_by}."
        else:
            reason = "This key was revoked, or has expired."
        return RequestError(reason, "key_not_live", 409)

    def _audited(self, action: str, by: str, key: Key, about: Mapping[str, Value]) -> AuditEntry:
        return AuditEntry(str(uuid.uuid4()), key.workspace, self.clock(), action, by, key.id, about)


def check_can_grant(principal: Principal, rights: Rights) -> None:
    """Forbidden where a principal would grant rights that it does not have. A knowledge key is granted by those who may
    do everything in its workspace."""
    rights_of_key = set(PERMISSIONS) if KNOWLEDGE in rights.permissions else rights.permissions
    if missing := rights_of_key & set(PERMISSIONS) - principal.permissions:  # unknown ones are rejected elsewhere
        raise Forbidden(f"This key cannot grant permissions that it does not have: {', '.join(in_order(missing))}.")
    app_ids = rights.apps if rights.app is None else {rights.app}
    if principal.apps is not None and (app_ids is None or not app_ids <= principal.apps):
        raise Forbidden("This key cannot grant access to apps that it cannot access itself.")


def in_order(permissions: Iterable[str]) -> list[Value]:
    """Permissions in the order in which they are shown."""
    granted_permissions = set(permissions)
    return [permission for permission in (*PERMISSIONS, KNOWLEDGE) if permission in granted_permissions]


def _shown(key: str) -> str:
    return key[: _SHOWN_KNOWLEDGE if key.startswith(KNOWLEDGE_PREFIX) else _SHOWN]


def _is_token(bearer: str) -> bool:
    """Whether a bearer token is one for the identity provider: it has three parts, as a JSON Web Token."""
    return bearer.count(".") == 2 and not bearer.startswith((APP_PREFIX, WORKSPACE_PREFIX, KNOWLEDGE_PREFIX))
