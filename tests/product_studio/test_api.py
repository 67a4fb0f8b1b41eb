from __future__ import annotations

import asyncio
import json
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from uuid import uuid4

import pytest
from headrace_client import AsyncClient
from headrace_client.events import HumanInputRequired
from product_studio.models import MESSAGE

from tests.product_studio.studio import DETAIL, NAME, RUNS, STOP, STREAM, Studio, events, followed, generated
from tests.sdk_contract.fault_server import Faults
from tests.server.process import Serve

Studios = dict[str, Studio]
FAILED = {"isSuccess": False, "code": 500, "body": MESSAGE}
UNUSABLE: list[Any] = [
    {"product_name": "宜蘭礁溪"},
    {"product_name": "  a   b  "},
    {"product_name": "字" * 31},
    {"product_name": "😀" * 4},
    {"product_name": 12345},
    {"product_name": None},
    {},
    [],
    None,
]


async def test_a_name_is_answered_with_what_the_workflow_made(studios: Studios):
    async with studios["quick"].client() as client:
        answer = await client.post(DETAIL, json={"product_name": f"  {NAME} "})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["isSuccess"], body["code"]) == (True, 200)
    assert sorted(body["body"]) == ["description", "image_url", "prompt_id"]
    assert body["body"]["description"].startswith("【示範模型】")


@pytest.mark.parametrize("name", ["字" * 5, "字" * 30, "😀" * 30, 'a "b" <c>'])
async def test_names_of_5_to_30_characters_whatever_they_take_in_bytes(studios: Studios, name: str):
    (*_, last) = await generated(studios["quick"], name)
    assert last["kind"] == "finished"


@pytest.mark.parametrize("body", UNUSABLE)
async def test_a_name_that_will_not_do_reaches_no_workflow(studios: Studios, faults: tuple[str, Faults], body: Any):
    faults[1].requests.clear()
    async with studios["faulty"].client() as client:
        answer = await client.post(DETAIL, json=body)
        stream = await client.post(STREAM, json=body)
    assert (answer.status_code, answer.json()) == (422, FAILED)
    assert stream.status_code == 422
    assert faults[1].requests == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"product_name": "\\ud800aaaaaa"}', b"\xff"])
async def test_a_body_that_is_none(studios: Studios, body: bytes):
    async with studios["quick"].client() as client:
        answers = [
            await client.post(path, content=body, headers={"Content-Type": "application/json"})
            for path in (DETAIL, STREAM, "/api/products")
        ]
    assert {response.status_code for response in answers} <= {400, 422}
    assert answers[0].json() == FAILED


async def test_a_body_that_is_too_large(studios: Studios):
    async with studios["quick"].client() as client:
        for path in (DETAIL, "/api/products", "/api/pictures"):
            assert (await client.post(path, content=b"0" * 6_000_000)).status_code == 413


async def test_a_form_of_another_site_is_refused(studios: Studios):
    """A browser sends it without asking; JSON with its own content type it does not."""
    async with studios["quick"].client() as client:
        text = await client.post("/api/products", content=b'{"title": "x"}', headers={"Content-Type": "text/plain"})
        picture = await client.post("/api/pictures", content=b"GIF89a", headers={"Content-Type": "text/plain"})
    assert (text.status_code, picture.status_code) == (422, 415)


async def test_the_stream_has_three_steps_and_the_text_as_it_is_written(studios: Studios):
    first, *middle, last = await generated(studios["quick"])
    assert sorted(first) == ["kind", "run_id", "task_id"]
    steps = [(event["step"], event["state"]) for event in middle if event["kind"] == "step"]
    assert steps == [(step, state) for step in ("check", "write", "picture") for state in ("running", "done")]
    assert all(event["seconds"] >= 0 for event in middle if event["kind"] == "step")
    pieces = [event["text"] for event in middle if event["kind"] == "text"]
    assert len(pieces) > 5
    assert last["kind"] == "finished"
    assert "".join(pieces) == last["description"]
    assert last["picture_id"] == first["run_id"]
    async with studios["quick"].client() as client:
        picture = await client.get(last["picture_url"])
    assert picture.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in picture.headers["content-security-policy"]
    assert ElementTree.fromstring(picture.text).tag.endswith("svg")


