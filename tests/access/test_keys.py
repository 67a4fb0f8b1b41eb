"""`/api/v1/keys`: keys made, listed, rotated, revoked, and what was done to them."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID, uuid4

import pytest

from headrace.access.keys import Rights
from headrace.apps.catalog import Release
from tests.access.owning import Holder, Reply, key_of, published
from tests.api.serving import Serving

KEYS = "/api/v1/keys"
READ = {"name": "reader", "permissions": ["read"]}


@pytest.fixture
async def apps(server: Serving) -> list[Release]:
    return await published(server, "team", "ours")


@pytest.fixture
async def manager(server: Serving, apps: Sequence[Release]) -> Holder:
    return Holder(server, await key_of(server, Rights("team")), [item.app.id for item in apps])


def using(manager: Holder, key: str) -> Holder:
    return Holder(manager.server, key, manager.apps)


async def create_key(manager: Holder, **params: Any) -> Any:
    reply = await manager.call("POST", KEYS, json={**READ, **params})
    assert reply.status == 201, reply
    return reply.json


async def works(manager: Holder, key: str, app: str | None = None) -> bool:
    return (await using(manager, key).call("GET", "/v1/info", app or manager.apps[0])).status == 200


def error(reply: Reply) -> tuple[int, str]:
    assert reply.json["status"] == reply.status
    assert reply.json["message"]
    return reply.status, reply.json["code"]


# ----------------------------------------------------------------------------------------------------------- making


async def test_a_key_is_shown_once(manager: Holder):
    async with manager.server.session.post(
        manager.server.url + KEYS, headers={"Authorization": f"Bearer {manager.key}"}, json=READ
    ) as answer:
        body = await answer.json()
        assert (answer.status, answer.headers["Cache-Control"]) == (201, "no-store")
    key = body.pop("key")
    assert key.startswith("ws-")
    assert len(key) >= len("ws-") + 160 / 6
    assert body["prefix"] == key[:8]
    assert (body["name"], body["permissions"], body["apps"], body["app"]) == ("reader", ["read"], None, None)
    assert (body["workspace"], body["expires_at"], body["revoked_at"]) == ("team", None, None)
    detail = (await manager.call("GET", f"{KEYS}/{body['id']}")).json
    assert detail == body
    listed = (await manager.call("GET", KEYS)).json["data"]
    assert detail in listed
    assert key not in str(listed)
    assert await works(manager, key)
    used = (await manager.call("GET", f"{KEYS}/{body['id']}")).json["last_used_at"]
    assert used >= body["created_at"]


async def test_a_key_may_do_what_it_was_made_for(manager: Holder):
    first, second, _ = manager.apps
    limited = await create_key(manager, apps=[first.upper(), first])
    assert limited["apps"] == [first]
    assert await works(manager, limited["key"], first)
    assert not await works(manager, limited["key"], second)
    assert (await using(manager, limited["key"]).call("POST", "/v1/workflows/run", first, json={})).status == 403
    own = await create_key(manager, app=second, permissions=None)
    assert own["key"].startswith("app-")
    assert (own["app"], own["apps"], own["permissions"]) == (second, None, ["run", "read", "manage"])
    assert (await using(manager, own["key"]).call("GET", "/v1/info")).status == 200
    assert not await works(manager, own["key"], first)
    assert (await create_key(manager, app=second))["permissions"] == ["read"]


async def test_keys_end_when_they_are_to(manager: Holder):
    now = manager.server.apps.access.clock()
    until = await create_key(manager, expires_at=now + 3600)
    assert until["expires_at"] == int(now + 3600)
    assert now + 58 < (await create_key(manager, expires_in=60))["expires_at"] < now + 70
    short = await create_key(manager, expires_in=0.05)
    while await works(manager, short["key"]):
        assert manager.server.apps.access.clock() < now + 5
    assert (await using(manager, short["key"]).call("GET", "/v1/info")).json["message"] == "Access token is invalid"
    assert (await manager.call("GET", f"{KEYS}/{short['id']}")).status == 200, "it is still told of"


BAD: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"name": None}, "name: "),
    ({"name": ""}, "name: "),
    ({"name": "  "}, "name: "),
    ({"name": 7}, "name: "),
    ({"name": "x" * 101}, "name: "),
    ({"name": "a\nb"}, "name: "),
    ({"name": "\u202e"}, "name: "),
    ({"permissions": None}, "permissions: "),
    ({"permissions": []}, "permissions: "),
    ({"permissions": "read"}, "permissions: "),
    ({"permissions": ["read", 1]}, "permissions.1: "),
    ({"permissions": ["read", "write"]}, "permissions: "),
    ({"permissions": {"read": True}}, "permissions: "),
    ({"apps": []}, "apps: "),
    ({"apps": "all"}, "apps: "),
    ({"apps": ["x"]}, "apps: "),
    ({"apps": [None]}, "apps.0: "),
    ({"apps": [str(UUID(int=n)) for n in range(1001)]}, "apps: "),
    ({"app": "x"}, "app: "),
    ({"app": 1}, "app: "),
    ({"app": str(UUID(int=1)), "apps": [str(UUID(int=2))]}, "apps: "),
    ({"permissions": ["read", "knowledge"]}, "permissions: "),
    ({"permissions": ["knowledge"], "apps": [str(UUID(int=1))]}, "permissions: "),
    ({"permissions": ["knowledge"], "app": str(UUID(int=1))}, "permissions: "),
    ({"expires_in": 0}, "expires_in: "),
    ({"expires_in": -1}, "expires_in: "),
    ({"expires_in": "30d"}, "expires_in: "),
    ({"expires_in": True}, "expires_in: "),
    ({"expires_in": 1e300}, "expires_in: "),
    ({"expires_at": 5}, "expires_at: "),
    ({"expires_at": 5, "expires_in": 5}, "expires_at: "),
    ({"expire_in": 60}, "expire_in: "),
    ({"workspace": "evil"}, "workspace: "),
]


@pytest.mark.parametrize(("params", "about"), BAD, ids=lambda value: str(value)[:40])
async def test_what_makes_no_key(manager: Holder, params: Mapping[str, Any], about: str):
    before = await manager.server.store.catalog.keys()
    reply = await manager.call("POST", KEYS, json={**READ, **params})
    assert error(reply) == (400, "invalid_param")
    assert reply.json["message"].startswith(about), reply
    assert len(await manager.server.store.catalog.keys()) == len(before)


async def test_bodies_that_are_none(manager: Holder):
    key = (await create_key(manager))["id"]
    for path in (KEYS, f"{KEYS}/{key}/rotate"):
        for body in (b"[]", b"null", b"{", b'"x"', b"\xff", b'{"name": NaN}'):
            headers = {"Content-Type": "application/json"}
            assert error(await manager.call("POST", path, data=body, headers=headers))[0] == 400
    assert error(await manager.call("POST", KEYS, data=b"{}", headers={"Content-Type": "text/plain"}))[0] == 415
    huge = b'{"name": "' + b"x" * 11_000_000 + b'"}'
    assert (
        error(await manager.call("POST", KEYS, data=io.BytesIO(huge), headers={"Content-Type": "application/json"}))[0]
        == 413
    )


async def test_nobody_gives_rights_that_it_does_not_have(manager: Holder, server: Serving):
    first, second, _ = manager.apps
    foreign = (await published(server, "evil", "theirs"))[0].app.id
    some = using(manager, (await create_key(manager, permissions=["manage", "read"], apps=[first]))["key"])
    for request_body in (
        {"permissions": ["run"], "apps": [first]},
        {"permissions": ["read"]},
        {"permissions": ["read"], "apps": [second]},
        {"permissions": ["read"], "apps": [first, second]},
        {"permissions": ["read"], "app": second},
        {"permissions": ["read"], "apps": [str(uuid4())]},
        {"permissions": ["read"], "apps": [foreign]},
        {"app": first},  # all three, if nothing is said
    ):
        assert error(await some.call("POST", KEYS, json={"name": "x", **request_body})) == (403, "forbidden"), (
            request_body
        )
    assert (await create_key(some, apps=[first]))["apps"] == [first]
    assert (await create_key(some, app=first))["app"] == first
    for app in (foreign, str(uuid4())):
        for request_body in ({"apps": [app]}, {"app": app}):
            reply = await manager.call("POST", KEYS, json={**READ, **request_body})
            assert (error(reply), reply.json["message"]) == ((404, "not_found"), f"App not found with id: {app}")


async def test_a_knowledge_key_opens_no_app(manager: Holder):
    created = await create_key(manager, permissions=["knowledge"])
    key = created["key"]
    assert (key[:8], created["prefix"], created["permissions"]) == ("dataset-", key[:12], ["knowledge"])
    for method, path in (("GET", "/v1/info"), ("POST", "/v1/workflows/run"), ("GET", KEYS), ("GET", "/api/v1/apps")):
        reply = await using(manager, key).call(method, path, manager.apps[0], json={})
        assert (error(reply), reply.json["message"]) == ((401, "unauthorized"), "Access token is invalid"), path
    rotated = await manager.call("POST", f"{KEYS}/{created['id']}/rotate")
    assert rotated.json["key"].startswith("dataset-"), rotated


async def test_a_knowledge_key_is_created_by_who_may_do_everything(manager: Holder):
    for rights in (
        {"permissions": ["manage", "read"]},
        {"permissions": ["run", "read", "manage"], "apps": manager.apps[:1]},
    ):
        some = using(manager, (await create_key(manager, **rights))["key"])
        reply = await some.call("POST", KEYS, json={"name": "x", "permissions": ["knowledge"]})
        assert error(reply) == (403, "forbidden"), rights


async def test_keys_for_more_than_one_s_own_apps_are_not_found(manager: Holder):
    first, second, _ = manager.apps
    some = using(manager, (await create_key(manager, permissions=["manage", "read"], apps=[first]))["key"])
    mine, theirs, all_ = (
        await create_key(some, apps=[first]),
        await create_key(manager, apps=[first, second]),
        await create_key(manager),
    )
    own, other = await create_key(manager, app=first), await create_key(manager, app=second)
    for key in (theirs, all_, other):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            assert error(await some.call(method, f"{KEYS}/{key['id']}{path}")) == (404, "not_found")
    listed = {item["id"] for item in (await some.call("GET", f"{KEYS}?limit=100")).json["data"]}
    assert {mine["id"], own["id"]} <= listed
    assert not {theirs["id"], all_["id"], other["id"]} & listed
    assert error(await some.call("GET", f"{KEYS}/audit")) == (403, "forbidden")
    writer = await create_key(manager, permissions=["run"], apps=[first])
    assert error(await some.call("POST", f"{KEYS}/{writer['id']}/rotate")) == (403, "forbidden"), "it would get to run"
    assert (await some.call("DELETE", f"{KEYS}/{writer['id']}")).status == 200


# --------------------------------------------------------------------------------------------------------- listing


async def test_the_list_goes_page_by_page(manager: Holder):
    ids = [(await create_key(manager))["id"] for _ in range(7)]
    result: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (await manager.call("GET", f"{KEYS}?limit=3&cursor={cursor}")).json
        assert len(page["data"]) <= 3
        result += [item["id"] for item in page["data"]]
        cursor = page["next_cursor"]
        await create_key(manager)  # what comes meanwhile shifts nothing
    assert result[:7] == ids[::-1]
    assert len(result) == len(set(result))
    for query in ("limit=0", "limit=101", "limit=x", "cursor=x", "cursor=" + "A" * 5000):
        assert error(await manager.call("GET", f"{KEYS}?{query}")) == (400, "invalid_param")
        assert error(await manager.call("GET", f"{KEYS}/audit?{query}")) == (400, "invalid_param")


# -------------------------------------------------------------------------------------------------------- rotating


async def test_a_rotated_key_goes_on_for_the_overlap(manager: Holder):
    old = await create_key(manager, permissions=["run", "read"], apps=[manager.apps[0]])
    before = manager.server.apps.access.clock()
    reply = await manager.call("POST", f"{KEYS}/{old['id']}/rotate")
    assert reply.status == 201
    new = reply.json
    same = ("name", "permissions", "apps", "app", "workspace", "expires_at", "revoked_at", "replaced_by")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert new["key"] != old["key"]
    assert await works(manager, old["key"])
    assert await works(manager, new["key"])
    ended = (await manager.call("GET", f"{KEYS}/{old['id']}")).json
    assert ended["replaced_by"] == new["id"]
    assert int(before + 24 * 3600) <= ended["expires_at"] < before + 24 * 3600 + 60
    again = await manager.call("POST", f"{KEYS}/{old['id']}/rotate")
    assert error(again) == (409, "key_not_live")
    assert new["id"] in again.json["message"]
    last = (await manager.call("POST", f"{KEYS}/{new['id']}/rotate", json={"overlap": 0})).json
    assert not await works(manager, new["key"]), "without an overlap it ends at once"
    assert await works(manager, last["key"])


async def test_a_rotated_key_lives_as_long_again(manager: Holder):
    old = await create_key(manager, expires_in=1000)
    new = (await manager.call("POST", f"{KEYS}/{old['id']}/rotate", json={"overlap": 5000})).json
    assert new["expires_at"] - new["created_at"] == pytest.approx(1000, abs=1)
    ended = (await manager.call("GET", f"{KEYS}/{old['id']}")).json["expires_at"]
    assert ended == old["expires_at"], "an overlap makes no life longer"


@pytest.mark.parametrize("overlap", [-1, 30 * 24 * 3600 + 1, "1h", True, [], 1e300])
async def test_overlaps_that_are_none(manager: Holder, overlap: Any):
    key = (await create_key(manager))["id"]
    reply = await manager.call("POST", f"{KEYS}/{key}/rotate", json={"overlap": overlap})
    assert error(reply) == (400, "invalid_param")
    assert reply.json["message"].startswith("overlap: ")


async def test_of_many_that_rotate_a_key_at_once_one_does(manager: Holder):
    key = (await create_key(manager))["id"]
    replies = await asyncio.gather(*(manager.call("POST", f"{KEYS}/{key}/rotate") for _ in range(10)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 9


async def test_the_manager_can_rotate_its_own_key(manager: Holder):
    [mine] = [item for item in (await manager.call("GET", KEYS)).json["data"] if manager.key.startswith(item["prefix"])]
    new = (await manager.call("POST", f"{KEYS}/{mine['id']}/rotate", json={"overlap": 0})).json
    assert (await manager.call("GET", KEYS)).status == 401
    assert (await using(manager, new["key"]).call("GET", KEYS)).status == 200


async def test_an_app_s_first_key_is_followed_by_another_when_it_is_rotated(manager: Holder, apps: Sequence[Release]):
    app = apps[0].app
    first = await manager.server.apps.working_key(app)
    [born] = [item for item in (await manager.call("GET", f"{KEYS}?limit=100")).json["data"] if item["app"] == app.id]
    new = (await manager.call("POST", f"{KEYS}/{born['id']}/rotate", json={"overlap": 60})).json
    assert new["key"].startswith("app-")
    assert (await using(manager, new["key"]).call("GET", "/v1/info")).status == 200
    current_key = await manager.server.apps.working_key(app)
    assert current_key not in (first, new["key"]), "nobody is shown one that ends soon"


# -------------------------------------------------------------------------------------------- revoking and auditing


async def test_a_revoked_key_opens_nothing(manager: Holder):
    key = await create_key(manager)
    assert await works(manager, key["key"])
    revoked = await manager.call("DELETE", f"{KEYS}/{key['id']}")
    assert (revoked.status, revoked.json["revoked_at"] is not None) == (200, True)
    assert not await works(manager, key["key"])
    assert (await manager.call("DELETE", f"{KEYS}/{key['id']}")).json == revoked.json, "done again it changes nothing"
    assert error(await manager.call("POST", f"{KEYS}/{key['id']}/rotate")) == (409, "key_not_live")
    for unknown in (str(uuid4()), "x", "audit/x", "%00", key["prefix"]):
        assert error(await manager.call("DELETE", f"{KEYS}/{unknown}")) == (404, "not_found")


async def test_who_did_what_is_told(manager: Holder):
    [mine] = (await manager.call("GET", f"{KEYS}?limit=1")).json["data"]
    helper = await create_key(manager, name="helper", permissions=["manage", "read"])
    old = await create_key(using(manager, helper["key"]), name="old", apps=[manager.apps[0]])
    new = (await manager.call("POST", f"{KEYS}/{old['id']}/rotate", json={"overlap": 60})).json
    await manager.call("DELETE", f"{KEYS}/{new['id']}")
    await manager.call("DELETE", f"{KEYS}/{new['id']}")
    received = (await manager.call("GET", f"{KEYS}/audit")).json["data"]
    assert [(item["action"], item["key_id"], item["by"]) for item in received[:5]] == [
        ("revoked", new["id"], mine["id"]),
        ("rotated", old["id"], mine["id"]),
        ("created", old["id"], helper["id"]),
        ("created", helper["id"], mine["id"]),
        ("created", mine["id"], "test"),
    ]
    assert {item["by"] for item in received[5:]} == {"headrace"}, "and the keys that came with the apps"
    assert received[1]["about"]["replaced_by"] == new["id"]
    assert received[2]["about"] == {
        "prefix": old["prefix"],
        "name": "old",
        "permissions": ["read"],
        "apps": [manager.apps[0]],
        "app_id": None,
        "expires_at": None,
    }
    page = (await manager.call("GET", f"{KEYS}/audit?limit=2")).json
    assert page["data"] == received[:2]
    rest = (await manager.call("GET", f"{KEYS}/audit?limit=100&cursor={page['next_cursor']}")).json
    assert (rest["data"], rest["next_cursor"]) == (received[2:], None)


async def test_no_key_is_logged_or_stored(manager: Holder, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    keys = [manager.key, (await create_key(manager))["key"], (await create_key(manager, app=manager.apps[0]))["key"]]
    keys.append((await create_key(manager))["key"])
    [last] = (await manager.call("GET", f"{KEYS}?limit=1")).json["data"]
    keys.append((await manager.call("POST", f"{KEYS}/{last['id']}/rotate")).json["key"])
    for key in keys:
        await works(manager, key)
        await works(manager, f"{key}x")
    store = manager.server.store
    stored = repr([vars(port) for field in fields(store) if (port := getattr(store, field.name)) is not None])
    assert "prefix=" in stored
    for key in keys:
        assert key not in caplog.text
        assert key not in stored
    assert len(set(keys)) == 5
