"""A workspace's keys: create, list, rotate and revoke them, and list these changes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.access.keys import OVERLAP, Rights, can_manage_key, check_can_grant
from headrace.api.auth import Api, as_uuid
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes, Security
from headrace.api.native.cursor import CURSOR, PAGE_LIMIT, cursor_of
from headrace.api.native.schemas import keys
from headrace.api.native.schemas.common import NO_APP
from headrace.api.native.schemas.keys import NEW_ID, KeyRequest, KeyRotation, NewKey, key_body, key_change
from headrace.errors import Forbidden, InvalidParam, NotFound, RequestError
from headrace.ports import Key, Principal

_KEYS_READ = 101  # at a time, from the store
_LONGEST_LIFE = 100 * 365 * 24 * 3600  # seconds
_MOST_APPS = 1000

WORKSPACE_KEY = Security(
    "WorkspaceKey",
    "`ws-...`, a workspace's key with the permission `manage`; `headrace keys create` makes the first one",
)


_KEY = "/keys/{key_id}"
_PAGE = (PAGE_LIMIT, CURSOR)
_NO_KEY = "Key not found"
_NOT_GRANTABLE = Forbidden("This key cannot grant permissions that it does not have: run.")
_NOT_LIVE = RequestError(f"This key was rotated already: its successor is {NEW_ID}.", "key_not_live", 409)


class KeyRoutes(Routes):
    """`/keys...`, for a workspace's keys with the permission `manage`. Keys for other apps than the caller's are not
    found.

    Creating a key supports no Idempotency-Key: the response would have to be stored, and the key with it.
    """

    tag = "Keys"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._access = api.apps.access
        self._catalog = api.apps.catalog

    # ------------------------------------------------------------------------------------------------------ change

    @Operation(
        "POST",
        "/keys",
        {201: keys.CREATED},
        body=keys.CREATE,
        errors=[InvalidParam("name: Field required"), _NOT_GRANTABLE, NO_APP],
    )
    async def create_key(self, request: Request) -> Response:
        """Create a key.

        The only response that shows the key: only its hash is stored. Its permissions and apps cannot go beyond the
        caller's own. With `app` it is an app's own key (`app-...`), with the permission `knowledge` a knowledge key
        (`dataset-...`), as Dify's clients use them. Only a key that may do everything in its workspace can create a
        knowledge key.
        """
        caller = await self._caller(request)
        body = parse(KeyRequest, await self.api.json(request))
        expires_at = self._expiry(body)
        rights = _rights(body, caller.workspace)
        check_can_grant(caller, rights)
        key, secret = await self._access.create(rights, caller.id, name=body["name"], expires_at=expires_at)
        return _shown_once(key, secret)

    @Operation(
        "POST",
        f"{_KEY}/rotate",
        {201: keys.ROTATED},
        body=keys.ROTATE,
        body_required=False,
        errors=[
            InvalidParam("overlap: Input should be from 0 to 2592000 seconds"),
            _NOT_GRANTABLE,
            NotFound(_NO_KEY),
            _NOT_LIVE,
        ],
    )
    async def rotate_key(self, request: Request) -> Response:
        """Rotate a key.

        Creates a key with the same permissions, and the same lifetime if it has one. The old key stays valid for
        `overlap` seconds, so that its users can change over without a failed request; 24 hours by default, 0 ends it at
        once.
        """
        caller = await self._caller(request)
        raw = await self.api.body(request)
        overlap = parse(KeyRotation, self.api.object_of(raw) if raw.strip() else {}).get("overlap")
        key = await self._key(request, caller)
        check_can_grant(caller, Rights(key.workspace, key.permissions, key.apps, key.app))
        return _shown_once(*await self._access.rotate(key, caller.id, OVERLAP if overlap is None else overlap))

    @Operation("DELETE", _KEY, keys.REVOKED, errors=[NotFound(_NO_KEY)])
    async def revoke_key(self, request: Request) -> Response:
        """Revoke a key.

        Permanently, and in all processes within a second. Revoking it again changes nothing.
        """
        caller = await self._caller(request)
        key = await self._key(request, caller)
        await self._access.revoke(key, caller.id)
        return json_response(key_body(await self._catalog.find_key(key.id) or key))

    # --------------------------------------------------------------------------------------------------------- get

    @Operation("GET", "/keys", keys.KEYS, parameters=_PAGE)
    async def list_keys(self, request: Request) -> Response:
        """List keys.

        Newest first, including keys that are revoked or have expired. Only the beginning of a key is shown.
        `last_used_at` is exact to a minute.
        """
        caller = await self._caller(request)
        limit, older = PAGE_LIMIT.of(request), CURSOR.of(request)
        visible: list[Key] = []
        while len(visible) <= limit:
            keys = await self._catalog.keys_of_workspace(caller.workspace, older=older, limit=_KEYS_READ)
            visible += [key for key in keys if can_manage_key(caller, key)]
            if len(keys) < _KEYS_READ:
                break
            older = (keys[-1].created_at, keys[-1].id)
        page = visible[:limit]
        cursor = cursor_of(page[-1].created_at, page[-1].id) if len(visible) > limit else None
        return json_response({"data": [key_body(key) for key in page], "next_cursor": cursor})

    @Operation("GET", "/keys/audit", keys.CHANGES, parameters=_PAGE)
    async def list_key_changes(self, request: Request) -> Response:
        """List changes of keys.

        Newest first: keys `created`, `rotated` and `revoked`, and `by` whom: a key's id, the name that an identity
        provider gives, `cli`, or `headrace` for those that come with an app. Needs a key for all apps.
        """
        caller = await self._caller(request)
        if caller.apps is not None:
            raise Forbidden("Only a key for all apps of a workspace may list the changes of its keys.")
        limit, older = PAGE_LIMIT.of(request), CURSOR.of(request)
        changes = await self._catalog.audit(caller.workspace, older=older, limit=limit + 1)
        page = changes[:limit]
        cursor = cursor_of(page[-1].at, page[-1].id) if len(changes) > limit else None
        return json_response({"data": [key_change(entry) for entry in page], "next_cursor": cursor})

    @Operation("GET", _KEY, keys.KEY, errors=[NotFound(_NO_KEY)])
    async def get_key(self, request: Request) -> Response:
        """Get a key.

        As in the list.
        """
        caller = await self._caller(request)
        return json_response(key_body(await self._key(request, caller)))

    # -------------------------------------------------------------------------------------------------------- find

    async def _caller(self, request: Request) -> Principal:
        caller = await self.api.principal(request, "manage")
        if caller.app is not None:
            raise Forbidden("An app's own key cannot manage keys; use a workspace's key with 'manage'.")
        return caller

    async def _key(self, request: Request, caller: Principal) -> Key:
        key = await self._catalog.find_key(as_uuid(request.path_params["key_id"], NotFound(_NO_KEY)))
        if key is None or not can_manage_key(caller, key):
            raise NotFound(_NO_KEY)
        return key

    def _expiry(self, body: KeyRequest) -> float | None:
        """When a key ends, in seconds since the epoch."""
        now, life, end = self._access.clock(), body.get("expires_in"), body.get("expires_at")
        if life is not None and end is not None:
            raise InvalidParam("expires_at: Input should be left out where there is an expires_in")
        if life is not None:
            end = now + life
        if end is not None and not 0 < end - now <= _LONGEST_LIFE:
            name = "expires_at" if life is None else "expires_in"
            raise InvalidParam(f"{name}: Input should be in the future, and within a hundred years")
        return end


def _rights(body: KeyRequest, workspace: str) -> Rights:
    app, apps, permissions = body.get("app"), body.get("apps"), body.get("permissions")
    if app is not None:
        if apps is not None:
            raise InvalidParam("apps: Input should be left out for an app's own key")
        rights = Rights(workspace, app=_app(app, "app"))
        return rights if permissions is None else rights._replace(permissions=frozenset(permissions))
    if permissions is None:
        raise InvalidParam("permissions: Field required")
    if apps is not None and len(apps) > _MOST_APPS:
        raise InvalidParam(f"apps: Input should have at most {_MOST_APPS} entries")
    app_ids = None if apps is None else frozenset(_app(id_, "apps") for id_ in apps)
    return Rights(workspace, frozenset(permissions), app_ids)


def _app(id_: str, name: str) -> str:
    return as_uuid(id_, InvalidParam(f"{name}: {id_[:50]!r} is not a valid uuid"))


def _shown_once(key: Key, secret: str) -> Response:
    body: NewKey = {**key_body(key), "key": secret}
    return json_response(body, 201, {"Cache-Control": "no-store"})
