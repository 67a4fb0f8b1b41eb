"""Options of one call, raw responses, logging, and the errors' common base class."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headrace_client.errors import HeadraceError, RunFailedError, ServerError, UsageError
from headrace_client.options import PollingPlan

from tests.sdk_python.clients import Fault, Maker
from tests.server.process import Serve


def event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """A stream of one event."""
    body = json.dumps({"event": name, "workflow_run_id": "r", "task_id": "t", "data": data})
    return {"status": 200, "body": f"data: {body}\n\n", "headers": {"Content-Type": "text/event-stream"}}


INFO = {"status": 200, "body": {"name": "x"}, "headers": {"X-Request-Id": "req-1"}}


async def test_rest_with_options(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url, headers={"X-Team": "shop"}, user="me")
    fault.script(INFO, INFO, {"status": 503}, {"status": 200, "body": {"result": "success"}}, INFO)
    await client.with_options(headers={"X-Trace": "7"}).get_info()
    await client.get_info()
    with pytest.raises(ServerError):
        await client.with_options(max_retries=0).get_info()
    await client.with_options(user="you").stop_workflow("t")
    await client.get_info()
    first, second, _, stopped, last = fault.requests
    headers = [{name.lower(): value for name, value in request["headers"].items()} for request in (first, second, last)]
    assert [sent["x-team"] for sent in headers] == ["shop", "shop", "shop"]
    assert [sent.get("x-trace") for sent in headers] == ["7", None, None]
    assert '"you"' in stopped["body"]


async def test_rest_with_options_shares_what_is_known_about_the_server(make: Maker, fault: Fault) -> None:
    workflow = "00000000-0000-4000-8000-000000000000"
    client = make("app-x", fault.url)
    started = event("workflow_started", {"id": "r", "workflow_id": workflow})
    fault.script({"status": 404, "body": "<html>"}, started, started)
    await client.with_options(user="a").create_workflow_run(workflow)
    await client.with_options(user="b").create_workflow_run(workflow)
    found_out, *runs = fault.calls()
    assert found_out.startswith("POST /api/v1/")
    assert runs == [f"POST /v1/workflows/{workflow}/run"] * 2


async def test_rest_closing_a_client_with_other_options_closes_nothing(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url)
    fault.script(INFO)
    async with client.with_options(timeout=5):
        pass
    assert (await client.get_info()).name == "x"


async def test_rest_responses_and_request_ids(make: Maker, fault: Fault) -> None:
    fault.script(INFO)
    info = await make("app-x", fault.url).get_info()
    assert info.request_id == "req-1"
    assert info.response.status_code == 200
    assert info.response.json() == dict(info) == {"name": "x"}


async def test_rest_request_ids_of_runs_pages_and_streams(make: Maker, fault: Fault) -> None:
    headers = {"X-Request-Id": "req-2"}
    run = {"workflow_run_id": "r", "task_id": "t", "data": {"id": "r", "status": "succeeded", "outputs": {}}}
    finished = event("workflow_finished", {"status": "succeeded"})
    client = make("app-x", fault.url)
    fault.script(
        {"status": 200, "body": run, "headers": headers},
        {"status": 200, "body": {"data": [], "has_more": False}, "headers": headers},
        {**finished, "headers": {**headers, **finished["headers"]}},
    )
    assert (await client.run_workflow({})).request_id == "req-2"
    assert (await client.list_workflow_logs().first()).request_id == "req-2"
    stream = client.stream_workflow({})
    assert stream.request_id is None
    assert [event.event async for event in stream] == ["workflow_finished"]
    assert stream.request_id == "req-2"


async def test_rest_logging(make: Maker, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "headrace_client")
    fault.script({"status": 503, "body": {"message": "not yet"}}, INFO)
    await make("app-secret-key", fault.url).get_info()
    lines = [record.getMessage() for record in caplog.records if record.name == "headrace_client"]
    assert lines[0].startswith("GET /v1/info returned 503 in ")
    assert lines[1].endswith("retrying in 1.0 s")
    assert lines[2].endswith("request req-1")
    assert "app-secret-key" not in caplog.text


CALLS: dict[str, Callable[[Any, Path], Any]] = {
    "an id that names another path": lambda client, _: client.get_workflow_run(".."),
    "a run without an id": lambda client, _: client.wait({}),
    "a file that is not there": lambda client, folder: client.upload_file(folder / "gone.txt"),
    "an input that is not JSON": lambda client, _: client.run_workflow({"x": object()}),
    "an answer that is not JSON": lambda client, _: client.get_info(),
    "an answer of another shape": lambda client, _: client.get_parameters(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_errors_every_failure_is_a_headrace_error(make: Maker, fault: Fault, tmp_path: Path, name: str) -> None:
    fault.script({"status": 200, "body": {"user_input_form": 7} if "shape" in name else "<html>"})
    with pytest.raises(HeadraceError):
        await CALLS[name](make("app-x", fault.url), tmp_path)


async def test_errors_a_closed_client_is_a_usage_error(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url)
    await client.aclose()
    with pytest.raises(UsageError, match="closed"):
        await client.get_info()


async def test_errors_times_have_units(make: Maker, fault: Fault) -> None:
    running = {"status": 200, "body": {"id": "r", "status": "running"}}
    fault.script({"status": 404, "body": ""}, *[running] * 5)
    with pytest.raises(HeadraceError, match="after 1 second;"):
        await make("app-x", fault.url).wait("r", polling=PollingPlan(timeout=1))
    fault.script(*[{"status": 503}] * 3)
    with pytest.raises(HeadraceError, match=r"timed out after 2\.5 seconds"):
        await make("app-x", fault.url).get_info(timeout=2.5)


async def test_errors_node_in_every_way_to_run(make: Maker, headrace: Serve) -> None:
    app = headrace.apps["slow"]
    client, inputs = make(app["key"], headrace.url, real_time=True), {"seconds": -1}
    ways: list[Callable[[], Any]] = [
        lambda: client.run_workflow(inputs, raise_on_failure=True),
        lambda: client.run_workflow(inputs, workflow_id=app["app_id"], raise_on_failure=True),
        lambda: client.run_and_wait(inputs, raise_on_failure=True),
        lambda: client.run_and_wait(inputs, workflow_id=app["app_id"], raise_on_failure=True),
    ]
    nodes: list[Any] = []
    for way in ways:
        with pytest.raises(RunFailedError) as failed:
            await way()
        nodes.append(failed.value.node)
    created = await client.create_workflow_run(app["app_id"], inputs)
    with pytest.raises(RunFailedError) as failed:
        await client.wait(created, raise_on_failure=True)
    nodes.append(failed.value.node)
    stream = client.stream_workflow(inputs)
    async for _ in stream:
        pass
    with pytest.raises(RunFailedError) as failed:
        stream.run.raise_for_status()
    nodes.append(failed.value.node)
    assert len({node["node_id"] for node in nodes}) == 1
    assert all(node["title"] for node in nodes)


async def test_errors_a_failed_run_is_returned_if_its_node_is_not_known(make: Maker, fault: Fault) -> None:
    run = {"workflow_run_id": "r", "task_id": "t", "data": {"id": "r", "status": "failed", "error": "it broke"}}
    fault.script({"status": 200, "body": run})  # any further request is a 404
    answer = await make("app-x", fault.url).run_workflow({})
    assert (answer.status, answer.error, answer.error_node) == ("failed", "it broke", None)
    with pytest.raises(RunFailedError, match="it broke"):
        answer.raise_for_status()


async def test_rest_headers_are_replaced_whatever_their_case(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url, headers={"X-Team": "shop"})
    fault.script(INFO)
    await client.with_options(headers={"AUTHORIZATION": "Bearer other", "x-team": "desk"}).get_info()
    headers = [(name.lower(), value) for name, value in fault.requests[0]["headers"].items()]
    assert [value for name, value in headers if name in ("authorization", "x-team")] == ["Bearer other", "desk"]


WRONG: dict[str, dict[str, Any]] = {
    "a line break": {"headers": {"X": "a\nb"}},
    "letters beyond ASCII": {"headers": {"X": "\u62a5"}},
    "a name with a space": {"headers": {"X Y": "1"}},
    "no time": {"timeout": 0},
    "less than no time": {"timeout": -1},
    "NaN seconds": {"stream_silence": float("nan")},
}


@pytest.mark.parametrize("name", WRONG)
async def test_errors_options_that_are_not_valid(make: Maker, fault: Fault, name: str) -> None:
    with pytest.raises(UsageError):
        make("app-x", fault.url).with_options(**WRONG[name])
    with pytest.raises(UsageError):
        make("app-x", fault.url, **WRONG[name])


async def test_errors_a_lone_surrogate_is_not_valid_in_ids_and_headers(make: Maker, fault: Fault) -> None:
    with pytest.raises(UsageError, match="Idempotency-Key"):
        await make("app-x", fault.url).create_workflow_run("w", idempotency_key="\ud800")
    with pytest.raises(UsageError, match="is not a valid id"):
        await make("app-x", fault.url).get_workflow_run("\ud800")


async def test_rest_objects_are_compared_and_pickled_without_their_responses(make: Maker, fault: Fault) -> None:
    fault.script(INFO, INFO, {"status": 200, "body": {"name": "y"}})
    client = make("app-secret-key", fault.url)
    first, second, third = await client.get_info(), await client.get_info(), await client.get_info()
    assert first == second != third
    pickled = pickle.dumps(first)
    assert b"secret" not in pickled
    assert pickle.loads(pickled) == first