async def test_somebody_changes_and_approves_the_text(studios: Studios, server: Serve):
    kinds: list[str] = []
    async with (
        AsyncClient(server.keys["approval"], server.url, user="local-dev-test") as workflow,
        studios["approval"].client() as client,
        client.stream("POST", STREAM, json={"product_name": NAME}) as answer,
    ):
        async for event in events(answer):
            kinds.append(event["kind"])
            if event["kind"] != "started":
                continue
            forms = workflow.stream_workflow_events(event["run_id"], include_state_snapshot=True)
            (form,) = [seen.data async for seen in forms if isinstance(seen, HumanInputRequired)]
            assert form.resolved_default_values is not None
            assert form.resolved_default_values["text"].startswith("【示範模型】")
            assert form.form_token is not None
            await workflow.submit_human_input_form(form.form_token, action="approve", inputs={"text": "手寫的介紹。"})
            again = await followed(studios["approval"], event["run_id"])
    assert (event["kind"], event["description"]) == ("finished", "手寫的介紹。")
    assert again[-1] == event
    assert (kinds.count("started"), kinds.count("interrupted")) == (1, 0)


async def test_somebody_sends_the_text_back(studios: Studios):
    async with studios["approval"].client() as client:
        async with client.stream("POST", STREAM, json={"product_name": NAME}) as answer:
            async for event in events(answer):
                if event["kind"] == "started":
                    run = event["run_id"]
                if event["kind"] == "waiting":
                    form = await client.get(event["form_url"])
                    assert "退回" in form.text
                    sent = await client.post(event["form_url"], data={"action": "reject", "input-text": "no"})
                    assert sent.status_code == 200, sent.text
        again = await followed(studios["approval"], run)
    assert event == {"kind": "failed", "reason": "rejected"}
    assert again[-1] == event
    assert {"kind": "waiting", "form_url": None} in again  # its form is answered


async def test_nobody_approves_the_text_in_time(studios: Studios, faults: tuple[str, Faults]):
    form = {"form_id": "f", "node_id": "approve", "form_token": None, "expiration_time": 4_000_000_000}
    form |= {"resolved_default_values": {"text": "A draft"}}
    ended = {"id": "run", "status": "succeeded", "outputs": {}}
    faults[1].steps.append(
        sse(
            {"event": "workflow_started", "data": {"id": "run"}},
            {"event": "human_input_required", "data": form},
            {"event": "human_input_form_timeout", "data": {"node_id": "approve", "expiration_time": 4_000_000_000}},
            {"event": "workflow_finished", "data": ended},
        )
    )
    *_, draft, waiting, last = await generated(studios["faulty"])
    assert draft == {"kind": "text", "text": "A draft"}
    assert waiting == {"kind": "waiting", "form_url": None}
    assert last == {"kind": "failed", "reason": "expired"}


async def test_text_is_sent_while_the_run_continues_and_stop_stops_it(studios: Studios):
    slow = studios["slow"]
    kinds: list[str] = []
    task = run = ""
    async with slow.client() as client, client.stream("POST", STREAM, json={"product_name": NAME}) as answer:
        async for event in events(answer):
            kinds.append(event["kind"])
            if event["kind"] == "started":
                task, run = event["task_id"], event["run_id"]
            if event["kind"] == "text" and kinds.count("text") == 1:
                stopped = await client.post(STOP, json={"task_id": task})
                assert stopped.json() == {"isSuccess": True}
    assert event == {"kind": "failed", "reason": "stopped"}
    assert await slow.status(run) == "stopped"


async def test_a_run_continues_without_its_browser_and_can_be_followed_from_its_start(studios: Studios):
    slow = studios["slow"]
    async with slow.client() as client:
        async with client.stream("POST", STREAM, json={"product_name": NAME}) as answer:
            first = await anext(events(answer))
        async with client.stream("GET", f"{RUNS}/{first['run_id']}/stream") as answer:
            stream = events(answer)
            assert await anext(stream) == first
            assert await anext(stream) == {"kind": "step", "step": "check", "state": "running", "seconds": ANY}
            while (await anext(stream))["kind"] != "text":
                pass
        assert await slow.status(first["run_id"], wait=0) == "running"
        await client.post(STOP, json={"task_id": first["task_id"]})
    assert (await followed(slow, first["run_id"]))[-1] == {"kind": "failed", "reason": "stopped"}


