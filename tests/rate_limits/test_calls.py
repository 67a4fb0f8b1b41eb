"""What callers see of limits: which calls are refused, how, and what the answers tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.access.keys import Rights
from headrace.rate_limits import plans as plan_files
from tests.api.chats import chatflow, say
from tests.api.serving import Client, Gate, Scripted, Serving, serving, workflow
from tests.api.test_recorded import aioform
from tests.native.test_batches import begun, ended, how, until

Plans = Callable[..., None]


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plans:
    """Writes the plans a, b and c, of which the first is every workspace's unless told otherwise. They hold at once."""
    monkeypatch.setattr(plan_files, "CHECK_SECONDS", 0.0)

    def write(*plans: dict[str, Any], **more: Any) -> None:
        named = dict(zip("abc", plans, strict=False))
        (tmp_path / "plans.yml").write_text(yaml.safe_dump({"plans": named, "default": "a", **more}))

    write({})
    return write


@pytest.fixture
async def server(plans: Plans, tmp_path: Path) -> AsyncGenerator[Serving]:
    async with serving(tmp_path, plans=tmp_path / "plans.yml") as running:
        yield running


@pytest.fixture
async def app(server: Serving) -> Client:
    return await server.add("tiny.yml", workflow())


async def get(app: Client, path: str = "/v1/info") -> tuple[int, Any, Any]:
    """(status, headers, body)"""
    async with app.session.get(app.url + path, headers={"Authorization": f"Bearer {app.key}"}) as answer:
        return answer.status, answer.headers, await answer.json()


async def driving(server: Serving, runs: int) -> None:
    """Waits until so many runs are under way."""
    for _ in range(60_000):
        if len(server.run_service.driving) == runs:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"{len(server.runtime.driving)} runs are under way, not {runs}")


# --------------------------------------------------------------------------------------------------------- requests


async def test_requests_a_minute(app: Client, plans: Plans) -> None:
    plans({"requests_per_minute": 3})
    for left in (2, 1, 0):
        status, headers, _ = await get(app)
        assert status == 200
        assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("3", str(left))
        assert int(headers["RateLimit-Reset"]) == pytest.approx(20 * (3 - left), abs=1)
        assert headers["RateLimit-Policy"] == '"requests";q=3;w=60'
        assert headers["RateLimit"].startswith(f'"requests";r={left};t=')
        assert "Retry-After" not in headers
    for _ in range(3):
        status, headers, body = await get(app)
        assert status == 429
        assert body == {
            "code": "rate_limit_error",
            "message": "Too many requests: the plan of workspace 'default' allows 3 requests a minute. "
            "Please try again later.",
            "status": 429,
        }
        assert 19 <= int(headers["Retry-After"]) <= 20
        assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("3", "0")
        assert "RateLimit-Remaining" in ",".join(headers.getall("Access-Control-Expose-Headers"))


async def test_whoever_has_no_key_meets_no_limit(server: Serving, app: Client, plans: Plans) -> None:
    plans({"requests_per_minute": 1})
    for _ in range(3):
        async with server.session.get(f"{server.url}/v1/info") as answer:
            assert answer.status == 401
            assert "RateLimit-Limit" not in answer.headers
        async with server.session.get(f"{server.url}/healthz") as answer:
            assert answer.status == 200
    assert (await get(app))[0] == 200


