"""The contract's `snippet` and `runs`, against a real headrace and the recorded Dify."""

from __future__ import annotations

import asyncio
import io
import json
import pathlib
from contextlib import redirect_stderr
from typing import Any
from uuid import uuid4

import pytest
from headrace_client import (
    HeadraceError,
    NotFoundError,
    PollingPlan,
    RunFailedError,
    WaitTimeoutError,
)
from headrace_client.errors import UsageError

from tests.sdk_contract.dify_server import Dify, events_of, key_of
from tests.sdk_contract.serving import Running
from tests.sdk_python.clients import Fault, Maker, collect
from tests.server.process import Serve

TEMPLATE = key_of("02_template")


@pytest.fixture(params=["headrace", "dify"])
def server(request: pytest.FixtureRequest, headrace: Serve, dify: str) -> tuple[str, str, str | None, str]:
    """(url, key, workflow id, the text that comes of "hi")."""
    if request.param == "headrace":
        return headrace.url, headrace.keys["hello"], headrace.apps["hello"]["app_id"], "You said: hi"
    return dify, TEMPLATE, events_of("02_template")[0]["data"]["workflow_id"], "Hello hi! 12"


# -------------------------------------------------------------------------------------------------------------- snippet

SNIPPET = """
from headrace_client import Client
client = Client(api_key="your-api-key")
response = client.create_workflow_run(workflow_id="your-workflow-id", inputs={"text": "Hello World"}, timeout=300)
result = client.get_workflow_run_status(response["workflow_run_id"])
"""


