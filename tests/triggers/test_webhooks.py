"""Webhooks over HTTP: what is refused and why, what a run gets, and one run for each delivery."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect

from headrace.api import trigger_endpoints
from headrace.api.middleware.request_context import RequestContext
from headrace.errors import HeadraceError, StoreError
from headrace.rate_limits import Limiter, PlanFile
from headrace.stores.memory import memory_storage
from headrace.triggers import Webhooks, webhook_secrets
from headrace.values import File
from tests.triggers.world import World, cron, triggered, webhook, world

MAX_BODY = 10_000
DAY = 24 * 3600
GITHUB, STRIPE, SLACK = "It's a Secret to Everybody", "whsec_test_secret", "8f742231b10e8888abcd99yyyzzz85a5"
SECRETS = {
    "HEADRACE_WEBHOOK_SECRET_GITHUB": f"github:{GITHUB}",
    "HEADRACE_WEBHOOK_SECRET_STRIPE": f"stripe:{STRIPE}",
    "HEADRACE_WEBHOOK_SECRET_SLACK_1": f"slack:{SLACK}",
    "HEADRACE_WEBHOOK_SECRET_UNUSED": "",
}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as running:
        yield running


def app_of(running: World) -> Starlette:
    secrets = webhook_secrets(SECRETS)
    webhooks = Webhooks(running.triggers, running.storage.idempotency, running.files, secrets)
    app = Starlette(routes=trigger_endpoints.routes(webhooks, MAX_BODY))
    app.middleware_stack = RequestContext(app.router.app, origins=["*"], headers={})
    return app


def client_of(running: World) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app_of(running)), base_url="http://host.example")


@pytest.fixture
async def client(here: World) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(here) as client:
        yield client


async def url(here: World, node: str = "t1", **data: Any) -> str:
    """The URL of a webhook, which is served with this configuration if there is one."""
    if data:
        await here.publish(triggered(webhook(id=node, **data)))
    return f"/triggers/webhook/{here.triggers.webhook_id(await here.trigger(node))}"


def field(name: str, type_: str = "string", *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "type": type_, "required": required}


async def test_a_request_starts_a_run_with_what_was_declared(here: World, client: httpx.AsyncClient):
    path = await url(
        here,
        headers=[field("X-Token", required=True), field("X-Absent")],
        params=[field("page", "number"), field("deep", "boolean"), field("absent")],
        body=[field("order", "object", required=True), field("tags", "array[string]"), field("note")],
    )
    body = {"order": {"id": 7}, "tags": ["a"], "more": 1}
    response = await client.post(
        path, params={"page": "2.0", "deep": "YES", "other": "x"}, headers={"x-token": "abc"}, json=body
    )
    success = {"status": "success", "message": "Webhook processed successfully"}
    assert (response.status_code, response.json()) == (200, success)
    outputs = await here.outputs()
    raw = outputs["_webhook_raw"]
    declared = {
        name: value for name, value in outputs.items() if not name.startswith("sys.") and name != "_webhook_raw"
    }
    assert declared == {
        "X_Token": "abc",
        "X_Absent": None,
        "page": 2,
        "deep": True,
        "absent": None,
        "order": {"id": 7},
        "tags": ["a"],
        "note": None,
    }
    assert type(outputs["page"]) is int
    assert (raw["method"], raw["query_params"]) == ("POST", {"page": 2, "deep": True, "other": "x"})
    assert (raw["body"], raw["files"], raw["headers"]["X-Token"]) == (body, {}, "abc")
    assert outputs["sys.timestamp"] == here.clock.now
    (queued,) = await here.queued()
    assert (queued.source, queued.start, queued.user) == ("trigger-webhook:t1", "t1", "DEFAULT-USER")
    assert set(queued.inputs) == {"webhook_data", "webhook_headers", "webhook_query_params", "webhook_body"}


@pytest.mark.parametrize(
    ("data", "request_", "message"),
    [
        ({}, {"method": "GET"}, "HTTP method mismatch. Expected POST, got GET"),
        ({"method": "HEAD"}, {"method": "OPTIONS"}, "HTTP method mismatch. Expected HEAD, got OPTIONS"),
        (
            {},
            {"content": b"x", "headers": {"Content-Type": "Text/Plain; charset=utf-8"}},
            "Content-type mismatch. Expected application/json, got text/plain",
        ),
        ({"headers": [field("X-Key", required=True)]}, {}, "Required header missing: X-Key"),
        ({"params": [field("a", required=True)]}, {}, "Required parameter missing: a"),
        (
            {"params": [field("a", "number")]},
            {"params": {"a": "nan"}},
            "Parameter 'a' validation failed: Cannot convert 'nan' to number",
        ),
        (
            {"params": [field("a", "number")]},
            {"params": {"a": "9" * 5000}},
            f"Parameter 'a' validation failed: Cannot convert '{'9' * 200}' to number",
        ),
        (
            {"params": [field("a", "boolean")]},
            {"params": {"a": "perhaps"}},
            "Parameter 'a' validation failed: Cannot convert 'perhaps' to boolean",
        ),
        (
            {"params": [field("a", "object")]},
            {"params": {"a": "{}"}},
            "Parameter 'a' validation failed: Unsupported type 'object' for form data parameter 'a'",
        ),
        ({"body": [field("a", required=True)]}, {"json": {}}, "Required body parameter missing: a"),
        (
            {"body": [field("a", "number")]},
            {"json": {"a": "1"}},
            "Parameter 'a' validation failed: Expected number, got str",
        ),
        (
            {"body": [field("a")]},
            {"json": {"a": None}},
            "Parameter 'a' validation failed: Expected string, got NoneType",
        ),
        (
            {"body": [field("a", "array[object]")]},
            {"json": {"a": [{}, 1]}},
            "Parameter 'a' validation failed: Expected array of objects, got list",
        ),
        (
            {"body": [field("a", "file")]},
            {"json": {"a": "b"}},
            "Parameter 'a' validation failed: Expected file, got str",
        ),
        ({}, {"content": b"{"}, "Invalid JSON body: unexpected end of data: line 1 column 2 (char 1)"),
        ({}, {"content": b"[1]"}, "Invalid JSON body: expected an object, got list"),
        (
            {},
            {"content": b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"},
            "Invalid JSON body: it is nested more than 100 levels deep",
        ),
        (
            {"content_type": "text/plain", "body": [field("a", required=True)]},
            {"headers": {"Content-Type": "text/plain"}},
            "Required body content missing for text/plain request",
        ),
        (
            {"content_type": "multipart/form-data"},
            {"content": b"no form", "headers": {"Content-Type": "multipart/form-data"}},
            "Invalid form body: Missing boundary in multipart.",
        ),
        (
            {"content_type": "multipart/form-data"},
            {
                "content": b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut',
                "headers": {"Content-Type": "multipart/form-data; boundary=B"},
            },
            "Invalid form body: it ends before the last boundary",
        ),
        (
            {"content_type": "application/x-www-form-urlencoded"},
            {"content": b"a=1&" * 1001, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            "Invalid form body: Max number of fields exceeded",
        ),
    ],
)
async def test_what_is_refused(
    here: World, client: httpx.AsyncClient, data: dict[str, Any], request_: dict[str, Any], message: str
):
    path = await url(here, **({"status_code": 200} | data))
    response = await client.request(**({"method": "POST", "url": path} | request_))
    assert (response.status_code, response.json()) == (400, {"error": "Bad Request", "message": message})
    assert await here.runs() == []


async def test_what_is_not_there_is_paused_or_too_large(here: World, client: httpx.AsyncClient):
    path = await url(here, status_code=200)
    response = await client.post("/triggers/webhook/unknown", content=b"{")
    assert (response.status_code, response.json()["message"]) == (404, "Webhook not found: unknown")
    response = await client.post(path, json={"a": "x" * MAX_BODY})
    assert (response.status_code, response.json()["code"]) == (413, "request_entity_too_large")
    trigger = await here.trigger()
    await here.triggers.pause(trigger, paused=True)
    response = await client.post(path)
    assert response.status_code == 404
    assert response.json()["message"].startswith("Webhook trigger is disabled for webhook ")
    await here.triggers.pause(trigger, paused=False)
    assert (await client.post(path)).status_code == 200
    assert len(await here.runs()) == 1


async def test_a_url_stays_when_the_file_changes_and_ends_with_its_node(here: World, client: httpx.AsyncClient):
    path = await url(here, status_code=200)
    assert await url(here, status_code=202) == path
    assert (await client.post(path)).status_code == 202
    await here.publish(triggered(webhook(id="other")))
    assert (await client.post(path)).status_code == 404
    assert await url(here, "other") != path
    assert len(path.rpartition("/")[2]) == 24


@pytest.mark.parametrize(
    ("configured", "status", "body"),
    [
        ('{"ok": true}', 201, {"ok": True}),
        (" [1, 2]", 200, [1, 2]),
        ("{not json", 200, {"message": "{not json"}),
        ("thanks", 302, {"message": "thanks"}),
        ("gone", 204, None),
        ("busy", 503, {"message": "busy"}),
    ],
)
async def test_the_response_is_as_configured(
    here: World, client: httpx.AsyncClient, configured: str, status: int, body: Any
):
    path = await url(here, response_body=configured, status_code=status)
    response = await client.post(path)
    assert response.status_code == status
    assert (response.json() if response.content else None) == body


async def test_forms_are_converted_and_their_files_stored(here: World, client: httpx.AsyncClient):
    fields = [field("n", "number"), field("on", "boolean"), field("doc", "file"), field("absent", "file")]
    path = await url(here, content_type="multipart/form-data", body=fields)
    files = {"doc": ("../notes.txt", b"hello", "text/plain"), "other": ("b.bin", b"\0")}
    assert (await client.post(path, data={"n": "1.5", "on": "0"}, files=files)).status_code == 200
    outputs = await here.outputs()
    assert (outputs["n"], outputs["on"], outputs["absent"]) == (1.5, False, None)
    stored = outputs["doc"]
    assert isinstance(stored, File)
    assert (stored.type, stored.transfer_method, await here.files.read(stored)) == ("document", "tool_file", b"hello")
    assert set(outputs["_webhook_raw"]["files"]) == {"doc", "other"}

    here.clock.now += 1  # the newest run is the second one
    path = await url(here, content_type="application/x-www-form-urlencoded", body=[field("n", "number", required=True)])
    assert (await client.post(path, data={"n": ["3", "4"], "empty": ""})).status_code == 200
    assert (await here.outputs())["_webhook_raw"]["body"] == {"n": 3, "empty": ""}


async def test_a_form_may_be_empty_and_end_without_a_line_break(here: World, client: httpx.AsyncClient):
    path = await url(here, content_type="multipart/form-data")
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    whole = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--B--'
    assert [(await client.post(path, content=body, headers=headers)).status_code for body in (b"", whole)] == [200, 200]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "application/octet-stream", "application/json"])
async def test_an_upload_that_is_cut_off_starts_and_stores_nothing(here: World, tmp_path: Path, content_type: str):
    """The sender disconnects in the middle of what could be a whole body."""
    body = b'--B\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nb\r\n--B--\r\n'
    body = b'{"a": 1}' if content_type == "application/json" else body
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": True},
        {"type": "http.disconnect"},
    ]
    path = await url(here, content_type=content_type)
    headers = [(b"content-type", f"{content_type}; boundary=B".encode()), (b"content-length", b"1000")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(_: object) -> None: ...  # nobody is left to receive it

    with pytest.raises(ClientDisconnect):
        await app_of(here).router(scope, receive, send)
    assert await here.runs() == []
    assert not [file for file in (tmp_path / "files").rglob("*") if file.is_file()]


async def test_a_body_that_is_a_text_or_a_file(here: World, client: httpx.AsyncClient):
    path = await url(here, content_type="text/plain", body=[field("said")])
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    assert (await client.post(path, content="héllo".encode(), headers=headers)).status_code == 200
    assert (await here.outputs())["said"] == "héllo"
    path = await url(here, content_type="application/octet-stream", body=[field("blob")])
    for content in (b"\0\1", b""):
        here.clock.now += 1
        response = await client.post(path, content=content, headers={"Content-Type": "application/octet-stream"})
        assert response.status_code == 200
        blob = (await here.outputs())["blob"]
        assert (await here.files.read(blob) if content else blob) == (content or None)


async def test_of_several_triggers_the_one_that_fired_begins_the_run(here: World, client: httpx.AsyncClient):
    await here.publish(
        triggered(webhook(id="first", method="get"), webhook(id="second"), outputs={"raw": ["second", "_webhook_raw"]})
    )
    assert (await client.post(await url(here, "second"), json={"a": 1})).status_code == 200
    records = await here.records((await here.runs())[0].run)
    paths = [(type(record.event).__name__, record.event.path) for record in records if hasattr(record.event, "path")]
    assert paths == [
        ("NodeSkipped", "first"),
        ("NodeStarted", "second"),
        ("NodeSucceeded", "second"),
        ("NodeStarted", "end"),
        ("NodeSucceeded", "end"),
    ]
    assert records[-1].event.outputs["raw"]["body"] == {"a": 1}


# ------------------------------------------------------------------------------------------------------------ senders


def signed(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


async def test_github(here: World, client: httpx.AsyncClient):
    """The example of GitHub's documentation, with its signature."""
    path = await url(here, "github", content_type="text/plain")
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {
        "Content-Type": "text/plain",
        "X-GitHub-Event": "ping",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-Hub-Signature-256": signature,
    }
    response = await client.post(path, content=b"Hello, World?", headers=headers)
    assert (response.status_code, response.json()["error"]) == (401, "Unauthorized")
    unsigned = {name: value for name, value in headers.items() if value is not signature}
    response = await client.post(path, content=b"Hello, World!", headers=unsigned)
    missing = {"error": "Unauthorized", "message": "Required header missing: X-Hub-Signature-256"}
    assert (response.status_code, response.json()) == (401, missing)
    assert await here.runs() == []
    for _ in range(3):
        assert (await client.post(path, content=b"Hello, World!", headers=headers)).status_code == 200
    assert len(await here.runs()) == 1
    here.clock.now += DAY + 1
    assert (await client.post(path, content=b"Hello, World!", headers=headers)).status_code == 200
    assert len(await here.runs()) == 2


