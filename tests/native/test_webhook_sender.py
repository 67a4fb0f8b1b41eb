"""Callbacks arrive: signed, at least once, under one id, and without waiting for each other."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from headrace.adapters.http import HttpClient
from headrace.errors import LoadError, Problem, StoreError
from headrace.kernel.events import (
    Event,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.ports import Callback, Storage
from headrace.runs.service import Submission
from headrace.stores.memory import MemoryJournal, memory_storage
from headrace.stores.memory.catalog import MemoryCatalog
from headrace.values import File, Value
from headrace.webhooks import DeliveryPolicy, WebhookSender, signature
from tests.api.serving import check_times
from tests.native.receivers import Delivering, Post, Receiver, WatchedCallbacks, delivering, receiver, watched_storage
from tests.runs.service import ECHO, GATED, SECRET, Gate, publish, run_service

RUN = "fb47b2e6-5e43-4f90-be01-d5c5a088d156"


async def run(at: Delivering, url: str, q: str = "hi") -> str:
    """A run that ends at once, with a callback."""
    release = await publish(at.where, ECHO)
    return (await at.where.submit(Submission(release, "somebody", {"q": q}, callback=url))).run


async def written(store: Storage, url: str, *events: Event, run: str = RUN) -> None:
    """A run that is in the journal, whoever did it."""
    where = run_service(store)
    release = await publish(where, ECHO)
    queued = RunQueued(release.app.id, release.version.id, "task", "somebody", {"q": "hi"}, {}, callback=url)
    records = [Record(run, seq, 1000.0 + seq, event) for seq, event in enumerate((queued, *events), 1)]
    await store.journal.append(records)


def example() -> Callable[[str, Mapping[str, str], bytes], bool]:
    """What docs/callbacks.md tells receivers to do."""
    page = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/callbacks.md", "exec"), names)
    return names["verified"]


async def test_an_ended_run_is_told_and_signed():
    async with receiver(204) as there, delivering() as at:
        name = await run(at, there.url)
        post = await there.next()
        saved = await at.callbacks.next()

    assert post.path == "/hook"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["user-agent"].startswith("Headrace/")
    assert abs(int(post.headers["webhook-timestamp"]) - time.time()) < 100
    body = post.json
    assert body["type"] == "run.succeeded"
    assert abs(datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC)).total_seconds() < 10
    data = body["data"]
    assert data["id"] == name
    assert data["status"] == "succeeded"
    assert data["outputs"] == {"q": "hi"}
    assert data["error"] is None
    assert data["user"] == "somebody"
    assert data["total_steps"] == 2
    assert data["created_at"] <= data["started_at"] <= data["finished_at"]
    check_times(body)
    assert data["usage"] == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "total_price": "0",
        "currency": "USD",
    }
    secret = at.webhook_sender.signing_secret(saved.app)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    verified = example()
    assert verified(secret, post.headers, post.body)
    assert not verified(at.webhook_sender.signing_secret("another app"), post.headers, post.body)
    assert not verified(secret, post.headers, post.body + b" ")
    assert not verified(secret, {**post.headers, "webhook-id": RUN}, post.body)
    old = {**post.headers, "webhook-timestamp": str(int(time.time()) - 1000)}
    assert not verified(secret, old, post.body)
    assert not verified(secret, {}, post.body)
    assert saved.status == "delivered"
    assert (saved.id, saved.attempts, saved.last_status, saved.next_at) == (post.id, 1, 204, None)
    assert saved.delivered_at is not None


def test_signatures_are_those_of_standard_webhooks():
    """Known to every implementation: the example of the libraries' own tests."""
    secret, name = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    signed = signature(secret, name, 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_run_without_a_callback_tells_nobody():
    async with delivering() as at:
        release = await publish(at.where, ECHO)
        name = (await at.where.submit(Submission(release, "somebody", {"q": "hi"}))).run
        assert [record async for record in at.where.follow(name)]
        assert await at.store.callbacks.callbacks_of(name) == []


async def test_an_error_is_tried_again_under_the_same_id():
    async with receiver(500, 503, 200) as there, delivering() as at:
        await run(at, there.url)
        first, second, third = [await there.next() for _ in range(3)]
        after = [await at.callbacks.next() for _ in range(3)]

    assert first.id == second.id == third.id
    assert first.body == second.body == third.body
    assert [item.status for item in after] == ["pending", "pending", "delivered"]
    assert [item.attempts for item in after] == [1, 2, 3]
    assert [item.last_status for item in after] == [500, 503, 200]
    assert [item.last_error for item in after] == ["the receiver answered 500", "the receiver answered 503", None]


async def test_a_receiver_that_is_down_hears_it_once_it_is_up():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    there = Receiver(200)
    async with delivering(back_off=(0.01,) * 1000) as at:
        await run(at, f"http://127.0.0.1:{port}/hook")
        refused = await at.callbacks.next()
        assert refused.status == "pending"
        assert refused.last_status is None
        assert "refused" in (refused.last_error or "")
        async with there.listening(port):
            assert (await there.next()).id == refused.id
            assert (await at.callbacks.next("delivered")).attempts > 1


async def test_after_the_last_try_it_has_failed(caplog: pytest.LogCaptureFixture):
    async with receiver(500) as there, delivering(back_off=(0.01, 0.01)) as at:
        await run(at, there.url)
        failed = await at.callbacks.next("failed")
    assert len(there.posts) == failed.attempts == 3
    assert (failed.next_at, failed.delivered_at) == (None, None)
    assert "the receiver answered 500" in caplog.text


async def test_the_usual_schedule_is_a_day_and_a_half_long():
    async with receiver(500) as there, delivering(policy=DeliveryPolicy()) as at:
        begun = time.time()
        await run(at, there.url)
        first = await at.callbacks.next()
        waits: list[tuple[float, float]] = []  # at least and at most: when it was decided is not known to the moment
        callback, before = first, begun
        while callback.next_at is not None:
            waits.append((callback.next_at - time.time(), callback.next_at - before))
            await at.callbacks.pass_time(callback)
            before = time.time()
            at.webhook_sender.wake()
            callback = await at.callbacks.next()
    assert callback.status == "failed"
    expected = [5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600]
    assert len(waits) == len(expected)
    for (least, most), usual in zip(waits, expected, strict=True):
        assert least < 1.15 * usual
        assert most > 0.85 * usual
    assert len(set(waits)) == len(waits)


async def test_gone_is_not_asked_again():
    async with receiver(410) as there, delivering() as at:
        await run(at, there.url)
        failed = await at.callbacks.next()
    assert (failed.status, failed.attempts, failed.last_status) == ("failed", 1, 410)


async def test_a_private_address_is_refused_at_once():
    async with receiver() as there, delivering(allow=()) as at:
        await run(at, there.url)
        failed = await at.callbacks.next()
    assert there.posts == []
    assert (failed.status, failed.attempts, failed.last_status) == ("failed", 1, None)
    assert "HEADRACE_EGRESS_ALLOW" in (failed.last_error or "")


async def test_redirects_are_not_followed():
    async def away(_: Post) -> web.Response:
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with receiver(answer=away) as there, delivering(back_off=()) as at:
        await run(at, there.url)
        failed = await at.callbacks.next()
    assert [post.path for post in there.posts] == ["/hook"]
    assert (failed.status, failed.last_error) == ("failed", "the receiver answered 307")


async def test_only_the_status_of_the_answer_counts():
    async def chatty(_: Post) -> web.Response:
        return web.Response(body=b"x" * 1_000_000)

    async with receiver(answer=chatty) as there, delivering() as at:
        await run(at, there.url)
        assert (await at.callbacks.next()).status == "delivered"


async def test_resent_it_arrives_under_the_same_id():
    async with receiver(410, 200) as there, delivering() as at:
        await run(at, there.url)
        failed = await at.callbacks.next("failed")
        for _ in range(2):  # one that failed, and one that was delivered
            again = await at.webhook_sender.resend(await at.store.callbacks.find_callback(failed.id) or failed)
            assert (again.status, again.attempts, again.delivered_at) == ("pending", 0, None)
            delivered = await at.callbacks.next("delivered")
            assert (delivered.id, delivered.attempts, delivered.last_error) == (failed.id, 1, None)
    assert len({post.id for post in there.posts}) == 1
    assert len(there.posts) == 3


async def test_resent_while_it_waits_for_its_next_try_it_comes_now():
    async with receiver(500, 200) as there, delivering(back_off=(3600.0,)) as at:
        await run(at, there.url)
        await at.webhook_sender.resend(await at.callbacks.next())
        await there.next()
        assert (await there.next()).id
        assert (await at.callbacks.next("delivered")).attempts == 1


@pytest.mark.parametrize(("first", "posts"), [(200, 1), (500, 2), (410, 2)])
async def test_resent_while_it_is_being_tried_it_comes_again_only_if_need_be(first: int, posts: int):
    gate = asyncio.Event()

    async def slowly(_: Post) -> int:
        await gate.wait()
        return first if len(there.posts) == 1 else 200

    async with receiver(answer=slowly) as there, delivering(back_off=(3600.0,)) as at:
        name = await run(at, there.url)
        await there.next()
        (callback,) = await at.store.callbacks.callbacks_of(name)
        assert (await at.webhook_sender.resend(callback)).status == "pending"
        gate.set()
        assert (await at.callbacks.next("delivered")).attempts == 1
    assert len(there.posts) == posts
    assert len({post.id for post in there.posts}) == 1


async def test_a_slow_receiver_holds_nobody_up():
    gate = asyncio.Event()
    at_once = 0
    most = 0

    async def slowly(_: Post) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await gate.wait()
        at_once -= 1
        return 200

    async with (
        receiver(answer=slowly) as slow,
        receiver() as quick,
        delivering(per_receiver=10, concurrency=11, backlog=20) as at,
    ):
        names = [await run(at, slow.url) for _ in range(100)]
        for _ in range(10):
            await slow.next()
        name = await run(at, quick.url)
        assert (await quick.next()).json["data"]["id"] == name
        assert len(slow.posts) == 10, "no more than it may have at once"
        gate.set()
        async with asyncio.timeout(60):
            body = {(await slow.next()).json["data"]["id"] for _ in range(90)}
    assert body | {post.json["data"]["id"] for post in slow.posts[:10]} == set(names)
    assert len(slow.posts) == 100, "each once"
    assert most == 10


async def test_a_courier_that_dies_leaves_it_to_the_next():
    store = watched_storage()
    gate = asyncio.Event()

    async def never(_: Post) -> int:
        await gate.wait()
        return 200

    async with receiver(answer=never) as there:
        async with delivering(store) as at:
            await run(at, there.url)
            first = await there.next()
        gate.set()
        async with delivering(store) as at:
            second = await there.next()
            saved = await at.callbacks.next()
    assert first.id == second.id == saved.id
    assert saved.status == "delivered"


async def test_what_cannot_be_written_down_is_not_sent_again(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)  # the store itself says that it is away
    async with receiver() as there, delivering(poll_seconds=0.02) as at:
        at.callbacks.full = True
        await run(at, there.url)
        post = await there.next()
        async with asyncio.timeout(60):
            await at.callbacks.refused.wait()
        at.callbacks.full = False
        assert (await at.callbacks.next()).status == "delivered"
    assert [item.id for item in there.posts] == [post.id]
    assert ": the disk is full" in caplog.text


async def test_secrets_stay_secret():
    Gate.reset()
    Gate.release.set()
    async with receiver() as there, delivering() as at:
        release = await publish(at.where, GATED)
        await at.where.submit(Submission(release, "somebody", {}, callback=there.url))
        post = await there.next()
    assert post.json["data"]["outputs"] == {"text": "through the gate", "key": "*" * 20}
    assert b"hunter2" not in post.body


async def test_each_message_tells_the_run_as_it_stood():
    store = watched_storage()
    reason: dict[str, Value] = {"node_id": "s", "type": "human_input"}
    async with receiver() as there:
        begun = (RunStarted(), NodeStarted("s"), RunPaused((reason,)))
        rest = (RunResumed(), NodeStarted("s"), NodeSucceeded("s", {}), NodeStarted("e"), NodeSucceeded("e", {}))
        await written(store, there.url, *begun, *rest, RunEnded("partial-succeeded", {"q": "hi"}, steps=2))
        async with delivering(store) as at:
            posts = {post.json["type"]: post for post in [await there.next(), await there.next()]}
            assert {(await at.callbacks.next()).status for _ in range(2)} == {"delivered"}

    paused = posts["run.paused"].json
    assert paused["timestamp"] == "1970-01-01T00:16:44.000Z"
    assert paused["data"]["status"] == "paused"
    assert paused["data"]["reasons"] == [reason]
    assert paused["data"]["outputs"] is None
    assert paused["data"]["finished_at"] is None
    assert paused["data"]["elapsed_time"] is None
    ended = posts["run.partial-succeeded"].json["data"]
    assert ended["status"] == "partial-succeeded"
    assert ended["outputs"] == {"q": "hi"}
    assert ended["reasons"] == []
    assert ended["elapsed_time"] == (ended["finished_at_ms"] - ended["started_at_ms"]) / 1000
    assert posts["run.paused"].id != posts["run.partial-succeeded"].id


async def test_usage_is_summed():
    store = watched_storage()
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "total_price": "0.0000001"}
    async with receiver() as there:
        nodes = (
            NodeStarted("s"),
            NodeSucceeded("s", {}, usage={**usage, "currency": "EUR"}),
            NodeStarted("e"),
            NodeSucceeded("e", {}, usage={**usage, "currency": "EUR"}),
        )
        await written(store, there.url, RunStarted(), *nodes, RunEnded("succeeded"))
        async with delivering(store):
            data = (await there.next()).json["data"]
    assert data["usage"] == {
        "prompt_tokens": 6,
        "completion_tokens": 8,
        "total_tokens": 14,
        "total_price": "0.0000002",
        "currency": "EUR",
    }
    assert data["total_tokens"] == 14


