"""Apps, their versions and keys, end users and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import NamedTuple, Protocol

from headrace.frozen import frozen
from headrace.values import File, Value

WORKSPACE = "default"
"""The workspace of everything that names none."""

WORKSPACE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""The valid names of workspaces."""


@frozen
class Principal:
    """The caller: a key, or an identity that an identity provider has authenticated.

    `id` is the key's, or the issuer's name for the caller; `permissions` are among run, read and manage, or knowledge
    alone; `apps` are those it may call, None for all of the workspace; `app` is the one that an app's own key belongs
    to.
    """

    id: str
    workspace: str
    permissions: frozenset[str]
    apps: frozenset[str] | None = None
    app: str | None = None


class Identity(Protocol):
    """An identity provider: bearer tokens that are not Headrace's own keys."""

    async def principal(self, token: str) -> Principal:
        """The principal of a token. Unauthorized if the token is not valid here and now."""
        ...


class SignInAttempt(NamedTuple):
    """What binds the response of an identity provider to the browser that began to sign in."""

    state: str
    nonce: str
    verifier: str  # of PKCE


class CodeFlow(Protocol):
    """Signs people in at an identity provider, with OpenID Connect's authorization code flow."""

    async def begin(self, redirect_uri: str) -> tuple[str, SignInAttempt]:
        """(the URL to send a browser to, what has to be known when it comes back)."""
        ...

    async def complete(self, code: str, attempt: SignInAttempt, redirect_uri: str) -> Principal:
        """Who has signed in, by the code with which the browser came back. Unauthorized if the code is not valid,
        Forbidden if the identity has no permission."""
        ...


@frozen
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


@frozen
class Version:
    """One content of an app's file, with what Dify calls a workflow id. `number` counts an app's versions from 1."""

    id: str
    app: str
    number: int
    digest: str  # sha256 of the content, hex
    content: str  # YAML, as it was
    created_at: float


@frozen
class Key:
    """An API key, of which only the hash is stored. `app` is the one that it belongs to; None for a workspace's key,
    for `apps` (None: all of the workspace). `permissions` are among run, read and manage, or knowledge alone;
    `replaced_by` is the id of the key that it was rotated to, `used_at` the time of its last use, within a minute or
    so."""

    id: str
    app: str | None
    digest: str  # sha256 of the key, hex
    prefix: str  # its first characters, to recognize it by
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
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@frozen
class AuditEntry:
    """A change to a workspace's keys. `action` is created, rotated or revoked; `by` is a principal's id, `cli`, or
    `headrace` for keys that come with an app; `key` is the id of the changed key."""

    id: str
    workspace: str
    at: float
    action: str
    by: str
    key: str
    about: Mapping[str, Value] = field(default_factory=dict[str, Value])


@frozen
class EndUser:
    """The person for whom an app is called; `session` is the `user` of the calls."""

    id: str
    app: str
    session: str
    created_at: float
    updated_at: float


@frozen
class StoredFile:
    """A stored file without its bytes, which are in a BlobStore."""

    id: str
    file: File
    app: str | None
    owner: str | None
    created_at: float


class Catalog(Protocol):
    """What is served, to whom, and the stored files."""

    async def apps(self, workspace: str | None = None) -> list[App]:
        """Oldest first; those of every workspace if None."""
        ...

    async def app(self, app: str) -> App | None: ...
    async def app_of_source(self, source: str, workspace: str = WORKSPACE) -> App | None: ...
    async def add_app(self, app: App) -> App:
        """Adds an app, unless its workspace has one of the same source, which another process may have added just now.
        Returns the one that it has."""
        ...

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
        """The keys of this app, or all keys of every workspace; oldest first."""
        ...

    async def keys_of_workspace(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[Key]:
        """Newest first, after the key with this (created_at, id)."""
        ...

    async def key_of(self, digest: str) -> Key | None: ...

    async def find_key(self, key: str) -> Key | None:
        """By its id, never from a cache."""
        ...

    async def add_key(self, key: Key, entry: AuditEntry | None = None) -> None:
        """Adds a key, unless there is one with the same digest; then nothing is audited."""
        ...

    async def replace_key(self, key: str, new: Key, until: float, entry: AuditEntry) -> bool:
        """Adds `new`, and lets the key expire at `until`, unless it expires earlier. False, and nothing is done, if it
        is unknown, revoked, expired (at `audited.at`) or replaced already."""
        ...

    async def revoke_key(self, key: str, at: float, entry: AuditEntry | None = None) -> bool:
        """By id. False, and nothing is audited, if it is unknown or revoked already."""
        ...

    async def touch_key(self, key: str, at: float) -> None:
        """Records the use of a key, by id."""
        ...

    async def audit(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[AuditEntry]:
        """The changes to a workspace's keys, newest first, after the entry with this (at, id)."""
        ...

    async def end_user(self, app: str, session: str, at: float) -> EndUser:
        """The end user with this `session`, created if new; two callers at once get the same one."""
        ...

    async def find_end_user(self, end_user: str) -> EndUser | None: ...

    async def add_file(self, file: StoredFile) -> None: ...
    async def find_file(self, file: str) -> StoredFile | None: ...
