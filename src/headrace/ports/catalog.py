"""What is served, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headrace.values import File, Value

WORKSPACE = "default"
"""The workspace that everything is in where nobody speaks of workspaces."""

WORKSPACE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a workspace may be called."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a key, or somebody whom an identity provider vouches for.

    `id` is the key's, or the issuer's name for the caller; `permissions` are of run, read and manage; `apps` are those
    it may call, None for all of the workspace; `app` is the one that an app's own key opens.
    """

    id: str
    workspace: str
    permissions: frozenset[str]
    apps: frozenset[str] | None = None
    app: str | None = None


class Identity(Protocol):
    """An identity provider: bearer tokens that are no keys of ours."""

    async def principal(self, token: str) -> Principal:
        """Whom a token stands for. Unauthorized where it is not valid here and now."""
        ...


@dataclass(frozen=True, slots=True)
class App:
    """A served workflow file. `source` is where it was read from (an absolute path, or any name)."""

    id: str
    name: str
    mode: str
    source: str
    version: str  # the current one
    description: str = ""
    created_at: float = 0.0
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])  # icon, icon_background, ...
    workspace: str = WORKSPACE


@dataclass(frozen=True, slots=True)
class Version:
    """One content of an app's file: what Dify calls a workflow id. `number` counts an app's versions from 1."""

    id: str
    app: str
    number: int
    digest: str  # sha256 of the content, hex
    content: str  # YAML, as it was
    created_at: float


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, as far as it may be known again: only its hash is stored. `app` is the one that it opens; without it,
    it is a workspace's key, for `apps` (None: all of the workspace). `permissions` are of run, read and manage;
    `replaced_by` is the id of the key that it was rotated to, `used_at` when it last opened something, within a minute
    or so."""

    id: str
    app: str | None
    digest: str  # sha256 of the key, hex
    prefix: str  # its first characters, to tell it from others
    created_at: float
    revoked_at: float | None = None
    workspace: str = WORKSPACE
    name: str = ""
    permissions: frozenset[str] = frozenset({"run", "read", "manage"})
    apps: frozenset[str] | None = None
    expires_at: float | None = None
    replaced_by: str | None = None
    used_at: float | None = None

    def live(self, now: float) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Audited:
    """Something that was done to a workspace's keys. `action` is created, rotated or revoked; `by` is a principal's id,
    `cli`, or `headrace` for keys that come with an app; `key` is the id of the key that it was done to."""

    id: str
    workspace: str
    at: float
    action: str
    by: str
    key: str
    about: Mapping[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True, slots=True)
class EndUser:
    """Somebody in whose name an app is called; `session` is the `user` of the calls."""

    id: str
    app: str
    session: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What is known of a stored file; its bytes are elsewhere."""

    id: str
    file: File
    app: str | None
    owner: str | None
    created_at: float


class Catalog(Protocol):
    """What is served, to whom, and the files that came in."""

    async def apps(self, workspace: str | None = None) -> list[App]:
        """Oldest first; None: those of every workspace."""
        ...

    async def app(self, app: str) -> App | None: ...
    async def app_of_source(self, source: str, workspace: str = WORKSPACE) -> App | None: ...
    async def save_app(self, app: App) -> None:
        """Adds or replaces."""
        ...

    async def remove_app(self, app: str) -> bool:
        """Removes an app with its keys and versions; its runs stay. False if there is none."""
        ...

    async def versions(self, app: str) -> list[Version]:
        """Newest first."""
        ...

    async def version(self, version: str) -> Version | None: ...
    async def add_version(self, version: Version) -> None: ...

    async def keys(self, app: str | None = None) -> list[Key]:
        """The keys that open just this app, or all keys of every workspace; oldest first."""
        ...

    async def keys_of_workspace(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[Key]:
        """Newest first, those that come after the key of this (created_at, id)."""
        ...

    async def key_of(self, digest: str) -> Key | None: ...

    async def find_key(self, key: str) -> Key | None:
        """By its id, as it is this very moment."""
        ...

    async def add_key(self, key: Key, audited: Audited | None = None) -> None:
        """Adds; one with the same digest is left as it is, and then nothing is audited."""
        ...

    async def replace_key(self, key: str, new: Key, until: float, audited: Audited) -> bool:
        """Adds `new`, and lets the key of an id end at `until`, or when it would have anyway. False, and nothing is
        done, if there is none that is neither revoked, expired (at `audited.at`) nor replaced already."""
        ...

    async def revoke_key(self, key: str, at: float, audited: Audited | None = None) -> bool:
        """By id. False, and nothing is audited, if there is none that is not revoked already."""
        ...

    async def touch_key(self, key: str, at: float) -> None:
        """That a key, by id, has opened something."""
        ...

    async def audit(self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20) -> list[Audited]:
        """What was done to a workspace's keys, newest first, from after the entry of this (at, id)."""
        ...

    async def end_user(self, app: str, session: str, at: float) -> EndUser:
        """The end user of that name, made if new; two callers at once get the same one."""
        ...

    async def find_end_user(self, end_user: str) -> EndUser | None: ...

    async def add_file(self, stored: StoredFile) -> None: ...
    async def find_file(self, file: str) -> StoredFile | None: ...