async def test_an_ended_run_can_be_followed_again(studios: Studios):
    quick = studios["quick"]
    events_of_run = await generated(quick)
    again = await followed(quick, events_of_run[0]["run_id"])
    assert (again[0], again[-1]) == (events_of_run[0], events_of_run[-1])
    assert "".join(event.get("text", "") for event in again) == events_of_run[-1]["description"]


async def test_there_is_no_run_with_that_id(studios: Studios):
    quick = studios["quick"]
    for run in (str(uuid4()), "nobody"):
        assert await followed(quick, run) == [
            {"kind": "started", "run_id": run, "task_id": None},
            {"kind": "failed", "reason": "gone"},
        ]
    async with quick.client() as client:
        assert (await client.get(f"{RUNS}/a%20b/stream")).status_code == 422
        assert (await client.get(f"{RUNS}/{'a' * 101}/stream")).status_code == 422


@pytest.mark.parametrize(("workflow", "last"), [("quick", "finished"), ("failing", "failed")])
async def test_the_end_of_a_run_is_fetched_from_a_server_that_cannot_repeat_its_stream(
    server: Serve, faults: tuple[str, Faults], tmp_path: Path, workflow: str, last: str
):
    """Dify has no stream of an existing run, and a 404 for it."""
    studio = Studio(faults[0], server.keys[workflow], tmp_path / "p.db")
    studio.start()
    try:
        first = (await generated(studio))[0]
        faults[1].steps.extend([{"status": 404, "body": "<html>"}] * 2)
        stream = await followed(studio, first["run_id"])
    finally:
        studio.stop()
    assert [event["kind"] for event in stream] == ["started", last]
    assert not faults[1].steps


async def test_a_server_that_is_gone_interrupts_the_stream_of_a_run(studios: Studios, faults: tuple[str, Faults]):
    faulty = studios["faulty"]
    refused = {"status": 503, "body": "<html>secret detail</html>"}
    faults[1].steps.extend([{"pass": True, "cut": 3000}, refused, refused, refused])
    first, *_, last = await generated(faulty)
    assert last == {"kind": "interrupted"}
    faults[1].steps.extend([refused] * 3)
    async with faulty.client() as client:
        assert (await client.get(f"{RUNS}/{first['run_id']}/stream")).status_code == 503
    assert (await followed(faulty, first["run_id"]))[-1]["kind"] == "finished"


async def test_a_browser_that_leaves_before_the_run_is_announced_stops_it(
    studios: Studios, server: Serve, faults: tuple[str, Faults], tmp_path: Path
):
    slow = studios["slow"]
    before = await slow.newest()
    left = threading.Event()  # the run starts only then
    faults[1].steps.append({"pass": True, "after": left})
    faults[1].received.clear()
    studio = Studio(faults[0], server.keys["slow"], tmp_path / "p.db")
    studio.start()
    try:
        body = b'{"product_name": "a product"}'
        _, writer = await asyncio.open_connection("127.0.0.1", int(studio.url.rpartition(":")[2]))
        head = f"POST {STREAM} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert await asyncio.to_thread(faults[1].received.wait, 60)
        writer.close()
        await writer.wait_closed()
        left.set()
        async with asyncio.timeout(60):
            while (run := await slow.newest()) == before:
                pass
        assert await slow.status(run) == "stopped"
    finally:
        left.set()
        studio.stop()


