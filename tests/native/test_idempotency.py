"""A request that is sent again makes nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from headrace.api.native import idempotency
from headrace.api.native.idempotency import Idempotency, digest_of
from headrace.errors import RequestError, StoreError
from headrace.node import Context, Result
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage
from tests.api.serving import Client, Gate, Scripted, Serving, serving, workflow
from tests.native.asynchronous import EVENTS, Reply, ask, look, submit


async def runs(app: Client) -> list[str]:
    return [item["id"] for item in (await ask(app, "GET", "/workflow-runs?limit=100")).body["data"]]


def replayed(reply: Reply) -> bool:
    return reply.headers.get("Idempotency-Replayed") == "true"


async def test_twenty_clients_with_one_key_make_one_run(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    replies = await asyncio.gather(*(submit(app, key="once") for _ in range(20)))
    assert {reply.status for reply in replies} == {202}
    assert len({reply.raw for reply in replies}) == 1
    assert sum(replayed(reply) for reply in replies) == 19
    assert await runs(app) == [replies[0].body["workflow_run_id"]]


async def test_the_first_answer_is_given_again_whatever_became_of_the_run(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    first = await submit(app, key="k")
    await look(app, first.body["workflow_run_id"], wait=60)
    await server.add("tiny.yml", workflow(["boom"]))
    again = await submit(app, key="k")
    assert (again.status, again.raw, replayed(again), replayed(first)) == (202, first.raw, True, False)
    alias = await ask(
        app, "POST", f"/workflows/{app.release.app.id}/run", prefix="/api",
        json={"inputs": {}, "user": "u1"}, headers={"Idempotency-Key": "k"},
    )  # fmt: skip
    assert alias.raw == first.raw


async def test_another_request_under_the_same_key(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    first = await submit(app, key="k")
    for other in (
        await submit(app, {"q": 1}, key="k"),
        await ask(
            app, "POST", f"/workflow-runs/{first.body['workflow_run_id']}/retry", headers={"Idempotency-Key": "k"}
        ),
    ):
        assert (other.status, other.body["code"]) == (409, "idempotency_conflict")
    assert len(await runs(app)) == 1


async def test_another_request_while_the_first_is_being_answered(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    first = asyncio.create_task(submit(app, key="k", response_mode="blocking"))
    await gate.reached.wait()
    assert (await submit(app, {"q": 1}, key="k")).body["code"] == "idempotency_conflict"
    again = asyncio.create_task(submit(app, key="k", response_mode="blocking"))
    gate.let()
    one, two = await asyncio.gather(first, again)
    assert (one.status, one.raw) == (two.status, two.raw) == (200, one.raw)
    assert replayed(two)


async def test_an_answer_that_takes_too_long(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.05)
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    first = asyncio.create_task(submit(app, key="k", response_mode="blocking"))
    await gate.reached.wait()
    second = await submit(app, key="k", response_mode="blocking")
    assert (second.status, second.body["code"]) == (409, "idempotency_in_progress")
    assert second.headers["Retry-After"] == "5"
    gate.let()
    assert (await first).status == 200


async def test_each_app_has_keys_of_its_own(server: Serving) -> None:
    one, two = await server.add("one.yml", workflow()), await server.add("two.yml", workflow())
    replies = [await submit(app, key="k") for app in (one, two)]
    assert [reply.status for reply in replies] == [202, 202]
    assert replies[0].body["workflow_run_id"] != replies[1].body["workflow_run_id"]


async def test_a_refusal_is_not_kept(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    assert (await submit(app, key="k", response_mode="never")).status == 400
    reply = await submit(app, key="k")
    assert (reply.status, replayed(reply)) == (202, False)


@pytest.mark.parametrize("key", ["", "k" * 256, "two words", "ключ", "a\tb"])
async def test_keys_that_are_none(server: Serving, key: str) -> None:
    app = await server.add("tiny.yml", workflow())
    reply = await ask(
        app, "POST", f"/workflows/{app.release.app.id}/run",
        json={"inputs": {}, "user": "u"}, headers={"Idempotency-Key": key},
    )  # fmt: skip
    assert (reply.status, reply.body["code"]) == (400, "invalid_param")


async def test_the_longest_key(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    assert (await submit(app, key="~" * 255)).status == 202


async def test_a_stream_is_told_again_from_the_beginning(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"], outputs={"out": ("gate", "text")}))
    gate = Scripted.scripts["gate"] = Gate(["a"])
    gate.let(2)
    path = f"/api/v1/workflows/{app.release.app.id}/run"
    key = {"Idempotency-Key": "k", "Accept": EVENTS}
    async with app.stream(path, key) as stream:
        first = await stream.rest()
    async with app.stream(path, key) as stream:
        assert stream.answer.headers["Idempotency-Replayed"] == "true"
        again = await stream.rest()
    kinds = [[event for event in events if event.name != "text_chunk"] for events in (first, again)]
    assert kinds[0] == kinds[1]
    assert len(await runs(app)) == 1


async def test_a_retry_is_made_once(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["boom"]))
    old = (await submit(app)).body["workflow_run_id"]
    await look(app, old, wait=60)
    path, key = f"/workflow-runs/{old}/retry", {"Idempotency-Key": "k"}
    replies = await asyncio.gather(*(ask(app, "POST", path, headers=key) for _ in range(5)))
    assert {reply.status for reply in replies} == {202}
    assert len({reply.raw for reply in replies}) == 1
    assert len(await runs(app)) == 2


async def test_a_process_that_died_before_it_could_keep_the_answer(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "ABANDONED_SECONDS", 0.05)
    app = await server.add("tiny.yml", workflow())

    async def dies(app: str, key: str, status: int, body: bytes) -> None:
        raise StoreError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(server.store.idempotency, "complete", dies)
        assert (await submit(app, key="k")).status == 503
    created = await runs(app)
    assert len(created) == 1
    replies = await asyncio.gather(*(submit(app, key="k") for _ in range(3)))
    assert {reply.body["workflow_run_id"] for reply in replies} == set(created)
    assert len({reply.raw for reply in replies}) == 1
    assert await runs(app) == created


async def test_a_stream_whose_answer_cannot_be_kept_holds_no_place(tmp_path: Path) -> None:
    async with serving(tmp_path, max_active=1) as server:
        app = await server.add("tiny.yml", workflow())

        async def full(app: str, key: str, status: int, body: bytes) -> None:
            raise StoreError("the disk is full")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server.store.idempotency, "complete", full)
            assert (await submit(app, key="k", response_mode="streaming")).status == 503
        assert (await submit(app, response_mode="blocking")).status == 200


async def test_after_a_day_the_key_is_new(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    app = await server.add("tiny.yml", workflow())
    first = await submit(app, key="k")
    monkeypatch.setattr(idempotency, "STORED_SECONDS", 0.0)
    second = await submit(app, {"q": "another"}, key="k")
    assert (second.status, replayed(second)) == (202, False)
    assert second.body["workflow_run_id"] != first.body["workflow_run_id"]
    assert (await look(app, second.body["workflow_run_id"], wait=60))["status"] == "succeeded"


async def test_two_processes_on_one_database(tmp_path: Path, server: Serving) -> None:
    """Each has helpers of its own; the store between them says who was first."""
    release = (await server.add("tiny.yml", workflow())).release
    created: list[str | None] = []
    making, go = asyncio.Event(), asyncio.Event()

    async def make(name: str | None) -> Response:
        created.append(name)
        making.set()
        await go.wait()
        return Response(b"{}", 201, media_type="application/json")

    def request() -> Request:
        scope = {"type": "http", "method": "POST", "path": "/api/v1/x", "query_string": b"", "server": ("t", 80)}
        return Request(scope | {"scheme": "http", "headers": [(b"idempotency-key", b"k")]})

    async def open_storage() -> SqlStorage:
        return await SqlStorage.open(f"sqlite:///{tmp_path}/one.db", full_sync=False)

    stores = [await open_storage(), await open_storage()]
    try:
        one, two = (Idempotency(store.idempotency) for store in stores)
        first = asyncio.create_task(one.once(request(), release, b"x", make))
        await making.wait()
        second = asyncio.create_task(two.once(request(), release, b"x", make))
        with pytest.raises(RequestError) as refused:
            await two.once(request(), release, b"y", make)
        assert refused.value.code == "idempotency_conflict"
        go.set()
        answers = await asyncio.gather(first, second)
        assert [(answer.status_code, answer.body) for answer in answers] == [(201, b"{}")] * 2
        assert answers[1].headers["Idempotency-Replayed"] == "true"
        assert len(created) == 1
        assert created[0] is not None
    finally:
        for store in stores:
            await store.aclose()


async def test_a_maker_that_fails_lets_the_next_one_try(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    release, tries = app.release, 0

    async def make(_: str | None) -> Response:
        nonlocal tries
        tries += 1
        if tries < 3:
            await asyncio.sleep(0)
            raise RequestError("not now", "busy", 429)
        return Response(b"{}", 200)

    once = Idempotency(memory_storage().idempotency).once
    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "server": ("t", 80), "scheme": "http"}
    request = Request(scope | {"headers": [(b"idempotency-key", b"k")]})
    ended: list[Any] = await asyncio.gather(
        *(once(request, release, b"", make) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(item, RequestError) for item in ended) == 2
    assert sum(isinstance(item, Response) for item in ended) == 3
    assert tries == 3
    assert not gate.reached.is_set()


def test_what_makes_two_requests_the_same() -> None:
    def request(method: str = "POST", path: str = "/api/v1/x", query: bytes = b"") -> Request:
        scope = {"type": "http", "method": method, "path": path, "query_string": query, "scheme": "http", "headers": []}
        return Request(scope | {"server": ("t", 80)})

    same = digest_of(request(), b"x")
    assert digest_of(request(path="/api/x"), b"x") == same
    others = [
        (request("PUT"), b"x"),
        (request(path="/api/v1/y"), b"x"),
        (request(query=b"a=1"), b"x"),
        (request(), b"y"),
    ]
    assert len({same, *(digest_of(*item) for item in others)}) == 5


async def test_a_failed_blocking_run_is_an_answer_like_any_other(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["counts"]))
    calls: list[str] = []

    async def counts(ctx: Context) -> Result:
        calls.append(ctx.run)
        return await Scripted.scripts["boom"](ctx)

    Scripted.scripts["counts"] = counts
    replies = [await submit(app, key="k", response_mode="blocking") for _ in range(2)]
    assert [reply.body["status"] for reply in replies] == ["failed", "failed"]
    assert len(calls) == 1