def _run_snippet(url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("API_BASE_URL", url)
    names: dict[str, Any] = {}
    with redirect_stderr(io.StringIO()):
        exec(SNIPPET.replace("your-api-key", key), names)
    names["run"] = names["client"].wait(names["response"], polling=PollingPlan(first=0.05))
    names["client"].close()
    return names


def test_snippet_headrace(headrace: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    names = _run_snippet(f"{headrace.url}/v1", headrace.keys["hello"], monkeypatch)
    assert names["result"]["status"] in ("queued", "running", "succeeded")
    assert names["run"].outputs == {"text": "You said: Hello World"}


def test_snippet_dify(dify: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = _run_snippet(f"{dify}/v1", TEMPLATE, monkeypatch)
    assert names["result"]["workflow_run_id"] == names["response"].workflow_run_id
    assert names["run"]["outputs"] == {"text": "Hello hi! 12"}


# ----------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("named", [False, True])
async def test_runs_blocking_returns_outputs(make: Maker, server: Any, named: bool) -> None:
    url, key, workflow, text = server
    client = make(key, url)
    run = await client.run_workflow({"text": "hi", "query": "hi"}, workflow_id=workflow if named else None)
    assert run.status == "succeeded"
    assert run.outputs == {"text": text}
    assert run.workflow_run_id == run["workflow_run_id"] == run.id
    assert run.task_id
    if not named:
        assert run["data"]["outputs"] == {"text": text}


async def test_runs_blocking_failed_run_is_returned(make: Maker, headrace: Serve, dify: str) -> None:
    for url, key in ((headrace.url, headrace.keys["16_fail_code"]), (dify, key_of("16_fail_code"))):
        client = make(key, url)
        run = await client.run_workflow({"query": "boom"})
        assert run.status == "failed"
        assert run.ended
        assert not run.succeeded
        with pytest.raises(RunFailedError) as raised:
            await client.run_workflow({"query": "boom"}, raise_on_failure=True)
        assert raised.value.run_id
        assert run.error in raised.value.message
        with pytest.raises(RunFailedError) as raised:
            await client.run_and_wait({"query": "boom"}, raise_on_failure=True)
        assert raised.value.node is not None, "its stream names the node"
        assert raised.value.node["type"] == "code"
    named = make(headrace.keys["16_fail_code"], headrace.url)
    with pytest.raises(RunFailedError) as raised:
        await named.run_and_wait(
            {"query": "boom"}, workflow_id=headrace.apps["16_fail_code"]["app_id"], raise_on_failure=True
        )
    assert raised.value.node is not None
    assert raised.value.node["type"] == "code"


async def test_runs_create_returns_ids(make: Maker, server: Any) -> None:
    url, key, workflow, _ = server
    created = await make(key, url).create_workflow_run(workflow, {"text": "hi"})
    assert set(created) >= {"workflow_run_id", "task_id", "status"}
    assert created["workflow_run_id"] == created.workflow_run_id
    assert created.status in ("queued", "running")
    assert created.get("nothing") is None
    assert "nothing" not in created


async def test_runs_create_detects_the_server_once(make: Maker, faulty_dify: Fault, faulty_headrace: Fault) -> None:
    workflow = events_of("02_template")[0]["data"]["workflow_id"]
    client = make(TEMPLATE, faulty_dify.url)
    faulty_dify.script()
    await client.create_workflow_run(workflow, {"query": "x"})
    assert len(faulty_dify.requests) == 2
    faulty_dify.script()
    created = await client.create_workflow_run(workflow, {"query": "x"})
    await client.get_workflow_run_status(created)
    assert faulty_dify.calls() == [
        f"POST /v1/workflows/{workflow}/run",
        f"GET /v1/workflows/run/{created.workflow_run_id}",
    ]


async def test_runs_create_remembers_the_server(make: Maker, headrace: Serve, faulty_headrace: Fault) -> None:
    """Whatever a proxy returns later."""
    app = headrace.apps["hello"]
    client = make(app["key"], faulty_headrace.url)
    faulty_headrace.script({"pass": True}, {"status": 404, "body": "<html>not found</html>"}, {"pass": True})
    await client.create_workflow_run(app["app_id"], {"text": "hi"})
    with pytest.raises(NotFoundError):
        await client.create_workflow_run(app["app_id"], {"text": "hi"})
    await client.create_workflow_run(app["app_id"], {"text": "hi"})
    assert set(faulty_headrace.calls()) == {f"POST /api/v1/workflows/{app['app_id']}/run"}


async def test_runs_create_sends_idempotency_key(make: Maker, headrace: Serve, faulty_headrace: Fault) -> None:
    app = headrace.apps["hello"]
    client = make(app["key"], faulty_headrace.url)
    faulty_headrace.script(
        {"status": 502, "body": "<html>bad gateway</html>"}, {"pass": True, "cut": 5}, {"pass": True}
    )
    created = await client.create_workflow_run(app["app_id"], {"text": "hi"}, user=(user := str(uuid4())))
    keys = {request["headers"].get("idempotency-key") for request in faulty_headrace.requests}
    assert len(faulty_headrace.requests) == 3
    assert len(keys) == 1
    assert None not in keys
    runs = [run.id async for run in client.list_workflow_runs(user=user)]
    assert runs == [created.workflow_run_id]


async def test_runs_create_closes_the_stream(make: Maker) -> None:
    dify = Dify(pause=0.05)
    with Running(dify.app()) as server:
        created = await make(TEMPLATE, server.url).create_workflow_run(None, {"query": "x"})
        assert created.workflow_run_id == events_of("02_template")[0]["workflow_run_id"]
        for _ in range(6000):
            if dify.closed.is_set():
                break
            await asyncio.sleep(0.01)
        assert dify.closed.is_set()


async def test_runs_create_accepts_an_id_that_is_not_a_uuid(
    make: Maker, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url, key, _, text = server
    client = make(key, url, real_time=True)
    for _ in range(2):
        created = await client.create_workflow_run("your-workflow-id", {"text": "hi"})
        assert (await client.wait(created, polling=PollingPlan(first=0))).outputs == {"text": text}
    assert caplog.text.count("your-workflow-id") == 1, "logged once"


async def test_runs_create_unknown_uuid_is_not_found(make: Maker, server: Any) -> None:
    url, key, _, _ = server
    with pytest.raises(NotFoundError, match="Workflow not found") as raised:
        await make(key, url).create_workflow_run(str(uuid4()), {"text": "hi"})
    assert raised.value.status == 404
    assert raised.value.code == "not_found"
    if key == TEMPLATE:
        assert "leave workflow_id out" in raised.value.message


async def test_runs_status_reads_both(make: Maker, server: Any) -> None:
    url, key, workflow, text = server
    client = make(key, url, real_time=True)
    created = await client.create_workflow_run(workflow, {"text": "hi", "query": "hi"})
    run = await client.wait(created.workflow_run_id, polling=PollingPlan(first=0.01))
    assert run.id == run["id"] == created.workflow_run_id
    assert run.outputs == {"text": text}
    assert "hi" in run.inputs.values()
    again = await client.get_workflow_run(created)
    assert again.outputs == run.outputs
    assert isinstance(again.inputs, dict)


async def test_runs_status_unknown_is_not_found(make: Maker, server: Any) -> None:
    url, key, _, _ = server
    for call in ("get_workflow_run_status", "get_workflow_run"):
        with pytest.raises(NotFoundError):
            await getattr(make(key, url), call)(str(uuid4()))
    for nothing in ("", {}, {"id": None}):
        with pytest.raises(UsageError, match="id"):
            await make(key, url).get_workflow_run_status(nothing)


async def test_runs_status_of_a_run_that_is_not_readable_yet(make: Maker, fault: Fault) -> None:
    """A stream may name a run before the run's record can be read."""
    line = 'data: {"event": "workflow_started", "workflow_run_id": "r1", "task_id": "t1", "data": {"id": "r1"}}\n\n'
    stream = {"status": 200, "headers": {"Content-Type": "text/event-stream"}, "body": line}
    nothing = {"status": 404, "body": {"code": "not_found", "message": "m"}}
    client = make("app-x", fault.url)
    fault.script(stream, nothing, nothing, nothing, {"status": 200, "body": {"id": "r1", "status": "running"}}, nothing)
    created = await client.create_workflow_run()
    assert (await client.get_workflow_run_status(created)).status == "running"
    assert make.time.delays == [0.1, 0.2]
    with pytest.raises(NotFoundError):
        await client.get_workflow_run_status(created)


async def test_runs_server_is_detected_only_once(make: Maker, fault: Fault) -> None:
    """An HTML page of a proxy does not turn a Headrace into a Dify."""
    client = make("app-x", fault.url)
    created = {"status": 202, "body": {"workflow_run_id": "r1", "status": "queued"}}
    fault.script(created, {"status": 404, "body": "<html>"}, {"status": 200, "body": {"id": "r1", "status": "running"}})
    run = await client.create_workflow_run("wf", {})
    with pytest.raises(NotFoundError):
        await client.get_workflow_run_status(run)
    assert (await client.get_workflow_run_status(run)).status == "running"
    assert fault.calls()[1:] == ["GET /api/workflow-runs/r1"] * 2


async def test_runs_wait_follows_the_plan(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url)
    run = {"id": "r1", "status": "running"}
    mark = {"Headrace-API-Version": "1"}
    fault.script(*[{"status": 200, "headers": mark, "body": run}] * 200)
    with pytest.raises(WaitTimeoutError):
        await client.wait("r1")
    delays = make.time.delays
    assert delays[:6] == [1.0, 1.5, 2.25, 3.375, 5.0, 5.0]
    assert max(delays) == 5.0
    assert sum(delays) == pytest.approx(300)
    delays.clear()
    with pytest.raises(WaitTimeoutError):
        await client.wait("r1", polling=PollingPlan(first=2, factor=2, longest=6, timeout=20))
    assert delays == [2, 4, 6, 6, 2]


async def test_runs_wait_ends_with_what_is_known(make: Maker, fault: Fault) -> None:
    mark = {"Headrace-API-Version": "1"}
    fault.script(*[{"status": 200, "headers": mark, "body": {"id": "r1", "status": "paused"}}] * 4)
    with pytest.raises(WaitTimeoutError, match="paused") as raised:
        await make("app-x", fault.url).wait("r1", polling=PollingPlan(timeout=3))
    assert raised.value.run_id == "r1"
    assert raised.value.run_status == "paused"


@pytest.mark.parametrize("status", ["succeeded", "failed", "stopped", "partial-succeeded"])
async def test_runs_wait_ends_at_every_final_status(make: Maker, fault: Fault, status: str) -> None:
    mark = {"Headrace-API-Version": "1"}
    steps = [
        {"status": 200, "headers": mark, "body": {"id": "r1", "status": current}}
        for current in ("queued", "running", "paused", status)
    ]
    fault.script(*steps)
    run = await make("app-x", fault.url).wait("r1")
    assert run.status == status
    assert len(fault.requests) == 4


async def test_runs_wait_may_end_at_a_pause(make: Maker, fault: Fault) -> None:
    mark = {"Headrace-API-Version": "1"}
    paused = {"status": 200, "headers": mark, "body": {"id": "r1", "workflow_run_id": "r1", "status": "paused"}}
    client = make("app-x", fault.url)
    fault.script(paused)
    run = await client.wait("r1", continue_on_pause=False, raise_on_failure=True)
    assert (run.paused, run.ended) == (True, False)
    fault.script({**paused, "body": {"workflow_run_id": "r1", "task_id": "t", "status": "queued"}}, paused)
    workflow = "0a4a6e1c-2c4c-4b0e-9d3a-0f1e5a3f9b61"
    assert (await client.run_and_wait({}, workflow_id=workflow, continue_on_pause=False)).paused
    assert len(fault.requests) == 2


@pytest.mark.parametrize("named", [False, True])
async def test_runs_run_and_wait(make: Maker, server: Any, named: bool) -> None:
    url, key, workflow, text = server
    client = make(key, url, real_time=True)
    run = await client.run_and_wait({"text": "hi"}, workflow_id=workflow if named else None)
    assert run.outputs == {"text": text}
    assert run.succeeded


async def test_runs_run_and_wait_on_a_server_without_long_polling(make: Maker, fault: Fault) -> None:
    mark = {"Headrace-API-Version": "1"}
    created = {"status": 202, "headers": mark, "body": {"workflow_run_id": "r1", "task_id": "t", "status": "queued"}}
    steps = [
        {"status": 200, "headers": mark, "body": {"id": "r1", "status": status}}
        for status in ("running", "running", "succeeded")
    ]
    fault.script(created, *steps)
    run = await make("app-x", fault.url).run_and_wait({}, workflow_id="wf")
    assert run.status == "succeeded"
    assert make.time.delays == [1.0, 1.5], "one long poll; then the plan is followed"


async def test_runs_stop(make: Maker, headrace: Serve) -> None:
    app = headrace.apps["slow"]
    client = make(app["key"], headrace.url, real_time=True)
    created = await client.create_workflow_run(app["app_id"], {"seconds": 30})
    assert (await client.stop_workflow(created.task_id)).result == "success"
    run = await client.wait(created, polling=PollingPlan(first=0.02))
    assert run.status == "stopped"
    with pytest.raises(RunFailedError):
        run.raise_for_status()
    other = await client.create_workflow_run(app["app_id"], {"seconds": 30})
    assert (await client.stop_workflow_run(other)).status in ("running", "stopped")  # running where it takes long
    assert (await client.wait(other, polling=PollingPlan(first=0.02))).status == "stopped"
    nodes = await client.list_node_executions(other)
    assert nodes[0].node_type == "start"
    again = await client.retry_workflow_run(other)
    assert again.workflow_run_id != other.workflow_run_id
    await client.stop_workflow_run(again)


async def test_runs_logs_page_by_page(make: Maker, dify: str, headrace: Serve) -> None:
    pages = make(TEMPLATE, dify).list_workflow_logs(limit=20)
    assert [log.id async for log in pages] == [f"log-{number}" for number in range(45)]
    assert [len(page.data) async for page in pages.pages()] == [20, 20, 5]
    assert (await pages.first()).total == 45
    client = make(headrace.keys["hello"], headrace.url)
    ids = {(await client.run_workflow({"text": "logged"})).id for _ in range(3)}
    logged = [log.workflow_run.id async for log in client.list_workflow_logs(limit=2)]
    assert set(logged) >= ids
    assert len(logged) == len(set(logged))


async def test_runs_parameters_and_info(make: Maker, server: Any) -> None:
    url, key, _, _ = server
    client = make(key, url)
    assert (await client.get_info()).mode == "workflow"
    form = (await client.get_parameters()).user_input_form
    assert [list(entry) for entry in form] == [["text-input"]]
    assert (await client.get_meta()).tool_icons == {}
    assert (await client.get_site()).title


async def test_runs_fields_unknown_are_kept(make: Maker, fault: Fault) -> None:
    body = {"name": "x", "new_thing": {"deep": [1]}, "tags": None}
    fault.script({"status": 200, "body": body})
    info = await make("app-x", fault.url).get_info()
    assert info["new_thing"] == info.new_thing == {"deep": [1]}
    assert dict(info) == body
    assert list(info) == ["name", "tags", "new_thing"]
    assert "mode" not in info
    assert (info.description, info.mode) == (None, "")
    assert json.loads(info.model_dump_json(exclude_unset=True)) == body


async def test_runs_unusual_ids_do_not_change_the_path(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url)
    fault.script()
    with pytest.raises(HeadraceError):
        await client.get_workflow_run("../../x?y=1#z")
    assert fault.calls() == ["GET /v1/workflows/run/../../x?y=1#z"]
    with pytest.raises(UsageError, match="id"):
        await client.get_workflow_run("..")


async def test_runs_are_followed_from_their_first_event(make: Maker, headrace: Serve) -> None:
    app = headrace.apps["hello"]
    client = make(app["key"], headrace.url)
    created = await client.create_workflow_run(app["app_id"], {"text": "hi"})
    events = await collect(client.follow_workflow_run(created))
    assert [events[0].event, events[-1].event] == ["workflow_started", "workflow_finished"]
    assert pathlib.Path(app["file"]).name == "hello.yml"


# ---------------------------------------------------------------------------------------------------------------- chats


async def test_a_chat_is_run_polled_and_continued(make: Maker, headrace: Serve) -> None:
    client, app = make(headrace.keys["talk"], headrace.url), headrace.apps["talk"]["app_id"]
    created = await client.create_workflow_run(app, query="hello")
    assert (created.status, created.message_id) == ("queued", created.workflow_run_id)
    first = await client.wait(created)
    assert (first.status, first.query) == ("succeeded", "hello")
    assert first.answer == "1: hello"
    assert first.conversation_id == created.conversation_id
    request = {"workflow_id": app, "query": "again", "conversation_id": created.conversation_id}
    second = await client.run_and_wait(**request)
    assert second.conversation_id == created.conversation_id
    assert second.answer == "2: again"


async def test_a_query_is_for_headrace(make: Maker, dify: str) -> None:
    client = make(TEMPLATE, dify)
    with pytest.raises(UsageError, match="query needs Headrace's asynchronous API"):
        await client.run_and_wait({}, query="hello")
    with pytest.raises(UsageError, match="conversation_id needs"):
        await client.create_workflow_run(None, {}, conversation_id="x")
