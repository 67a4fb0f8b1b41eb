"""Events of plugins: the file of subscriptions, and the runs that a request starts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.plugins.subscriptions import PluginSubscriptions
from headrace.adapters.plugins.triggers import PluginTriggers
from headrace.api import trigger_endpoints
from headrace.api.middleware.request_context import RequestContext
from headrace.errors import HeadraceError
from headrace.ports import TriggerSubscription
from headrace.rate_limits import Limiter, PlanFile
from headrace.stores.memory import memory_storage
from headrace.triggers import PluginEvents, SubscriptionService
from tests.plugins.fakes import install, running
from tests.triggers.world import World, triggered, world

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROVIDER = "tests/fake/fake"
FILE = """
pushes: {provider: tests/fake/fake, properties: {webhook_secret: "${SECRET}"}, parameters: {repository: r}}
elsewhere: {provider: tests/fake/fake, workspace: team}
off: {provider: tests/fake/fake, enabled: false}
unset: {provider: tests/fake/fake, properties: {webhook_secret: "${NOTHING}"}}
gone: {provider: tests/gone/gone}
"""
OK = b"HTTP/1.1 202 Accepted\r\nX-Plugin: yes\r\nSet-Cookie: a=b\r\n\r\nthanks"


def event(name: str, **parameters: Any) -> dict[str, Any]:
    constants = {key: {"type": "constant", "value": value} for key, value in parameters.items()}
    return {"type": "trigger-plugin", "provider_id": PROVIDER, "event_name": name, "event_parameters": constants}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plugins(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Plugins]:
    folder = tmp_path_factory.mktemp("plugins")
    install(folder)
    async with running(folder) as (_, plugins):
        yield plugins


@pytest_asyncio.fixture(loop_scope="module")
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as running_world:
        await running_world.publish(triggered(event("pushed", branch="main"), event("opened"), event("pushed")))
        yield running_world


@pytest_asyncio.fixture(loop_scope="module")
async def client(here: World, plugins: Plugins, tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(here, plugins, tmp_path) as client:
        yield client


@asynccontextmanager
async def client_of(here: World, plugins: Plugins, tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    (tmp_path / "triggers.yaml").write_text(FILE)
    stored = SubscriptionService(here.storage.subscriptions, lambda: PluginTriggers(plugins), "", here.clock).of_hook
    subscriptions = PluginSubscriptions(
        PluginTriggers(plugins), stored, tmp_path / "triggers.yaml", {"SECRET": "s"}, "default"
    )
    events = PluginEvents(here.triggers, here.storage.idempotency, lambda: subscriptions)
    app = Starlette(routes=trigger_endpoints.plugin_routes(events, 10_000))
    app.middleware_stack = RequestContext(app.router.app, origins=["*"], headers={})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host.example") as client:
        yield client


async def send(
    client: httpx.AsyncClient, answer: Mapping[str, Any], name: str = "pushes", **more: Any
) -> httpx.Response:
    """A request to whose calls the plugin of the tests answers with this."""
    return await client.post(f"/triggers/plugin/{name}?a=1", content=json.dumps(answer), **more)


async def test_each_node_that_waits_for_an_event_starts_a_run(here: World, client: httpx.AsyncClient):
    answer = {"events": ["pushed", "closed"], "response": OK.hex(), "variables": {"ref": "main"}}
    response = await send(client, answer)
    assert (response.status_code, response.content) == (202, b"thanks")
    assert response.headers["x-plugin"] == "yes"
    assert "set-cookie" not in response.headers
    queued = await here.queued()
    assert sorted((one.start, one.source) for one in queued) == [
        ("t1", "trigger-plugin:t1"),
        ("t3", "trigger-plugin:t3"),
    ]
    assert {json.dumps(one.inputs) for one in queued} == {'{"ref": "main"}'}


async def test_the_plugin_gets_the_parameters_and_the_request(here: World, client: httpx.AsyncClient):
    assert (await send(client, {"events": ["pushed"], "payload": {"p": 1}})).status_code == 200
    (of_t1, _) = sorted(await here.queued(), key=lambda one: str(one.start))
    sent = of_t1.inputs  # the plugin of the tests returns what it got
    assert (sent["event"], sent["parameters"], sent["payload"]) == ("pushed", {"branch": "main"}, {"p": 1})
    assert sent["subscription"] == {
        "endpoint": "http://host.example/triggers/plugin/pushes",
        "parameters": {"repository": "r"},
        "properties": {"webhook_secret": "s"},
        "expires_at": -1,
    }
    assert bytes.fromhex(sent["raw_http_request"]).startswith(b"POST /?a=1 HTTP/1.1\r\n")


async def test_no_run_for_what_is_ignored_paused_or_of_another_workspace(here: World, client: httpx.AsyncClient):
    assert (await send(client, {"events": ["pushed"], "cancelled": True})).status_code == 200
    assert (await send(client, {"events": ["closed"]})).status_code == 200
    assert (await send(client, {"events": ["pushed"]}, "elsewhere")).status_code == 200
    await here.triggers.pause(await here.trigger("t2"), paused=True)
    assert (await send(client, {"events": ["opened"]})).status_code == 200
    assert await here.runs() == []


async def test_variables_that_are_nested_too_deep_start_nothing(
    here: World, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
):
    variables = json.loads('{"a":' * 350 + "1" + "}" * 350)
    assert (await send(client, {"events": ["opened"], "variables": variables})).status_code == 500
    assert (await send(client, {"events": ["opened"], "variables": {"a": 1}})).status_code == 200
    assert "nested more than 100 levels deep" in caplog.text
    assert len(await here.runs()) == 1


async def test_a_repeated_delivery_starts_one_run(here: World, client: httpx.AsyncClient):
    for _ in range(3):
        await send(client, {"events": ["opened"], "variables": {}}, headers={"X-GitHub-Delivery": "d"})
    assert len(await here.runs()) == 1


async def test_an_app_that_its_plan_limits_does_not_keep_others_from_starting(plugins: Plugins, tmp_path: Path):
    storage, plans = memory_storage(), tmp_path / "plans.yaml"
    async with world(tmp_path, storage) as here:
        limited, _ = [await here.publish(triggered(event("opened")), f"{name}.yml") for name in ("a", "b")]
    plans.write_text(f"plans: {{small: {{runs_per_day: 1}}}}\napps: {{{limited.app.id}: small}}\n")
    limiter = Limiter(PlanFile(plans), storage.buckets)
    async with world(tmp_path, storage, limiter=limiter) as here, client_of(here, plugins, tmp_path) as client:
        sent = [
            (await send(client, {"events": ["opened"], "variables": {}}, headers={"X-GitHub-Delivery": id})).status_code
            for id in ("d1", "d2", "d2")
        ]
        assert sent == [200, 429, 429]
        started = [queued.app == limited.app.id for queued in await here.queued()]
        assert sorted(started) == [False, False, True]


@pytest.mark.parametrize(
    ("answer", "name", "status", "message"),
    [
        ({}, "nobody", 404, "subscription not found"),
        ({}, "off", 404, "subscription not found"),
        ({"error": "the signature is not valid"}, "pushes", 400, "the signature is not valid"),
        ({"events": [], "response": "zz"}, "pushes", 500, "not in hexadecimal form"),
        ({"events": [], "response": b"hello".hex()}, "pushes", 500, "not valid HTTP"),
        ({"events": ["opened"]}, "unset", 500, "set NOTHING"),
        ({"events": ["opened"]}, "gone", 500, "headrace plugins add tests/gone"),
    ],
)
async def test_what_is_refused(
    here: World,
    client: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    answer: dict[str, Any],
    name: str,
    status: int,
    message: str,
):
    """What is wrong on this side is in the log: the sender need not know."""
    response = await send(client, answer, name)
    body_message = response.json()["message"]
    assert response.status_code == status
    assert message in (caplog.text if status == 500 else body_message)
    assert status != 500 or body_message == "The subscription does not work."
    assert await here.runs() == []


async def test_a_stored_subscription_starts_runs_once_it_is_active(here: World, client: httpx.AsyncClient):
    """Of one that is being made the plugin cannot verify the events yet."""
    url = "https://headrace.example/triggers/plugin"
    for name, active in (("made", True), ("making", False)):
        stored = TriggerSubscription(name, "default", name, PROVIDER, name, f"{url}/{name}", 1.0, active=active)
        await here.storage.subscriptions.add_subscription(stored)
    answer = {"events": ["opened"], "response": OK.hex()}
    assert (await send(client, answer, "making")).status_code == 202
    assert await here.runs() == []
    assert (await send(client, answer, "made")).status_code == 202
    (queued,) = await here.queued()
    assert queued.inputs["subscription"]["endpoint"] == f"{url}/made"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a b: {provider: a/b/c}", "must consist of letters"),
        ("a: {provider: a/b}", "must have a provider, as author/plugin/provider"),
        ("a: {provider: a/b/c, secret: x}", "unknown fields: secret"),
        ("a: {provider: a/b/c, properties: x}", "properties of a must be an object"),
        ("a: {provider: a/b/c, enabled: 7}", "must be true or false"),
        ("[]", "does not contain an object"),
    ],
)
async def test_a_file_that_is_not_valid(plugins: Plugins, tmp_path: Path, content: str, problem: str):
    async def never(_: str) -> None: ...

    (tmp_path / "triggers.yaml").write_text(content)
    with pytest.raises(HeadraceError, match=problem):
        PluginSubscriptions(PluginTriggers(plugins), never, tmp_path / "triggers.yaml", {}, "default")
