"""Texts as clients send them: in every encoding of JSON, and with halves of characters, at every door."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from headrace.node import Context, Result
from tests.api.chats import CHAT, chatflow
from tests.api.serving import Client, Scripted, Serving, workflow
from tests.native.asynchronous import ask, look
from tests.native.test_batches import begun, ended

TEXT = {"variable": "q", "label": "q", "type": "paragraph", "required": True}
JSON = {"Content-Type": "application/json"}
HALF = "cut off \ud83d"
MENDED = "cut off \ufffd"
TWO_HALVES = "party \ud83c\udf89"


async def echo(server: Serving) -> Client:
    return await server.add("echo.yml", workflow(variables=[TEXT], outputs={"q": ["start", "q"]}))


async def post(app: Client, body: Any, path: str = "/v1/workflows/run", encoding: str = "utf-8") -> tuple[int, Any]:
    """`json.dumps`, as a JavaScript client writes it: halves are escaped."""
    return await app.call("POST", path, data=json.dumps(body).encode(encoding), headers=JSON)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
async def test_a_body_in_any_encoding_of_json(server: Serving, encoding: str) -> None:
    app = await echo(server)
    body = {"inputs": {"q": "é 中 🎉"}, "user": "用户"}
    raw = json.dumps(body, ensure_ascii=False).encode(encoding)
    status, response = await app.call("POST", "/v1/workflows/run", data=raw, headers=JSON)
    assert (status, response["data"]["outputs"]) == (200, {"q": "é 中 🎉"})
    raw = json.dumps(body | {"response_mode": "async"}, ensure_ascii=False).encode(encoding)
    reply = await ask(app, "POST", f"/workflows/{app.release.app.id}/run", data=raw, headers=JSON)
    assert reply.status == 202
    assert (await look(app, reply.body["workflow_run_id"], wait=60))["user"] == "用户"


async def test_a_body_with_numbers_that_json_does_not_have(server: Serving) -> None:
    app = await echo(server)
    raw = b'{"inputs": {"q": "x", "unasked": [NaN, Infinity, 18446744073709551616]}, "user": "u"}'
    assert (await app.call("POST", "/v1/workflows/run", data=raw, headers=JSON))[0] == 200


@pytest.mark.parametrize(("sent", "seen"), [(HALF, MENDED), (TWO_HALVES, "party 🎉"), ("\udf89\ud83c", "\ufffd\ufffd")])
async def test_half_a_character_is_the_same_at_every_door(server: Serving, sent: str, seen: str) -> None:
    app = await echo(server)
    body = {"inputs": {"q": sent}, "user": sent}
    status, response = await post(app, body)
    assert (status, response["data"]["outputs"]) == (200, {"q": seen})
    run = response["workflow_run_id"]
    headers = {"Authorization": f"Bearer {app.key}", **JSON}
    raw = json.dumps(body | {"response_mode": "streaming"})
    async with app.session.post(app.url + "/v1/workflows/run", data=raw, headers=headers) as answer:
        events = [json.loads(item[6:]) for item in (await answer.text()).split("\n\n") if item.startswith("data: ")]
    assert events[-1]["data"]["outputs"] == {"q": seen}
    assert {event["data"]["inputs"]["q"] for event in events if event["event"] == "workflow_started"} == {seen}
    detail = (await app.call("GET", f"/v1/workflows/run/{run}"))[1]
    assert (json.loads(detail["inputs"])["q"], json.loads(detail["outputs"])) == (seen, {"q": seen})
    # whom a run was for is found by the same words, in a query and in a list
    logs = (await app.call("GET", "/v1/workflows/logs", params={"keyword": seen}))[1]
    assert {item["created_by_end_user"]["session_id"] for item in logs["data"]} == {seen}
    assert len(logs["data"]) == 2
    async with app.session.get(f"{app.url}/v1/workflow/{run}/events?user={quote(seen)}", headers=headers) as answer:
        assert answer.status == 200
    listed = (await ask(app, "GET", "/workflow-runs", params={"user": seen})).body["data"]
    assert len(listed) == 2
    assert (await ask(app, "GET", f"/workflow-runs/{run}/node-executions")).body["data"][0]["outputs"]["q"] == seen


async def test_bytes_in_a_query_that_are_no_character(server: Serving) -> None:
    app = await echo(server)
    await post(app, {"inputs": {"q": "x"}, "user": "\ufffd\ufffd\ufffd"})
    headers = {"Authorization": f"Bearer {app.key}"}
    async with app.session.get(f"{app.url}/api/v1/workflow-runs?user=%ED%A0%BD", headers=headers) as answer:
        assert answer.status == 200


async def test_a_batch_takes_halves_in_its_lines(server: Serving) -> None:
    app = await echo(server)
    lines = b"\n".join(json.dumps({"inputs": {"q": item}}).encode() for item in (HALF, TWO_HALVES))
    batch = await begun(app, lines)
    await ended(app, batch)
    headers = {"Authorization": f"Bearer {app.key}"}
    async with app.session.get(f"{app.url}/api/v1/batches/{batch}/results", headers=headers) as answer:
        result = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert {item["outputs"]["q"] for item in result} == {MENDED, "party 🎉"}


async def test_a_chat_remembers_halves_as_it_told_them(server: Serving) -> None:
    async def say(ctx: Context) -> Result:
        for piece in ("one \ufffd", " two"):
            ctx.emit("text", piece)
        return Result({"text": "one \ufffd two"})

    Scripted.scripts["say"] = say
    app = await server.add("chat.yml", chatflow("{{#sys.query#}}: {{#say.text#}}", ["say"]))
    status, body = await post(app, {"inputs": {}, "query": HALF, "user": "u1"}, CHAT)
    assert (status, body["answer"]) == (200, f"{MENDED}: one \ufffd two")
    query = f"conversation_id={body['conversation_id']}&user=u1"
    listed = (await app.call("GET", f"/v1/messages?{query}"))[1]["data"]
    assert [(item["query"], item["answer"]) for item in listed] == [(MENDED, body["answer"])]
    name = f"/v1/conversations/{body['conversation_id']}/name"
    assert (await post(app, {"name": HALF, "user": "u1"}, name))[1]["name"] == MENDED


@pytest.mark.parametrize("name", [b"\xed\xa0\xbd.txt", b"\xff.txt", "🎉.txt".encode()])
async def test_an_uploads_name_has_no_halves(server: Serving, name: bytes) -> None:
    app = await echo(server)
    form = b'--b\r\nContent-Disposition: form-data; name="user"\r\n\r\nu1\r\n'
    form += b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name
    form += b'"\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    status, body = await app.call("POST", "/v1/files/upload", data=form, headers=headers)
    assert status == 201
    assert body["name"] == name.decode(errors="replace")
