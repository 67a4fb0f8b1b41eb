"""Triggers of plugins: the requests that they get over the protocol, and what is made of their answers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from headrace.adapters.plugins.process import PluginError
from headrace.adapters.plugins.triggers import Dispatch, PluginTriggers, Subscription
from headrace.errors import HeadraceError
from tests.plugins.fakes import SECRET, install, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROVIDER = "tests/fake/fake"
SUBSCRIPTION = Subscription("https://x.example/hook", {"repository": "r"}, {"webhook_secret": "s"})


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
    given = request({"cancelled": True, "variables": {}})
    assert await triggers.variables(PROVIDER, "pushed", SUBSCRIPTION, given, {}, {}) is None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"error": "the signature is not valid"}, "the signature is not valid"),
        ({}, "sent no answer"),
        ({"response": "zz"}, "not in hexadecimal form"),
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
