"""A batch: JSON Lines in, runs, JSON Lines out, as a client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from headrace.api.native.batches import BatchRoutes
from headrace.batches import run_of
from headrace.node import Context, Result
from tests.api.serving import Client, Gate, Scripted, Serving, serving, workflow
from tests.native.asynchronous import Reply, ask, look

TEXT = {"variable": "q", "label": "q", "type": "text-input", "required": True}
NOBODY = "00000000-0000-4000-8000-000000000000"
ECHO = workflow(variables=[TEXT], outputs={"out": ("start", "q")})


def lines(*inputs: Any) -> bytes:
    return b"".join(json.dumps({"inputs": item}, ensure_ascii=False).encode() + b"\n" for item in inputs)


def texts(count: int) -> bytes:
    return lines(*({"q": f"line {n}"} for n in range(count)))


async def send(app: Client, body: bytes, workflow_id: str | None = None, **more: Any) -> Reply:
    headers = {"Content-Type": "application/jsonl", **more.pop("headers", {})}
    path = f"/workflows/{workflow_id or app.release.app.id}/batch"
    return await ask(app, "POST", path, data=body, headers=headers, **more)


async def begun(app: Client, body: bytes, **more: Any) -> str:
    reply = await send(app, body, **more)
    assert reply.status == 202, reply.body
    return reply.body["batch_id"]


async def how(app: Client, batch: str) -> Any:
    reply = await ask(app, "GET", f"/batches/{batch}")
    assert reply.status == 200, reply.body
    body = reply.body
    names = ("queued", "running", "paused", "succeeded", "partial_succeeded", "failed", "stopped")
    assert sum(body[name] for name in names) == body["total"]
    return body


async def until(app: Client, batch: str, reached: Callable[[Any], bool]) -> Any:
    """The batch once it is so far."""
    for _ in range(12_000):
        if reached(body := await how(app, batch)):
            return body
        await asyncio.sleep(0.005)
    raise AssertionError(f"the batch stays as it is: {body}")


async def ended(app: Client, batch: str) -> Any:
    return await until(app, batch, lambda expected: expected["ended_at"] is not None)


async def results(app: Client, batch: str, **params: str) -> list[Any]:
    headers = {"Authorization": f"Bearer {app.key}"}
    url = f"{app.url}/api/v1/batches/{batch}/results"
    async with app.session.get(url, headers=headers, params=params) as answer:
        assert answer.status == 200, await answer.read()
        assert answer.headers["Content-Type"] == "application/jsonl"
        assert answer.headers["Headrace-API-Version"] == "1"
        return [json.loads(line) for line in (await answer.read()).splitlines()]


# ------------------------------------------------------------------------------------------------------ from end to end


async def test_results_come_in_the_order_of_the_lines(server: Serving) -> None:
    app = await server.add("tiny.yml", ECHO)
    reply = await send(app, texts(300), params={"user": "ada", "concurrency": "7"})
    assert reply.status == 202
    assert (reply.body["status"], reply.body["total"]) == ("running", 300)
    batch = str(UUID(reply.body["batch_id"]))
    body = await ended(app, batch)
    assert (body["id"], body["status"], body["succeeded"], body["concurrency"]) == (batch, "ended", 300, 7)
    assert (body["workflow_id"], body["app_id"]) == (app.release.version.id, app.release.app.id)
    assert reply.body["created_at"] == body["created_at"] <= body["ended_at"]
    result = await results(app, batch)
    assert [item["index"] for item in result] == list(range(300))
    assert [item["outputs"] for item in result] == [{"out": f"line {n}"} for n in range(300)]
    first = result[0]
    assert set(first) == {
        "index", "workflow_run_id", "status", "outputs", "error", "elapsed_time", "total_tokens"
    }  # fmt: skip
    assert (first["status"], first["error"], first["total_tokens"]) == ("succeeded", None, 0)
    run = await look(app, first["workflow_run_id"])
    assert (run["user"], run["source"], run["inputs"]) == ("ada", f"batch:{batch}", {"q": "line 0"})
    assert run["elapsed_time"] == first["elapsed_time"]


async def test_a_line_that_will_not_do_says_why_and_the_others_run(server: Serving) -> None:
    app = await server.add("tiny.yml", ECHO)
    deep: Any = "x"
    for _ in range(150):
        deep = [deep]
    bad = {
        b"{nonsense": "The line is not JSON: ",
        b'"\xff"': "The line is not JSON: ",
        b"[1]": "The line must be a JSON object",
        b"{}": "inputs: Field required",
        b'{"inputs": []}': "inputs: Input should be a valid dictionary",
        b'{"inputs": {"q": "x"}, "user": "eve"}': "user: unknown field",
        b'{"inputs": {}}': "q is required in input form",
        b'{"inputs": {"q": 1}}': "(type 'text-input') q in input form must be a string",
        json.dumps({"inputs": {"q": "x", "other": deep}}).encode(): "The line is nested more than 100 levels deep.",
    }
    body = (
        b"\xef\xbb\xbf"
        + lines({"q": "礁溪 \u2028"})
        + b"\r\n\n"
        + b"\n".join(bad)
        + b"\n  \n"
        + b'{"inputs":{"q":"z"}}'
    )
    batch = await begun(app, body)
    detail = await ended(app, batch)
    assert (detail["status"], detail["total"], detail["succeeded"], detail["failed"]) == (
        "ended",
        len(bad) + 2,
        2,
        len(bad),
    )
    result = await results(app, batch)
    assert result[0]["outputs"] == {"out": "礁溪 \u2028"}
    assert result[-1]["outputs"] == {"out": "z"}
    for item, why in zip(result[1:-1], bad.values(), strict=True):
        assert item["error"].startswith(why)
        assert (item["status"], item["workflow_run_id"], item["outputs"]) == ("failed", None, None)


async def test_nothing_but_bad_lines(server: Serving) -> None:
    app = await server.add("tiny.yml", ECHO)
    body = await ended(app, await begun(app, b"one\ntwo\n"))
    assert (body["status"], body["failed"]) == ("ended", 2)


async def test_runs_that_fail_are_counted_and_told(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["boom"]))
    batch = await begun(app, lines({}, {}))
    assert (await ended(app, batch))["failed"] == 2
    result = (await results(app, batch))[0]
    assert (result["status"], result["error"]) == ("failed", "it went boom")
    assert result["workflow_run_id"] == run_of(batch, 0)


async def test_secrets_do_not_come_out(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(outputs={"out": ("env", "KEY")}, secrets={"KEY": "hunter2hunter2"}))
    batch = await begun(app, lines({}))
    await ended(app, batch)
    assert "hunter2" not in json.dumps(await results(app, batch))


async def test_an_old_version_is_run_by_its_id_and_the_alias_is_the_same(server: Serving) -> None:
    old = await server.add("tiny.yml", ECHO)
    await server.add("tiny.yml", workflow())
    batch = await begun(old, texts(1), workflow_id=old.release.version.id, prefix="/api")
    body = await ended(old, batch)
    assert (body["workflow_id"], body["user"]) == (old.release.version.id, "DEFAULT-USER")
    assert (await results(old, batch))[0]["outputs"] == {"out": "line 0"}


# -------------------------------------------------------------------------------------------------------- under way


async def test_no_more_than_so_many_at_once_and_what_is_not_over_says_so(server: Serving) -> None:
    gate = Scripted.scripts["gate"] = Gate(())
    app = await server.add("tiny.yml", workflow(["gate"], outputs={"text": ("gate", "text")}))
    batch = await begun(
        app,
        lines(
            *[{}] * 5,
        )
        + b"bad\n",
        params={"concurrency": "2"},
    )
    await gate.reached.wait()
    expected = await until(app, batch, lambda expected: expected["running"] == 2)
    assert (expected["queued"], expected["running"], expected["failed"], expected["status"]) == (3, 2, 1, "running")
    gate.let(1)
    expected = await until(app, batch, lambda expected: expected["succeeded"] == 1 and expected["running"] == 2)
    assert (expected["queued"], expected["running"]) == (2, 2)
    statuses = sorted(result["status"] for result in await results(app, batch))
    assert statuses == ["failed", "queued", "queued", "running", "running", "succeeded"]
    unfinished = next(result for result in await results(app, batch) if result["status"] == "running")
    assert (unfinished["outputs"], unfinished["elapsed_time"], unfinished["total_tokens"]) == (None, None, None)
    assert [result["status"] for result in await results(app, batch, only="ended")] == ["succeeded", "failed"]
    gate.let(4)
    assert (await ended(app, batch))["succeeded"] == 5
    assert [result["index"] for result in await results(app, batch, start="1", limit="2")] == [1, 2]
    assert [result["index"] for result in await results(app, batch, only="failed", limit="1")] == [5]
    assert await results(app, batch, start="6") == []


async def test_runs_are_begun_no_faster_than_asked(server: Serving) -> None:
    at: list[float] = []

    async def note(_: Context) -> Result:
        at.append(asyncio.get_running_loop().time())
        return Result({})

    Scripted.scripts["note"] = note
    app = await server.add("tiny.yml", workflow(["note"]))
    await ended(app, await begun(app, lines(*[{}] * 5), params={"rpm": "1200"}))
    assert at[-1] - at[0] >= 4 * 0.05 - 0.02


async def test_a_stopped_batch_stops_its_runs_and_begins_no_more(server: Serving) -> None:
    gate = Scripted.scripts["gate"] = Gate(())
    app = await server.add("tiny.yml", workflow(["gate"]))
    batch = await begun(app, b"bad\n" + lines(*[{}] * 20), params={"concurrency": "3"})
    await gate.reached.wait()
    gate.let(1)
    await until(app, batch, lambda expected: expected["succeeded"] == 1)
    stopped = await ask(app, "POST", f"/batches/{batch}/stop")
    assert (stopped.status, stopped.body["status"], stopped.body["queued"]) == (200, "stopped", 0)
    expected = await ended(app, batch)
    assert gate.cancelled.is_set()
    assert (expected["status"], expected["succeeded"], expected["failed"], expected["stopped"]) == ("stopped", 1, 1, 19)
    result = await results(app, batch)
    assert [item["status"] for item in result[2:]].count("stopped") >= 18
    never = result[-1]
    assert (never["workflow_run_id"], never["error"]) == (None, "The batch was stopped before this line was begun.")
    again = await ask(app, "POST", f"/batches/{batch}/stop")
    assert again.body == expected


async def test_a_batch_that_is_over_cannot_be_stopped(server: Serving) -> None:
    app = await server.add("tiny.yml", ECHO)
    batch = await begun(app, texts(3))
    body = await ended(app, batch)
    assert (await ask(app, "POST", f"/batches/{batch}/stop")).body == body


async def test_other_runs_do_not_wait_for_a_batch(server: Serving) -> None:
    Scripted.scripts["gate"] = Gate(())
    app = await server.add("tiny.yml", workflow(["gate"]))
    other = await server.add("other.yml", ECHO)
    batch = await begun(app, lines(*[{}] * 500))
    status, body = await other.run({"q": "hi"})
    assert (status, body["data"]["status"]) == (200, "succeeded")
    await ask(app, "POST", f"/batches/{batch}/stop")
    await ended(app, batch)


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("body", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
async def test_an_empty_body(server: Serving, body: bytes) -> None:
    app = await server.add("tiny.yml", ECHO)
    reply = await send(app, body)
    assert (reply.status, reply.body["code"]) == (400, "invalid_param")
    assert (await ask(app, "GET", "/batches")).body == {"data": [], "next_cursor": None}


@pytest.mark.parametrize(
    "params",
    [
        {"concurrency": "0"},
        {"concurrency": "1001"},
        {"concurrency": "ten"},
        {"rpm": "-1"},
        {"rpm": "1.5"},
        {"user": "u" * 256},
    ],
)
async def test_numbers_that_make_no_sense(server: Serving, params: dict[str, str]) -> None:
    app = await server.add("tiny.yml", ECHO)
    reply = await send(app, texts(1), params=params)
    assert (reply.status, reply.body["code"]) == (400, "invalid_param")
    assert next(iter(params)) in reply.body["message"]


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "image/png"])
async def test_another_kind_of_body(server: Serving, kind: str) -> None:
    app = await server.add("tiny.yml", ECHO)
    reply = await send(app, texts(1), headers={"Content-Type": kind})
    assert (reply.status, reply.body["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/plain; charset=utf-8"])
async def test_other_names_for_json_lines(server: Serving, kind: str) -> None:
    app = await server.add("tiny.yml", ECHO)
    assert (await send(app, texts(1), headers={"Content-Type": kind})).status == 202


@pytest.mark.parametrize(("body", "why"), [(texts(4), "3 lines"), (lines({"q": "x" * 300}), "capacity")])
async def test_more_than_it_may_be(tmp_path: Path, monkeypatch: Any, body: bytes, why: str) -> None:
    monkeypatch.setattr(BatchRoutes.__init__, "__defaults__", (300, 3))
    async with serving(tmp_path) as server:
        app = await server.add("tiny.yml", ECHO)
        reply = await send(app, body)
        assert (reply.status, reply.body["code"]) == (413, "request_entity_too_large")
        assert why in reply.body["message"]
        assert (await send(app, texts(3))).status == 202


async def test_only_ones_own(server: Serving) -> None:
    mine, other = await server.add("mine.yml", ECHO), await server.add("other.yml", ECHO)
    batch = await begun(mine, texts(1))
    await ended(mine, batch)
    for name in (batch, NOBODY, "no-id"):
        for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/stop")):
            reply = await ask(other, method, f"/batches/{name}{path}")
            assert (reply.status, reply.body["code"]) == (404, "not_found"), (name, path)
    for workflow_id in (mine.release.app.id, mine.release.version.id, NOBODY, "no-id"):
        assert (await send(other, texts(1), workflow_id=workflow_id)).status == 404
    assert (await ask(other, "GET", "/batches")).body["data"] == []
    keyless = {"Authorization": "Bearer app-nobodys"}
    assert (await ask(mine, "GET", f"/batches/{batch}", headers=keyless)).status == 401
    assert (await send(mine, texts(1), headers=keyless)).status == 401


async def test_results_of_which_kind(server: Serving) -> None:
    app = await server.add("tiny.yml", ECHO)
    batch = await begun(app, texts(1))
    for params in ({"only": "mine"}, {"start": "-1"}, {"limit": "0"}):
        reply = await ask(app, "GET", f"/batches/{batch}/results", params=params)
        assert (reply.status, reply.body["code"]) == (400, "invalid_param")


# ------------------------------------------------------------------------------------------------------ list, repeat


async def test_batches_are_listed_newest_first_in_pages(server: Serving) -> None:
    app = await server.add("tiny.yml", ECHO)
    created = [await begun(app, texts(1)) for _ in range(5)]
    for batch in created:
        await ended(app, batch)
    result: list[str] = []
    cursor: dict[str, str] = {}
    sizes: list[int] = []
    while True:
        page = (await ask(app, "GET", "/batches", params={"limit": "2", **cursor})).body
        sizes.append(len(page["data"]))
        result += [item["id"] for item in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert (result, sizes) == ([*reversed(created)], [2, 2, 1])
    assert (await ask(app, "GET", "/batches")).body["data"][0] == await how(app, created[-1])
    for params in ({"limit": "0"}, {"limit": "101"}, {"cursor": NOBODY}, {"cursor": "?"}):
        assert (await ask(app, "GET", "/batches", params=params)).status == 400


async def test_a_repeated_request_makes_one_batch(server: Serving) -> None:
    app = await server.add("tiny.yml", ECHO)
    key = {"Idempotency-Key": "once"}
    replies: Sequence[Reply] = await asyncio.gather(*(send(app, texts(20), headers=key) for _ in range(10)))
    assert {reply.raw for reply in replies} == {replies[0].raw}
    assert [reply.status for reply in replies] == [202] * 10
    assert sum("Idempotency-Replayed" in reply.headers for reply in replies) == 9
    assert len((await ask(app, "GET", "/batches")).body["data"]) == 1
    for body, params in ((texts(21), {}), (texts(20), {"rpm": "5"})):
        other = await send(app, body, headers=key, params=params)
        assert (other.status, other.body["code"]) == (409, "idempotency_conflict")


async def test_an_answer_that_a_crash_took_is_made_from_the_batch_that_is_there(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await server.add("tiny.yml", ECHO)
    key = {"Idempotency-Key": "crash"}
    with monkeypatch.context() as patched:

        async def lost(*_: object) -> None:
            raise RuntimeError("the process dies here")

        patched.setattr(server.store.idempotency, "complete", lost)
        assert (await send(app, texts(2), headers=key)).status == 500
    monkeypatch.setattr("headrace.api.native.idempotency.ABANDONED_SECONDS", 0.0)
    reply = await send(app, texts(2), headers=key)
    assert reply.status == 202
    assert [item["id"] for item in (await ask(app, "GET", "/batches")).body["data"]] == [reply.body["batch_id"]]
    assert (await ended(app, reply.body["batch_id"]))["succeeded"] == 2
