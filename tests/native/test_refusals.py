"""What every endpoint refuses, and in which words: keys, bodies, and a store that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.errors import StoreError
from tests.api.serving import Serving, serving, workflow
from tests.native.asynchronous import ask, submitted, until

NOBODY = "00000000-0000-4000-8000-000000000000"


async def test_no_operation_is_open_to_a_wrong_key(server: Serving) -> None:
    async with server.session.get(f"{server.url}/openapi.json") as answer:
        paths: dict[str, dict[str, Any]] = (await answer.json())["paths"]
    operations = [(verb, path) for path, verbs in paths.items() if path.startswith("/api/v1") for verb in verbs]
    assert len(operations) > 20
    for verb, path in operations:
        for name in ("workflow_run_id", "workflow_id", "callback_id", "batch_id", "app_id", "version_id"):
            path = path.replace(f"{{{name}}}", NOBODY)
        for headers in ({}, {"Authorization": "Bearer app-nope"}):
            async with server.session.request(verb, server.url + path, headers=headers) as answer:
                body = await answer.json()
                assert (answer.status, body["code"]) == (401, "unauthorized"), (verb, path)
                assert answer.headers["Headrace-API-Version"] == "1"


@pytest.mark.parametrize("verb", ["stop", "retry"])
async def test_a_body_that_will_not_do(tmp_path: Path, verb: str) -> None:
    async with serving(tmp_path, max_body=1000) as server:
        app = await server.add("tiny.yml", workflow(["boom"]))
        run = await submitted(app)
        await until(app, run, "failed")
        path = f"/workflow-runs/{run}/{verb}"
        json_type = {"Content-Type": "application/json"}
        for data, status, code in (
            (b"x" * 2000, 413, "request_entity_too_large"),
            (b"{", 400, "bad_request"),
            (b"[1]", 400, "bad_request"),
        ):
            reply = await ask(app, "POST", path, data=data, headers=json_type)
            assert (reply.status, reply.body["code"]) == (status, code)
        assert (await ask(app, "POST", path)).status in (200, 202), "and it is as it was"


async def test_a_store_that_cannot_be_read_is_unavailable_and_says_when_to_come_back(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await server.add("tiny.yml", workflow())
    run = await submitted(app)
    await until(app, run, "succeeded")

    async def locked(*_: Any, **__: Any) -> Any:
        raise StoreError("the database is locked")

    for name in ("read", "list_runs", "find_run"):
        monkeypatch.setattr(server.store.journal, name, locked)
    for path in (f"/workflow-runs/{run}/node-executions", f"/workflow-runs/{run}/events", "/workflow-runs"):
        reply = await ask(app, "GET", path)
        assert (reply.status, reply.body["code"]) == (503, "service_unavailable")
        assert reply.headers["Retry-After"] == "1"
