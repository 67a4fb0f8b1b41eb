"""What is served, and to whom: apps, their versions, the keys that open them.

A file is published under its source (where it was read from): the same source keeps its app and key, a changed content
becomes a new version, an old one can still be called by its id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from headrace.dsl.load import load
from headrace.errors import NotFound, Unauthorized
from headrace.node import Flow, Registry
from headrace.ports import App, Catalog, EndUser, Key, Version

KEY_SECONDS = 0.5  # a key's answer is remembered this long: one revoked by another process is refused within a second
KEY_PREFIX = "app-"


@dataclass(frozen=True, slots=True)
class Served:
    """An app in one of its versions, ready to run."""

    app: App
    version: Version
    flow: Flow


def digest(text: str) -> str:
    """sha256 of a key or a file's content, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Apps:
    """Publishes workflow files, finds apps and versions, and knows keys.

    `secret` is the installation's own (32 bytes): an app's own keys are derived from it, so that they can be shown
    again although only their hashes are stored. `clock` gives seconds since the epoch.
    """

    def __init__(
        self, catalog: Catalog, registry: Registry, secret: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self.catalog = catalog
        self.registry = registry
        self._secret = secret
        self._clock = clock
        self._flows: dict[str, tuple[Version, Flow]] = {}  # by version id; a version never changes
        self._keys: dict[str, tuple[float, Served]] = {}  # by the key's digest, until when

    async def publish(self, source: str, content: str) -> Served:
        """Serves a file's content under its source. LoadError if it cannot be loaded: then nothing changes."""
        flow = load(content, self.registry, source)
        now = self._clock()
        app = await self.catalog.app_of_source(source)
        app_id = app.id if app else str(uuid.uuid4())
        known = await self.catalog.versions(app_id) if app else []
        wanted = digest(content)
        version = next((each for each in known if each.digest == wanted), None)
        if version is None:
            version = Version(str(uuid.uuid4()), app_id, len(known) + 1, wanted, content, now)
        created_at = app.created_at if app else now
        described = App(
            app_id, flow.name, flow.mode, source, version.id, flow.description, created_at, dict(flow.settings)
        )
        if described != app:
            await self.catalog.save_app(described)
        if version not in known:
            await self.catalog.add_version(version)
        if app is None:
            await self.add_key(described, self.own_key(described))
        self._flows[version.id] = (version, flow)
        self._keys.clear()
        return Served(described, version, flow)

    # ----------------------------------------------------------------------------------------------------- finding

    async def served(self, app: str) -> Served:
        """An app in its current version. NotFound if there is none of that id."""
        found = await self.catalog.app(app)
        if found is None:
            raise NotFound(f"App not found with id: {app}")
        return await self.version(found, found.version)

    async def version(self, app: App, version: str) -> Served:
        """An app in one of its versions. NotFound if it has none of that id."""
        return Served(app, *await self._version(app.id, version))

    async def flow(self, app: str, version: str) -> Flow:
        """What a run of an app's version executes. NotFound if it is gone, LoadError if it no longer loads."""
        return (await self._version(app, version))[1]

    async def _version(self, app: str, version: str) -> tuple[Version, Flow]:
        known = self._flows.get(version)
        if known is None:
            found = await self.catalog.version(version)
            if found is None or found.app != app:
                raise NotFound(f"Workflow not found with id: {version}")
            known = self._flows[version] = (found, load(found.content, self.registry, f"version {found.number}"))
        if known[0].app != app:
            raise NotFound(f"Workflow not found with id: {version}")
        return known

    async def end_user(self, app: App, session: str) -> EndUser:
        """The end user that a call's `user` names, made if new."""
        return await self.catalog.end_user(app.id, session, self._clock())

    # -------------------------------------------------------------------------------------------------------- keys

    async def authenticate(self, authorization: str | None) -> Served:
        """The app that an `Authorization: Bearer KEY` header opens, in its current version. Unauthorized otherwise."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        if not key.strip():
            raise Unauthorized("Authorization header must be provided and start with 'Bearer'")
        if scheme.lower() != "bearer":
            raise Unauthorized("Authorization scheme must be 'Bearer'")
        hashed = digest(key.strip())
        until, served = self._keys.get(hashed, (0.0, None))
        if served is None or until < self._clock():
            found = await self.catalog.key_of(hashed)
            if found is None or found.revoked_at is not None:
                self._keys.pop(hashed, None)
                raise Unauthorized("Access token is invalid")
            served = await self.served(found.app)
            self._keys[hashed] = (self._clock() + KEY_SECONDS, served)
        return served

    def own_key(self, app: App, number: int = 0) -> str:
        """One of the keys an app is shown with: the same whenever it is asked for, although only its hash is stored.
        The first is the one it is born with; the next takes its place once it is revoked."""
        made = hmac.new(self._secret, f"key {number} of {app.id}".encode(), hashlib.sha256).digest()
        return KEY_PREFIX + base64.urlsafe_b64encode(made).decode().rstrip("=")[:32]

    def new_key(self) -> str:
        return KEY_PREFIX + base64.urlsafe_b64encode(uuid.uuid4().bytes + uuid.uuid4().bytes).decode()[:32]

    async def add_key(self, app: App, key: str) -> Key:
        """Lets a key open an app. Only its hash is stored."""
        added = Key(str(uuid.uuid4()), app.id, digest(key), key[:8], self._clock())
        await self.catalog.add_key(added)
        return added

    async def working_key(self, app: App) -> str:
        """A key to show for an app: the first of its own keys that is not revoked."""
        for number in itertools.count():
            key = self.own_key(app, number)
            found = await self.catalog.key_of(digest(key))
            if found is None:
                await self.add_key(app, key)
                return key
            if found.revoked_at is None:
                return key
        raise AssertionError("counting does not end")

    async def revoke(self, key: str) -> bool:
        """Revokes by a key's id, its prefix, or the key itself; False if no live one is known."""
        found = await self.catalog.key_of(digest(key))
        self._keys.clear()
        return await self.catalog.revoke_key(found.id if found else key, self._clock())

    async def current(self, app: App, version: Version) -> App:
        """Makes a version the one that the app's calls run."""
        changed = replace(app, version=version.id)
        await self.catalog.save_app(changed)
        self._keys.clear()
        return changed
