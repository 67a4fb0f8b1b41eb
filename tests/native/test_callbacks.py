"""The callbacks of an app's runs, as its key's holder sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette

from headrace.api.auth import Api, ApiOptions
from headrace.api.middleware.request_context import RequestContext
from headrace.api.native.callbacks import CallbackRoutes
from headrace.api.native.schemas.runs import callback_url
from headrace.api.native.services import NativeServices
from headrace.apps.catalog import Release
from headrace.batches import BatchRunner
from headrace.conversations.messages import Chats
from headrace.errors import InvalidParam
from headrace.runs.service import Submission
from headrace.times import times
from tests.api.serving import Quiet
from tests.native.receivers import Delivering, delivering, receiver
from tests.runs.service import ECHO, publish

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass
class Caller:
    """Calls the API in the name of one app."""

    at: Delivering
    session: aiohttp.ClientSession
    url: str
    release: Release

    async def call(self, method: str, path: str, **headers: str) -> tuple[int, Any]:
        key = self.at.where.apps.own_key(self.release.app)
        all_headers = {"Authorization": f"Bearer {key}", **headers}
        async with self.session.request(method, f"{self.url}/api/v1{path}", headers=all_headers) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body else None

    async def run(self, url: str | None) -> str:
        fields = Submission(self.release, "somebody", {"q": "hi"}, callback=url)
        return (await self.at.where.submit(fields)).run

    async def other(self) -> Caller:
        return Caller(self.at, self.session, self.url, await publish(self.at.where, ECHO, "other.yml"))


@pytest.fixture
async def caller() -> AsyncGenerator[Caller]:
    async with delivering() as at:
        app = Starlette()
        app.middleware_stack = RequestContext(app.router.app, origins=["*"], headers={})
        api = Api(at.where.apps, at.where, cast("Any", None), ApiOptions())
        batch_runner = BatchRunner(at.where, at.store.batches, at.store.claims, Chats(at.where))
        routes = CallbackRoutes(
            api, NativeServices(at.store.idempotency, at.webhook_sender, batch_runner, cast("Any", None))
        )
        app.router.routes += routes.mounted("/api/v1")
        server = Quiet(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
        listening = asyncio.create_task(server.serve())
        await server.listens.wait()
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        async with aiohttp.ClientSession() as session:
            yield Caller(at, session, f"http://{host}:{port}", await publish(at.where, ECHO))
        server.leave.set()
        await listening


async def test_a_callback_is_listed_with_what_became_of_it(caller: Caller):
    async with receiver(204) as there:
        run = await caller.run(there.url)
        post = await there.next()
        saved = await caller.at.callbacks.next("delivered")
    status, listed = await caller.call("GET", f"/workflow-runs/{run}/callbacks")
    assert status == 200
    assert listed == {
        "data": [
            {
                "id": post.id,
                "workflow_run_id": run,
                "event": "run.succeeded",
                "url": there.url,
                "status": "delivered",
                "attempts": 1,
                "last_status": 204,
                "last_error": None,
                **times(next_attempt_at=None, created_at=saved.created_at, delivered_at=saved.delivered_at),
            }
        ]
    }
    assert saved.delivered_at is not None
    assert saved.delivered_at >= saved.created_at


async def test_a_run_without_a_callback_has_none(caller: Caller):
    run = await caller.run(None)
    assert await caller.call("GET", f"/workflow-runs/{run}/callbacks") == (200, {"data": []})


@pytest.mark.parametrize("run", [UNKNOWN, "nonsense", "%00", "😀"])
async def test_an_unknown_run_is_not_found(caller: Caller, run: str):
    status, body = await caller.call("GET", f"/workflow-runs/{run}/callbacks")
    assert (status, body["code"]) == (404, "not_found")


async def test_a_failed_callback_is_sent_again(caller: Caller):
    async with receiver(410, 200) as there:
        run = await caller.run(there.url)
        failed = await caller.at.callbacks.next("failed")
        status, body = await caller.call("POST", f"/callbacks/{failed.id}/resend")
        assert status == 202
        assert (body["id"], body["status"], body["attempts"]) == (failed.id, "pending", 0)
        assert body["next_attempt_at"] is not None
        await caller.at.callbacks.next("delivered")
    assert {post.id for post in there.posts} == {failed.id}
    _, listed = await caller.call("GET", f"/workflow-runs/{run}/callbacks")
    assert [(item["status"], item["attempts"]) for item in listed["data"]] == [("delivered", 1)]


@pytest.mark.parametrize("callback", [UNKNOWN, "nonsense", "secret"])
async def test_an_unknown_callback_is_not_found(caller: Caller, callback: str):
    status, body = await caller.call("POST", f"/callbacks/{callback}/resend")
    assert (status, body["code"]) == (404, "not_found")


async def test_another_apps_callbacks_are_not_there(caller: Caller):
    other = await caller.other()
    async with receiver() as there:
        run = await caller.run(there.url)
        delivered = await caller.at.callbacks.next("delivered")
        assert (await other.call("GET", f"/workflow-runs/{run}/callbacks"))[0] == 404
        assert (await other.call("POST", f"/callbacks/{delivered.id}/resend"))[0] == 404
        assert await caller.at.store.callbacks.find_callback(delivered.id) == delivered
    assert len(there.posts) == 1


async def test_the_signing_secret_is_shown_to_its_app(caller: Caller):
    status, body = await caller.call("GET", "/callbacks/secret")
    assert (status, body) == (200, {"secret": caller.at.webhook_sender.signing_secret(caller.release.app.id)})
    assert (await caller.call("GET", "/callbacks/secret"))[1] == body
    other = await caller.other()
    assert (await other.call("GET", "/callbacks/secret"))[1] != body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/workflow-runs/{UNKNOWN}/callbacks"),
        ("POST", f"/callbacks/{UNKNOWN}/resend"),
        ("GET", "/callbacks/secret"),
    ],
)
async def test_without_a_key_nothing_is_told(caller: Caller, method: str, path: str):
    status, body = await caller.call(method, path, Authorization="Bearer app-wrong")
    assert (status, body["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://example.com:8443/hook?a=b",
        "https://user:password@example.com/",
        "http://[2001:db8::1]/hook",
        "https://例え.jp/フック",
    ],
)
def test_urls_that_can_be_called(url: str):
    assert callback_url(url) == url


def test_no_url_is_no_callback():
    assert callback_url(None) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://[::1/hook",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com/a b",
        "http://example.com/\r\nx: y",
        "http://example.com/\ud800",
        "http://example.com/" + "x" * 2048,
        7,
        True,
        ["http://example.com"],
        {"url": "http://example.com"},
    ],
)
def test_urls_that_cannot(url: object):
    with pytest.raises(InvalidParam, match="callback_url"):
        callback_url(url)
