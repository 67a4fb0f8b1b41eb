"""HTTP endpoints of plugins: the file that names them, the request that a plugin gets, and its response."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope

from headrace.adapters.plugins.endpoints import PluginEndpoints, read_hooks
from headrace.adapters.plugins.runtime import Plugins
from headrace.api import plugin_endpoints
from headrace.api.http.errors import error_response
from headrace.errors import HeadraceError, RequestError
from headrace.ports.plugins import EndpointResponse
from tests.plugins.fakes import install, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "the-token-of-the-hook"
FILE = """
open: {plugin: tests/fake, settings: {token: "${TOKEN}", app: support}}
closed: {plugin: tests/fake, settings: {token: x}, enabled: false}
bare: {plugin: tests/fake}
unset: {plugin: tests/fake, settings: {token: "${NOTHING}"}}
odd: {plugin: tests/fake, settings: {token: x, mode: silent}}
gone: {plugin: tests/gone}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plugins(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Plugins]:
    folder = tmp_path_factory.mktemp("plugins")
    install(folder)
    async with running(folder) as (_, plugins):
        yield plugins


async def on_error(request: Request, error: Exception) -> Response:
    response = error_response(request, error)
    assert response is not None
    return response


@pytest_asyncio.fixture(loop_scope="module")
async def client(plugins: Plugins, tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    (tmp_path / "hooks.yaml").write_text(FILE)
    endpoints = PluginEndpoints(plugins, tmp_path / "hooks.yaml", {"TOKEN": TOKEN})
    errors = {RequestError: on_error, HTTPException: on_error}
    app = Starlette(routes=plugin_endpoints.routes(endpoints, 1000), exception_handlers=errors)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host.example") as client:
        yield client


async def test_a_request_and_its_response(client: httpx.AsyncClient) -> None:
    sent = {"X-Mine": "1", "X_Odd": "2", "X-Forwarded-For": "1.2.3.4", "Dify-Hook-Id": "mine"}
    sent |= {"Connection": "close", "Cookie": "session=x"}
    response = await client.request("PATCH", "/e/open/a%2Fb/%C3%BC?q=1&q=%20", content=b"body", headers=sent)
    assert (response.status_code, response.headers["x-fake"]) == (201, "yes")
    echo = response.json()
    assert echo["line"] == "PATCH /a%2Fb/%C3%BC?q=1&q=%20 HTTP/1.1"
    headers = [header.split(": ", 1) for header in echo["headers"]]
    values = {name.lower(): value for name, value in headers}
    assert len(values) == len(headers)
    assert (values["host"], values["x-mine"], values["content-length"]) == ("host.example", "1", "4")
    assert values["dify-hook-id"] == "open"
    assert values["dify-hook-url"].startswith("http://host.example/e/open/a%2Fb/%C3%BC")
    assert not {"x_odd", "x-forwarded-for", "connection", "cookie"} & values.keys()
    assert echo["body"] == "body"
    assert echo["settings"] == {"token": TOKEN, "app": {"app_id": "support"}, "mode": "calm"}


@pytest.mark.parametrize("path", ["/e/open", "/e/open/"])
async def test_the_root_of_an_endpoint(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).json()["line"] == "GET / HTTP/1.1"


@pytest.mark.parametrize(("path", "target"), [("/e/%6Fpen/a%2Fb?q=1", "/a%2Fb?q=1"), ("/e/open//x/", "//x/")])
async def test_the_path_is_passed_on_as_it_is(client: httpx.AsyncClient, path: str, target: str) -> None:
    assert (await client.get(path)).json()["line"] == f"GET {target} HTTP/1.1"


async def test_headers_of_the_connection_are_not_passed_on(client: httpx.AsyncClient) -> None:
    sent = {"Connection": "close, X-Hop", "X-Hop": "1", "TE": "trailers", "Proxy-Authorization": "Basic x"}
    sent |= {"Forwarded": "for=1.2.3.4", "X-Kept": "1"}
    echo = (await client.get("/e/open", headers=sent)).json()
    names = {header.split(":")[0].lower() for header in echo["headers"]}
    assert "x-kept" in names
    assert not {"connection", "x-hop", "te", "proxy-authorization", "forwarded"} & names


def results(*commands: dict[str, Any]) -> str:
    return f"/e/open?results={quote(json.dumps(commands))}"


async def test_a_response_in_pieces(client: httpx.AsyncClient) -> None:
    pieces = [{"result": text.encode().hex()} for text in ("a", "b")]
    headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", "Content-Length": "9"}
    headers |= {"Content-Security-Policy": "script-src *", "Set-Cookie": "a=b", "Access-Control-Allow-Origin": "x"}
    response = await client.get(results({"status": 200, "headers": headers}, *pieces))
    assert (response.text, response.headers["content-type"]) == ("ab", "text/event-stream")
    assert response.headers.keys() == {"content-type", "content-security-policy"}
    assert response.headers["content-security-policy"].startswith("sandbox"), "it is not the console's origin"


@pytest.mark.parametrize(
    "name", ["Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "NEL", "X-Accel-Redirect", "Trailer", "Date"]
)
async def test_headers_that_concern_more_than_the_response(client: httpx.AsyncClient, name: str) -> None:
    headers = {name: "*", "Connection": "x-hop", "X-Hop": "1", "X-Kept": "1"}
    response = await client.get(results({"status": 200, "headers": headers}))
    assert response.headers.keys() == {"content-security-policy", "x-kept"}


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body(client: httpx.AsyncClient, status: int) -> None:
    response = await client.get(results({"status": status, "result": b"a".hex()}, {"result": b"b".hex()}))
    assert (response.status_code, response.content) == (status, b"")


async def test_pieces_come_as_they_are_made(plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "hooks.yaml").write_text(FILE)
    endpoints = PluginEndpoints(plugins, tmp_path / "hooks.yaml", {"TOKEN": TOKEN})
    request = plugin_endpoints.EndpointRequest("GET", "/?hold=1", "http://x/e/open/?hold=1", [("host", "x")], b"")
    response = await endpoints.call("open", request)
    async with asyncio.timeout(60):
        assert await anext(response.body) == b"held"
    (process,) = [runner.current for runner in plugins.host.runners.values()]
    assert process is not None
    await response.body.aclose()
    assert len(process.dropped) == 1, "closing the body ends the interest in the call"


async def test_a_client_that_disconnects_stops_the_plugin() -> None:
    """Even while it does not read, so that the body waits for it."""
    is_closed, is_sending = False, asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes]:
        nonlocal is_closed
        try:
            while True:
                yield b"piece"
        finally:
            is_closed = True

    async def receive() -> Message:
        await is_sending.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            is_sending.set()
            await asyncio.Event().wait()

    body = pieces()
    endpoints = AsyncMock()
    endpoints.call.return_value = EndpointResponse(200, [], body)
    (route, _) = plugin_endpoints.routes(endpoints, 1000)
    request = AsyncMock(return_value={"type": "http.request", "body": b""})
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/e/open",
        "path_params": {"hook": "open"},
        "query_string": b"",
        "headers": [(b"host", b"x")],
    }
    response = await route.endpoint(Request(scope, request))
    async with asyncio.timeout(60):
        await response(scope, receive, send)
    assert is_closed


