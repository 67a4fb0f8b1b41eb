"""What `/docs` says of keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.http.routing import Security
from headrace.api.openapi import error, operation, parameter, responses
from headrace.times import times

WORKSPACE_KEY = Security(
    "WorkspaceKey",
    "`ws-...`, a workspace's key with the permission `manage`; `headrace keys create` makes the first one",
)

_TAG = "Keys"
_ID = "3f6f2b1c-5d0f-4a52-9d0a-0b8a4a3c1e77"
_NEW_ID = "c1d7c8a2-1f43-4f0e-8a55-6a6d2c9b4e10"
_APP_ID = "b2c69214-ecc5-4196-99c4-c8fdf975a694"
_KEY: Mapping[str, Any] = {
    "id": _ID,
    "prefix": "ws-4fQ9x",
    "name": "nightly import",
    "workspace": "default",
    "permissions": ["run", "read"],
    "apps": [_APP_ID],
    "app": None,
    **times(created_at=1795226714.25, expires_at=1797818714.25, revoked_at=None, last_used_at=None),
    "replaced_by": None,
}
_MADE = {**_KEY, "key": "ws-4fQ9xN0tB2mJ7kYw-example-only-31"}
_ENTRY = {
    "id": "7a2f9d1e-8c3b-4b0a-9f51-2e6d4c8b7a90",
    "action": "rotated",
    "by": "cli",
    "key_id": _ID,
    "about": {"replaced_by": _NEW_ID, "prefix": "ws-9aB3c", "expires_at": 1795313114},
    **times(at=1795226714.25),
}

_NO_KEY = error("unauthorized", "Access token is invalid", 401)
_UNKNOWN = error("not_found", "Key not found", 404)
_NO_APP = error("not_found", f"App not found with id: {_APP_ID}", 404)
_BEYOND = error("forbidden", "This key cannot give what it may not do itself: run.", 403)
_NO_NAME = error("invalid_param", "name: Field required", 400)
_BAD_OVERLAP = error("invalid_param", "overlap: Input should be from 0 to 2592000 seconds", 400)
_BAD_LIMIT = error("invalid_param", "limit: Input should be an integer from 1 to 100, not '0'", 400)
_BAD_CURSOR = error("invalid_param", "cursor: Input should be the next_cursor of the page before", 400)
_NOT_LIVE = error("key_not_live", f"This key was rotated already: its successor is {_NEW_ID}.", 409)
_TOO_LARGE = error("request_entity_too_large", "The data value transmitted exceeds the capacity limit.", 413)
_NO_JSON = error("unsupported_media_type", "The request's Content-Type is not 'application/json'.", 415)

_UUID = {"type": "string", "format": "uuid"}
_SECONDS = {"type": "number"}
_WHICH = parameter("path", "key_id", "A key's id", _UUID)
_PAGING = [
    parameter("query", "limit", "Entries a page", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    parameter("query", "cursor", "The `next_cursor` of the page before", {"type": "string"}),
]

CREATE = operation(
    "createKey",
    _TAG,
    "Make a key",
    "The only answer that shows it: only its hash is stored. What it may do, and with which apps, is not more than "
    "what the caller may. With `app` it is an app's own key (`app-...`), as Dify's clients use them.",
    responses((_NO_NAME, _NO_KEY, _BEYOND, _NO_APP, _TOO_LARGE, _NO_JSON), 201, json=_MADE),
    body={
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 100},
                    "permissions": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "enum": ["run", "read", "manage"]},
                        "description": "Required, but for an app's own key, which has all of them if left out",
                    },
                    "apps": {
                        "type": ["array", "null"],
                        "items": _UUID,
                        "description": "Ids of the apps it is for; null: all of the workspace, those to come too",
                    },
                    "app": {**_UUID, "description": "Make it this app's own key"},
                    "expires_in": {**_SECONDS, "description": "Seconds that it is good for"},
                    "expires_at": {**_SECONDS, "description": "Or until when, in seconds since the epoch"},
                },
            },
            "example": {"name": "nightly import", "permissions": ["run", "read"], "apps": [_APP_ID]},
        }
    },
)
LIST = operation(
    "listKeys",
    _TAG,
    "List keys",
    "Newest first, those that are revoked or have expired too. Of a key only its beginning is told. `last_used_at` is "
    "exact to a minute.",
    responses((_BAD_LIMIT, _NO_KEY), json={"data": [_KEY], "next_cursor": None}),
    _PAGING,
)
AUDIT = operation(
    "listKeyChanges",
    _TAG,
    "See what was done to keys",
    "Newest first: keys `created`, `rotated` and `revoked`, and `by` whom: a key's id, the name that an identity "
    "provider gives, `cli`, or `headrace` for those that come with an app. Needs a key for all apps.",
    responses((_BAD_CURSOR, _NO_KEY), json={"data": [_ENTRY], "next_cursor": None}),
    _PAGING,
)
DETAIL = operation(
    "getKey", _TAG, "Look at a key", "As the list tells it.", responses((_NO_KEY, _UNKNOWN), json=_KEY), [_WHICH]
)
ROTATE = operation(
    "rotateKey",
    _TAG,
    "Rotate a key",
    "Makes a key with the same rights, and as long a life if it has an end. The old one goes on for `overlap` seconds, "
    "so that no request is lost while its users change over; 24 hours if left out, 0 ends it at once.",
    responses((_BAD_OVERLAP, _NO_KEY, _BEYOND, _UNKNOWN, _NOT_LIVE, _TOO_LARGE), 201, json={**_MADE, "id": _NEW_ID}),
    [_WHICH],
    {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"overlap": {**_SECONDS, "minimum": 0, "maximum": 2592000, "default": 86400}},
            },
            "example": {"overlap": 3600},
        }
    },
)
REVOKE = operation(
    "revokeKey",
    _TAG,
    "Revoke a key",
    "For good, and everywhere within a second. Done again it changes nothing.",
    responses((_NO_KEY, _UNKNOWN), json={**_KEY, **times(revoked_at=1795227714.5)}),
    [_WHICH],
)