async def test_stripe(here: World, client: httpx.AsyncClient):
    """An event as Stripe's library (16.1) signs it."""
    path = await url(here, "stripe", body=[field("type", required=True)])
    body = b'{\n  "id": "evt_test_webhook",\n  "object": "event",\n  "type": "charge.succeeded"\n}'
    v1 = "f9b7cbe8da9b035bc29f1fc67b4f9734b9ae3d0780c6efc0682a0854cedb95cc"
    here.clock.now = 1_700_000_000.0
    headers = {"Content-Type": "application/json", "Stripe-Signature": f"t=1700000000,v1=00,v1={v1},v0=x"}
    for _ in range(2):
        assert (await client.post(path, content=body, headers=headers)).status_code == 200
    here.clock.now += 301
    late = await client.post(path, content=body, headers=headers)
    assert (late.status_code, late.json()["message"]) == (401, "The time of the signature is too far from now.")
    assert len(await here.runs()) == 1


async def test_slack(here: World, client: httpx.AsyncClient):
    """The example of Slack's documentation, with its signature; then an event, and the question for the URL."""
    path = await url(here, "slack-1", content_type="application/x-www-form-urlencoded")
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    here.clock.now = 1_531_420_618.0
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    assert (await client.post(path, content=body, headers=headers)).status_code == 200
    assert (await here.outputs("slack-1"))["_webhook_raw"]["body"]["command"] == "/webhook-collect"
    for moved in (301, -301):
        here.clock.now = 1_531_420_618.0 + moved
        assert (await client.post(path, content=body, headers=headers)).status_code == 401

    path = await url(here, "slack-1", response_body="ok", body=[field("event_id", required=True)])
    at = str(int(here.clock.now))

    async def send(event: dict[str, Any], **more: str) -> httpx.Response:
        content = json.dumps(event).encode()
        signature = f"v0={signed(SLACK, b'v0:' + at.encode() + b':' + content)}"
        base = {"Content-Type": "application/json", "X-Slack-Request-Timestamp": at, "X-Slack-Signature": signature}
        return await client.post(path, content=content, headers=base | more)

    before = len(await here.runs())
    response = await send({"type": "url_verification", "challenge": "3eZbrw1aB"})
    assert (response.status_code, response.json()) == (200, {"challenge": "3eZbrw1aB"})
    assert len(await here.runs()) == before
    for body in ({"type": "url_verification", "challenge": 1}, {"type": "event_callback", "challenge": "3eZbrw1aB"}):
        assert (await send(body)).status_code == 400
    event = {"type": "event_callback", "event_id": "Ev08MFMKH6"}
    await send(event)
    await send(event, **{"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"})
    assert len(await here.runs()) == before + 1