async def test_a_task_that_is_not_there_is_stopped_already(studios: Studios):
    async with studios["quick"].client() as client:
        assert (await client.post(STOP, json={"task_id": "nobody"})).status_code == 200
        assert (await client.post(STOP, json={"task_id": "../../apps"})).status_code == 422


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([{"status": 401, "body": {"code": "unauthorized", "message": "secret detail"}}], "configuration"),
        ([{"status": 400, "body": {"code": "not_workflow_app", "message": "secret detail"}}], "configuration"),
        ([{"status": 429, "headers": {"Retry-After": "0"}, "body": {"message": "secret detail"}}] * 3, "busy"),
        ([{"status": 503, "body": "<html>secret detail</html>"}], "service"),
        ([{"reset": True}], "unreachable"),
        ([{"status": 200, "headers": {"Content-Type": "text/event-stream"}, "body": "data: {"}], "unreachable"),
    ],
)
async def test_what_goes_wrong_is_told_by_its_reason_and_not_in_the_server_s_words(
    studios: Studios, faults: tuple[str, Faults], steps: list[Any], reason: str
):
    script = faults[1]
    script.steps.extend(steps)
    assert await generated(studios["faulty"]) == [{"kind": "failed", "reason": reason}]
    assert not script.steps
    script.steps.extend(steps)
    async with studios["faulty"].client() as client:
        answer = await client.post(DETAIL, json={"product_name": NAME})
    assert (answer.status_code, answer.json()) == (500, FAILED)
    assert not script.steps


async def test_a_run_that_fails_says_in_which_step(studios: Studios):
    (*_, step, last) = await generated(studios["failing"])
    assert (step["step"], step["state"]) == ("check", "failed")
    assert last == {"kind": "failed", "reason": "title"}
    async with studios["failing"].client() as client:
        answer = await client.post(DETAIL, json={"product_name": NAME})
    assert (answer.status_code, answer.json()) == (500, FAILED)


async def test_a_failed_run_is_continued_where_the_server_can(
    studios: Studios, server: Serve, faults: tuple[str, Faults], tmp_path: Path
):
    failing = studios["failing"]
    first, *_ = await generated(failing)
    again, *_, last = await generated(failing, retry_of=first["run_id"])
    assert (await failing.run(again["run_id"]))["retry_of"] == first["run_id"]
    assert last == {"kind": "failed", "reason": "title"}

    dify = Studio(faults[0], server.keys["failing"], tmp_path / "p.db")
    dify.start()
    try:
        faults[1].steps.append({"status": 404, "body": "<html>"})
        new, *_ = await generated(dify, retry_of=first["run_id"])
    finally:
        dify.stop()
    assert (await failing.run(new["run_id"]))["retry_of"] is None
    async with failing.client() as client:
        assert (await client.post(STREAM, json={"product_name": NAME, "retry_of": "../../apps"})).status_code == 422


async def test_a_workflow_that_answers_something_else(studios: Studios):
    (*_, last) = await generated(studios["other"])
    assert last == {"kind": "failed", "reason": "configuration"}


async def test_a_picture_that_cannot_be_had_costs_the_picture_only(studios: Studios):
    (*_, last) = await generated(studios["unseen"])
    assert last == {"kind": "finished", "description": "Words.", "picture_id": None, "picture_url": None}


async def test_a_stream_that_is_cut_goes_on(studios: Studios, faults: tuple[str, Faults]):
    faults[1].steps.append({"pass": True, "cut": 3000})
    first, *middle, last = await generated(studios["faulty"])
    assert first["kind"] == "started"
    assert "".join(event.get("text", "") for event in middle) == last["description"]


async def test_many_at_once(studios: Studios):
    ends = [stream[-1]["kind"] for stream in await asyncio.gather(*(generated(studios["quick"]) for _ in range(10)))]
    assert ends == ["finished"] * 10


async def test_what_is_not_there(studios: Studios):
    async with studios["quick"].client() as client:
        assert (await client.get("/api/nothing")).status_code == 404
        assert (await client.get(DETAIL)).status_code in (404, 405)
        assert (await client.get("/../product_studio/settings.py")).status_code == 404
        assert (await client.get("/%2e%2e/%2e%2e/.env.example")).status_code == 404


async def test_every_answer_keeps_the_browser_strict(studios: Studios):
    async with studios["quick"].client() as client:
        answers = [
            await client.get("/"),
            await client.get("/api/products"),
            await client.get("/nothing"),
            await client.post(DETAIL, json={}),
            await client.post(STREAM, json={"product_name": NAME}),
        ]
    for answer in answers:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert answers[1].headers["cache-control"] == "no-store"


