"""Runs again: replays and forks, and what a run has beyond its usual fields."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.access.keys import Rights
from headrace.kernel.secrets import STARS
from headrace.node import Context, Result
from tests.access.owning import Holder, key_of
from tests.api.chats import chatflow, say
from tests.api.declared import check_response
from tests.api.serving import Client, Gate, Scripted, Serving, workflow

QUERY = {"label": "Q", "type": "text-input", "variable": "q", "required": True, "max_length": 8}
COST = {"total_tokens": 7, "total_price": "0.25", "currency": "USD", "time_to_first_token": 0.0}


@pytest.fixture
async def caller(server: Serving) -> Holder:
    await server.add("other.yml", workflow())
    return Holder(server, await key_of(server, Rights()), [])


async def call(caller: Holder, method: str, path: str, **more: Any) -> Any:
    reply = await caller.call(method, path, **more)
    assert reply.status < 300, reply
    check_response(method, path.partition("?")[0], reply.status, reply.json)
    return reply.json


@pytest.fixture
async def steps(server: Serving) -> tuple[Client, list[str]]:
    """An app of three nodes in a row, of which each says that it has run and what it has read."""
    ran: list[str] = []

    def script(name: str, before: str, output: str) -> Any:
        async def run(ctx: Context) -> Result:
            ran.append(name)
            text = f"{ctx.variables.get((before, output))}>{name}"
            process = {"model_provider": "openai", "model_name": "gpt-5"}
            return Result({"text": text}, process=process, usage=COST)

        return run

    Scripted.scripts.update(a=script("a", "start", "q"), b=script("b", "a", "text"), c=script("c", "b", "text"))
    file = workflow(["a", "b", "c"], variables=[QUERY], outputs={"text": ["c", "text"]})
    return await server.add("steps.yml", file), ran


async def ended(caller: Holder, accepted: Any, include: str = "") -> Any:
    return await call(caller, "GET", f"/api/v1/workflow-runs/{accepted['workflow_run_id']}?wait=30&include={include}")


async def test_a_fork_reuses_what_ran_before_its_node(caller: Holder, steps: tuple[Client, list[str]]):
    app, ran = steps
    _, first = await app.run({"q": "x"})
    path = f"/api/v1/workflow-runs/{first['workflow_run_id']}"
    ran.clear()
    fork = await ended(caller, await call(caller, "POST", f"{path}/fork", json={"node_id": "b"}), "cost")
    assert (ran, fork["outputs"], fork["retry_of"]) == (["b", "c"], {"text": "x>a>b>c"}, first["workflow_run_id"])
    assert fork["cost"]["total_price"] == "0.50", "what is reused was paid by the old run"
    ran.clear()
    changed = {"node_id": "c", "outputs": {"b": {"text": "changed"}}}
    fork = await ended(caller, await call(caller, "POST", f"{path}/fork", json=changed))
    assert (ran, fork["outputs"]) == (["c"], {"text": "changed>c"})
    for body in (
        {"node_id": "nothing"},
        {"node_id": "b", "outputs": {"b": {"text": "runs again"}}},
        {"node_id": "b", "outputs": {"nothing": {}}},
        {"node_id": "b", "outputs": 1},
        {},
    ):
        assert (await caller.call("POST", f"{path}/fork", json=body)).status == 400, body


async def test_a_run_that_has_not_ended_cannot_be_forked(server: Serving, caller: Holder):
    gate = Scripted.scripts["gate"] = Gate([])
    app = await server.add("gate.yml", workflow(["gate"]))
    base = f"/api/v1/workflows/{app.release.app.id}/run"
    run = (await app.call("POST", base, json={"inputs": {}, "user": "u"}))[1]["workflow_run_id"]
    reply = await caller.call("POST", f"/api/v1/workflow-runs/{run}/fork", json={"node_id": "gate"})
    assert (reply.status, reply.json["code"]) == (409, "not_ended")
    gate.let()


async def test_a_replay_has_the_old_inputs_and_the_version_that_is_named(
    server: Serving, caller: Holder, steps: tuple[Client, list[str]]
):
    app, _ = steps
    _, first = await app.run({"q": "x"})
    path = f"/api/v1/workflow-runs/{first['workflow_run_id']}/replay"
    replay = await ended(caller, await call(caller, "POST", path), "replay_of,version,parent,children")
    assert (replay["inputs"], replay["replay_of"], replay["retry_of"]) == ({"q": "x"}, first["workflow_run_id"], None)
    assert (replay["version_number"], replay["parent_run_id"], replay["children"]) == (1, None, [])
    await server.apps.publish("steps.yml", app.release.version.content.replace("title: A", "title: Anew"))
    newer = await ended(caller, await call(caller, "POST", path, json={"inputs": {"q": "y"}}), "version")
    assert (newer["outputs"], newer["version_number"]) == ({"text": "y>a>b>c"}, 2)
    older = {"version": app.release.version.id}
    assert (await ended(caller, await call(caller, "POST", path, json=older), "version"))["version_number"] == 1
    for body, status in (
        ({"inputs": {"q": "far too long"}}, 400),
        ({"inputs": {}}, 400),
        ({"inputs": []}, 400),
        ({"version": "x"}, 404),
        ({"what": 1}, 400),
    ):
        assert (await caller.call("POST", path, json=body)).status == status, body


async def test_a_run_says_who_paid_for_what(caller: Holder, steps: tuple[Client, list[str]]):
    app, _ = steps
    _, ran = await app.run({"q": "x"})
    run = await ended(caller, ran, "cost,key,queue_time,first_token,version")
    assert run["cost"]["total_price"] == "0.75"
    (model,) = run["cost"]["by_model"]
    assert (model["provider"], model["model"], model["total_tokens"]) == ("openai", "gpt-5", 21)
    assert run["key"]["prefix"] == app.key[:8]
    assert run["queue_time"] >= 0 <= run["first_token"]
    assert "cost" not in await ended(caller, ran)
    executions = await call(
        caller, "GET", f"/api/v1/workflow-runs/{run['id']}/node-executions?include=cost,messages,first_token,agent_log"
    )
    costs = [item["cost"] and item["cost"]["total_price"] for item in executions["data"]]
    assert costs == [None, "0.25", "0.25", "0.25", None]
    assert all(item["messages"] == item["agent_log"] == [] for item in executions["data"])
    (line,) = (await call(caller, "GET", f"/api/v1/workflow-runs?app_id={run['app_id']}&include=cost"))["data"]
    assert (line["total_price"], line["currency"]) == ("0.75", "USD")


async def test_a_line_names_the_node_that_failed(server: Serving, caller: Holder):
    app = await server.add("bad.yml", workflow(["boom"]))
    await app.run()
    (line,) = (await call(caller, "GET", f"/api/v1/workflow-runs?app_id={app.release.app.id}&include=error_node"))[
        "data"
    ]
    assert line["error_node_title"] == "Boom"


async def test_a_line_has_the_text_by_which_people_recognise_its_run(server: Serving, caller: Holder):
    fields = [{**QUERY, "variable": name, "label": name, "required": False, "max_length": 900} for name in "abc"]
    fields[0] = {"variable": "a", "label": "a", "type": "number", "required": False}
    app = await server.add("many.yml", workflow(variables=fields, secrets={"TOKEN": "s3cret-token"}))
    for inputs, text in (
        ({"a": 7, "b": " \n", "c": "  Tea 🍵\nfrom Yilan "}, "Tea 🍵\nfrom Yilan"),
        ({"a": 7}, None),
        ({"b": "x" * 195 + "s3cret-token"}, "x" * 195 + STARS[:5]),
        ({"b": "y" * 900}, "y" * 200),
    ):
        await app.run(inputs)
        line = await newest(caller, app)
        assert line["input"] == text
    chat = await server.add("chat.yml", chatflow("hello"))
    await say(chat, "What is Oolong?")
    assert (await newest(caller, chat))["input"] == "What is Oolong?"


async def newest(caller: Holder, app: Client) -> Any:
    path = f"/api/v1/workflow-runs?app_id={app.release.app.id}&include=input&limit=1"
    return (await call(caller, "GET", path))["data"][0]


async def test_a_run_is_found_without_naming_its_app(server: Serving, caller: Holder, steps: tuple[Client, list[str]]):
    _, ran = await steps[0].run({"q": "x"})
    run = f"/api/v1/workflow-runs/{ran['workflow_run_id']}"
    assert (await call(caller, "GET", run))["id"] == ran["workflow_run_id"]
    others = [await server.apps.publish(f"{name}.yml", workflow(), "evil") for name in "ab"]
    assert others
    stranger = Holder(server, await key_of(server, Rights("evil")), [])
    for path in (run, f"{run}/node-executions", f"{run}/events"):
        assert (await stranger.call("GET", path)).status == 404
    for name in ("x", "00000000-0000-0000-0000-000000000000"):
        assert (await caller.call("GET", f"/api/v1/workflow-runs/{name}")).status == 404
