"""The console's session: what opens it, what it opens, and what it does not."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.access.console import LINK_SECONDS, SESSION_SECONDS, ConsoleAccess
from headrace.api.console import pages
from headrace.errors import Unauthorized
from headrace.ports import Principal
from headrace.server.console import console_refusal
from headrace.settings import Settings
from tests.api.serving import Serving, serving, workflow

SESSION = "/api/v1/console/session"
HEADER = {"X-Headrace-Console": "1"}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def access() -> ConsoleAccess:
    return ConsoleAccess(b"s" * 32, "default")


@pytest.fixture
async def server(tmp_path: Path, access: ConsoleAccess) -> AsyncGenerator[Serving]:
    async with serving(tmp_path, console=access) as running:
        yield running


@pytest.fixture
async def cookie(server: Serving, access: ConsoleAccess) -> dict[str, str]:
    """The headers of a page that is signed in."""
    async with server.session.post(server.url + SESSION, json={"token": access.token()}) as answer:
        assert answer.status == 204
        header = answer.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/api/v1/"} <= {part.strip() for part in header.split(";")}
        assert "Secure" not in header
    server.session.cookie_jar.clear()
    return {"Cookie": header.partition(";")[0], **HEADER}


async def get(server: Serving, path: str, headers: Mapping[str, str], method: str = "GET", **more: Any) -> Any:
    async with server.session.request(
        method, server.url + path, headers=headers, allow_redirects=False, **more
    ) as answer:
        body = await answer.read()
        return answer.status, json.loads(body) if body.startswith(b"{") else body.decode(), answer.headers


async def test_a_session_opens_the_native_api_and_nothing_else(server: Serving, cookie: dict[str, str]):
    app = (await server.add("tiny.yml", workflow())).release.app
    status, apps, _ = await get(server, "/api/v1/apps", cookie)
    assert (status, [item["id"] for item in apps["data"]]) == (200, [app.id])
    assert (await get(server, f"/api/v1/apps/{app.id}/v1/info", cookie))[0] == 200
    assert (await get(server, "/api/v1/keys", cookie))[0] == 200
    named = {**cookie, "Headrace-App": app.id}
    for path in ("/v1/info", "/v1/parameters", "/v1/workflows/logs", "/api/apps", "/api/keys", "//v1/info"):
        status, body, _ = await get(server, path, named)
        assert (status, body["code"]) == (401, "unauthorized"), path
    assert (await get(server, "/v1/openai/models", named))[0] == 401
    status, _, _ = await get(server, "/mcp", named, "POST", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert status == 401


async def test_a_request_of_another_site_does_not_count(server: Serving, cookie: dict[str, str]):
    without = {"Cookie": cookie["Cookie"]}
    for headers in (
        without,
        {**without, "X-Headrace-Console": "0"},
        {**cookie, "Sec-Fetch-Site": "cross-site"},
        {**cookie, "Sec-Fetch-Site": "same-site"},
    ):
        assert (await get(server, "/api/v1/apps", headers))[0] == 401
        status, _, _ = await get(server, "/api/v1/keys", headers, "POST", json={"name": "x", "permissions": ["read"]})
        assert status == 401
    assert (await get(server, "/api/v1/apps", {**cookie, "Sec-Fetch-Site": "same-origin"}))[0] == 200
    # a page of another origin has to send a preflight for the header, whose answer lets no cookie through
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
    _, _, headers = await get(server, "/api/v1/apps", preflight, "OPTIONS")
    assert "Access-Control-Allow-Credentials" not in headers


async def test_signing_in_and_out(server: Serving, access: ConsoleAccess, cookie: dict[str, str]):
    status, body, _ = await get(server, SESSION, cookie)
    assert (status, body["user"], body["permissions"]) == (200, "console", ["run", "read", "manage"])
    assert (await get(server, SESSION, {}))[0] == 401
    status, _, headers = await get(server, SESSION, cookie, "DELETE")
    assert status == 204
    assert f'{access.cookie_name}=""' in headers["Set-Cookie"]
    assert "Max-Age=0" in headers["Set-Cookie"]
    for token in (
        "",
        "x",
        "x.y",
        "..",
        access.token()[:-2],
        access.token() + "A",
        "é.é",
        cookie["Cookie"].partition("=")[2],
    ):
        status, body, _ = await get(server, SESSION, {}, "POST", json={"token": token})
        assert (status, body["code"]) == (401, "unauthorized"), token
    for body in ({}, {"token": 1}, []):
        assert (await get(server, SESSION, {}, "POST", json=body))[0] == 400


async def test_keys_are_shown_once_and_the_audit_names_the_console(server: Serving, cookie: dict[str, str]):
    status, created, _ = await get(
        server, "/api/v1/keys", cookie, "POST", json={"name": "import", "permissions": ["read"]}
    )
    assert status == 201
    secret = created["key"]
    for path in ("/api/v1/keys", f"/api/v1/keys/{created['id']}", "/api/v1/keys/audit"):
        status, body, _ = await get(server, path, cookie)
        assert status == 200
        assert secret not in json.dumps(body)
    _, audit, _ = await get(server, "/api/v1/keys/audit", cookie)
    assert audit["data"][0]["by"] == "console"


def test_a_link_and_a_session_end():
    now = 1000.0
    access = ConsoleAccess(b"s" * 32, "default", lambda: now)
    token, session = access.token(), access.session(Principal("ada", "w", frozenset({"read"}), frozenset({"a"})))
    cookie = access.cookie(session)
    assert access.session_of(cookie) == session
    other = ConsoleAccess(b"t" * 32, "default", lambda: now)
    assert other.session_of(cookie) is None
    assert other.cookie_name != access.cookie_name
    assert access.session_of(token) is None
    now += SESSION_SECONDS
    assert access.session_of(cookie) is None
    assert access.sign_in(token).principal.workspace == "default"
    now += LINK_SECONDS - SESSION_SECONDS
    with pytest.raises(Unauthorized, match="expired"):
        access.sign_in(token)
    with pytest.raises(Unauthorized, match="too many apps"):
        access.cookie(access.session(Principal("ada", "w", frozenset(), frozenset(map(str, range(2000))))))


@pytest.mark.parametrize(
    ("settings", "served"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "192.0.2.1"}, False),
        ({"host": "0.0.0.0", "public_url": "http://flows.example.com"}, False),
        ({"host": "0.0.0.0", "public_url": "https://flows.example.com"}, True),
        ({"host": "0.0.0.0", "tls_certificate": Path("cert.pem")}, True),
        ({"host": "0.0.0.0", "oidc_issuer": "https://id.example.com"}, False),
        ({"host": "0.0.0.0", "oidc_issuer": "https://id.example.com", "oidc_client_id": "console"}, True),
        ({"host": "0.0.0.0", "console": "on"}, True),
        ({"host": "0.0.0.0", "console": "off"}, True),  # nothing to refuse
    ],
)
def test_a_public_address_needs_tls_unless_told(settings: dict[str, Any], served: bool):
    assert (console_refusal(Settings(**settings)) == "") is served


# ---------------------------------------------------------------------------------------------------------------- pages


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Console</title>")
    (folder / "assets" / "index-4f2a.js").write_text("1")
    (folder / "favicon.svg").write_text("<svg/>")
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setattr(pages, "STATIC", folder)
    return folder


async def test_pages_have_the_index_at_every_address(static: Path, tmp_path: Path, access: ConsoleAccess):
    async with serving(tmp_path, console=access) as server:
        for path in ("/console", "/console/", "/console/runs/x", "/console/..%2fsecret"):
            status, body, headers = await get(server, path, BROWSER)
            assert (status, "Console" in body) == (200, True), path
            assert headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert headers["Cache-Control"] == "no-cache"
        status, body, headers = await get(server, "/console/assets/index-4f2a.js", {})
        assert (status, body, "immutable" in headers["Cache-Control"]) == (200, "1", True)
        assert headers["Content-Type"].startswith("text/javascript")
        assert (await get(server, "/console/assets/index-0000.js", {}))[0] == 404
        assert (await get(server, "/console/favicon.svg", {}))[2]["Content-Type"] == "image/svg+xml"


async def test_pages_of_another_build_are_served_without_a_restart(static: Path, tmp_path: Path, access: ConsoleAccess):
    async with serving(tmp_path, console=access) as server:
        assert (await get(server, "/console/assets/index-4f2a.js", {}))[0] == 200
        (static / "assets" / "index-4f2a.js").unlink()
        (static / "assets" / "index-9c1e.js").write_text("2")
        (static / "index.html").write_text("<!doctype html><title>Console 2</title>")
        assert (await get(server, "/console/assets/index-9c1e.js", {}))[:2] == (200, "2")
        assert (await get(server, "/console/assets/index-4f2a.js", {}))[0] == 404


async def test_the_root_leads_browsers_to_the_console(server: Serving):
    status, _, headers = await get(server, "/", BROWSER)
    assert (status, headers["Location"]) == (303, "/console")
    for method, headers in (("GET", {}), ("GET", {"Accept": "application/json"}), ("POST", BROWSER)):
        status, body, _ = await get(server, "/", headers, method)
        assert (status, body["code"]) == (404, "not_found")


async def test_where_there_is_no_build_a_page_says_so(static: Path, tmp_path: Path, access: ConsoleAccess):
    (static / "index.html").unlink()
    async with serving(tmp_path, console=access) as server:
        status, body, _ = await get(server, "/console", BROWSER)
        assert (status, "without the console" in body) == (200, True)


async def test_where_it_is_off_a_sentence_says_so(tmp_path: Path, access: ConsoleAccess):
    async with serving(tmp_path) as server:
        for path in ("/", "/console"):
            status, body, headers = await get(server, path, BROWSER)
            assert (status, body, headers["Content-Type"]) == (
                200,
                "The console is off.\n",
                "text/plain; charset=utf-8",
            )
        assert (await get(server, "/console", {}))[0] == 404
        assert (await get(server, SESSION, {}, "POST", json={"token": access.token()}))[0] == 404
        cookie = f"{access.cookie_name}={access.cookie(access.sign_in(access.token()))}"
        assert (await get(server, "/api/v1/apps", {"Cookie": cookie, **HEADER}))[0] == 401
