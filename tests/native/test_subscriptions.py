"""Subscriptions over the API: who sees and changes them, and what is never shown."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from headrace.access.keys import Rights
from headrace.errors import HeadraceError
from tests.access.owning import Holder, key_of
from tests.api.serving import Serving, serving
from tests.triggers.trigger_plugins import StandInPlugins
from tests.triggers.world import triggered, webhook

PATH = "/api/v1/trigger-subscriptions"
WANTED = {"provider": "acme/shop_trigger/shop", "name": "shop", "parameters": {"token": "t0ken"}}


@pytest.fixture
def plugins() -> StandInPlugins:
    return StandInPlugins(expires_at=4_000_000_000)


@pytest.fixture
async def server(tmp_path: Path, plugins: StandInPlugins) -> AsyncGenerator[Serving]:
    async with serving(tmp_path, trigger_plugins=plugins) as server:
        yield server


async def holder(server: Serving, *permissions: str, workspace: str = "default", **more: Any) -> Holder:
    return Holder(server, await key_of(server, Rights(workspace, frozenset(permissions), **more)), [])


async def call(who: Holder, method: str, path: str = PATH, status: int = 200, **more: Any) -> Any:
    reply = await who.call(method, path, **more)
    assert reply.status == status, reply
    assert b"t0ken" not in reply.body
    assert b"s3cret" not in reply.body
    return reply.json


async def test_a_subscription_is_made_renewed_and_removed(server: Serving, plugins: StandInPlugins):
    who = await holder(server, "read", "run", "manage")
    subscription = await call(who, "POST", status=201, json=WANTED)
    assert subscription["url"] == plugins.service[0]
    assert (subscription["status"], subscription["error"], subscription["expires_at"]) == (
        "active",
        None,
        4_000_000_000,
    )
    assert await call(who, "GET") == {"data": [subscription]}
    plugins.expires_at += 86_400
    renewed = await call(who, "POST", f"{PATH}/{subscription['id']}/refresh")
    assert renewed == {**subscription, "expires_at": 4_000_086_400, "refresh_at": 4_000_082_800}
    assert (await call(who, "POST", status=409, json=WANTED))["code"] == "subscription_exists"

    plugins.error = HeadraceError("out of order")
    assert (await call(who, "DELETE", f"{PATH}/{subscription['id']}", 502))["code"] == "subscription_failed"
    (failing,) = (await call(who, "GET"))["data"]
    assert (failing["status"], failing["error"]) == ("failing", "out of order")
    assert await call(who, "DELETE", f"{PATH}/{subscription['id']}?force=true") == {"id": subscription["id"]}
    assert await call(who, "GET") == {"data": []}


async def test_what_is_not_valid(server: Serving, plugins: StandInPlugins):
    who = await holder(server, "manage")
    for wrong in (
        {**WANTED, "provider": "shop"},
        {**WANTED, "name": ""},
        {**WANTED, "parameters": []},
        {**WANTED, "secret": "x"},
        {"name": "shop"},
    ):
        assert (await call(who, "POST", status=400, json=wrong))["code"] == "invalid_param"
    assert (await call(who, "POST", f"{PATH}/nonsense/refresh", 404))["code"] == "not_found"
    assert plugins.calls == []


async def test_each_needs_its_permission(server: Serving):
    owner = await holder(server, "read", "run", "manage")
    subscription = await call(owner, "POST", status=201, json=WANTED)
    reader, manager = await holder(server, "read"), await holder(server, "manage")
    assert (await call(reader, "GET"))["data"] == [{**subscription, "url": None}]
    await call(reader, "DELETE", f"{PATH}/{subscription['id']}", 403)
    assert (await call(manager, "POST", f"{PATH}/{subscription['id']}/refresh"))["url"] is None
    stranger = await holder(server, "read", "manage", workspace="elsewhere")
    assert await call(stranger, "GET") == {"data": []}
    await call(stranger, "DELETE", f"{PATH}/{subscription['id']}", 404)
    app = (await server.add("hooks.yml", triggered(webhook()))).release.app.id
    of_some = await holder(server, "read", "manage", apps=frozenset({app}))
    for method in ("GET", "POST"):
        refusal = await call(of_some, method, status=403, json=WANTED)
        assert refusal["message"].startswith("Subscriptions concern all apps of a workspace")
