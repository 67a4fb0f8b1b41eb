"""A root path, `/api`, that is also where the asynchronous API lives; and what is believed of what proxies say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headrace.api.middleware.request_context import ROOT, ProxyHeaders
from tests.cli.conftest import Invoke
from tests.cli.flows import Server, field, flow

STRIPS = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/api"}
LEAVES = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
DIRECT: Mapping[str, str] = {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("proxied")
    started = Server(
        flow(folder / "echo.yml", variables=[field("query")]),
        cwd=folder,
        HEADRACE_ROOT_PATH="/api",
        HEADRACE_PUBLIC_URL="https://flows.example/api",
    )
    yield started
    started.stop()


@pytest.fixture
def ask(server: Server) -> Iterator[Any]:
    """A request that arrives at the server, from a trusted address, as (status, body, headers)."""
    (app,) = server.ready["apps"]
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {app['key']}"}) as client:

        def call(path: str, said: Mapping[str, str], body: Any = None) -> httpx.Response:
            path = path.replace("{app}", app["app_id"]).replace("{version}", app["workflow_id"])
            return client.request("GET" if body is None else "POST", path, json=body, headers=said)

        yield call


def dialect(answer: httpx.Response) -> str:
    """Which API has answered."""
    return "asynchronous" if "headrace-api-version" in answer.headers else "dify"


BODY = {"inputs": {"query": "hi"}, "response_mode": "blocking", "user": "u"}


@pytest.mark.parametrize(
    ("arrives", "said", "status", "whose"),
    [
        # callers ask for /api/v1/...: Dify's
        ("/v1/workflows/run", STRIPS, 200, "dify"),
        ("/api/v1/workflows/run", LEAVES, 200, "dify"),
        ("/v1/workflows/run", DIRECT, 200, "dify"),
        ("/api/v1/workflows/run", DIRECT, 200, "dify"),
        ("/v1/workflows/{version}/run", STRIPS, 200, "dify"),
        ("/api/v1/workflows/{version}/run", LEAVES, 200, "dify"),
        ("/v1/workflows/{version}/run", DIRECT, 200, "dify"),
        # callers ask for /api/api/v1/...: the asynchronous one
        ("/api/v1/workflows/{app}/run", STRIPS, 200, "asynchronous"),
        ("/api/api/v1/workflows/{app}/run", LEAVES, 200, "asynchronous"),
        ("/api/v1/workflows/{app}/run", DIRECT, 200, "asynchronous"),
        ("/api/api/v1/workflows/{app}/run", DIRECT, 200, "asynchronous"),
        # and its alias, /api/api/...
        ("/api/workflows/{app}/run", STRIPS, 200, "asynchronous"),
        ("/api/api/workflows/{app}/run", LEAVES, 200, "asynchronous"),
    ],
)
def test_a_run_is_begun_where_it_was_asked_for(
    ask: Any, arrives: str, said: Mapping[str, str], status: int, whose: str
) -> None:
    answer = ask(arrives, said, BODY)
    assert (answer.status_code, dialect(answer)) == (status, whose), answer.text


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/v1/info", "/v1/parameters"]
)
@pytest.mark.parametrize("said", [STRIPS, LEAVES, DIRECT], ids=["strips", "leaves", "direct"])
def test_everything_answers_with_and_without_the_prefix(ask: Any, path: str, said: Mapping[str, str]) -> None:
    assert ask(path, said).status_code == 200
    assert ask(f"/api{path}", said).status_code == 200


def test_a_poll_finds_its_run_either_way(ask: Any) -> None:
    run = ask("/api/v1/workflows/{app}/run", STRIPS, BODY).json()["id"]
    for said, path in ((STRIPS, "/api/v1"), (LEAVES, "/api/api/v1"), (LEAVES, "/api/v1"), (DIRECT, "/api/v1")):
        answer = ask(f"{path}/workflow-runs/{run}?wait=5", said)
        assert (answer.status_code, dialect(answer)) == (200, "asynchronous")


def test_what_only_begins_alike_is_not_under_the_prefix(ask: Any) -> None:
    for path in ("/apis/v1/info", "/api-v1/info", "/api//v1/info", "/api/nothing", "/api"):
        answer = ask(path, DIRECT)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


def test_links_lead_to_the_public_url(ask: Any, server: Server) -> None:
    assert ask("/openapi.json", STRIPS).json()["servers"] == [{"url": "https://flows.example/api"}]
    page = ask("/api/docs", LEAVES)
    assert 'href="openapi.json"' in page.text  # beside the page, wherever that is
    (app,) = server.ready["apps"]
    uploaded = httpx.post(
        f"{server.url}/api/v1/files/upload",
        headers={"Authorization": f"Bearer {app['key']}", **STRIPS, "X-Forwarded-Prefix": "/evil"},
        files={"file": ("a.txt", b"hello", "text/plain")},
        data={"user": "u"},
    ).json()
    link = uploaded["source_url"]
    assert link.startswith("https://flows.example/api/files/")
    for path in (link.removeprefix("https://flows.example"), link.removeprefix("https://flows.example/api")):
        assert ask(path, STRIPS).content == b"hello"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HEADRACE_ROOT_PATH", "api", "must be a path such as /api"),
        ("HEADRACE_ROOT_PATH", "/a b", "must be a path such as /api"),
        ("HEADRACE_ROOT_PATH", "//evil", "must be a path such as /api"),
        (
            "HEADRACE_CORS_ORIGINS",
            "https://a.example, b.example",
            "'b.example' is not a valid origin; expected https://",
        ),
        ("HEADRACE_CORS_ORIGINS", "https://a.example/", "'https://a.example/' is not a valid origin"),
        ("HEADRACE_CORS_ORIGINS", "https://*.example", "'https://*.example' is not a valid origin"),
        ("HEADRACE_LOG_FORMAT", "xml", "should be 'json' or 'console'"),
        ("HEADRACE_PUBLIC_URL", "flows.example/api", "must be an http or https URL without a query"),
        ("HEADRACE_PUBLIC_URL", "https://flows.example/?a=b", "must be an http or https URL without a query"),
        ("HEADRACE_TRUSTED_PROXIES", "10.0.0.0/8, nginx", "nginx is neither an address nor a CIDR"),
        ("HEADRACE_TRUSTED_PROXIES", "10.0.0.1/8", "has host bits set"),
        ("HEADRACE_DRAIN_SECONDS", "-1", "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(invoke: Invoke, name: str, value: str, message: str) -> None:
    done = invoke("serve", "--port", "0", **{name: value})
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: {name}: ")
    assert message in done.stderr
    assert "Value error" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ---------------------------------------------------------------------------------------------- what is believed of it


async def seen(said: Mapping[str, str], *, peer: str = "127.0.0.1", root: str = "", **how: Any) -> dict[str, Any]:
    """A request as the API sees it."""
    values: dict[str, Any] = {}

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        host = next(value for name, value in scope["headers"] if name == b"host")
        values.update(path=scope["path"], scheme=scope["scheme"], client=scope["client"][0], host=host.decode())
        values.update(root=scope[ROOT])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    headers = [(name.lower().encode(), value.encode()) for name, value in {"Host": "inside:8040", **said}.items()]
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/info",
        "raw_path": b"/v1/info",
        "client": (peer, 1234),
        "headers": headers,
    }
    routes = [Route("/v1/info", lambda request: None)]
    await ProxyHeaders(api, routes, root, ("127.0.0.1", "10.0.0.0/8"), **how)(scope, nothing, nothing)
    return values


SAID = {**STRIPS, "X-Forwarded-Host": "flows.example:8443"}


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.1.2.3"])
async def test_a_trusted_proxy_is_believed(peer: str) -> None:
    assert await seen(SAID, peer=peer) == {
        "path": "/v1/info",
        "scheme": "https",
        "client": "203.0.113.9",
        "host": "flows.example:8443",
        "root": "/api",
    }


@pytest.mark.parametrize("peer", ["203.0.113.7", "::1", "192.168.0.1"])
async def test_nobody_else_is(peer: str) -> None:
    assert await seen(SAID, peer=peer) == {
        "path": "/v1/info",
        "scheme": "http",
        "client": peer,
        "host": "inside:8040",
        "root": "",
    }


async def test_of_what_was_said_before_the_last_proxy_nothing_counts() -> None:
    said = {
        "X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.0.0.2",
        "X-Forwarded-Host": "evil.example, flows.example",
        "X-Forwarded-Prefix": "/evil, /api",
    }
    scope = await seen(said)
    assert (scope["client"], scope["host"], scope["root"]) == ("203.0.113.9", "flows.example", "/api")


@pytest.mark.parametrize("prefix", ["//evil.example", "/a'b", "/<script>", "api", "/a/../b?", "", "/other"])
async def test_our_own_root_path_wins_and_what_is_no_path_is_none(prefix: str) -> None:
    assert (await seen({"X-Forwarded-Prefix": prefix}, root="/own"))["root"] == "/own"
    if prefix != "/other":
        assert (await seen({"X-Forwarded-Prefix": prefix}))["root"] == ""


@pytest.mark.parametrize("host", ["a b", "evil/path", "x@y", "", "[::1", "a\tb", "h:port"])
async def test_a_host_that_is_none_is_not_taken_for_one(host: str) -> None:
    assert (await seen({"X-Forwarded-Host": host}))["host"] == "inside:8040"


async def test_links_that_lead_elsewhere_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    await seen({"X-Forwarded-Host": "flows.example"}, linked=False)
    assert "a proxy forwards requests for flows.example: set HEADRACE_PUBLIC_URL" in caplog.text
