"""Submit a run, look at it, follow, stop and retry it: what a client sees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from headrace.errors import NodeError
from headrace.node import Context, Result
from tests.api.serving import Gate, Scripted, Serving, Stream, serving, workflow
from tests.native.asynchronous import ask, look, submit, submitted, until

TEXT = {"variable": "q", "label": "q", "type": "text-input", "required": True}
EVENTS = {"Accept": "text/event-stream"}
NOBODY = "00000000-0000-4000-8000-000000000000"


async def says(_: Context) -> Result:
    usage = {"total_tokens": 8, "prompt_tokens": 5, "total_price": "0.1", "currency": "EUR"}
    return Result({"text": "hi"}, usage=usage)


# ---------------------------------------------------------------------------------------------------------- submit


async def test_a_run_is_queued_at_once_and_found_at_its_end(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(variables=[TEXT], outputs={"out": ("start", "q")}))
    reply = await submit(app, {"q": "hello"})
    assert reply.status == 202
    assert set(reply.body) == {"task_id", "workflow_run_id", "status", "created_at"}
    assert reply.body["status"] == "queued"
    UUID(reply.body["task_id"])
    body = await look(app, reply.body["workflow_run_id"], wait=60)
    assert body["status"] == "succeeded"
    assert body["inputs"] == {"q": "hello"}
    assert body["outputs"] == {"out": "hello"}
    assert body["task_id"] == reply.body["task_id"]
    assert body["created_at"] == reply.body["created_at"]
    assert body["created_at"] <= body["started_at"] <= body["finished_at"]
    lasted = (body["finished_at_ms"] - body["started_at_ms"]) / 1000
    assert body["elapsed_time"] == pytest.approx(lasted, abs=2e-3)
    assert (body["workflow_id"], body["app_id"]) == (app.release.version.id, app.release.app.id)
    assert (body["user"], body["source"], body["retry_of"], body["callback_url"]) == ("u1", "service-api", None, None)
    assert (body["error"], body["error_node"], body["total_steps"]) == (None, None, 2)


async def test_the_alias_and_the_words_for_the_same_mode(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    path = f"/workflows/{app.release.app.id}/run"
    body = {"inputs": {}, "user": "u", "response_mode": "async", "query": "", "files": None, "callback_url": None}
    assert (await ask(app, "POST", path, json=body, prefix="/api")).status == 202


GUIDE = {
    "inputs": {"field1": "value1"},
    "query": "What do you see?",
    "files": [{"type": "image", "transfer_method": "remote_url", "url": "https://example.com/a.png"}],
    "response_mode": "streaming",
    "user": "user_id",
}
"""The body that the integration guide sends."""


@pytest.mark.parametrize("prefix", ["/api", "/api/v1"])
async def test_the_body_of_the_integration_guide(server: Serving, prefix: str) -> None:
    field = {"variable": "field1", "label": "field1", "type": "text-input", "required": True}
    outputs = {"out": ("start", "field1"), "files": ("sys", "files")}
    app = await server.add("tiny.yml", workflow(variables=[field], outputs=outputs))
    path = f"/workflows/{app.release.app.id}/run"
    reply = await ask(app, "POST", path, json=GUIDE, headers={"Accept": "*/*"}, prefix=prefix)
    assert reply.status == 202
    assert set(reply.body) == {"task_id", "workflow_run_id", "status", "created_at"}
    assert reply.body["status"] == "queued"
    body = await look(app, reply.body["workflow_run_id"], wait=60)
    assert (body["status"], body["inputs"], body["outputs"]["out"]) == ("succeeded", {"field1": "value1"}, "value1")
    (file,) = body["outputs"]["files"]
    assert (file["type"], file["remote_url"]) == ("image", "https://example.com/a.png")


async def test_a_query_is_an_input_of_that_name(server: Serving) -> None:
    query = TEXT | {"variable": "query"}
    app = await server.add("tiny.yml", workflow(variables=[query], outputs={"out": ("start", "query")}))
    body = await look(app, await submitted(app, query="from the body"), wait=60)
    assert body["outputs"] == {"out": "from the body"}
    body = await look(app, await submitted(app, {"query": "of the inputs"}, query="from the body"), wait=60)
    assert body["outputs"] == {"out": "of the inputs"}
    assert (await submit(app, query=["no text"])).body["code"] == "invalid_param"
    assert (await submit(app, query="")).body["message"] == "query is required in input form"
    deaf = await server.add("deaf.yml", workflow(outputs={"out": ("sys", "user_id")}))
    assert (await submit(deaf, query={"of": "any kind"})).status == 202


async def test_a_version_is_run_by_its_id(server: Serving) -> None:
    old = await server.add("tiny.yml", workflow(outputs={"out": ("sys", "user_id")}))
    new = await server.add("tiny.yml", workflow())
    reply = await ask(new, "POST", f"/workflows/{old.release.version.id}/run", json={"inputs": {}, "user": "u1"})
    assert reply.status == 202
    body = await look(new, reply.body["workflow_run_id"], wait=60)
    assert body["workflow_id"] == old.release.version.id
    assert body["outputs"] == {"out": "u1"}


async def test_blocking_answers_the_run_itself(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["says"], outputs={"out": ("says", "text")}))
    Scripted.scripts["says"] = says
    reply = await submit(app, response_mode="blocking")
    assert reply.status == 200
    assert reply.body["outputs"] == {"out": "hi"}
    assert reply.body["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 0,
        "total_tokens": 8,
        "total_price": "0.1",
        "currency": "EUR",
    }
    assert reply.raw == (await ask(app, "GET", f"/workflow-runs/{reply.body['id']}")).raw


async def test_blocking_ends_at_a_pause(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["ask"]))
    reply = await submit(app, response_mode="blocking")
    assert (reply.status, reply.body["status"], reply.body["finished_at"]) == (200, "paused", None)
    await server.run_service.resume(reply.body["id"])
    assert (await look(app, reply.body["id"], wait=60))["status"] == "succeeded"


async def test_streaming_tells_the_events(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"], outputs={"out": ("gate", "text")}))
    gate = Scripted.scripts["gate"] = Gate(["a", "b"])
    gate.let(3)
    async with app.stream(f"/api/v1/workflows/{app.release.app.id}/run", headers=EVENTS) as stream:
        assert stream.answer.status == 200
        events = await stream.rest()
    assert events[0].name == "workflow_started"
    assert events[-1].name == "workflow_finished"
    assert "".join(event.data["text"] for event in events if event.name == "text_chunk") == "ab"


def refusals() -> Mapping[str, tuple[Any, int, str]]:
    good = {"inputs": {"q": "x"}, "user": "u"}
    return {
        "no user": ({"inputs": {}}, 400, "invalid_param"),
        "no inputs": ({"user": "u"}, 400, "invalid_param"),
        "inputs of another type": ({"user": "u", "inputs": []}, 400, "invalid_param"),
        "an input missing": ({"user": "u", "inputs": {}}, 400, "invalid_param"),
        "files of another type": (good | {"files": {}}, 400, "invalid_param"),
        "a mode of another name": (good | {"response_mode": "later"}, 400, "invalid_param"),
        "a mode of another type": (good | {"response_mode": ["async"]}, 400, "invalid_param"),
        "a callback to nowhere": (good | {"callback_url": "ftp://example.com"}, 400, "invalid_param"),
        "a callback of another type": (good | {"callback_url": 7}, 400, "invalid_param"),
        "a user too long": (good | {"user": "u" * 256}, 400, "invalid_param"),
        "a list": ([good], 400, "bad_request"),
    }


@pytest.mark.parametrize("what", refusals())
async def test_a_request_that_makes_no_sense(server: Serving, what: str) -> None:
    app = await server.add("tiny.yml", workflow(variables=[TEXT]))
    body, status, code = refusals()[what]
    reply = await ask(app, "POST", f"/workflows/{app.release.app.id}/run", json=body)
    assert (reply.status, reply.body["code"], reply.body["status"]) == (status, code, status)
    assert (await ask(app, "GET", "/workflow-runs")).body["data"] == []


async def test_bodies_that_are_no_json(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    path = f"/workflows/{app.release.app.id}/run"
    json_type = {"Content-Type": "application/json"}
    assert (await ask(app, "POST", path, data=b"{", headers=json_type)).status == 400
    assert (await ask(app, "POST", path, data=b"\xff", headers=json_type)).status == 400
    assert (await ask(app, "POST", path, data=b"{}", headers={"Content-Type": "text/plain"})).status == 415


async def test_a_body_too_large(tmp_path: Path) -> None:
    async with serving(tmp_path, max_body=1000) as server:
        app = await server.add("tiny.yml", workflow())
        assert (await submit(app, {"q": "x" * 1000})).status == 413


async def test_workflows_that_are_not_there(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    other = await server.add("other.yml", workflow(secrets={"A": "b"}))
    for name in (NOBODY, "nobody", "%00", other.release.app.id, other.release.version.id):
        reply = await ask(app, "POST", f"/workflows/{name}/run", json={"inputs": {}, "user": "u"})
        assert (reply.status, reply.body["code"]) == (404, "not_found"), name


async def test_as_many_callers_wait_as_may(tmp_path: Path) -> None:
    async with serving(tmp_path, max_active=1) as server:
        app = await server.add("tiny.yml", workflow(["gate"]))
        gate = Scripted.scripts["gate"] = Gate([])
        async with app.stream(f"/api/v1/workflows/{app.release.app.id}/run", headers=EVENTS) as stream:
            await stream.until("workflow_started")
            reply = await submit(app, response_mode="blocking")
            assert (reply.status, reply.body["code"]) == (429, "too_many_requests")
            assert (await submit(app)).status == 202, "who does not wait is not in the way"
            gate.let(2)
            await stream.rest()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/workflows/{NOBODY}/run"),
        ("GET", "/workflow-runs"),
        ("GET", f"/workflow-runs/{NOBODY}"),
        ("GET", f"/workflow-runs/{NOBODY}/events"),
        ("GET", f"/workflow-runs/{NOBODY}/node-executions"),
        ("POST", f"/workflow-runs/{NOBODY}/stop"),
        ("POST", f"/workflow-runs/{NOBODY}/retry"),
    ],
)
async def test_without_a_key_and_without_the_run(server: Serving, method: str, path: str) -> None:
    app = await server.add("tiny.yml", workflow())
    stranger = await ask(app, method, path, headers={"Authorization": "Bearer app-nobody"})
    assert (stranger.status, stranger.body["code"]) == (401, "unauthorized")
    other = await server.add("other.yml", workflow(secrets={"A": "b"}))
    theirs = await submitted(other)
    if NOBODY in path and "run/" not in path and "workflows" not in path:
        for run in (NOBODY, theirs, "nobody", "%00%ff"):
            reply = await ask(app, method, path.replace(NOBODY, run))
            assert (reply.status, reply.body["code"]) == (404, "not_found"), run
    wrong = "DELETE" if method == "GET" else "GET"
    if path.endswith(("/run", "/stop", "/retry", NOBODY)):
        assert (await ask(app, wrong, path)).status == 405


# ------------------------------------------------------------------------------------------------------------ look


async def test_a_run_on_its_way(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["says", "gate"], outputs={"out": ("gate", "text")}))
    Scripted.scripts["says"] = says
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    body = await until(app, run, "running")
    assert (body["outputs"], body["error"], body["finished_at"], body["elapsed_time"]) == (None, None, None, None)
    assert body["usage"]["total_tokens"] == body["total_tokens"] == 8
    assert body["total_steps"] == 3
    gate.let()
    body = await look(app, run, wait=60)
    assert body["total_steps"] == 4
    assert body["usage"]["total_tokens"] == 16
    assert body["usage"]["total_price"] is None, "euros and dollars do not add up"


async def test_what_failed_is_told_with_its_node(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["boom"], secrets={"KEY": "it went"}))
    body = await look(app, await submitted(app), wait=60)
    assert body["status"] == "failed"
    assert body["error"] == f"{'*' * 20} boom"
    assert [item["error"] for item in (await ask(app, "GET", "/workflow-runs")).body["data"]] == [body["error"]]
    assert body["outputs"] == {}
    assert body["error_node"] == {
        "id": body["error_node"]["id"],
        "node_id": "boom",
        "title": "Boom",
        "type": "scripted",
        "error_type": "Boom",
    }
    (_, node) = (await ask(app, "GET", f"/workflow-runs/{body['id']}/node-executions")).body["data"]
    assert node["id"] == body["error_node"]["id"]


async def test_secrets_in_inputs_are_masked(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(variables=[TEXT], secrets={"KEY": "hunter2!"}))
    body = await look(app, await submitted(app, {"q": "hunter2!"}), wait=60)
    assert body["inputs"] == {"q": "*" * 20}


async def test_an_answer_that_is_known_is_not_sent_again(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["ask"]))
    run = await submitted(app)
    await until(app, run, "paused")
    first = await ask(app, "GET", f"/workflow-runs/{run}")
    tag = first.headers["ETag"]
    again = await ask(app, "GET", f"/workflow-runs/{run}", headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", tag)
    await server.run_service.resume(run)
    ended = await ask(app, "GET", f"/workflow-runs/{run}", params={"wait": "5"}, headers={"If-None-Match": tag})
    assert (ended.status, ended.body["status"]) == (200, "succeeded")


async def test_what_each_node_did(server: Serving) -> None:
    tries = {"retry_config": {"retry_enabled": True, "max_retries": 2, "retry_interval": 1}}
    app = await server.add("tiny.yml", workflow(["says", "shaky", "gate"], node=tries))
    Scripted.scripts["says"] = says
    calls: list[str] = []

    async def shaky(ctx: Context) -> Result:
        calls.append(ctx.key)
        if len(calls) == 1:
            raise NodeError("not yet", "Shaky", inputs={"n": 1}, process={"p": 1})
        return Result({"text": "at last"}, inputs={"n": 2}, process={"p": 2})

    Scripted.scripts["shaky"] = shaky
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    await until(app, run, "running")
    path = f"/workflow-runs/{run}/node-executions"
    start, said, shook, waits = (await ask(app, "GET", path)).body["data"]
    assert [start["index"], said["index"], shook["index"], waits["index"]] == [1, 2, 3, 4]
    assert (said["node_type"], said["title"], said["predecessor_node_id"]) == ("scripted", "Says", "start")
    assert said["usage"]["total_price"] == "0.1"
    assert (shook["status"], shook["outputs"], shook["error"]) == ("succeeded", {"text": "at last"}, None)
    (attempt,) = shook["attempts"]
    assert (attempt["attempt"], attempt["error"], attempt["error_type"]) == (1, "not yet", "Shaky")
    assert (attempt["inputs"], shook["inputs"], shook["process_data"]) == ({"n": 1}, {"n": 2}, {"p": 2})
    assert shook["started_at_ms"] <= attempt["finished_at_ms"] <= shook["finished_at_ms"]
    assert (waits["status"], waits["finished_at"], waits["outputs"]) == ("running", None, None)
    await ask(app, "POST", f"/workflow-runs/{run}/stop")
    (*_, waits) = (await ask(app, "GET", path)).body["data"]
    assert waits["status"] == "stopped"
    assert waits["elapsed_time"] >= 0


# ------------------------------------------------------------------------------------------------------------ list


async def test_pages_of_runs(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    runs = [await submitted(app, user=f"u{n % 2}") for n in range(7)]
    for run in runs:
        await look(app, run, wait=60)
    result: list[str] = []
    cursor = None
    while True:
        reply = await ask(app, "GET", "/workflow-runs", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))
        assert reply.status == 200
        result += [item["id"] for item in reply.body["data"]]
        cursor = reply.body["next_cursor"]
        if cursor is None:
            break
        await submitted(app)  # shifts no page
    assert result == runs[::-1]


async def test_filters(server: Serving) -> None:
    old = await server.add("tiny.yml", workflow(["boom"], variables=[TEXT]))
    failed = await look(old, await submitted(old, {"q": "needle"}, user="ann"), wait=60)
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    running = await submitted(app)
    await gate.reached.wait()

    async def ids(**query: Any) -> list[str]:
        return [item["id"] for item in (await ask(app, "GET", "/workflow-runs", params=query)).body["data"]]

    assert await ids() == [running, failed["id"]]
    assert await ids(status="failed") == await ids(user="ann") == await ids(keyword="NEEDLE") == [failed["id"]]
    assert await ids(workflow_id=old.release.version.id) == [failed["id"]]
    assert await ids(status="running") == await ids(workflow_id=app.release.version.id) == [running]
    assert await ids(status="queued") == await ids(source="batch:x") == await ids(status="paused") == []
    between = (failed["created_at_ms"] + 1) / 1000
    assert await ids(created_before=repr(between)) == [failed["id"]]
    assert await ids(created_after=repr(between)) == [running]
    assert await ids(created_after="2020-01-01T00:00:00Z", created_before="2020-02-01") == []
    gate.let()
    (line,) = [item for item in (await ask(app, "GET", "/workflow-runs")).body["data"] if item["id"] == failed["id"]]
    assert (line["error"], line["user"], line["exceptions_count"]) == ("it went boom", "ann", 1)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=x", "limit=-1", "status=done", "cursor=x", "cursor=bmFuIHg", "cursor=%00",
        "created_before=soon", "created_after=99999-01-01", "workflow_id=x",
    ],
)  # fmt: skip
async def test_lists_that_make_no_sense(server: Serving, query: str) -> None:
    app = await server.add("tiny.yml", workflow())
    reply = await ask(app, "GET", f"/workflow-runs?{query}")
    assert (reply.status, reply.body["code"]) == (400, "invalid_param")


# ---------------------------------------------------------------------------------------------------------- events


async def test_events_from_the_beginning_and_from_where_a_reader_was_cut_off(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"], outputs={"out": ("gate", "text")}))
    gate = Scripted.scripts["gate"] = Gate(["a", "b"])
    run = await submitted(app)
    path = f"/api/v1/workflow-runs/{run}/events"
    async with app.stream(path) as stream:
        gate.let()
        before = await stream.until("text_chunk")
    gate.let(2)
    assert before[0].name == "workflow_started"
    last = before[-1].id
    assert last
    async with app.stream(path, {"Last-Event-ID": last}) as stream:
        after = await stream.rest()
    assert "".join(item.data["text"] for item in before + after if item.name == "text_chunk") == "ab"
    assert after[-1].data["status"] == "succeeded"
    async with app.stream(path) as stream:
        whole = await stream.rest()
    assert [item.name for item in whole if item.name != "text_chunk"] == [
        item.name for item in before + after if item.name != "text_chunk"
    ]
    for wrong in ("99999", "x"):
        reply = await ask(app, "GET", f"/workflow-runs/{run}/events", headers={"Last-Event-ID": wrong})
        assert (reply.status, reply.body["code"]) == (400, "invalid_param")


async def test_events_end_at_a_pause_unless_told_otherwise(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["ask"]))
    run = await submitted(app)
    await until(app, run, "paused")
    path = f"/api/v1/workflow-runs/{run}/events"
    async with app.stream(path) as stream:
        assert (await stream.rest())[-1].name == "workflow_paused"
    headers = {"Authorization": f"Bearer {app.key}"}
    async with app.session.get(f"{app.url}{path}?continue_on_pause=true", headers=headers) as answer:
        stream = Stream(answer)
        await stream.until("workflow_paused")
        await server.run_service.resume(run)
        assert (await stream.rest())[-1].name == "workflow_finished"


# ---------------------------------------------------------------------------------------------------- stop, retry


async def test_stop(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    reply = await ask(app, "POST", f"/workflow-runs/{run}/stop", json={"user": "me"})
    assert reply.status == 200
    assert reply.body["status"] == "stopped"
    assert reply.body["workflow_run_id"] == run
    assert gate.cancelled.is_set()
    again = await ask(app, "POST", f"/workflow-runs/{run}/stop")
    assert (again.status, again.body) == (200, reply.body)
    for body in (b"{", b"[]"):
        assert (await ask(app, "POST", f"/workflow-runs/{run}/stop", data=body)).status == 400


async def test_a_run_that_ended_well_stays_as_it_is(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    run = await submitted(app)
    before = await look(app, run, wait=60)
    assert (await ask(app, "POST", f"/workflow-runs/{run}/stop")).body["status"] == "succeeded"
    reply = await ask(app, "POST", f"/workflow-runs/{run}/retry")
    assert (reply.status, reply.body["code"]) == (409, "not_retryable")
    assert await look(app, run) == before


async def test_a_failed_run_goes_on_where_it_failed(server: Serving) -> None:
    outputs = {"said": ("says", "text"), "got": ("shaky", "text"), "q": ("start", "q")}
    app = await server.add("tiny.yml", workflow(["says", "shaky"], outputs=outputs, variables=[TEXT]))
    ran: list[str] = []

    async def counted(ctx: Context) -> Result:
        ran.append("says")
        return await says(ctx)

    async def shaky(ctx: Context) -> Result:
        ran.append("shaky")
        if ran.count("shaky") == 1:
            raise NodeError("down")
        return Result({"text": ctx.variables.get(("sys", "workflow_run_id"))})

    Scripted.scripts.update(says=counted, shaky=shaky)
    old = await submitted(app, {"q": "x"}, callback_url="http://example.com/hook")
    failed = await look(app, old, wait=60)
    assert failed["status"] == "failed"
    reply = await ask(app, "POST", f"/workflow-runs/{old}/retry")
    assert (reply.status, reply.body["status"]) == (202, "queued")
    new = reply.body["workflow_run_id"]
    assert new != old
    body = await look(app, new, wait=60)
    assert body["status"] == "succeeded"
    assert body["outputs"] == {"said": "hi", "got": new, "q": "x"}
    assert (body["retry_of"], body["callback_url"]) == (old, "http://example.com/hook")
    assert body["total_tokens"] == 0, "the old run has paid for what it finished"
    assert ran == ["says", "shaky", "shaky"]
    assert await look(app, old) == failed, "the old run stays as it was"
    nodes = (await ask(app, "GET", f"/workflow-runs/{new}/node-executions")).body["data"]
    assert [(item["node_id"], item["reused"]) for item in nodes] == [
        ("start", True), ("says", True), ("shaky", False), ("end", False)
    ]  # fmt: skip
    async with app.stream(f"/api/v1/workflow-runs/{new}/events") as stream:
        events = await stream.rest()
    assert events[-1].data["outputs"] == body["outputs"]


async def test_a_stopped_run_goes_on_and_so_does_its_retry(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"], outputs={"out": ("gate", "text")}))
    gate = Scripted.scripts["gate"] = Gate([])
    old = await submitted(app)
    await gate.reached.wait()
    early = await ask(app, "POST", f"/workflow-runs/{old}/retry")
    assert (early.status, early.body["code"]) == (409, "not_retryable")
    await ask(app, "POST", f"/workflow-runs/{old}/stop")
    first = (await ask(app, "POST", f"/workflow-runs/{old}/retry")).body["workflow_run_id"]
    await ask(app, "POST", f"/workflow-runs/{first}/stop")
    gate.let()
    second = (await ask(app, "POST", f"/workflow-runs/{first}/retry", json={})).body["workflow_run_id"]
    body = await look(app, second, wait=60)
    assert (body["status"], body["retry_of"]) == ("succeeded", first)
    assert (await ask(app, "POST", f"/workflow-runs/{old}/retry", data=b"no")).status == 400


async def test_what_is_documented_is_what_is_answered(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["boom"]))
    async with server.session.get(f"{server.url}/openapi.json") as answer:
        paths = json.loads(await answer.read())["paths"]
    assert not any(path.startswith("/api/workflow") for path in paths), "the alias is not told of"
    run = (await submit(app)).body["workflow_run_id"]
    body = await look(app, run, wait=60)

    def example(path: str, method: str = "get", status: str = "200") -> Any:
        return paths[f"/api/v1{path}"][method]["responses"][status]["content"]["application/json"]["example"]

    # FastAPI leaves fields that are null out of examples
    pairs = (
        (example("/workflow-runs/{workflow_run_id}"), body),
        (example("/workflows/{workflow_id}/run", "post"), body),
        (example("/workflows/{workflow_id}/run", "post", "202"), (await submit(app)).body),
        (example("/workflow-runs")["data"][0], (await ask(app, "GET", "/workflow-runs")).body["data"][0]),
    )
    for documented, real in pairs:
        assert set(documented) <= set(real)
        assert {name for name, value in real.items() if value is not None} <= set(documented)
    assert str(uuid4()) not in paths


async def test_a_run_whose_version_does_not_load_any_more(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    run = await submitted(app)
    await look(app, run, wait=60)
    version = app.release.version
    await server.add("tiny.yml", workflow(["another"]))  # the current version loads
    vars(server.store.catalog)["_versions"][version.id] = type(version)(
        **{  # pyright: ignore
            **{name: getattr(version, name) for name in version.__slots__},
            "content": "nonsense: [",
        }
    )
    server.apps._flows.clear()  # pyright: ignore
    for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/node-executions"), ("POST", "/stop")):
        reply = await ask(app, method, f"/workflow-runs/{run}{path}")
        assert (reply.status, reply.body["code"]) == (409, "version_not_loadable"), path


async def test_nobody_waits_forever_for_a_server_that_is_gone(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    timeout = aiohttp.ClientTimeout(0.1)
    with pytest.raises(TimeoutError):
        await ask(app, "GET", f"/workflow-runs/{run}?wait=60", timeout=timeout)
    gate.let()
    assert (await look(app, run, wait=60))["status"] == "succeeded"