async def test_values_that_json_lacks_are_told():
    store = watched_storage()
    picture = File("image", "remote_url", filename="a.png", url="https://example.com/a.png")
    odd = {"nan": float("nan"), "huge": 2**80, "half": "\ud800", "file": picture, "chinese": "中文"}
    async with receiver() as there:
        await written(store, there.url, RunStarted(), RunEnded("failed", odd, error="it went boom"))
        async with delivering(store):
            data = (await there.next()).json["data"]
    assert data["error"] == "it went boom"
    outputs = data["outputs"]
    assert (outputs["nan"], outputs["huge"], outputs["half"], outputs["chinese"]) == (None, 2**80, "\ufffd", "中文")
    assert outputs["file"]["url"] == "https://example.com/a.png"


async def test_what_cannot_be_told_ends_with_its_reason(caplog: pytest.LogCaptureFixture):
    class Forgetful(MemoryCatalog):
        async def app(self, app: str) -> None:
            return None

    store = replace(watched_storage(), catalog=Forgetful())
    async with receiver() as there:
        await written(store, there.url, RunStarted(), RunEnded("succeeded"))
        async with delivering(store) as at:
            failed = await at.callbacks.next()
    assert (failed.status, failed.last_error) == ("failed", "the run, or its app, is gone")
    assert there.posts == []


