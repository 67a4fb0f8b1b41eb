"""A workspace's keys: made, listed, rotated, revoked, and what was done to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.access.keys import OVERLAP, Rights, in_order, may_give, oversees
from headrace.api.auth import Api, as_uuid
from headrace.api.http.params import maybe_text, number, text
from headrace.api.http.responses import told
from headrace.api.http.routing import OperationList
from headrace.api.native import key_docs as operations
from headrace.api.native.run_list import cursor_of, place_of
from headrace.api.openapi import add_get
from headrace.errors import Forbidden, InvalidParam, NotFound
from headrace.ports import Audited, Key, Principal
from headrace.times import times, whole_seconds
from headrace.values import Value

_PAGE, _LARGEST_PAGE = 20, 100
_LONGEST_LIFE = 100 * 365 * 24 * 3600  # seconds
_MOST_APPS = 1000
_SECRET: Mapping[str, str] = {"Cache-Control": "no-store"}
_CREATE = frozenset({"name", "permissions", "apps", "app", "expires_in", "expires_at"})
_ROTATE = frozenset({"overlap"})


class KeyRoutes:
    """`/keys...`, for a workspace's keys that may manage. Of keys for more apps than the caller's, none is found.

    What makes keys takes no Idempotency-Key: the first answer would have to be kept, and the key with it.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self._access = api.apps.access
        self._catalog = api.apps.catalog

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/keys", self.create, methods=["POST"], **operations.CREATE)
        add_get(router, "/keys", self.listed, operations.LIST)
        add_get(router, "/keys/audit", self.audit, operations.AUDIT)
        add_get(router, "/keys/{key_id}", self.detail, operations.DETAIL)
        router.add_api_route("/keys/{key_id}/rotate", self.rotate, methods=["POST"], **operations.ROTATE)
        router.add_api_route("/keys/{key_id}", self.revoke, methods=["DELETE"], **operations.REVOKE)

    # ------------------------------------------------------------------------------------------------------ change

    async def create(self, request: Request) -> Response:
        caller = await self._caller(request)
        asked = await self.api.json(request)
        _only(asked, _CREATE)
        name, expires_at = text(asked, "name").strip(), self._expiry(asked)
        if not name:
            raise InvalidParam("name: Input should not be empty")
        rights = _rights(asked, caller.workspace)
        may_give(caller, rights)
        key, secret = await self._access.create(rights, caller.id, name=name, expires_at=expires_at)
        return _shown_once(key, secret)

    async def rotate(self, request: Request) -> Response:
        caller = await self._caller(request)
        raw = await self.api.body(request)
        asked = self.api.object_of(raw) if raw.strip() else {}
        _only(asked, _ROTATE)
        overlap = _seconds(asked, "overlap")
        key = await self._key(request, caller)
        may_give(caller, Rights(key.workspace, key.permissions, key.apps, key.app))
        return _shown_once(*await self._access.rotate(key, caller.id, OVERLAP if overlap is None else overlap))

    async def revoke(self, request: Request) -> Response:
        caller = await self._caller(request)
        key = await self._key(request, caller)
        await self._access.revoke(key, caller.id)
        return told(_wire(await self._catalog.find_key(key.id) or key))

    # -------------------------------------------------------------------------------------------------------- look

    async def listed(self, request: Request) -> Response:
        caller = await self._caller(request)
        limit, older = _page(request)
        found: list[Key] = []
        while len(found) <= limit:
            some = await self._catalog.keys_of_workspace(caller.workspace, older=older, limit=_LARGEST_PAGE + 1)
            found += [key for key in some if oversees(caller, key)]
            if len(some) <= _LARGEST_PAGE:
                break
            older = (some[-1].created_at, some[-1].id)
        page = found[:limit]
        cursor = cursor_of(page[-1].created_at, page[-1].id) if len(found) > limit else None
        return told({"data": [_wire(key) for key in page], "next_cursor": cursor})

    async def detail(self, request: Request) -> Response:
        caller = await self._caller(request)
        return told(_wire(await self._key(request, caller)))

    async def audit(self, request: Request) -> Response:
        caller = await self._caller(request)
        if caller.apps is not None:
            raise Forbidden("Only a key for all apps of a workspace may see what was done to its keys.")
        limit, older = _page(request)
        found = await self._catalog.audit(caller.workspace, older=older, limit=limit + 1)
        page = found[:limit]
        cursor = cursor_of(page[-1].at, page[-1].id) if len(found) > limit else None
        return told({"data": [_entry(each) for each in page], "next_cursor": cursor})

    # ----------------------------------------------------------------------------------------------------- finding

    async def _caller(self, request: Request) -> Principal:
        caller = await self.api.principal(request, "manage")
        if caller.app is not None:
            raise Forbidden("An app's own key has no say over keys; a workspace's key with 'manage' has.")
        return caller

    async def _key(self, request: Request, caller: Principal) -> Key:
        unknown = NotFound("Key not found")
        found = await self._catalog.find_key(as_uuid(request.path_params["key_id"], unknown))
        if found is None or not oversees(caller, found):
            raise unknown
        return found

    def _expiry(self, asked: Mapping[str, Value]) -> float | None:
        """When a key ends, in seconds since the epoch."""
        now, life, end = self._access.clock(), _seconds(asked, "expires_in"), _seconds(asked, "expires_at")
        if life is not None and end is not None:
            raise InvalidParam("expires_at: Input should be left out where there is an expires_in")
        if life is not None:
            end = now + life
        if end is not None and not 0 < end - now <= _LONGEST_LIFE:
            name = "expires_at" if life is None else "expires_in"
            raise InvalidParam(f"{name}: Input should be in the future, and within a hundred years")
        return end


