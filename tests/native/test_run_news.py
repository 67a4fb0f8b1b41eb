"""The stream of news of all runs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest

from headrace.access.keys import Rights
from headrace.api.auth import Api, ApiOptions
from headrace.api.native.run_lines import RunLines
from headrace.api.native.run_news import RunNews
from headrace.apps.catalog import Apps
from headrace.brokers import LocalBus
from headrace.dispatch import LocalDispatch
from headrace.engine import EngineEnvironment
from headrace.errors import StoreError, Unauthorized
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


async def test_runs_of_all_apps_are_sent_as_they_begin_and_end(server: Serving, caller: Holder):
    gate = Scripted.scripts["gate"] = Gate([])
    app, other = await server.add("a.yml", workflow(["gate"])), await server.add("b.yml", workflow(["boom"]))
    async with listening(caller) as news:
        assert (await news.next())[0] == "ready"
        _, accepted = await app.call(
            "POST", f"/api/v1/workflows/{app.release.app.id}/run", json={"inputs": {}, "user": "u"}
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


async def test_a_listener_gets_only_its_apps(server: Serving, caller: Holder):
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


class World:
    """Two processes on a database: one has listeners, the other runs apps."""

    def __init__(self, here: SqlStorage, there: SqlStorage) -> None:
        self.journal = there.journal
        self.catalog = Apps(here.catalog, REGISTRY, b"s" * 32)
        bus = LocalBus()
        environment = EngineEnvironment(here.journal, bus, only())
        self.run_service = RunService(self.catalog, environment, LocalDispatch(here.leases), here)
        self.lines = RunLines(Api(self.catalog, self.run_service, Any, ApiOptions()))
        self.news = RunNews(self.run_service, self.lines)

    async def publish(self, name: str) -> App:
        return (await self.catalog.publish(name, workflow())).app

    def listen(self, *apps: App, after: str | None = None) -> AsyncGenerator[bytes]:
        async def choices() -> Mapping[str, App]:
            return {app.id: app for app in apps}

        return self.news.listen(choices, after)

    async def begin(self, run: str, app: App, at: float = 1.0) -> None:
        await self.journal.append([Record(run, 1, at, RunQueued(app.id, app.version, "task", "u", {}, {}))])

    async def end(self, run: str) -> None:
        await self.journal.append([Record(run, 2, 2.0, RunEnded("failed", error="gone"))])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    here, there = [await SqlStorage.open(f"sqlite:///{tmp_path}/h.db") for _ in range(2)]
    yield World(here, there)
    await here.aclose()
    await there.aclose()


async def test_what_other_processes_write_is_sent(world: World):
    """The table of runs is all that they share."""
    app = await world.publish("a.yml")
    await world.begin("old", app)
    async with aclosing(world.listen(app)) as stream:
        assert (await anext(stream)).startswith(b"event: ready")
        await world.end("old")
        assert b'"status":"failed","error":"gone"' in await anext(stream)
        await world.begin("new", app, time.time())
        assert b'"id":"new"' in await anext(stream)
        assert len(world.run_service.environment.bus.observers) == 1
    assert world.run_service.environment.bus.observers == [], "nothing is read without listeners"


async def test_a_later_listener_has_the_old_runs_of_its_apps(world: World):
    first, second = await world.publish("a.yml"), await world.publish("b.yml")
    await world.begin("old", second)
    async with aclosing(world.listen(first)) as others, aclosing(world.listen(second)) as stream:
        assert (await anext(others)).startswith(b"event: ready")
        assert (await anext(stream)).startswith(b"event: ready")
        await world.end("old")
        assert b'"id":"old"' in await anext(stream)


@pytest.mark.parametrize("error", [StoreError("the database is gone"), KeyError("node")], ids=["store", "defect"])
async def test_changes_that_cannot_be_shown_reset_the_list(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    app = await world.publish("a.yml")
    await world.begin("old", app)
    async with aclosing(world.listen(app)) as stream:
        assert (await anext(stream)).startswith(b"event: ready")
        with monkeypatch.context() as broken:
            broken.setattr(world.lines, "line", AsyncMock(side_effect=error))
            await world.end("old")
            assert (await anext(stream)).startswith(b"event: reset")
        await world.begin("new", app, time.time())
        assert b'"id":"new"' in await anext(stream)


async def test_an_app_that_is_added_is_followed(server: Serving, caller: Holder):
    await server.add("a.yml", workflow())
    async with listening(caller) as news:
        await news.next()
        _, ran = await (await server.add("b.yml", workflow())).run()
        await news.until(ran["workflow_run_id"], "succeeded")


async def test_a_listener_that_returns_has_the_runs_that_began_meanwhile(world: World):
    first, second = await world.publish("a.yml"), await world.publish("b.yml")
    async with aclosing(world.listen(first)) as others:
        await anext(others)
        async with aclosing(world.listen(second)) as stream:
            await anext(stream)
        await world.begin("old", second)
        async with aclosing(world.listen(second)) as stream:
            await anext(stream)
            await world.end("old")
            assert b'"id":"old"' in await anext(stream)


async def test_a_stream_ends_with_its_key(world: World):
    app = await world.publish("a.yml")
    choices = AsyncMock(side_effect=[{app.id: app}, Unauthorized("Access token is invalid")])
    events = [event async for event in world.news.listen(choices, None)]
    assert [event.partition(b"\n")[0] for event in events] == [b"event: ready"]