@pytest.mark.parametrize(
    ("path", "status", "problem"),
    [
        ("/e/nothing/x", 404, "endpoint not found"),
        ("/e/closed/x", 404, "endpoint not found"),
        ("/e/open%2Fx", 404, "endpoint not found"),
        ("/e/bare/x", 500, "FAKE_TOKEN"),
        ("/e/unset/x", 500, "set NOTHING"),
        ("/e/odd/x", 500, "must be one of calm, loud"),
        ("/e/gone/x", 500, "run `headrace plugins add tests/gone`"),
        ("/e/open?fail=1", 500, "no luck with"),
        (results(), 500, "no response"),
        (results({"headers": {}}), 500, "with the status None"),
        (results({"status": 99}), 500, "with the status 99"),
        (results({"status": 200, "headers": {"a": "b\r\nc: d"}}), 500, "header that is not valid"),
        (results({"status": 200, "headers": {"a b": "c"}}), 500, "header that is not valid"),
    ],
)
async def test_what_fails(
    client: httpx.AsyncClient, path: str, status: int, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = await client.get(path)
    logged = [record.getMessage() for record in caplog.records if record.name.endswith("plugins.endpoints")]
    assert all("endpoint of tests/" in message for message in logged), "a hook is not logged"
    assert bool(logged) is (status == 500)
    assert response.status_code == status
    assert problem in response.json()["message"]
    assert TOKEN not in response.text


async def test_a_request_that_is_too_large(client: httpx.AsyncClient) -> None:
    assert (await client.post("/e/open", content=b"x" * 1001)).status_code == 413


async def test_a_body_that_breaks_off(client: httpx.AsyncClient) -> None:
    with pytest.raises(HeadraceError, match="not in hexadecimal form"):
        await client.get(results({"status": 200}, {"result": "zz"}))


async def test_the_file_is_read_again_when_it_changes(client: httpx.AsyncClient, tmp_path: Path) -> None:
    file = tmp_path / "hooks.yaml"
    assert (await client.get("/e/open")).status_code == 201
    file.write_text(FILE.replace("open: {", "open: {enabled: false, "))
    assert (await client.get("/e/open")).status_code == 404
    file.write_text("[]")
    assert (await client.get("/e/open")).status_code == 404, "a file that is not valid changes nothing"
    file.write_text(FILE)
    os.utime(file, (1, 1))
    assert (await client.get("/e/open")).status_code == 201


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a b: {plugin: x/y}", "must consist of letters"),
        ("a: {}", "must have a plugin"),
        ("a: {plugin: 3}", "must have a plugin"),
        ("a: {plugin: x/y, setting: {}}", "unknown fields: setting"),
        ("a: {plugin: x/y, 3: {}, null: {}}", "unknown fields: 3, None"),
        ("a: {plugin: x/y, enabled: maybe}", "must be true or false"),
        ("a: {plugin: x/y, settings: [token]}", "settings of a must be an object"),
        ("a: {plugin: x/y, settings: &self {q: *self}}", "at most 100 levels deep"),
        ("- a", "does not contain an object"),
    ],
)
async def test_malformed_files(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "hooks.yaml").write_text(content)
    with pytest.raises(HeadraceError, match=problem):
        read_hooks(tmp_path / "hooks.yaml")