def _rights(asked: Mapping[str, Value], workspace: str) -> Rights:
    app, apps, given = maybe_text(asked, "app"), _texts(asked, "apps"), _texts(asked, "permissions")
    if app is not None:
        if apps is not None:
            raise InvalidParam("apps: Input should be left out for an app's own key")
        rights = Rights(workspace, app=_app(app, "app"))
        return rights if given is None else rights._replace(permissions=frozenset(given))
    if given is None:
        raise InvalidParam("permissions: Field required")
    if apps is not None and len(apps) > _MOST_APPS:
        raise InvalidParam(f"apps: Input should have at most {_MOST_APPS} entries")
    named = None if apps is None else frozenset(_app(each, "apps") for each in apps)
    return Rights(workspace, frozenset(given), named)


def _app(id_: str, name: str) -> str:
    return as_uuid(id_, InvalidParam(f"{name}: {id_[:50]!r} is not a valid uuid"))


def _texts(asked: Mapping[str, Value], name: str) -> list[str] | None:
    value = asked.get(name)
    if value is None:
        return None
    entries = cast("list[Value]", value) if isinstance(value, list) else [None]
    texts = [each for each in entries if isinstance(each, str)]
    if len(texts) != len(entries):
        raise InvalidParam(f"{name}: Input should be a list of strings")
    return texts


def _seconds(asked: Mapping[str, Value], name: str) -> float | None:
    value = asked.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidParam(f"{name}: Input should be a number of seconds")
    return float(value)


def _only(asked: Mapping[str, Value], known: frozenset[str]) -> None:
    """A misspelt `expires_in` must not make a key for ever."""
    if unknown := sorted(set(asked) - known):
        raise InvalidParam(f"{unknown[0][:50]}: Input should be one of {', '.join(sorted(known))}")


def _page(request: Request) -> tuple[int, tuple[float, str] | None]:
    query = request.query_params
    cursor = query.get("cursor")
    return number(query, "limit", _PAGE, _LARGEST_PAGE), place_of(cursor) if cursor else None


def _shown_once(key: Key, secret: str) -> Response:
    answer = told({**_wire(key), "key": secret}, 201)
    answer.headers.update(_SECRET)
    return answer


def _wire(key: Key) -> dict[str, Value]:
    return {
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "workspace": key.workspace,
        "permissions": in_order(key.permissions),
        "apps": None if key.apps is None else sorted(key.apps),
        "app": key.app,
        "replaced_by": key.replaced_by,
        **times(
            created_at=key.created_at, expires_at=key.expires_at, revoked_at=key.revoked_at, last_used_at=key.used_at
        ),
    }


def _entry(audited: Audited) -> dict[str, Value]:
    return {
        "id": audited.id,
        "action": audited.action,
        "by": audited.by,
        "key_id": audited.key,
        "about": {name: _about(name, value) for name, value in audited.about.items()},
        **times(at=audited.at),
    }


def _about(name: str, value: Value) -> Value:
    return whole_seconds(value) if name.endswith("_at") and isinstance(value, float) else value
