"""What keys may do: run, read, manage; with which app; and what is said to those that may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from headrace.access.keys import Rights
from headrace.apps.catalog import Release
from headrace.errors import Unauthorized
from headrace.ports import Principal
from tests.access.owning import Holder, Reply, key_of, published
from tests.api.serving import Serving
from tests.native.fuzzing import Operation, operations

MANAGED = {
    "publishWorkflowVersion",
    "pinWorkflowVersion",
    "rollBackWorkflow",
    "addAnnotation",
    "changeAnnotation",
    "removeAnnotation",
    "switchAnnotationReply",
    "createKey",
    "listKeys",
    "listKeyChanges",
    "getKey",
    "rotateKey",
    "revokeKey",
    "createApp",
    "lintApp",
    "renameApp",
    "removeApp",
    "getAppSource",
    "pauseTrigger",
    "resumeTrigger",
    "subscribe",
    "refreshSubscription",
    "unsubscribe",
}
SPENDING = {"listSuggestedQuestions"}  # a GET, as Dify has it, but one that asks a model
SIGNING = {"getCallbackSecret"}  # a GET, but whoever knows it can sign what others believe


@pytest.fixture
async def apps(server: Serving) -> list[Release]:
    return await published(server, "team", "ours")


@pytest.fixture
async def api(server: Serving) -> list[Operation]:
    async with server.session.get(f"{server.url}/openapi.json") as answer:
        described = operations(await answer.json())
    # knowledge keys have one permission, and open nothing else (test_knowledge_bases)
    return [item for item in described if item.description.get("security", []) not in ([], [{"KnowledgeKey": []}])]


async def holder(server: Serving, *permissions: str, **rights: Any) -> Holder:
    holder_rights = Rights("team", frozenset(permissions), **rights)
    return Holder(server, await key_of(server, holder_rights), [])


def refused(reply: Reply) -> tuple[int, str, str]:
    body = reply.json
    body = body.get("error", body)
    return reply.status, body.get("code") or body["type"], body["message"]


@pytest.mark.parametrize("permission", ["run", "read", "manage"])
async def test_an_endpoint_needs_one_permission(
    server: Serving, apps: Sequence[Release], api: Sequence[Operation], permission: str
):
    app = apps[0].app.id
    who = await holder(server, permission)
    for operation in api:
        path = operation.path.replace("{app_id}", app)
        path = "/".join(str(uuid4()) if part.startswith("{") else part for part in path.split("/"))
        name = operation.description["operationId"]
        reply = await who.call(operation.method, f"{path}?seconds=0" if name == "followRuns" else path, app)
        needed = "manage" if name in MANAGED else "read" if operation.method == "GET" else "run"
        needed = "run" if name in SPENDING | SIGNING else needed
        assert (reply.status == 403) == (permission != needed), (operation.method, operation.path, reply)
        if reply.status == 403:
            assert f"lacks the permission '{needed}'" in refused(reply)[2]
    assert {item.description["operationId"] for item in api} >= MANAGED | SPENDING | SIGNING


async def test_a_refusal_has_the_usual_envelope(server: Serving, apps: Sequence[Release]):
    reader = await holder(server, "read")
    reply = await reader.call("POST", "/v1/workflows/run", apps[0].app.id, json={})
    assert (reply.status, reply.json) == (
        403,
        {"code": "forbidden", "message": "This key lacks the permission 'run'.", "status": 403},
    )


async def test_an_app_s_own_key_may_do_all_with_its_app_but_has_no_say_over_keys(
    server: Serving, apps: Sequence[Release]
):
    first, second = apps[0].app, apps[1].app
    own = Holder(server, server.apps.own_key(first), [])
    assert (await own.call("GET", "/v1/info")).status == 200
    assert (await own.call("GET", "/v1/info", first.id)).status == 200, "it may say which app it means"
    assert (await own.call("POST", f"/api/v1/workflows/{first.id}/versions", json={})).status == 400, "not 403"
    assert (await own.call("GET", "/v1/info", second.id)).status == 404, "a call for another app must not run this one"
    for method, path in (("GET", "/api/v1/keys"), ("POST", "/api/v1/keys"), ("GET", "/api/v1/keys/audit")):
        assert refused(await own.call(method, path, json={}))[:2] == (403, "forbidden")


async def test_the_app_is_named_in_path_header_or_query(server: Serving, apps: Sequence[Release]):
    who = await holder(server, "run", "read", "manage")
    first, second = apps[0].app.id, apps[2].app.id

    async def mode(path: str, app: str | None = None) -> Any:
        return (await who.call("GET", path, app)).json.get("mode")

    assert await mode("/v1/info", first) == "workflow"
    assert await mode("/v1/info", second.upper()) == "advanced-chat"
    assert await mode(f"/v1/info?app_id={first}") == "workflow"
    assert await mode(f"/v1/info?app_id={first}", second) == "advanced-chat", "the header comes first"
    path = f"/api/v1/workflows/{first}/versions"
    assert (await who.call("GET", path, second)).json["data"][0]["id"] == apps[0].version.id, "and the path before it"
    reply = await who.call("GET", "/v1/info")
    assert refused(reply)[:2] == (400, "invalid_param")
    assert "Headrace-App" in refused(reply)[2]
    for unknown in (str(uuid4()), "nonsense", "x" * 500, "' OR 1=1 --"):
        assert refused(await who.call("GET", "/v1/info", unknown))[:2] == (404, "not_found")
    assert refused(await who.call("GET", "/v1/info?app_id=%00"))[:2] == (404, "not_found")


async def test_a_key_for_one_app_need_not_name_it(server: Serving, apps: Sequence[Release]):
    one = await holder(server, "read", apps=frozenset({apps[2].app.id}))
    assert (await one.call("GET", "/v1/info")).json["mode"] == "advanced-chat"
    assert (await one.call("GET", "/v1/info", apps[0].app.id)).status == 404
    lone = await server.apps.publish("lone.yml", apps[0].version.content, "lonely")
    key = await key_of(server, Rights("lonely", frozenset({"read"})))
    assert (await Holder(server, key, []).call("GET", "/v1/info")).status == 200
    await server.store.catalog.remove_app(lone.app.id)
    empty = Holder(server, await key_of(server, Rights("nobody")), [])
    assert "cannot access any app" in refused(await empty.call("GET", "/v1/info"))[2]


async def test_a_file_and_a_conversation_of_another_app_are_no_inputs(server: Serving, apps: Sequence[Release]):
    plain, chat = apps[0].app.id, apps[2].app.id
    theirs = await published(server, "evil", "theirs")
    good = await holder(server, "run", "read")
    evil = Holder(server, await key_of(server, Rights("evil")), [])
    form = aiohttp.FormData()
    form.add_field("file", b"secret", filename="a.txt", content_type="text/plain")
    form.add_field("user", "ada")
    file = (await good.call("POST", "/v1/files/upload", plain, data=form)).json["id"]
    attached = {"type": "document", "transfer_method": "local_file", "upload_file_id": file}
    run = {"inputs": {"doc": attached}, "user": "ada"}
    assert (await good.call("POST", "/v1/workflows/run", plain, json=run)).status == 200
    assert (await evil.call("POST", "/v1/workflows/run", theirs[0].app.id, json=run)).status == 400
    said = (await good.call("POST", "/v1/chat-messages", chat, json=_message())).json
    goes_on = _message(conversation_id=said["conversation_id"])
    assert (await good.call("POST", "/v1/chat-messages", chat, json=goes_on)).status == 200
    assert (await evil.call("POST", "/v1/chat-messages", theirs[2].app.id, json=goes_on)).status == 404


def _message(**more: Any) -> Mapping[str, Any]:
    return {"inputs": {}, "query": "hi", "user": "ada", **more}


class Issuer:
    """An identity provider that knows one token."""

    async def principal(self, token: str) -> Principal:
        if token != "a.good.token":
            raise Unauthorized("The token is not valid.")
        return Principal("ada@team", "team", frozenset({"read"}))


async def test_other_bearers_are_shown_to_the_identity_provider(server: Serving, apps: Sequence[Release]):
    app = apps[0].app.id
    signed_on = Holder(server, "a.good.token", [])
    assert (await signed_on.call("GET", "/v1/info", app)).status == 401, "there is none yet"
    server.apps.access.identity = Issuer()
    assert (await signed_on.call("GET", "/v1/info", app)).json["mode"] == "workflow"
    assert (await signed_on.call("POST", "/v1/workflows/run", app, json={})).status == 403
    forged = await Holder(server, "a.forged.token", []).call("GET", "/v1/info", app)
    assert refused(forged)[0::2] == (401, "The token is not valid.")
    for key in ("app-a.b.c", "ws-a.b.c", "a.b", "a.b.c.d", "..", "nothing"):
        reply = await Holder(server, key, []).call("GET", "/v1/info", app)
        assert reply.status == 401
    assert (await (await holder(server, "read")).call("GET", "/v1/info", app)).status == 200, "and keys are keys"
