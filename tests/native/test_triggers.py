"""Triggers over the API: who sees and pauses them, and runs that are started by hand and replayed."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.access.keys import Rights
from tests.access.owning import Holder, key_of
from tests.api.serving import Serving
from tests.triggers.world import cron, triggered, webhook

FILE = triggered(
    webhook(body=[{"name": "order", "type": "object"}]),
    cron("0 9 * * *", "Asia/Shanghai"),
    outputs={"order": ["t1", "order"], "at": ["t2", "sys.timestamp"]},
)


@pytest.fixture
async def app(server: Serving) -> Holder:
    release = await server.apps.publish("hooks.yml", FILE)
    return Holder(server, server.secret_key(release), [release.app.id])


async def call(holder: Holder, method: str, path: str, status: int = 200, **more: Any) -> Any:
    reply = await holder.call(method, f"/api/v1{path}", **more)
    assert reply.status == status, reply
    return reply.json


async def ended(holder: Holder, run: str) -> Any:
    return await call(holder, "GET", f"/workflow-runs/{run}?wait=60")


async def test_triggers_are_listed_paused_and_resumed(app: Holder):
    hook, daily = (await call(app, "GET", "/triggers"))["data"]
    assert hook["url"].startswith(f"{app.server.url}/triggers/webhook/")
    assert (hook["kind"], hook["status"], hook["last_run"]) == ("webhook", "active", None)
    assert (daily["schedule"], daily["timezone"]) == ("0 9 * * *", "Asia/Shanghai")
    assert daily["next_at"] % 86400 == 3600
    paused = await call(app, "POST", f"/triggers/{daily['id']}/pause")
    assert (paused["status"], paused["next_at"]) == ("paused", None)
    assert (await call(app, "GET", "/triggers"))["data"] == [hook, paused]
    assert await call(app, "POST", f"/triggers/{daily['id']}/resume") == daily


async def test_a_run_that_is_started_by_hand_and_replayed(app: Holder):
    hook, daily = (await call(app, "GET", "/triggers"))["data"]
    body = {"inputs": {"body": {"order": {"id": 7}}}}
    again = {"Idempotency-Key": "once"}
    runs = [await call(app, "POST", f"/triggers/{hook['id']}/fire", 202, json=body, headers=again) for _ in range(2)]
    assert runs[0] == runs[1]
    run = await ended(app, runs[0]["workflow_run_id"])
    assert (run["status"], run["outputs"]) == ("succeeded", {"order": {"id": 7}, "at": None})
    listed = (await call(app, "GET", "/workflow-runs?source=trigger-webhook:t1"))["data"]
    assert [one["id"] for one in listed] == [run["id"]]
    assert (await call(app, "GET", "/triggers"))["data"][0]["last_run"]["id"] == run["id"]
    (log,) = (await app.call("GET", "/v1/workflows/logs")).json["data"]
    assert (log["workflow_run"]["triggered_from"], log["created_from"]) == ("webhook", "service-api")

    replayed = await call(app, "POST", f"/workflow-runs/{run['id']}/replay", 202)
    assert (await ended(app, replayed["workflow_run_id"]))["outputs"] == run["outputs"]
    fired = await call(app, "POST", f"/triggers/{daily['id']}/fire", 202)
    assert isinstance((await ended(app, fired["workflow_run_id"]))["outputs"]["at"], int)
    for wrong in ({"inputs": "x"}, {"input": {}}):
        assert (await call(app, "POST", f"/triggers/{hook['id']}/fire", 400, json=wrong))["code"] == "invalid_param"


async def test_dify_s_own_endpoint_runs_from_the_first_trigger(app: Holder):
    reply = await app.call("POST", "/v1/workflows/run", json={"inputs": {"order": 1}, "user": "u"})
    assert (reply.status, reply.json["data"]["outputs"]) == (200, {"order": None, "at": None})


async def test_each_needs_its_permission(app: Holder, server: Serving):
    hook = (await call(app, "GET", "/triggers"))["data"][0]

    async def with_permission(name: str, workspace: str = "default") -> Holder:
        return Holder(server, await key_of(server, Rights(workspace, frozenset({name}))), app.apps)

    reader, runner, manager = [await with_permission(name) for name in ("read", "run", "manage")]
    assert (await call(reader, "GET", "/triggers"))["data"][0] == {**hook, "url": None}
    for holder, action, status in (
        (reader, "fire", 403),
        (reader, "pause", 403),
        (runner, "pause", 403),
        (runner, "fire", 202),
        (manager, "fire", 403),
        (manager, "pause", 200),
    ):
        await call(holder, "POST", f"/triggers/{hook['id']}/{action}", status)
    assert (await call(manager, "POST", f"/triggers/{hook['id']}/resume"))["url"] is None
    stranger = await with_permission("run", "elsewhere")
    missing = await call(stranger, "POST", f"/triggers/{hook['id']}/fire", 404)
    assert missing == await call(stranger, "POST", "/triggers/7c3e33d4-2a8b-4e5f-9b1a-d3c6e8f12345/fire", 404)
