"""Apps as the console lists and draws them."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
import yaml

from headrace.access.keys import Rights
from headrace.kernel.secrets import STARS
from headrace.node import Flow
from tests.access.owning import Holder, key_of
from tests.api.chats import chatflow
from tests.api.declared import check_response
from tests.api.serving import Serving, workflow

QUESTION = {
    "label": "Question",
    "type": "paragraph",
    "variable": "q",
    "required": True,
    "max_length": 40,
    "hint": "Why?",
}
FILES = {
    "label": "Papers",
    "type": "file-list",
    "variable": "papers",
    "max_length": 3,
    "allowed_file_types": ["document"],
    "allowed_file_upload_methods": ["local_file"],
}


@pytest.fixture
async def caller(server: Serving) -> Holder:
    return Holder(server, await key_of(server, Rights()), [])


async def get(caller: Holder, path: str, **more: Any) -> Any:
    reply = await caller.call("GET", path, **more)
    assert reply.status == 200, reply
    check_response("GET", path.partition("?")[0], reply.status, reply.json)
    return reply.json


async def test_apps_are_listed_with_their_runs(server: Serving, caller: Holder):
    good = await server.add("/srv/flows/good.yml", workflow())
    bad = await server.add("bad.yml", workflow(["boom"], secrets={"TOKEN": "it went"}))
    runs = [(await good.run())[1]["workflow_run_id"] for _ in range(3)]
    await bad.run()
    first, second = (await get(caller, "/api/v1/apps"))["data"]
    assert (first["source"], first["version"]["number"], first["lacks"]) == ("good.yml", 1, [])
    assert [run["id"] for run in first["last_runs"]] == runs
    assert first["counts"] == {"runs_24h": 3, "failed_24h": 0}
    assert (second["counts"], second["last_error"]) == ({"runs_24h": 1, "failed_24h": 1}, f"{STARS} boom")
    assert await get(caller, f"/api/v1/apps/{bad.release.app.id}") == second


async def test_runs_of_all_apps_are_one_list(server: Serving, caller: Holder):
    clients = [await server.add(f"{number}.yml", workflow()) for number in range(3)]
    runs = [(await client.run())[1]["workflow_run_id"] for client in clients for _ in range(2)]
    listed: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = await get(caller, f"/api/v1/workflow-runs?limit=4&include=app,version&cursor={cursor}")
        listed += page["data"]
        cursor = page["next_cursor"]
    assert [line["id"] for line in listed] == runs[::-1]
    assert {(line["app_name"], line["version_number"]) for line in listed} == {("tiny", 1)}
    one = await get(caller, f"/api/v1/workflow-runs?app_id={clients[1].release.app.id}")
    assert [line["id"] for line in one["data"]] == runs[3:1:-1]
    assert "app_name" not in one["data"][0]
    reply = await caller.call("GET", "/api/v1/workflow-runs?include=inputs")
    assert (reply.status, reply.json["code"]) == (400, "invalid_param")


async def test_a_graph_has_positions_and_no_configuration(server: Serving, caller: Holder):
    file = yaml.safe_load(workflow(["boom"], secrets={"TOKEN": "s3cret"}))
    start, boom, _ = file["workflow"]["graph"]["nodes"]
    start |= {"position": {"x": 80, "y": 282.5}, "positionAbsolute": {"x": 80, "y": 282.5}, "width": 244, "height": 54}
    boom |= {"position": {"x": 10, "y": "far"}}
    boom["data"] |= {"title": "uses s3cret", "says": ["never shown"], "model": {"provider": "openai", "name": "gpt-5"}}
    lines = [{"children": [{"text": "Mind "}, {"text": "the gap"}]}, {"children": [{"text": "twice"}]}]
    file["workflow"]["graph"]["nodes"] += [
        {"id": "1", "type": "custom-note", "data": {"type": "", "text": json.dumps({"root": {"children": lines}})}},
        {"id": "2", "data": {"type": "", "text": "plain"}, "parentId": "start", "position": {"x": 5, "y": 5}},
    ]
    file["workflow"]["graph"]["edges"].append({"source": "1", "target": "2"})
    app = (await server.add("drawn.yml", yaml.safe_dump(file))).release
    path = f"/api/v1/apps/{app.app.id}/graph"
    graph = await get(caller, path)
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert (nodes["start"]["x"], nodes["start"]["y"], nodes["start"]["width"]) == (80, 282.5, 244)
    assert (nodes["boom"]["x"], nodes["boom"]["y"]) == (None, None)
    assert nodes["boom"]["title"] == f"uses {STARS}"
    assert nodes["boom"]["model"] == {"provider": "openai", "name": "gpt-5"}
    assert (nodes["1"]["type"], nodes["1"]["text"]) == ("note", "Mind the gap\ntwice")
    assert (nodes["2"]["x"], nodes["2"]["y"], nodes["2"]["text"]) == (85, 287.5, "plain")
    assert [(edge["source"], edge["target"]) for edge in graph["edges"]] == [
        ("start", "boom"),
        ("boom", "end"),
        ("1", "2"),
    ]
    assert "never shown" not in json.dumps(graph)
    reply = await caller.call("GET", path, headers={"If-None-Match": f'"{app.version.id}"'})
    assert (reply.status, reply.body) == (304, b"")
    assert (await get(caller, f"{path}?version={app.version.id}")) == graph
    assert (await caller.call("GET", f"{path}?version=nothing")).status == 404
    assert (await caller.call("GET", "/api/v1/apps/nothing/graph")).status == 404


async def test_a_form_has_one_shape_for_all_modes(server: Serving, caller: Holder):
    flow = (await server.add("form.yml", workflow(variables=[QUESTION, FILES]))).release
    form = await get(caller, f"/api/v1/apps/{flow.app.id}/form")
    question, papers = form["inputs"]
    assert (question["label"], question["hint"], question["max_length"], question["file"]) == (
        "Question",
        "Why?",
        40,
        None,
    )
    assert papers["file"] == {"types": ["document"], "extensions": [], "methods": ["local_file"], "max": 3}
    features = {"opening_statement": "Hi", "suggested_questions": ["Why?"], "file_upload": {"enabled": True}}
    talk = (await server.add("talk.yml", chatflow("hi", features=features))).release
    form = await get(caller, f"/api/v1/apps/{talk.app.id}/form")
    assert (form["mode"], form["opening_statement"], form["suggested_questions"]) == ("advanced-chat", "Hi", ["Why?"])
    assert (form["features"]["file_upload"], form["features"]["feedback"]) == ({"enabled": True}, True)


async def test_difys_operations_are_there_for_each_app(server: Serving, caller: Holder):
    first, second = [await server.add(f"{number}.yml", workflow()) for number in range(2)]
    for client in (first, second):
        base = f"/api/v1/apps/{client.release.app.id}/v1"
        ran = await caller.call("POST", f"{base}/workflows/run", json={"inputs": {}, "user": "u"})
        assert (ran.status, ran.json["data"]["workflow_id"]) == (200, client.release.version.id)
        assert (await caller.call("GET", f"{base}/workflows/run/{ran.json['workflow_run_id']}")).status == 200
    of_second = f"/api/v1/apps/{second.release.app.id}/v1"
    assert (await first.call("GET", f"{of_second}/info"))[0] == 404
    assert (await second.call("GET", f"{of_second}/info"))[1]["name"] == "tiny"
    for path, status in (("info", 401), ("nothing", 404), ("", 404)):
        async with server.session.get(f"{server.url}{of_second}/{path}") as answer:
            assert answer.status == status, path
    async with server.session.put(f"{server.url}{of_second}/info") as answer:
        assert answer.status == 405


async def test_the_server_describes_itself(server: Serving, caller: Holder):
    meta = await get(caller, "/api/v1/meta")
    assert (meta["console"], meta["models"], meta["workers"], meta["workspace"]) == (False, "configured", 1, "default")


async def test_an_app_is_created_renamed_and_removed(server: Serving, caller: Holder):
    creation = await caller.call("POST", "/api/v1/apps", json={"content": workflow(secrets={"TOKEN": "s3cret"})})
    check_response("POST", "/api/v1/apps", creation.status, creation.json)
    assert (creation.status, creation.json["name"], creation.json["problems"]) == (201, "tiny", [])
    path = f"/api/v1/apps/{creation.json['id']}"
    source = await get(caller, f"{path}/source")
    assert (source["masked"], "s3cret" in source["content"]) == (True, False)
    renamed = await caller.call("PATCH", path, json={"name": "  Größer \n und besser "})
    assert (renamed.status, renamed.json["name"]) == (200, "Größer und besser")
    version = workflow().replace("title: Start", "title: Begin")
    published = await caller.call(
        "POST", f"/api/v1/workflows/{creation.json['id']}/versions", json={"content": version}
    )
    assert published.status == 201
    assert (await get(caller, path))["name"] == "Größer und besser", "the name is not the file's"
    for name in ("", " ", "x" * 101, "\u202e", 1):
        assert (await caller.call("PATCH", path, json={"name": name})).status == 400, name
    removed = await caller.call("DELETE", path)
    assert (removed.status, removed.json) == (200, {"id": creation.json["id"]})
    assert (await caller.call("GET", path)).status == 404
    assert (await caller.call("DELETE", path)).status == 404


async def test_a_file_that_cannot_be_loaded_is_not_served(server: Serving, caller: Holder):
    for body in ("app: {}", "kind: app", "[", "", "\x00"):
        reply = await caller.call("POST", "/api/v1/apps", json={"content": body})
        assert (reply.status, reply.json["code"]) == (400, "invalid_workflow"), body
        lint = await caller.call("POST", "/api/v1/apps/lint", json={"content": body})
        check_response("POST", "/api/v1/apps/lint", lint.status, lint.json)
        assert (lint.status, lint.json["app"]) == (200, None)
        assert any(problem["fatal"] for problem in lint.json["problems"])
    lint = await caller.call("POST", "/api/v1/apps/lint", json={"content": workflow(["boom"])})
    assert lint.json == {"problems": [], "app": {"name": "tiny", "mode": "workflow", "nodes": 3}}
    assert (await get(caller, "/api/v1/apps"))["data"] == []


async def test_a_new_app_is_loaded_once(caller: Holder, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> Flow:
        raise AssertionError("the content was loaded before")

    monkeypatch.setattr("headrace.apps.catalog.load", refuse)
    creation = await caller.call("POST", "/api/v1/apps", json={"content": workflow()})
    assert (creation.status, creation.json["version"]["number"]) == (201, 1)


async def test_a_file_is_compared_with_what_an_app_serves(server: Serving, caller: Holder):
    app = (await server.add("a.yml", workflow())).release.app
    path = f"/api/v1/apps/lint?compare={app.id}"
    same = await caller.call("POST", path, json={"content": workflow()})
    check_response("POST", "/api/v1/apps/lint", same.status, same.json)
    assert (same.json["comparison"]["new"], same.json["comparison"]["diff"]["same"]) == (False, True)
    other = await caller.call("POST", path, json={"content": workflow(["boom"], secrets={"TOKEN": "s3cret"})})
    check_response("POST", "/api/v1/apps/lint", other.status, other.json)
    comparison = other.json["comparison"]
    assert comparison["new"] is True
    assert [node["id"] for node in comparison["diff"]["nodes"]["added"]] == ["boom"]
    assert "boom" in [node["id"] for node in comparison["graph"]["nodes"]]
    assert "s3cret" not in str(other.json)
    published = await caller.call(
        "POST",
        f"/api/v1/workflows/{app.id}/versions",
        json={"content": workflow(["boom"], secrets={"TOKEN": "s3cret"})},
    )
    assert published.json["id"] == comparison["graph"]["version_id"]
    broken = await caller.call("POST", path, json={"content": "["})
    assert (broken.status, broken.json["app"], "comparison" in broken.json) == (200, None, False)
    for other_id in (uuid4(), "x"):
        unknown = await caller.call("POST", f"/api/v1/apps/lint?compare={other_id}", json={"content": workflow()})
        assert (unknown.status, unknown.json["code"]) == (404, "not_found")


async def test_only_a_key_for_all_apps_may_add_one(server: Serving):
    app = (await server.add("a.yml", workflow())).release.app
    one = Holder(server, await key_of(server, Rights(apps=frozenset({app.id}))), [])
    for path in ("/api/v1/apps", "/api/v1/apps/lint"):
        reply = await one.call("POST", path, json={"content": workflow()})
        assert (reply.status, reply.json["code"]) == (403, "forbidden")
