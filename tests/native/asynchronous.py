"""Calls of the asynchronous API, as a client makes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.api.serving import Client, check_times
from tests.native import conforming

EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str]
    raw: bytes


async def ask(app: Client, method: str, path: str, **more: Any) -> Reply:
    """One call with the app's key; `path` follows the prefix."""
    prefix = more.pop("prefix", "/api/v1")
    headers = {"Authorization": f"Bearer {app.key}", **more.pop("headers", {})}
    async with app.session.request(method, app.url + prefix + path, headers=headers, **more) as answer:
        raw = await answer.read()
        assert answer.headers["Headrace-API-Version"] == "1"
        body = json.loads(raw) if raw else None
        check_times(body)
        if method != "HEAD":
            conforming.check(method, answer.url.path, answer.status, answer.content_type, raw)
        return Reply(answer.status, body, answer.headers, raw)


async def submit(app: Client, inputs: Mapping[str, Any] | None = None, key: str | None = None, **more: Any) -> Reply:
    accept = {"Accept": EVENTS} if more.get("response_mode") == "streaming" else {}
    body = {"inputs": inputs or {}, "user": "u1", **more}
    headers = {"Idempotency-Key": key, **accept} if key else accept
    return await ask(app, "POST", f"/workflows/{app.release.app.id}/run", json=body, headers=headers)


async def submitted(app: Client, inputs: Mapping[str, Any] | None = None, **more: Any) -> str:
    """The id of a run just asked for."""
    reply = await submit(app, inputs, **more)
    assert reply.status == 202, reply.body
    return reply.body["workflow_run_id"]


async def look(app: Client, run: str, wait: float = 0) -> Any:
    reply = await ask(app, "GET", f"/workflow-runs/{run}", params={"wait": wait})
    assert reply.status == 200, reply.body
    return reply.body


async def until(app: Client, run: str, status: str) -> Any:
    """The run once it has a status that is not its end."""
    for _ in range(12_000):
        if (body := await look(app, run))["status"] == status:
            return body
        await asyncio.sleep(0.005)
    raise AssertionError(f"run {run} is never {status}")
