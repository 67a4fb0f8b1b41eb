"""Triggers of plugins: the requests that they get over the protocol, and what is made of their answers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from headrace.adapters.plugins.process import PluginError
from headrace.adapters.plugins.triggers import Dispatch, PluginTriggers
from headrace.errors import HeadraceError, InvalidParam, RequestError
from headrace.ports import PluginSubscription
from tests.plugins.fakes import SECRET, install, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROVIDER = "tests/fake/fake"
SUBSCRIPTION = PluginSubscription("https://x.example/hook", {"repository": "r"}, {"webhook_secret": "s"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def triggers(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[PluginTriggers]:
    folder = tmp_path_factory.mktemp("plugins")
    install(folder)
    async with running(folder) as (_, plugins):
        yield PluginTriggers(plugins)


def request(answer: dict[str, Any]) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x.example\r\n\r\n" + json.dumps(answer).encode()


async def test_a_request_is_dispatched(triggers: PluginTriggers) -> None:
    answer = {"events": ["pushed", 3], "response": b"HTTP/1.1 200 OK".hex(), "payload": {"a": 1}, "user_id": "ann"}
    dispatch = await triggers.dispatch(PROVIDER, SUBSCRIPTION, request(answer))
    assert dispatch == Dispatch(["pushed"], b"HTTP/1.1 200 OK", {"a": 1}, "ann")
    assert await triggers.dispatch(PROVIDER, SUBSCRIPTION, request({"events": None})) == Dispatch([], b"", {})


async def test_the_variables_of_an_event(triggers: PluginTriggers) -> None:
    sent = await triggers.variables(PROVIDER, "pushed", SUBSCRIPTION, request({"a": 1}), {"branch": "main"}, {"p": 1})
    assert sent is not None
    assert bytes.fromhex(sent["raw_http_request"]) == request({"a": 1})
    del sent["raw_http_request"]  # type: ignore[attr-defined]
    assert sent == {
        "type": "trigger",
        "action": "invoke_trigger_event",
        "user_id": "",
        "provider": "fake",
        "event": "pushed",
        "credentials": {"api_key": SECRET},
        "credential_type": "api-key",
        "parameters": {"branch": "main"},
        "payload": {"p": 1},
        "subscription": {
            "endpoint": "https://x.example/hook",
            "parameters": {"repository": "r"},
            "properties": {"webhook_secret": "s"},
            "expires_at": -1,
        },
    }


async def test_an_event_that_is_ignored(triggers: PluginTriggers) -> None:
    payload = request({"cancelled": True, "variables": {}})
    assert await triggers.variables(PROVIDER, "pushed", SUBSCRIPTION, payload, {}, {}) is None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"error": "the signature is not valid"}, "the signature is not valid"),
        ({}, "sent no answer"),
        ({"response": "zz"}, "not in hexadecimal form"),
        ({"payload": json.loads('{"a":' * 150 + "1" + "}" * 150)}, "nested more than 100 levels deep"),
    ],
)
async def test_what_fails(triggers: PluginTriggers, answer: dict[str, Any], problem: str) -> None:
    with pytest.raises(PluginError, match=problem):
        await triggers.dispatch(PROVIDER, SUBSCRIPTION, request(answer))


@pytest.mark.parametrize(
    ("provider", "problem"), [("a/b/c", "headrace plugins add a/b"), ("tests/fake/x", "has no trigger 'x'")]
)
async def test_what_is_missing(triggers: PluginTriggers, provider: str, problem: str) -> None:
    with pytest.raises(HeadraceError, match=problem):
        await triggers.dispatch(provider, SUBSCRIPTION, b"")


# ------------------------------------------------------------------------------------------------------ subscriptions

URL = "https://x.example/triggers/plugin/h"


async def test_it_subscribes_renews_and_unsubscribes(triggers: PluginTriggers) -> None:
    parameters = triggers.check(PROVIDER, {"repository": "r"}, "")
    assert parameters == {"repository": "r", "events": ["pushed"]}
    subscription = await triggers.subscribe(PROVIDER, URL, parameters, "")
    assert (subscription.endpoint, subscription.parameters, subscription.expires_at) == (URL, parameters, 2_000_000_000)
    sent = subscription.properties["request"]
    assert (sent["type"], sent["action"], sent["provider"]) == ("trigger", "subscribe_trigger", "fake")
    assert (sent["credentials"], sent["credential_type"]) == ({"api_key": SECRET}, "api-key")
    assert (sent["endpoint"], sent["parameters"]) == (URL, parameters)

    own = PluginSubscription(URL, {"repository": "r", "refresh_trigger": {"properties": {}}}, {"secret": "s"}, 7)
    renewed = await triggers.refresh(PROVIDER, own, "")
    assert renewed == PluginSubscription(URL, own.parameters, {"secret": "s"}, -1), "what it leaves out stays"
    await triggers.unsubscribe(PROVIDER, own, "")


async def test_what_a_service_refuses(triggers: PluginTriggers) -> None:
    refusal = {"subscribe_trigger": {"error": f"bad key {SECRET}, token my-token"}, "token": "my-token"}
    with pytest.raises(RequestError, match="refuses: bad key") as refused:
        await triggers.subscribe(PROVIDER, URL, refusal, "")
    assert refused.value.code == "subscription_refused"
    assert SECRET not in str(refused.value)
    assert "my-token" not in str(refused.value)

    endpoint = "https://x.example/triggers/plugin/Vn3kQm2xT9aLw8Rz1bYc5dEf"
    twice = {"subscribe_trigger": {"error": f"there is a hook for {endpoint}"}}
    with pytest.raises(RequestError, match=r"there is a hook for https://x.example/triggers/plugin/\*+$"):
        await triggers.subscribe(PROVIDER, endpoint, twice, "")

    gone = {"unsubscribe_trigger": {"success": False, "message": f"no hook for {SECRET} and my-secret"}}
    subscription = PluginSubscription(URL, gone, {"webhook_secret": "my-secret"})
    with pytest.raises(RequestError, match=r"no hook for \*+ and \*+"):
        await triggers.unsubscribe(PROVIDER, subscription, "")


async def test_what_leaves_open_whether_it_subscribed(triggers: PluginTriggers) -> None:
    for answer in ({"crash": True}, "text"):
        with pytest.raises(PluginError):
            await triggers.subscribe(PROVIDER, URL, {"repository": "r", "subscribe_trigger": answer}, "")


@pytest.mark.parametrize(
    ("provider", "parameters", "credentials", "problem"),
    [
        ("fake", {}, "", "provider: Input should be author/plugin/provider"),
        ("tests/gone/gone", {}, "", "provider: The plugin tests/gone is needed"),
        (PROVIDER, {}, "", "parameters: Fields required: repository"),
        (PROVIDER, {"repository": "", "events": []}, "", "parameters: Fields required: repository"),
        (PROVIDER, {"repository": "r", "branch": "x"}, "", "'branch' is not one of the provider's: repository, events"),
        (PROVIDER, {"repository": "r"}, "second", "credentials: 'second' is not a set of fake"),
    ],
)
async def test_what_cannot_be_subscribed_to(
    triggers: PluginTriggers, provider: str, parameters: dict[str, Any], credentials: str, problem: str
) -> None:
    with pytest.raises(InvalidParam, match=problem):
        triggers.check(provider, parameters, credentials)


async def test_the_properties_of_one_that_was_made_by_hand(triggers: PluginTriggers) -> None:
    triggers.check_manual(PROVIDER, {"channel": "c"})
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "Fields required: channel"),
        ({"channel": "c", "x": 1}, "'x' is not one of"),
    ]
    for properties, problem in wrong:
        with pytest.raises(InvalidParam, match=problem):
            triggers.check_manual(PROVIDER, properties)