async def test_an_address_that_is_none_fails_at_once():
    async with delivering() as at:
        await run(at, "http://[::1/hook")
        failed = await at.callbacks.next()
    assert (failed.status, failed.attempts) == ("failed", 1)
    assert "Invalid URL" in (failed.last_error or "")


async def test_the_store_may_be_away_for_a_while(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)  # the store itself says that it is away

    class Away(WatchedCallbacks):
        reads = 0

        async def due_callbacks(self, now: float, limit: int = 100) -> list[Callback]:
            self.reads += 1
            if self.reads < 3:
                raise StoreError("the database is locked")
            return await super().due_callbacks(now, limit)

    store = memory_storage(MemoryJournal(Away()))
    async with receiver() as there, delivering(store, poll_seconds=0.01) as at:
        await run(at, there.url)
        await there.next()
    assert "the database is locked" in caplog.text


async def test_a_run_that_cannot_be_read_is_told_once_it_can(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)  # the store itself says that it is away

    class Locked(MemoryJournal):
        reads = 0

        async def read(self, run: str, after: int = 0) -> list[Record]:
            self.reads += 1
            if self.reads < 3:
                raise StoreError("the database is locked")
            return await super().read(run, after)

    store = memory_storage(Locked(WatchedCallbacks()))
    async with receiver() as there:
        await written(store, there.url, RunStarted(), RunEnded("succeeded"))
        async with delivering(store, poll_seconds=0.01) as at:
            assert (await at.callbacks.next()).attempts == 1, "what was not sent is no try"
    assert "the database is locked" in caplog.text