@pytest.mark.parametrize("value", ["secret", "paypal:x", "github:"])
def test_a_secret_needs_its_sender(value: str):
    with pytest.raises(HeadraceError, match="HEADRACE_WEBHOOK_SECRET_X: must be github:SECRET"):
        webhook_secrets({"HEADRACE_WEBHOOK_SECRET_X": value})


async def test_secrets_that_no_webhook_has_are_reported(here: World):
    webhooks = Webhooks(here.triggers, here.storage.idempotency, here.files, webhook_secrets(SECRETS))
    await here.publish(triggered(webhook(id="slack-1"), webhook(id="GitHub"), cron("@daily", id="stripe")))
    assert await webhooks.unused_secrets() == ["HEADRACE_WEBHOOK_SECRET_STRIPE"]


# --------------------------------------------------------------------------------------------------------- deliveries


async def test_a_repeated_delivery_starts_one_run_in_two_processes(tmp_path: Path):
    storage = memory_storage()
    async with world(tmp_path, storage) as first, world(tmp_path, storage, first.clock) as second:
        path = await url(first, response_body="ok")
        async with client_of(first) as one, client_of(second) as other:
            headers = {"Idempotency-Key": "k"}
            sent = [client.post(path, json={"a": 1}, headers=headers) for client in [one, other] * 10]
            assert {response.status_code for response in await asyncio.gather(*sent)} == {200}
            assert len(await first.runs()) == 1
            conflict = await other.post(path, json={"a": 2}, headers=headers)
            assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")