async def test_the_tightest_of_workspace_app_and_key_holds(server: Serving, app: Client, plans: Plans) -> None:
    other = await server.add("chat.yml", chatflow())
    key = (await server.store.catalog.keys(app.release.app.id))[0].id
    limited = [{"requests_per_minute": most} for most in (8, 5, 2)]
    plans(*limited, apps={app.release.app.id: "b", "chat": "b"}, keys={key: "c"})
    assert [(await get(app))[0] for _ in range(3)] == [200, 200, 429]
    status, headers, _ = await get(other)
    assert (status, headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == (200, "5", "4")
    refused = [item for item in [await get(other) for _ in range(5)] if item[0] == 429]
    assert [item[2]["message"] for item in refused] == [
        "Too many requests: the plan of this app allows 5 requests a minute. Please try again later."
    ]
    plans(*limited, workspaces={"default": "c"})
    assert (await get(other))[0] == 200, "it had taken 7 of 8"
    assert "workspace 'default' allows 2" in (await get(other))[2]["message"]


async def test_another_workspace_has_its_own(server: Serving, app: Client, plans: Plans) -> None:
    other = await server.apps.publish("other.yml", workflow(), "other")
    stranger = Client(server.session, server.url, server.secret_key(other), other)
    plans({"requests_per_minute": 1}, {"requests_per_minute": 2}, workspaces={"other": "b"})
    assert [(await get(item))[0] for item in (app, stranger) * 3] == [200, 200, 429, 200, 429, 429]


async def test_a_changed_file_holds_without_a_restart_and_a_wrong_one_does_not(
    app: Client, plans: Plans, tmp_path: Path
) -> None:
    plans({"requests_per_minute": 2})
    assert [(await get(app))[0] for _ in range(3)] == [200, 200, 429]
    (tmp_path / "plans.yml").write_text("plans: nonsense")
    assert (await get(app))[0] == 429
    plans({"requests_per_minute": 1_000_000_000})
    await asyncio.sleep(0.001)
    assert (await get(app))[0] == 200


async def test_without_plans_nothing_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        status, headers, _ = await get(await server.add("tiny.yml", workflow()))
        assert status == 200
        assert not [name for name in headers if name.lower().startswith("ratelimit")]


async def test_a_plan_that_limits_nothing_tells_nothing(app: Client) -> None:
    _, headers, _ = await get(app)
    assert "RateLimit-Limit" not in headers


async def test_what_was_known_to_be_empty_under_an_old_plan_is_not_under_a_new_one(app: Client, plans: Plans) -> None:
    plans({"runs_per_day": 1})
    assert [(await app.run())[0] for _ in range(3)] == [200, 429, 429]
    plans({"runs_per_day": 1_000_000_000})
    await asyncio.sleep(0.001)  # in which ten flow in
    assert (await app.run())[0] == 200


# ------------------------------------------------------------------------------------------------------------- runs


async def test_runs_a_day_are_of_every_kind_and_looking_is_free(server: Serving, app: Client, plans: Plans) -> None:
    chat = await server.add("chat.yml", chatflow())
    completion = await server.add("fails.yml", workflow(["boom"]))
    plans({"runs_per_day": 7})
    status, run = await app.run()
    assert status == 200
    for _ in range(20):
        assert (await get(app, f"/v1/workflows/run/{run['workflow_run_id']}"))[0] == 200
    async with app.stream() as stream:  # 2
        assert stream.answer.headers["RateLimit-Remaining"] == "5"
        assert stream.answer.headers["RateLimit-Policy"] == '"runs";q=7;w=86400'
        await stream.rest()
    assert (await say(chat))[0] == 200  # 3
    fields = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    assert (await chat.call("POST", "/v1/openai/chat/completions", json=fields))[0] == 200  # 4
    path = f"/api/v1/workflows/{completion.release.app.id}/run"
    status, failed = await completion.call("POST", path, json={"inputs": {}, "user": "u", "response_mode": "blocking"})
    assert (status, failed["status"]) == (200, "failed")  # 5
    again = f"/api/v1/workflow-runs/{failed['id']}/retry"
    assert (await completion.call("POST", again))[0] == 202  # 6
    assert (await app.run(response_mode="fast"))[0] == 400, "no run, so nothing is taken"
    status, _ = await app.call("POST", f"/api/v1/workflows/{app.release.app.id}/run", json={"inputs": {}, "user": "u"})
    assert status == 202  # 7
    refusals = [
        await app.run(),
        await say(chat),
        await app.call("POST", f"/api/v1/workflows/{app.release.app.id}/run", json={"inputs": {}, "user": "u"}),
        await completion.call("POST", again),
    ]
    assert [(status, body["code"]) for status, body in refusals] == [(429, "too_many_requests")] * 4
    assert "7 runs a day" in refusals[0][1]["message"]
    status, body = await chat.call("POST", "/v1/openai/chat/completions", json=fields)
    assert (status, body["error"]["code"]) == (429, "too_many_requests"), "in the words of OpenAI"
    async with app.stream() as stream:
        assert stream.answer.status == 429
        assert int(stream.answer.headers["Retry-After"]) == pytest.approx(86400 / 7, abs=60)
    total = len(server.store.journal._rows)  # pyright: ignore[reportPrivateUsage]
    assert total == 7


async def test_a_refused_message_begins_no_conversation(server: Serving, plans: Plans) -> None:
    app = await server.add("chat.yml", chatflow(conversation={"mood": "good"}))
    plans({"runs_per_day": 1})
    assert [status for status, _ in [await say(app), await say(app), await say(app)]] == [200, 429, 429]
    _, _, body = await get(app, "/v1/conversations?user=u1")
    assert len(body["data"]) == 1


async def test_the_same_request_sent_again_is_one_run(app: Client, plans: Plans) -> None:
    plans({"runs_per_day": 1, "concurrent_runs": 1})
    path = f"/api/v1/workflows/{app.release.app.id}/run"
    headers = {"Idempotency-Key": "k"}
    received = [await app.call("POST", path, json={"inputs": {}, "user": "u"}, headers=dict(headers)) for _ in range(3)]
    assert [status for status, _ in received] == [202] * 3
    assert (await app.call("POST", path, json={"inputs": {}, "user": "u"}, headers={"Idempotency-Key": "l"}))[0] == 429


async def test_runs_at_once(server: Serving, plans: Plans) -> None:
    gate = Scripted.scripts["gate"] = Gate([])
    app = await server.add("gate.yml", workflow(["gate"]))
    plans({"concurrent_runs": 2})
    runs = [asyncio.create_task(app.run()) for _ in range(2)]
    await driving(server, 2)
    for _ in range(2):
        async with app.stream() as stream:
            assert stream.answer.status == 429
            assert stream.answer.headers["Retry-After"] == "1"
            assert stream.answer.headers["RateLimit-Policy"] == '"concurrent-runs";q=2'
            assert stream.answer.headers["RateLimit-Remaining"] == "0"
            body = await stream.answer.json()
            assert body["code"] == "too_many_requests"
            assert "2 runs at once" in body["message"]
    gate.let()
    await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
    gate.let(2)
    assert (await app.run())[0] == 200
    assert [status for status, _ in await asyncio.gather(*runs)] == [200, 200]


async def test_a_caller_who_leaves_holds_its_place_until_the_run_ends(server: Serving, plans: Plans) -> None:
    gate = Scripted.scripts["gate"] = Gate([])
    app = await server.add("gate.yml", workflow(["gate"]))
    plans({"concurrent_runs": 1})
    async with app.stream() as stream:
        started = await stream.next()
        assert started is not None
        await gate.reached.wait()
    assert (await app.run())[0] == 429
    status, _ = await app.call("POST", f"/v1/workflows/tasks/{started.body['task_id']}/stop", json={"user": "u1"})
    assert status == 200
    await gate.cancelled.wait()
    await driving(server, 0)
    gate.let()
    assert (await app.run())[0] == 200


async def test_a_key_of_its_own_plan_runs_no_more_at_once_than_that(server: Serving, plans: Plans) -> None:
    gate = Scripted.scripts["gate"] = Gate([])
    app = await server.add("gate.yml", workflow(["gate"]))
    app_key, secret = await server.apps.access.create(Rights(app=app.release.app.id), "cli")
    second = Client(server.session, server.url, secret, app.release)
    plans({}, {"concurrent_runs": 1}, keys={app_key.id: "b"})
    runs = [asyncio.create_task(item.run()) for item in (app, second, app)]
    await driving(server, 3)
    status, refused = await second.run()
    assert (status, "this key allows 1 run at once" in refused["message"]) == (429, True)
    gate.let(3)
    assert [status for status, _ in await asyncio.gather(*runs)] == [200] * 3


async def test_a_batch_waits_for_what_its_plan_allows(server: Serving, plans: Plans) -> None:
    gate = Scripted.scripts["gate"] = Gate([])
    app = await server.add("gate.yml", workflow(["gate"]))
    plans({"concurrent_runs": 2})
    batch = await begun(app, b'{"inputs": {}}\n' * 5)
    await driving(server, 2)
    assert (await app.run())[0] == 429, "its lines are runs as any other"
    assert (await how(app, batch))["running"] == 2
    gate.let(5)
    assert (await ended(app, batch))["succeeded"] == 5


async def test_the_lines_of_a_batch_count_for_the_key_that_sent_it(server: Serving, app: Client, plans: Plans) -> None:
    key = (await server.store.catalog.keys(app.release.app.id))[0].id
    plans({}, {"runs_per_day": 4}, keys={key: "b"})
    batch = await begun(app, b'{"inputs": {}}\n' * 3)
    await ended(app, batch)
    assert [(await app.run())[0] for _ in range(2)] == [200, 429]


async def test_a_batch_that_waits_can_be_stopped(server: Serving, app: Client, plans: Plans) -> None:
    plans({"runs_per_day": 1})
    batch = await begun(app, b'{"inputs": {}}\n' * 5)
    await until(app, batch, lambda body: body["succeeded"] == 1)
    assert (await app.call("POST", f"/api/v1/batches/{batch}/stop"))[0] == 200
    body = await ended(app, batch)
    assert (body["status"], body["succeeded"], body["stopped"] + body["queued"]) == ("stopped", 1, 4)


# ---------------------------------------------------------------------------------------------------------- uploads


async def test_the_largest_upload(app: Client, plans: Plans) -> None:
    plans({"max_upload_mb": 0.25})
    large, small = b"x" * (256 * 1024 + 1), b"x" * (256 * 1024)
    status, body = await app.call("POST", "/v1/files/upload", **aioform("a.txt", large, "text/plain"))
    assert (status, body["code"]) == (413, "file_too_large")
    assert body["message"] == "File size exceeded: this kind of file may have 0.25 MB at most."
    assert (await app.call("POST", "/v1/files/upload", **aioform("a.txt", small, "text/plain")))[0] == 201
    plans({"max_upload_mb": 1000})
    too_large = aioform("a.txt", b"x" * (15 * 1024 * 1024 + 1), "text/plain")
    status, body = await app.call("POST", "/v1/files/upload", **too_large)
    assert (status, "15 MB" in body["message"]) == (413, True), "a plan cannot allow more than the server does"


async def test_audio_may_be_no_larger(server: Serving, plans: Plans) -> None:
    app = await server.add("chat.yml", chatflow(features={"speech_to_text": {"enabled": True}}))
    plans({"max_upload_mb": 0.125})
    status, body = await app.call("POST", "/v1/audio-to-text", **aioform("a.mp3", b"x" * 131073, "audio/mp3"))
    assert (status, body["code"], body["message"]) == (413, "audio_too_large", "Audio size larger than 0.125 mb")


async def test_a_file_elsewhere_may_be_no_larger(server: Serving, plans: Plans) -> None:
    variables = [{"variable": "f", "label": "f", "type": "file", "required": False, "allowed_file_types": ["image"]}]
    app = await server.add("file.yml", workflow(variables=variables))
    file = {"type": "image", "transfer_method": "remote_url", "url": "http://example.com/x.png"}  # it says 70 bytes
    plans({"max_upload_mb": 70 / 1024 / 1024})
    assert (await app.run({"f": file}))[0] == 200
    plans({"max_upload_mb": 69 / 1024 / 1024})
    for status, body in (await app.run({"f": file}), await app.run(files=[file])):
        assert (status, body["code"]) == (413, "file_too_large")
