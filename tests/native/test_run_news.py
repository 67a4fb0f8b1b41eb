"""The stream of news of all runs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headrace.access.keys import Rights
from headrace.api.auth import Api, ApiOptions
from headrace.api.native.run_lines import RunLines
from headrace.api.native.run_news import RunNews
from headrace.apps.catalog import Apps
from headrace.brokers import LocalBus, LocalQueue
from headrace.engine import EngineEnvironment
from headrace.kernel.events import Record, RunEnded, RunQueued
from headrace.ports import App
from headrace.runs.service import RunService
from headrace.stores.sql import SqlStorage
from tests.access.owning import Holder, key_of
from tests.api.serving import REGISTRY, Gate, Scripted, Serving, workflow
from tests.resources import only


@pytest.fixture
async def caller(server: Serving) -> Holder:
    return Holder(server, await key_of(server, Rights()), [])


@asynccontextmanager
async def listening(caller: Holder, **headers: str) -> AsyncGenerator[News]:
    url = f"{caller.server.url}/api/v1/workflow-runs/events"
    async with caller.server.session.get(url, headers={"Authorization": f"Bearer {caller.key}", **headers}) as answer:
        assert answer.status == 200
        yield News(answer)


class News:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, str, Any]:
        """(event, id, data)."""
        fields: dict[str, str] = {}
        while True:
            line = (await self.answer.content.readline()).decode().rstrip("\n")
            if not line and "data" in fields:
                return fields["event"], fields["id"], json.loads(fields["data"])
            name, _, value = line.partition(": ")
            fields[name] = value

    async def until(self, run: str, status: str) -> tuple[str, Mapping[str, Any]]:
        while True:
            _, id_, line = await self.next()
            if (line.get("id"), line.get("status")) == (run, status):
                return id_, line


async def test_runs_of_all_apps_are_told_as_they_begin_and_end(server: Serving, caller: Holder):
    gate = Scripted.scripts["gate"] = Gate([])
    app, other = await server.add("a.yml", workflow(["gate"])), await server.add("b.yml", workflow(["boom"]))
    async with listening(caller) as news:
        assert (await news.next())[0] == "ready"
        _, accepted = await app.call(
            "POST", f"/api/v1/workflows/{app.served.app.id}/run", json={"inputs": {}, "user": "u"}
        )
        first, line = await news.until(accepted["workflow_run_id"], "running")
        assert (line["app_name"], line["version_number"], line["finished_at"]) == ("tiny", 1, None)
        _, failed = await other.run()
        assert (await news.until(failed["workflow_run_id"], "failed"))[1]["error"] == "it went boom"
        gate.let()
        await news.until(accepted["workflow_run_id"], "succeeded")
        async with listening(caller, **{"Last-Event-ID": first}) as resumed:
            assert (await resumed.next())[0] == "ready"
            await resumed.until(failed["workflow_run_id"], "failed")
            await resumed.until(accepted["workflow_run_id"], "succeeded")


@pytest.mark.parametrize("position", ["x", "0.1", "99", "é", "1" * 5000])
async def test_an_unknown_position_resets(server: Serving, caller: Holder, position: str):
    await server.add("a.yml", workflow())
    async with listening(caller, **{"Last-Event-ID": position.encode("ascii", "ignore").decode() or "?"}) as news:
        assert (await news.next())[0] == "reset"


async def test_a_listener_hears_only_of_its_apps(server: Serving, caller: Holder):
    mine, other = await server.add("a.yml", workflow()), await server.add("b.yml", workflow())
    own = Holder(server, mine.key, [])
    async with listening(own) as news, listening(caller) as all_news:
        await news.next()
        await all_news.next()
        _, theirs = await other.run()
        await all_news.until(theirs["workflow_run_id"], "succeeded")
        _, ran = await mine.run()
        _, _, line = await news.next()
        assert line["id"] == ran["workflow_run_id"]


async def test_what_other_processes_write_is_told(tmp_path: Path):
    """The table of runs is all that they share."""
    here, there = [await SqlStorage.open(f"sqlite:///{tmp_path}/h.db") for _ in range(2)]
    try:
        apps = Apps(here.catalog, REGISTRY, b"s" * 32)
        app = (await apps.publish("a.yml", workflow())).app
        run_service = RunService(apps, EngineEnvironment(here.journal, LocalBus(), only()), LocalQueue(), here)
        lines = RunLines(Api(apps, run_service, Any, ApiOptions()))
        queued = RunQueued(app.id, app.version, "task", "u", {}, {})
        await there.journal.append([Record("old", 1, 1.0, queued)])

        async def listened() -> Mapping[str, App]:
            return {app.id: app}

        stream = RunNews(run_service, lines).listen(listened, None)
        assert (await anext(stream)).startswith(b"event: ready")
        await there.journal.append([Record("old", 2, 2.0, RunEnded("failed", error="gone"))])
        assert b'"status":"failed","error":"gone"' in await anext(stream)
        await there.journal.append([Record("new", 1, time.time(), queued)])
        assert b'"id":"new"' in await anext(stream)
        assert len(run_service.environment.bus.observers) == 1
        await stream.aclose()
        assert run_service.environment.bus.observers == [], "nothing is read while nobody listens"
    finally:
        await here.aclose()
        await there.aclose()