async def test_a_delivery_that_could_not_be_queued_can_be_repeated(
    here: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    path = await url(here, response_body="ok")
    append = here.storage.journal.append

    async def fail(_: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(here.storage.journal, "append", fail)
    response = await client.post(path, headers={"X-GitHub-Delivery": "d"})
    assert response.status_code == 503
    monkeypatch.setattr(here.storage.journal, "append", append)
    for _ in range(2):
        assert (await client.post(path, headers={"X-GitHub-Delivery": "d"})).status_code == 200
    assert len(await here.runs()) == 1


async def test_the_plan_limits_runs_and_refused_requests_do_not_count(tmp_path: Path):
    plans = tmp_path / "plans.yaml"
    plans.write_text("plans: {small: {requests_per_minute: 2}}\ndefault: small\n")
    storage = memory_storage()
    async with world(tmp_path, storage, limiter=Limiter(PlanFile(plans), storage.buckets)) as here:
        path = await url(here, "github", response_body="ok")
        async with client_of(here) as client:
            for _ in range(50):
                assert (await client.post(path, json={})).status_code == 401

            async def send() -> httpx.Response:
                headers = {"X-Hub-Signature-256": f"sha256={signed(GITHUB, b'{}')}", "Content-Type": "application/json"}
                return await client.post(path, content=b"{}", headers=headers)

            assert [(await send()).status_code for _ in range(3)] == [200, 200, 429]
            assert "retry-after" in (await send()).headers


async def test_a_flood_of_unknown_ids_reads_the_database_once(
    here: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    await url(here, response_body="ok")
    reads = 0
    apps = here.storage.catalog.apps

    async def counted(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        return await apps(*args)

    monkeypatch.setattr(here.storage.catalog, "apps", counted)
    monkeypatch.setattr("headrace.cache.time", SimpleNamespace(monotonic=lambda: 0.0))  # all of it within half a second

    async def never() -> AsyncGenerator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    sent = [client.post(f"/triggers/webhook/{number}", content=never()) for number in range(200)]
    assert {response.status_code for response in await asyncio.gather(*sent)} == {404}
    assert reads == 1
