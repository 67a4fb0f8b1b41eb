"""The contract's `base`: the server's URL and the API key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from headrace_client import APITimeoutError, AuthenticationError, Client, NotFoundError, PollingPlan, RetryPolicy
from headrace_client.errors import UsageError

from tests.sdk_contract.dify_server import events_of, key_of
from tests.sdk_contract.fault_server import Faults
from tests.sdk_contract.serving import Running
from tests.sdk_python.clients import Fault, Maker
from tests.server.process import Serve

TEMPLATE = key_of("02_template")
HTML: dict[str, Any] = {"status": 404, "headers": {"Content-Type": "text/html"}, "body": "<html>not here</html>"}
BUSY: dict[str, Any] = {"status": 503, "body": {"code": "busy", "message": "m", "status": 503}}
LIMITED: dict[str, Any] = {"status": 429, "body": {"code": "too_many_requests", "message": "m", "status": 429}}


@contextmanager
def proxied(upstream: str, prefix: str) -> Iterator[Fault]:
    """The server behind a proxy that strips a prefix."""
    with Running(Faults(upstream, prefix).app()) as server:
        fault = Fault(server.url)
        yield fault
        fault.close()


async def test_base_argument_then_environment_then_dify_cloud(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make("app-x", None).base_url == "https://api.dify.ai"
    monkeypatch.setenv("API_BASE_URL", "http://127.0.0.1:9/v1")
    assert make("app-x", None).base_url == "http://127.0.0.1:9"
    assert make("app-x", "http://127.0.0.1:8").base_url == "http://127.0.0.1:8"


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/api", "/api/v1"])
async def test_base_v1_api_api_v1_or_none(make: Maker, dify: str, path: str) -> None:
    assert (await make(TEMPLATE, dify + path).get_info()).mode == "workflow"
    assert make("app-x", f"https://example.org/dify{path}").base_url == "https://example.org/dify"


@pytest.mark.parametrize("url", ["ftp://x", "example.org", "http://", "http://x/v1?a=b"])
async def test_base_url_that_is_not_valid_is_refused(make: Maker, url: str) -> None:
    with pytest.raises(UsageError, match="base URL"):
        make("app-x", url)


async def test_base_key_is_sent_as_bearer(make: Maker, fault: Fault) -> None:
    fault.script({"status": 200, "body": {"name": "x"}})
    await make("app-secret", fault.url).get_info()
    headers = fault.requests[0]["headers"]
    assert headers["authorization"] == "Bearer app-secret"
    assert headers["user-agent"].startswith("headrace-client-python/")


async def test_base_key_missing_is_an_error(make: Maker, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (None, "", "  ", "app-ä", "app\nx"):
        with pytest.raises(UsageError, match=r"API[ _]key"):
            make(key, fault.url)
    monkeypatch.setenv("API_KEY", "app-env")
    fault.script({"status": 200, "body": {}})
    await make(None, fault.url).get_info()
    assert fault.requests[0]["headers"]["authorization"] == "Bearer app-env"


async def test_base_key_never_shows(make: Maker, fault: Fault) -> None:
    client = make("app-secret", fault.url)
    fault.script({"status": 401, "body": {"code": "unauthorized", "message": "no such key: app-secret"}})
    with pytest.raises(AuthenticationError) as raised:
        await client.get_info()
    assert "app-secret" not in str(raised.value) + repr(raised.value) + repr(client)


ASKED_ONCE = {"/api": ["/api", "/api/v1"], "/flows/api": ["/flows/api"]}
"""By prefix: base URLs for which the first guess is right."""
ASKED_TWICE = {"": ["/api", "/api/v1"], "/flows": ["/flows/api", "/flows/api/v1/"]}
"""Base URLs for which the second guess is right."""
PLAIN = {
    "": ["", "/v1"],
    "/api": ["/api/api", "/api/api/v1"],
    "/flows": ["/flows", "/flows/v1"],
    "/flows/api": ["/flows/api/api"],
}


@pytest.mark.parametrize("prefix", ["", "/api", "/flows", "/flows/api"])
async def test_base_api_may_be_a_prefix(make: Maker, headrace: Serve, dify: str, prefix: str) -> None:
    hello = headrace.apps["hello"]
    version = events_of("02_template")[0]["data"]["workflow_id"]
    guesses = [
        (base, count)
        for count, by_prefix in enumerate((PLAIN, ASKED_ONCE, ASKED_TWICE))
        for base in by_prefix.get(prefix, [])
    ]
    with proxied(headrace.url, prefix) as fault:
        for base, count in guesses:
            client = make(hello["key"], fault.url + base, real_time=True, polling=PollingPlan(first=0.02))
            for workflow in (hello["app_id"], hello["workflow_id"]):
                fault.script()
                run = await client.create_workflow_run(workflow, {"text": "hi"})
                calls = fault.calls()
                assert calls[-1] == f"POST {prefix}/api/v1/workflows/{workflow}/run", base
                # the asynchronous API identifies itself, so that one request is enough
                looked = 0 if workflow != hello["app_id"] else min(count, 1)
                assert [call[:4] for call in calls[:-1]] == ["GET "] * looked, base
                assert (await client.wait(run)).outputs == {"text": "You said: hi"}
            assert (await client.run_workflow({"text": "hi"})).outputs == {"text": "You said: hi"}
            assert client.base_url == fault.url + prefix
    with proxied(dify, prefix) as fault:
        for base, count in guesses:
            fault.script()
            client = make(TEMPLATE, fault.url + base)
            run = await client.create_workflow_run(version, {"query": "hi"})
            assert fault.calls()[count:] == [
                f"POST {prefix}/api/v1/workflows/{version}/run",
                f"POST {prefix}/v1/workflows/{version}/run",
            ], base
            assert [call.partition(" ")[0] for call in fault.calls()[:count]] == ["GET"] * count
            assert (await client.get_workflow_run_status(run)).outputs == {"text": "Hello hi! 12"}
            assert client.base_url == fault.url + prefix


def at_once(client: Any, **options: Any) -> asyncio.Future[Any]:
    """A call in the background, of either kind of client."""
    if isinstance(getattr(client, "inner", None), Client):
        return asyncio.ensure_future(asyncio.to_thread(client.inner.get_info, **options))
    return asyncio.ensure_future(client.get_info(**options))


async def test_base_api_is_detected_once(make: Maker, dify: str) -> None:
    prefixed, plain, run = "GET /api/v1/parameters", "GET /v1/parameters", "POST {}/v1/workflows/run"
    with proxied(dify, "/api") as fault:
        fault.script()
        client = make(TEMPLATE, f"{fault.url}/api")
        await asyncio.gather(*(at_once(client) for _ in range(10)))
        assert fault.calls() == [prefixed] + ["GET /api/v1/info"] * 10

        # a proxy that does not have the route yet, and one that is overloaded
        fault.script(HTML, HTML, HTML)
        client = make(TEMPLATE, f"{fault.url}/api/v1")
        with pytest.raises(NotFoundError):
            await client.run_workflow({"query": "hi"})
        assert fault.calls() == [prefixed, plain, run.format("")]
        fault.script(BUSY, LIMITED)
        await client.run_workflow({"query": "hi"})
        assert fault.calls() == [prefixed] * 3 + [run.format("/api")]

        # a 401 shows that the server was found
        fault.script()
        with pytest.raises(AuthenticationError):
            await make("app-wrong", f"{fault.url}/api").run_workflow({"query": "hi"})
        assert fault.calls() == [prefixed, run.format("/api")]


async def test_a_call_waits_for_the_detection_of_another_only_until_its_timeout(make: Maker, dify: str) -> None:
    faults = Faults(dify, "/api")
    with Running(faults.app()) as server:
        faults.steps.append({"hang": 8})
        client = make(TEMPLATE, f"{server.url}/api", real_time=True, retry=RetryPolicy(delay=0.01))
        first = at_once(client)
        assert await asyncio.to_thread(faults.received.wait, 60)
        with pytest.raises(APITimeoutError):
            await at_once(client, timeout=0.1)
        assert not first.done()
        assert (await first).mode == "workflow"


@pytest.mark.parametrize("host", ["http://api", "http://api/api", "http://api/v1"])
def test_a_host_may_have_the_name_of_an_api_path(make: Maker, host: str) -> None:
    assert make("app-x", host).base_url == "http://api"
