"""Keys: requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from headrace.access.keys import in_order
from headrace.api.http.schema import Media, Uuid, closed, described
from headrace.api.native.schemas.common import APP_ID, Milliseconds, Seconds, one_of
from headrace.errors import InvalidParam
from headrace.ports import AuditEntry, Key
from headrace.times import milliseconds, whole_seconds
from headrace.values import Value


def _not_empty(text: str) -> str:
    if not text.strip():
        raise InvalidParam("name: Input should not be empty")
    return text.replace("\0", "").strip()


Number = Annotated[float, Field(allow_inf_nan=False)]


@closed
class KeyRequest(TypedDict):
    """A new key. Without a lifetime it never expires."""

    name: Annotated[str, AfterValidator(_not_empty), Field(json_schema_extra={"minLength": 1, "maxLength": 100})]
    permissions: NotRequired[list[Annotated[str, one_of("run", "read", "manage", "knowledge")]] | None]
    """Required, except for an app's own key, which has all but `knowledge` by default. `knowledge` stands alone: it
    makes a knowledge key, which opens the workspace's knowledge bases and nothing else."""
    apps: NotRequired[list[Uuid] | None]
    """The apps that the key is for; null: all of the workspace, including future ones."""
    app: NotRequired[Uuid | None]
    """Makes it this app's own key."""
    expires_in: NotRequired[Number | None]
    """Lifetime in seconds."""
    expires_at: NotRequired[Number | None]
    """End of its life, in seconds since the epoch."""


@closed
class KeyRotation(TypedDict):
    """How a key is rotated."""

    overlap: NotRequired[Annotated[Number | None, Field(json_schema_extra={"minimum": 0, "maximum": 2592000})]]
    """Seconds for which the old key stays valid; 24 hours by default."""


@described
class KeyBody(TypedDict):
    """A key; only its beginning is shown."""

    id: Uuid
    prefix: str
    name: str
    workspace: str
    permissions: list[str]
    apps: list[Uuid] | None
    """null: all apps of the workspace."""
    app: Uuid | None
    replaced_by: Uuid | None
    created_at: Seconds
    created_at_ms: Milliseconds
    expires_at: Seconds | None
    expires_at_ms: Milliseconds | None
    revoked_at: Seconds | None
    revoked_at_ms: Milliseconds | None
    last_used_at: Seconds | None
    last_used_at_ms: Milliseconds | None


class NewKey(KeyBody):
    """A new key, with the key itself."""

    key: str


class KeyPage(TypedDict):
    """Keys, newest first."""

    data: list[KeyBody]
    next_cursor: str | None


class KeyChange(TypedDict):
    """A change of a key."""

    id: Uuid
    action: Annotated[str, one_of("created", "rotated", "revoked")]
    by: str
    key_id: Uuid
    about: Mapping[str, Any]
    at: Seconds
    at_ms: Milliseconds


class KeyChangePage(TypedDict):
    """Changes of keys, newest first."""

    data: list[KeyChange]
    next_cursor: str | None


def key_body(key: Key) -> KeyBody:
    return {
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "workspace": key.workspace,
        "permissions": in_order(key.permissions),
        "apps": None if key.apps is None else sorted(key.apps),
        "app": key.app,
        "replaced_by": key.replaced_by,
        "created_at": whole_seconds(key.created_at),
        "expires_at": whole_seconds(key.expires_at),
        "revoked_at": whole_seconds(key.revoked_at),
        "last_used_at": whole_seconds(key.used_at),
        "created_at_ms": milliseconds(key.created_at),
        "expires_at_ms": milliseconds(key.expires_at),
        "revoked_at_ms": milliseconds(key.revoked_at),
        "last_used_at_ms": milliseconds(key.used_at),
    }


def key_change(audited: AuditEntry) -> KeyChange:
    return {
        "id": audited.id,
        "action": audited.action,
        "by": audited.by,
        "key_id": audited.key,
        "about": {name: _about(name, value) for name, value in audited.about.items()},
        "at": whole_seconds(audited.at),
        "at_ms": milliseconds(audited.at),
    }


def _about(name: str, value: Value) -> Value:
    return whole_seconds(value) if name.endswith("_at") and isinstance(value, float) else value


# ----------------------------------------------------------------------------------------------------------- examples

_ID = "3f6f2b1c-5d0f-4a52-9d0a-0b8a4a3c1e77"
NEW_ID = "c1d7c8a2-1f43-4f0e-8a55-6a6d2c9b4e10"
_KEY = key_body(
    Key(
        _ID,
        None,
        "",
        "ws-4fQ9x",
        1795226714.25,
        name="nightly import",
        permissions=frozenset({"run", "read"}),
        apps=frozenset({APP_ID}),
        expires_at=1797818714.25,
    )
)
_NEW: NewKey = {**_KEY, "key": "ws-4fQ9xN0tB2mJ7kYw-example-only-31"}

CREATE = Media(KeyRequest, {"name": "nightly import", "permissions": ["run", "read"], "apps": [APP_ID]})
ROTATE = Media(KeyRotation, {"overlap": 3600})
CREATED = Media(NewKey, _NEW)
ROTATED = Media(NewKey, {**_NEW, "id": NEW_ID})
KEY = Media(KeyBody, _KEY)
KEYS = Media(KeyPage, {"data": [_KEY], "next_cursor": None})
REVOKED = Media(KeyBody, {**_KEY, "revoked_at": 1795227714, "revoked_at_ms": 1795227714500})
_ROTATED = {"replaced_by": NEW_ID, "prefix": "ws-9aB3c", "expires_at": 1795313114}
_CHANGE = AuditEntry("7a2f9d1e-8c3b-4b0a-9f51-2e6d4c8b7a90", "default", 1795226714.25, "rotated", "cli", _ID, _ROTATED)
CHANGES = Media(KeyChangePage, {"data": [key_change(_CHANGE)], "next_cursor": None})
