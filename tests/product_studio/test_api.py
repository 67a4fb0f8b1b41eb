from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from product_studio.models import MESSAGE

from tests.product_studio.studio import DETAIL, NAME, STOP, STREAM, Studio, generated, told
from tests.sdk_contract.fault_server import Faults

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
    assert {each.status_code for each in answers} <= {400, 422}
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


async def test_the_stream_tells_the_run_node_by_node_and_the_text_as_it_is_written(studios: Studios):
    first, *middle, last = await generated(studios["quick"])
    assert sorted(first) == ["kind", "run_id", "task_id"]
    nodes = [(each["title"], each["state"]) for each in middle if each["kind"] == "node"]
    assert nodes[:2] == [("開始", "running"), ("開始", "done")]
    assert ("撰寫介紹", "running") in nodes
    assert nodes[-1] == ("結束", "done")
    pieces = [each["text"] for each in middle if each["kind"] == "text"]
    assert len(pieces) > 5
    assert last["kind"] == "finished"
    assert "".join(pieces) == last["description"]
    assert last["picture_id"] == first["run_id"]
    async with studios["quick"].client() as client:
        picture = await client.get(last["picture_url"])
    assert picture.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in picture.headers["content-security-policy"]
    assert ElementTree.fromstring(picture.text).tag.endswith("svg")


async def test_text_is_told_while_the_run_goes_on_and_stop_stops_it(studios: Studios):
    slow = studios["slow"]
    kinds: list[str] = []
    task = run = ""
    async with slow.client() as client, client.stream("POST", STREAM, json={"product_name": NAME}) as answer:
        async for each in told(answer):
            kinds.append(each["kind"])
            if each["kind"] == "started":
                task, run = each["task_id"], each["run_id"]
            if each["kind"] == "text" and kinds.count("text") == 1:
                stopped = await client.post(STOP, json={"task_id": task})
                assert stopped.json() == {"isSuccess": True}
    assert each == {"kind": "failed", "reason": "stopped", "node": None}
    assert await slow.standing(run) == "stopped"


async def test_who_hangs_up_stops_the_run(studios: Studios):
    slow = studios["slow"]
    async with slow.client() as client, client.stream("POST", STREAM, json={"product_name": NAME}) as answer:
        first = await anext(told(answer))
    assert await slow.standing(first["run_id"]) == "stopped"


async def test_who_hangs_up_before_the_run_has_begun_stops_it_all_the_same(studios: Studios):
    slow = studios["slow"]
    before = await slow.newest()
    body = b'{"product_name": "a product"}'
    _, writer = await asyncio.open_connection("127.0.0.1", int(slow.url.rpartition(":")[2]))
    head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    writer.close()
    async with asyncio.timeout(60):
        while (run := await slow.newest()) == before:
            pass
    assert await slow.standing(run) == "stopped"


async def test_a_run_that_takes_too_long_is_given_up_and_stopped(studios: Studios, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("product_studio.service.RUN_SECONDS", 0.4)
    first, *_, last = await generated(studios["slow"])
    assert last == {"kind": "failed", "reason": "timeout", "node": None}
    assert await studios["slow"].standing(first["run_id"]) == "stopped"


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
    events = await generated(studios["faulty"])
    assert events == [{"kind": "failed", "reason": reason, "node": None}]
    assert not script.steps
    script.steps.extend(steps)
    async with studios["faulty"].client() as client:
        answer = await client.post(DETAIL, json={"product_name": NAME})
    assert (answer.status_code, answer.json()) == (500, FAILED)
    assert not script.steps


async def test_a_run_that_fails_names_its_step(studios: Studios):
    (*_, last) = await generated(studios["failing"])
    assert last == {"kind": "failed", "reason": "run", "node": "檢查名稱"}
    async with studios["failing"].client() as client:
        answer = await client.post(DETAIL, json={"product_name": NAME})
    assert (answer.status_code, answer.json()) == (500, FAILED)


async def test_a_workflow_that_answers_something_else(studios: Studios):
    (*_, last) = await generated(studios["other"])
    assert last == {"kind": "failed", "reason": "configuration", "node": None}


async def test_a_picture_that_cannot_be_had_costs_the_picture_only(studios: Studios):
    (*_, last) = await generated(studios["unseen"])
    assert last == {"kind": "finished", "description": "Words.", "picture_id": None, "picture_url": None}


async def test_a_stream_that_is_cut_goes_on(studios: Studios, faults: tuple[str, Faults]):
    faults[1].steps.append({"pass": True, "cut": 3000})
    first, *middle, last = await generated(studios["faulty"])
    assert first["kind"] == "started"
    assert "".join(each["text"] for each in middle if each["kind"] == "text") == last["description"]


async def test_many_at_once(studios: Studios):
    ends = [events[-1]["kind"] for events in await asyncio.gather(*(generated(studios["quick"]) for _ in range(10)))]
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
