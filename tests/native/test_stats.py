"""Statistics of runs, from the sums that are kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.access.keys import Rights
from headrace.kernel.events import RunEnded, RunStarted
from tests.access.owning import Holder, key_of
from tests.api.declared import check_response
from tests.api.serving import Serving, workflow
from tests.contracts.examples import numbered, queued

COST = {"provider": "openai", "model": "gpt-5", "total_tokens": 5, "total_price": "0.02", "currency": "USD"}
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
async def caller(server: Serving) -> Holder:
    return Holder(server, await key_of(server, Rights()), [])


async def stats(caller: Holder, query: str = "from=2026-03-01&to=2026-03-31") -> Any:
    reply = await caller.call("GET", f"/api/v1/stats?{query}")
    assert reply.status == 200, reply
    check_response("GET", "/api/v1/stats", 200, reply.json)
    return reply.json


async def test_runs_are_grouped(server: Serving, caller: Holder):
    apps = [(await server.add(f"{name}.yml", workflow().replace("tiny", name))).release.app for name in ("one", "two")]
    elsewhere = await server.apps.publish("x.yml", workflow(), "elsewhere")
    key = (await server.apps.catalog.keys(apps[0].id))[0]
    for n in range(20):
        app, at = (elsewhere.app if n == 19 else apps[n % 2]), NOON + timedelta(days=n % 3)
        request = replace(queued(f"r{n}", app.id, user="ada"), key=key.id)
        ended = RunEnded("failed" if n == 0 else "succeeded", tokens=5, costs=[COST])
        seconds = 100 if n == 18 else 1
        begun = numbered(f"r{n}", [request, RunStarted()], at=at.timestamp())
        await server.store.journal.append(begun)
        await server.store.journal.append(numbered(f"r{n}", [ended], after=2, at=at.timestamp() + seconds - 0.5))
    body = await stats(caller)
    assert [(group["key"], group["runs"]) for group in body["data"]] == [
        ("2026-03-02", 7),
        ("2026-03-03", 6),
        ("2026-03-04", 6),
    ]
    total = body["total"]
    assert (total["runs"], total["failed"], total["tokens"], total["price"], total["currency"]) == (
        19,
        1,
        95,
        "0.38",
        "USD",
    )
    assert (total["p50"], total["p95"]) == (1.0, pytest.approx(100, rel=0.1))
    by = {
        name: (await stats(caller, f"from=2026-03-01&to=2026-03-31&by={name}"))["data"]
        for name in ("app", "model", "key", "user")
    }
    assert [(group["label"], group["runs"]) for group in by["app"]] == [("one", 10), ("two", 9)]
    assert [(group["key"], group["tokens"]) for group in by["model"]] == [("openai/gpt-5", 95)]
    assert [(group["key"], group["label"]) for group in by["key"]] == [(key.id, key.name or f"{key.prefix}...")]
    assert [(group["key"], group["runs"]) for group in by["user"]] == [("ada", 19)]
    one = await stats(caller, f"from=2026-03-01&to=2026-03-31&app_id={apps[0].id}")
    assert one["total"]["runs"] == 10
    day = NOON.timestamp()
    assert (await stats(caller, f"from={day}&to={day}"))["total"]["runs"] == 7


async def test_without_runs_there_is_nothing(server: Serving, caller: Holder):
    assert (await stats(caller, ""))["data"] == []
    await server.add("a.yml", workflow())
    body = await stats(caller, "")
    assert (body["data"], body["total"]["runs"], body["total"]["p50"], body["total"]["price"]) == ([], 0, None, "0")


@pytest.mark.parametrize("query", ["from=2026-03-02&to=2026-03-01", "from=2020-01-01&to=2026-01-01", "by=x", "from=x"])
async def test_wrong_queries(server: Serving, caller: Holder, query: str):
    await server.add("a.yml", workflow())
    reply = await caller.call("GET", f"/api/v1/stats?{query}")
    assert (reply.status, reply.json["code"]) == (400, "invalid_param")
