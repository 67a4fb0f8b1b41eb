"""Keys: requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from headrace.api.http.schema import Media, Uuid, closed, described
from headrace.api.native.schemas.common import APP_ID, Milliseconds, Seconds, one_of
from headrace.errors import InvalidParam


def _not_empty(text: str) -> str:
    if not text.strip():
        raise InvalidParam("name: Input should not be empty")
    return text.replace("\0", "").strip()


Number = Annotated[float, Field(allow_inf_nan=False)]


@closed
class KeyRequest(TypedDict):
    """A new key. Without a lifetime it never expires."""

    name: Annotated[str, AfterValidator(_not_empty), Field(json_schema_extra={"minLength": 1, "maxLength": 100})]
    permissions: NotRequired[list[Annotated[str, one_of("run", "read", "manage")]] | None]
    """Required, except for an app's own key, which has all of them by default."""
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


# ----------------------------------------------------------------------------------------------------------- examples

_ID = "3f6f2b1c-5d0f-4a52-9d0a-0b8a4a3c1e77"
NEW_ID = "c1d7c8a2-1f43-4f0e-8a55-6a6d2c9b4e10"
_KEY: KeyBody = {
    "id": _ID,
    "prefix": "ws-4fQ9x",
    "name": "nightly import",
    "workspace": "default",
    "permissions": ["run", "read"],
    "apps": [APP_ID],
    "app": None,
    "replaced_by": None,
    "created_at": 1795226714,
    "created_at_ms": 1795226714250,
    "expires_at": 1797818714,
    "expires_at_ms": 1797818714250,
    "revoked_at": None,
    "revoked_at_ms": None,
    "last_used_at": None,
    "last_used_at_ms": None,
}
_NEW: NewKey = {**_KEY, "key": "ws-4fQ9xN0tB2mJ7kYw-example-only-31"}

CREATE = Media(KeyRequest, {"name": "nightly import", "permissions": ["run", "read"], "apps": [APP_ID]})
ROTATE = Media(KeyRotation, {"overlap": 3600})
CREATED = Media(NewKey, _NEW)
ROTATED = Media(NewKey, {**_NEW, "id": NEW_ID})
KEY = Media(KeyBody, _KEY)
KEYS = Media(KeyPage, {"data": [_KEY], "next_cursor": None})
REVOKED = Media(KeyBody, {**_KEY, "revoked_at": 1795227714, "revoked_at_ms": 1795227714500})
CHANGES = Media(
    KeyChangePage,
    {
        "data": [
            {
                "id": "7a2f9d1e-8c3b-4b0a-9f51-2e6d4c8b7a90",
                "action": "rotated",
                "by": "cli",
                "key_id": _ID,
                "about": {"replaced_by": NEW_ID, "prefix": "ws-9aB3c", "expires_at": 1795313114},
                "at": 1795226714,
                "at_ms": 1795226714250,
            }
        ],
        "next_cursor": None,
    },
)
