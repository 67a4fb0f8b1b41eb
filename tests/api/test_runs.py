"""Runs over HTTP: blocking and streaming, failures, stops, pauses, details, logs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import yaml

from headrace.errors import NodeError
from headrace.node import Context, Result
from tests.api.serving import Client, Gate, Scripted, Serving, serving, workflow

QUERY = {"label": "query", "type": "text-input", "variable": "query", "required": True, "max_length": None}
ECHO = workflow(variables=[QUERY], outputs={"query": ["start", "query"]})


async def test_a_blocking_call_answers_as_dify_does(server: Serving) -> None:
    app = await server.add("echo.yml", ECHO)
    status, body = await app.run({"query": "héllo 漢 \U0001f600"})
    assert status == 200
    assert list(body) == ["task_id", "workflow_run_id", "data"]
    data = body["data"]
    assert list(data) == [
        "id",
        "workflow_id",
        "status",
        "outputs",
        "error",
        "elapsed_time",
        "total_tokens",
        "total_steps",
        "created_at",
        "finished_at",
    ]
    assert data["id"] == body["workflow_run_id"]
    assert data["workflow_id"] == app.release.version.id
    assert (data["status"], data["outputs"], data["error"]) == ("succeeded", {"query": "héllo 漢 \U0001f600"}, None)
    assert (data["total_steps"], data["total_tokens"]) == (2, 0)
    assert isinstance(data["created_at"], int)


async def test_a_stream_has_difys_events_in_difys_order(server: Serving) -> None:
    app = await server.add("echo.yml", ECHO)
    async with app.stream(query="hi") as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.answer.headers["X-Accel-Buffering"] == "no"
        assert stream.answer.headers["Cache-Control"] == "no-cache"
        events = await stream.rest()
    assert [event.name for event in events] == [
        "workflow_started",
        "node_started",
        "text_chunk",
        "node_finished",
        "node_started",
        "node_finished",
        "workflow_finished",
    ]
    first, last = events[0], events[-1]
    assert list(first.body) == ["event", "workflow_run_id", "task_id", "data"]
    run = first.body["workflow_run_id"]
    assert first.data["inputs"] == {
        "query": "hi",
        "sys.files": [],
        "sys.user_id": "u1",
        "sys.app_id": app.release.app.id,
        "sys.workflow_id": app.release.version.id,
        "sys.workflow_run_id": run,
    }
    assert events[2].data == {"text": "hi", "from_variable_selector": ["start", "query"]}
    assert [event.data["index"] for event in events if event.name == "node_started"] == [1, 2]
    assert [event.data["predecessor_node_id"] for event in events if event.name == "node_finished"] == [None, "start"]
    assert events[1].data["id"] == events[3].data["id"] != events[5].data["id"]
    assert last.data["status"] == "succeeded"
    assert last.data["created_by"]["user"] == "u1"
    assert last.data["files"] == []
    # clients written for Dify split at blank lines and take what begins with "data:" for JSON up to the end
    assert [json.loads(item[5:]) for item in stream.raw.decode().split("\n") if item.startswith("data:")] == [
        event.body for event in events
    ]


async def test_a_failed_run_is_http_200(server: Serving) -> None:
    app = await server.add("boom.yml", workflow(["boom"], outputs={"text": ["boom", "text"]}))
    status, body = await app.run()
    assert status == 200
    data = body["data"]
    assert (data["status"], data["outputs"], data["error"]) == ("failed", {}, "it went boom")
    async with app.stream() as stream:
        events = await stream.rest()
    failed = events[-2].data
    assert (failed["status"], failed["error"], failed["inputs"]) == ("failed", "it went boom", {"q": "hi"})
    assert (events[-1].data["status"], events[-1].data["exceptions_count"]) == ("failed", 1)
    detail = (await app.call("GET", f"/v1/workflows/run/{data['id']}"))[1]
    assert (detail["status"], detail["outputs"], detail["error"]) == ("failed", None, "it went boom")


@pytest.mark.parametrize("left", [False, True], ids=["stays", "leaves"])
async def test_a_stop_cancels_the_node_and_every_view_says_so(server: Serving, left: bool) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    app = await server.add("wait.yml", workflow(["wait"]))
    async with app.stream() as stream:
        started = (await stream.until("node_started"))[0]
        await gate.reached.wait()
        run, task = started.body["workflow_run_id"], started.body["task_id"]
        running = (await app.call("GET", f"/v1/workflows/run/{run}"))[1]
        assert (running["status"], running["outputs"], running["finished_at"]) == ("running", "{}", None)
        if left:
            stream.answer.close()
        for _ in range(2):  # stopping twice is fine
            stopped = await app.call("POST", f"/v1/workflows/tasks/{task}/stop", json={"user": "u2"})
            assert stopped == (200, {"result": "success"})
        await gate.cancelled.wait()
        if not left:
            end = (await stream.rest())[-1]
            assert (end.name, end.data["status"], end.data["error"]) == (
                "workflow_finished",
                "stopped",
                "Stopped by user.",
            )
    detail = (await app.call("GET", f"/v1/workflows/run/{run}"))[1]
    assert detail["status"] == "stopped"
    logs = (await app.call("GET", "/v1/workflows/logs?status=stopped"))[1]
    assert [item["workflow_run"]["id"] for item in logs["data"]] == [run]


async def test_a_caller_who_hangs_up_does_not_end_the_run(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    app = await server.add("wait.yml", workflow(["wait"], outputs={"text": ["wait", "text"]}))
    calling = asyncio.create_task(app.run())
    await gate.reached.wait()
    calling.cancel()
    await asyncio.wait((calling,))
    run = (await app.call("GET", "/v1/workflows/logs"))[1]["data"][0]["workflow_run"]["id"]
    async with app.stream(f"/v1/workflow/{run}/events?user=u1") as stream:
        gate.let()
        assert (await stream.rest())[-1].data["status"] == "succeeded"


async def test_pings_while_nothing_is_told(tmp_path: Any) -> None:
    async with serving(tmp_path, ping_seconds=0.05) as server:
        gate = Scripted.scripts["wait"] = Gate([])
        app = await server.add("wait.yml", workflow(["wait"]))
        async with app.stream() as stream:
            await stream.until("ping")
            await stream.until("ping")
            gate.let()
            await stream.rest()
        assert b"\n\nevent: ping\n\n" in stream.raw


async def test_an_app_takes_as_many_callers_as_it_may(tmp_path: Any) -> None:
    async with serving(tmp_path, max_active=1) as server:
        gate = Scripted.scripts["wait"] = Gate([])
        app = await server.add("wait.yml", workflow(["wait"]))
        async with app.stream() as stream:
            await gate.reached.wait()
            for mode in ("blocking", "streaming"):
                status, body = await app.run(response_mode=mode)
                assert (status, body["code"]) == (429, "too_many_requests")
            gate.let()
            await stream.rest()
        gate.let()
        assert (await app.run())[0] == 200


async def test_a_paused_run_says_so_and_goes_on(server: Serving) -> None:
    app = await server.add("ask.yml", workflow(["ask"], outputs={"text": ["ask", "text"]}))
    status, body = await app.run()
    data = body["data"]
    assert (status, data["status"], data["finished_at"]) == (200, "paused", None)
    assert data["paused_nodes"] == ["ask"]
    async with app.stream() as stream:
        events = await stream.rest()
    assert events[-1].name == "workflow_paused"
    assert events[-1].data["reasons"] == [{"node_id": "ask", "type": "human_input"}]
    run = events[-1].body["workflow_run_id"]
    assert (await app.call("GET", f"/v1/workflows/run/{run}"))[1]["status"] == "paused"

    path = f"/v1/workflow/{run}/events?user=u1"
    async with app.stream(path, {"Last-Event-ID": str(events[-1].id)}) as stream:
        await server.run_service.resume(run)
        rest = await stream.rest()
    assert [item.name for item in rest if item.name.startswith("workflow")] == ["workflow_started", "workflow_finished"]
    assert rest[0].data["reason"] == "resumption"
    assert rest[-1].data["outputs"] == {"text": "answered"}


async def test_a_run_that_is_paused_shows_its_pause_in_the_snapshot(server: Serving) -> None:
    app = await server.add("ask.yml", workflow(["ask"]))
    run = (await app.run())[1]["workflow_run_id"]
    path = f"/v1/workflow/{run}/events?user=u1&include_state_snapshot=true"
    async with app.stream(path) as stream:
        assert [item.name for item in await stream.rest()][-1] == "workflow_paused"
    async with app.stream(f"{path}&continue_on_pause=true") as stream:
        await stream.until("workflow_paused")
        await server.run_service.resume(run)
        assert (await stream.rest())[-1].name == "workflow_finished"


async def test_what_others_may_not_see_is_unknown(server: Serving) -> None:
    mine = await server.add("mine.yml", ECHO)
    other = await server.add("other.yml", ECHO)
    _, body = await mine.run({"query": "x"})
    run, task = body["workflow_run_id"], body["task_id"]
    for path in (
        f"/v1/workflows/run/{run}",
        f"/v1/workflow/{run}/events?user=u1",
        "/v1/workflows/run/nope",
        "/v1/workflow/nope/events?user=u1",
        f"/v1/workflows/run/{task}",
    ):
        status, body = await other.call("GET", path)
        assert (status, body["code"], body["message"]) == (404, "not_found", "Workflow run not found")
    assert (await mine.call("GET", f"/v1/workflow/{run}/events?user=u2"))[0] == 404
    assert (await mine.call("GET", f"/v1/workflow/{run}/events"))[1]["message"] == "Arg user must be provided."
    assert (await other.call("GET", "/v1/workflows/logs"))[1]["total"] == 0
    assert (await other.call("POST", f"/v1/workflows/{mine.release.version.id}/run", json={"inputs": {}, "user": "u"}))[
        0
    ] == 404


async def test_another_apps_key_cannot_stop_a_run(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    mine = await server.add("mine.yml", workflow(["wait"]))
    other = await server.add("other.yml", ECHO)
    async with mine.stream() as stream:
        task = (await stream.until("node_started"))[0].body["task_id"]
        await gate.reached.wait()
        assert (await other.call("POST", f"/v1/workflows/tasks/{task}/stop", json={"user": "u"}))[0] == 200
        gate.let()
        assert (await stream.rest())[-1].data["status"] == "succeeded"


async def test_an_old_version_can_be_called_by_its_id(server: Serving) -> None:
    app = await server.add("echo.yml", ECHO)
    old = app.release.version.id
    new = await server.add("echo.yml", workflow(variables=[QUERY], outputs={"other": ["start", "query"]}))
    assert new.release.version.id != old
    body = {"inputs": {"query": "x"}, "user": "u"}
    assert (await app.call("POST", f"/v1/workflows/{old}/run", json=body))[1]["data"]["outputs"] == {"query": "x"}
    assert (await app.call("POST", "/v1/workflows/run", json=body))[1]["data"]["outputs"] == {"other": "x"}


async def test_detail_gives_inputs_and_outputs_as_json_in_strings(server: Serving) -> None:
    app = await server.add("echo.yml", ECHO)
    run = (await app.run({"query": "ü"}))[1]["workflow_run_id"]
    status, detail = await app.call("GET", f"/v1/workflows/run/{run}")
    assert status == 200
    assert list(detail) == [
        "id",
        "workflow_id",
        "status",
        "inputs",
        "outputs",
        "error",
        "total_steps",
        "total_tokens",
        "created_at",
        "finished_at",
        "elapsed_time",
    ]
    assert detail["outputs"] == '{"query": "ü"}'
    inputs = json.loads(detail["inputs"])
    assert list(inputs) == [
        "query",
        "sys.files",
        "sys.user_id",
        "sys.app_id",
        "sys.workflow_id",
        "sys.workflow_run_id",
        "sys.timestamp",
    ]


async def test_logs_filter_and_page(server: Serving) -> None:
    app = await server.add("echo.yml", ECHO)
    runs = [
        (await app.run({"query": f"word{number}"}, user=user))[1]["workflow_run_id"]
        for number, user in enumerate(("u1", "u2", "u1"))
    ]

    async def search(query: str) -> list[str]:
        status, body = await app.call("GET", f"/v1/workflows/logs?{query}")
        assert status == 200
        return [item["workflow_run"]["id"] for item in body["data"]]

    assert sorted(await search("")) == sorted(runs)
    assert sorted(await search("created_by_end_user_session_id=u1")) == sorted([runs[0], runs[2]])
    assert await search("keyword=WORD1") == [runs[1]]
    assert await search("status=failed") == []
    assert await search("created_at__before=2020-01-01T00:00:00Z") == []
    assert len(await search("created_at__after=2020-01-01T00:00:00+00:00&created_at__before=2100-01-01")) == 3
    body = (await app.call("GET", "/v1/workflows/logs?page=2&limit=2"))[1]
    assert (body["page"], body["limit"], body["total"], body["has_more"], len(body["data"])) == (2, 2, 3, False, 1)
    entry = body["data"][0]
    assert entry["created_from"] == "service-api"
    assert entry["created_by_end_user"]["type"] == "service-api"
    assert entry["details"] is None


async def test_secrets_are_masked_in_every_view(server: Serving) -> None:
    app = await server.add(
        "secret.yml", workflow(outputs={"token": ["env", "TOKEN"]}, secrets={"TOKEN": "sk-very-secret"})
    )
    _, body = await app.run()
    async with app.stream() as stream:
        await stream.rest()
    detail = await app.call("GET", f"/v1/workflows/run/{body['workflow_run_id']}")
    seen = json.dumps([body, detail]) + stream.raw.decode()
    assert "*" * 20 in seen
    assert "sk-very-secret" not in seen


async def test_a_secret_in_an_error_is_masked_in_lists_too(server: Serving) -> None:
    async def refused(_: Context) -> Result:
        raise NodeError("refused: sk-very-secret", "Refused")

    Scripted.scripts["refused"] = refused
    app = await server.add("refused.yml", workflow(["refused"], secrets={"TOKEN": "sk-very-secret"}))
    assert (await app.run())[1]["data"]["status"] == "failed"
    await server.add("refused.yml", workflow())  # the version of now has no secrets
    _, body = await app.call("GET", "/v1/workflows/logs")
    assert body["data"][0]["workflow_run"]["error"] == f"refused: {'*' * 20}"


async def test_what_json_does_not_have_is_told_all_the_same(server: Serving) -> None:
    async def odd(_: Context) -> Result:
        return Result({"text": {"big": 2**80, "lone": "\ud800", "nan": float("nan")}}, {"big": -(2**70)})

    Scripted.scripts["odd"] = odd
    app = await server.add("odd.yml", workflow(["odd"], outputs={"o": ["odd", "text"]}))
    _, body = await app.run()
    assert body["data"]["outputs"] == {"o": {"big": 2**80, "lone": "\ufffd", "nan": None}}
    async with app.stream() as stream:
        finished = [item.data for item in await stream.rest() if item.name == "node_finished"]
    assert finished[1]["inputs"] == {"big": -(2**70)}
    detail = (await app.call("GET", f"/v1/workflows/run/{body['workflow_run_id']}"))[1]
    assert json.loads(detail["outputs"])["o"]["nan"] is None


async def test_many_runs_at_once_all_answer(server: Serving) -> None:
    app = await server.add("echo.yml", ECHO)
    answers = await asyncio.gather(*(app.run({"query": str(number)}, user=f"u{number % 7}") for number in range(60)))
    assert [body["data"]["outputs"]["query"] for _, body in answers] == [str(number) for number in range(60)]


# ------------------------------------------------------------------------------------------------------------ uploads

PICTURE = {"type": "image", "transfer_method": "remote_url", "url": "https://example.com/a.png"}


def taking(name: str, **feature: Any) -> str:
    """A workflow that puts out its files, with this feature `file_upload`."""
    file: Any = yaml.safe_load(workflow(outputs={"files": ("sys", "files")}))
    file["app"]["name"] = name
    file["workflow"]["features"] = {"file_upload": feature} if feature else {}
    return yaml.safe_dump(file)


@pytest.mark.parametrize("path", ["/v1/workflows/run", "/api/v1/workflows/{app}/run"])
async def test_files_beside_the_inputs_obey_the_limits_of_uploads(server: Serving, path: str) -> None:
    on = await server.add("on.yml", taking("on", enabled=True, allowed_file_types=["image"], number_limits=2))

    async def run(app: Client, *files: Any) -> tuple[int, Any]:
        body = {"inputs": {}, "user": "u1", "response_mode": "blocking", "files": files}
        return await app.call("POST", path.format(app=app.release.app.id), json=body)

    status, body = await run(on, PICTURE)
    assert status == 200
    assert len(body.get("data", body)["outputs"]["files"]) == 1
    status, body = await run(on, PICTURE, PICTURE, PICTURE)
    assert (status, body["message"]) == (400, "Number of image files exceeds the maximum limit 2")
    texts = await server.add("texts.yml", taking("texts", enabled=True, allowed_file_types=["document"]))
    status, body = await run(texts, PICTURE)
    assert (status, body["message"]) == (400, "File validation failed for file: a.png")
    local = taking("local", enabled=True, allowed_file_upload_methods=["local_file"])
    assert (await run(await server.add("local.yml", local), PICTURE))[0] == 400
    off = await server.add("off.yml", taking("off"))
    status, body = await run(off, *[PICTURE] * 5)
    assert len(body.get("data", body)["outputs"]["files"]) == 5, "Dify checks nothing where the feature is off"