async def test_the_key_is_in_no_answer(studios: Studios, faults: tuple[str, Faults]):
    faulty = studios["faulty"]
    echo = {"code": "unauthorized", "message": f"no such key: {faulty.key}", "status": 401}
    faults[1].steps.extend([{"status": 401, "body": echo}] * 2)
    async with faulty.client() as client:
        answers = [
            await client.post(DETAIL, json={"product_name": NAME}),
            await client.post(STREAM, json={"product_name": NAME}),
            await client.post(DETAIL, json={"product_name": NAME}),
            await client.post(STREAM, json={"product_name": NAME}),
            await client.post(STOP, json={"task_id": "t"}),
            *[await client.get(path) for path in ("/", "/api/products", "/openapi.json", "/nothing")],
        ]
    for answer in answers:
        assert faulty.key not in answer.text
        assert faulty.key not in str(answer.headers)


def sse(*events: dict[str, Any]) -> dict[str, Any]:
    """The response of a server whose run has these events."""
    ids = {"workflow_run_id": "run", "task_id": "task"}
    body = "".join(f"data: {json.dumps(ids | event)}\n\n" for event in events)
    return {"status": 200, "headers": {"Content-Type": "text/event-stream"}, "body": body}


def node(event: str, name: str, kind: str, **data: Any) -> dict[str, Any]:
    return {"event": event, "data": {"node_id": name, "node_type": kind, "title": name, **data}}


@pytest.mark.parametrize(
    ("error", "error_type", "reason"),
    [
        ("secret detail", "InvokeAuthorizationError", "credentials"),
        ("secret detail", "InvokeRateLimitError", "limit"),
        ("secret detail", "InvokeConnectionError", "model"),
        ("secret detail", "InvokeServerUnavailableError", "model"),
        ("secret detail", "InvokeBadRequestError", "run"),
        ("[openai] Incorrect model credentials provided, please check and try again.", None, "credentials"),
        ("[openai] Rate Limit Error, secret detail", None, "limit"),
        ("You exceeded your current quota, please check your plan and billing details.", None, "limit"),
        ("[openai] Server Unavailable Error, secret detail", None, "model"),
        ("secret detail", None, "run"),
    ],
)
async def test_the_reason_of_a_model_that_fails(
    studios: Studios, faults: tuple[str, Faults], error: str, error_type: str | None, reason: str
):
    run = {"id": "run", "workflow_run_id": "run", "status": "failed", "error": error}
    failed_node = {"node_id": "write", "title": "write", "type": "llm", "error_type": error_type}
    faults[1].steps.extend(
        [
            sse(
                {"event": "workflow_started", "data": {"id": "run"}},
                node("node_started", "check", "code"),
                node("node_started", "write", "llm"),
                node("node_finished", "write", "llm", status="failed", error=error),
                {"event": "workflow_finished", "data": {"id": "run", "status": "failed", "error": error}},
            ),
            {"status": 200, "body": run | {"error_node": failed_node if error_type else None}},
        ]
    )
    (*_, step, last) = await generated(studios["faulty"])
    assert (step["step"], step["state"]) == ("write", "failed")
    assert last == {"kind": "failed", "reason": reason}
    assert not faults[1].steps


@pytest.mark.parametrize(
    ("event", "last"),
    [
        (node("node_finished", "draw", "http-request", status="failed"), {"kind": "failed", "reason": "picture"}),
        ({"event": "workflow_paused", "data": {}}, {"kind": "failed", "reason": "configuration"}),
        ({"event": "error", "status": 500, "message": "secret detail"}, {"kind": "interrupted"}),
    ],
)
async def test_other_ends_of_a_stream(
    studios: Studios, faults: tuple[str, Faults], event: dict[str, Any], last: dict[str, Any]
):
    failed = {"event": "workflow_finished", "data": {"id": "run", "status": "failed", "error": "secret detail"}}
    faults[1].steps.append(
        sse(
            {"event": "workflow_started", "data": {"id": "run"}},
            node("node_started", "write", "llm"),
            node("node_started", "draw", "http-request"),
            event,
            *([failed] if event["event"] == "node_finished" else []),
        )
    )
    assert (await generated(studios["faulty"]))[-1] == last