async def test_a_workflow_that_no_longer_loads_is_told_once_it_does(monkeypatch: pytest.MonkeyPatch):
    store = watched_storage()
    async with receiver() as there:
        await written(store, there.url, RunStarted(), RunEnded("succeeded", {"q": "hunter2!"}))
        async with delivering(store, back_off=(3600.0,)) as at:
            with monkeypatch.context() as broken:
                broken.setattr("headrace.apps.catalog.load", _refuse)
                put_off = await at.callbacks.next()
            assert put_off.status == "pending"
            assert "cannot be loaded: flow.yml: it is too old" in (put_off.last_error or "")
            assert there.posts == []
            await at.webhook_sender.resend(put_off)
            assert (await there.next()).json["data"]["outputs"] == {"q": "*" * 20}


def _refuse(*_: object) -> None:
    raise LoadError("flow.yml", [Problem("it is too old")])


async def test_a_message_that_cannot_be_made_does_not_end_the_courier(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async with receiver() as there, delivering(back_off=()) as at:
        with monkeypatch.context() as broken:
            broken.setattr("headrace.webhooks.delivery.message", lambda *_: 1 / 0)
            await run(at, there.url)
            failed = await at.callbacks.next()
        assert (failed.status, failed.last_error) == ("failed", "the message cannot be made: ZeroDivisionError")
        assert "ZeroDivisionError" in caplog.text
        await at.webhook_sender.resend(failed)
        assert (await there.next()).id == failed.id


def test_the_signing_secret_is_the_installations_and_the_apps():
    store = watched_storage()

    def secret(of: bytes, app: str) -> str:
        return WebhookSender(run_service(store), store.callbacks, store.claims, HttpClient(), of).signing_secret(app)

    assert secret(SECRET, "a") == secret(SECRET, "a")
    assert len({secret(SECRET, "a"), secret(SECRET, "b"), secret(b"t" * 32, "a")}) == 3
