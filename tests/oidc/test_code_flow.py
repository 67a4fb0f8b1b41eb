"""Signing in to the console at the issuer: only who began in this browser, and has signed in there, gets a session."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web

from headrace.access.console import ATTEMPT_SECONDS, ConsoleAccess
from headrace.adapters.oidc import OidcCodeFlow
from headrace.errors import HeadraceError
from headrace.ports import SignInAttempt
from tests.api.serving import Serving, serving
from tests.oidc.issuing import AUDIENCE, Issuer, Signer, identifying, issuing

SIGN_IN = "/api/v1/console/sign-in"
SESSION = "/api/v1/console/session"
HEADER = {"X-Headrace-Console": "1"}
CLIENT, SECRET = "the console", "s:cret/ä"
SIGNER = Signer()
FAILED = "/console?sign-in=failed"
ENDPOINTS = (("authorization", "authorize"), ("token", "token"))


@dataclass
class Flow:
    """A server, whose issuer signs `ada` in with what `claims` adds; `form` and `authorization` are of the last request
    for a token."""

    issuer: Issuer
    server: Serving
    claims: dict[str, Any] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    authorization: str | None = None
    challenge: str = ""
    nonce: str = ""
    status: int = 200
    text: str | None = None

    async def token(self, request: web.Request) -> web.StreamResponse:
        self.issuer.answer = None
        if request.path != "/token":
            response = await self.issuer.serve(request)
            self.issuer.answer = self.token
            return response
        self.issuer.answer = self.token
        self.form = {name: str(value) for name, value in (await request.post()).items()}
        self.authorization = request.headers.get("Authorization")
        digest = hashlib.sha256(self.form["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != self.challenge or self.status != 200:
            return web.json_response({"error": "invalid_grant"}, status=max(self.status, 400))
        if self.text is not None:
            return web.Response(text=self.text)
        claims = self.issuer.claims(**{"aud": CLIENT, "nonce": self.nonce, **self.claims})
        return web.json_response({"id_token": SIGNER.token(claims), "token_type": "Bearer"})

    async def get(self, path: str, **headers: str) -> tuple[int, str, list[str], Any]:
        """(status, Location, cookies, body)."""
        async with self.server.session.get(self.server.url + path, headers=headers, allow_redirects=False) as answer:
            body = await answer.json() if answer.content_type == "application/json" else None
            self.server.session.cookie_jar.clear()
            return answer.status, answer.headers.get("Location", ""), answer.headers.getall("Set-Cookie", []), body

    async def begin(self) -> tuple[dict[str, str], str]:
        """(the parameters of the request to the issuer, the browser's cookie)."""
        status, location, cookies, _ = await self.get(SIGN_IN)
        assert status == 303
        assert location.startswith(f"{self.issuer.url}/authorize?")
        query = dict(parse_qsl(urlsplit(location).query))
        self.challenge, self.nonce = query["code_challenge"], query["nonce"]
        (cookie,) = cookies
        assert {"HttpOnly", "SameSite=lax", f"Path={SIGN_IN}"} <= {part.strip() for part in cookie.split(";")}
        return query, cookie.partition(";")[0]

    async def complete(self, state: str, cookie: str, more: str = "code=c0de") -> tuple[str, list[str]]:
        status, location, cookies, _ = await self.get(f"{SIGN_IN}/callback?state={state}&{more}", Cookie=cookie)
        assert status == 303
        return location, [cookie for cookie in cookies if "Max-Age=0" not in cookie]


@asynccontextmanager
async def signing_in(folder: Path, secret: str = SECRET, scopes: str = "openid") -> AsyncGenerator[Flow]:
    async with issuing(SIGNER) as issuer, identifying(issuer.url) as identity:
        issuer.about = {f"{name}_endpoint": f"{issuer.url}/{path}" for name, path in ENDPOINTS}
        access = ConsoleAccess(b"s" * 32, "default")
        code_flow = OidcCodeFlow(identity, CLIENT, secret, scopes)
        async with serving(folder, console=access, code_flow=code_flow) as server:
            flow = Flow(issuer, server)
            issuer.answer = flow.token
            yield flow


@pytest.fixture
async def flow(tmp_path: Path) -> AsyncGenerator[Flow]:
    async with signing_in(tmp_path) as running:
        yield running


async def test_who_has_signed_in_gets_the_session_of_their_claims(flow: Flow):
    assert (await flow.get(f"{SIGN_IN}/options"))[3] == {"openid_connect": True}
    query, cookie = await flow.begin()
    redirect_uri = f"{flow.server.url}{SIGN_IN}/callback"
    assert (query["client_id"], query["redirect_uri"], query["scope"]) == (CLIENT, redirect_uri, "openid")
    location, (session,) = await flow.complete(query["state"], cookie)
    assert location == "/console"
    assert {"HttpOnly", "SameSite=strict", "Path=/api/v1/"} <= {part.strip() for part in session.split(";")}
    assert (flow.form["grant_type"], flow.form["code"], flow.form["redirect_uri"]) == (
        "authorization_code",
        "c0de",
        redirect_uri,
    )
    credentials = base64.b64encode(b"the+console:s%3Acret%2F%C3%A4").decode()
    assert flow.authorization == f"Basic {credentials}"
    assert "client_secret" not in flow.form
    status, _, _, body = await flow.get(SESSION, Cookie=session.partition(";")[0], **HEADER)
    assert (status, body["user"], body["permissions"]) == (200, f"{flow.issuer.url}#ada", ["run"])


async def test_a_response_counts_only_in_the_browser_that_asked_for_it(flow: Flow):
    query, cookie = await flow.begin()
    _, others = await flow.begin()
    name = cookie.partition("=")[0]
    for state, sent in (
        ("", cookie),
        ("x", cookie),
        ("%C3%A9", cookie),
        (query["state"], ""),
        (query["state"], others),
        (query["state"], f"{name}=x.y"),
    ):
        assert await flow.complete(state, sent) == (FAILED, [])
    assert flow.form == {}, "no code was sent anywhere"


async def test_what_the_issuer_refuses_signs_nobody_in(flow: Flow):
    for more in ("error=access_denied", "code=", f"code={'x' * 4097}"):
        query, cookie = await flow.begin()
        assert await flow.complete(query["state"], cookie, more) == (FAILED, [])
    assert flow.form == {}
    for status in (400, 401, 500):
        flow.status = status
        query, cookie = await flow.begin()
        assert await flow.complete(query["state"], cookie) == (FAILED, [])


@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"id_token": 1}', '{"id_token": "a.b.c"}'])
async def test_a_response_without_an_id_token_signs_nobody_in(flow: Flow, text: str):
    flow.text = text
    query, cookie = await flow.begin()
    assert await flow.complete(query["state"], cookie) == (FAILED, [])
    assert flow.form["code"] == "c0de"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": AUDIENCE},
        {"aud": [CLIENT, "b"], "azp": "b"},
        {"exp": 1},
        {"scope": None},
        {"sub": ""},
    ],
    ids=str,
)
async def test_an_id_token_has_to_be_for_this_client_and_this_attempt(flow: Flow, claims: dict[str, Any]):
    query, cookie = await flow.begin()
    flow.claims = claims
    assert await flow.complete(query["state"], cookie) == (FAILED, [])
    assert flow.form["code"] == "c0de"


async def test_a_client_without_a_secret_or_without_the_basic_scheme_is_named_in_the_form(tmp_path: Path):
    for secret, methods in (("", None), (SECRET, ["client_secret_post"])):
        async with signing_in(tmp_path / str(len(secret)), secret) as flow:
            flow.issuer.about["token_endpoint_auth_methods_supported"] = methods
            query, cookie = await flow.begin()
            assert (await flow.complete(query["state"], cookie))[0] == "/console"
            assert (flow.authorization, flow.form["client_id"]) == (None, CLIENT)
            assert flow.form.get("client_secret", "") == secret


async def test_an_issuer_that_does_not_say_where_signs_nobody_in(flow: Flow):
    flow.issuer.about = {"authorization_endpoint": "javascript:alert(1)", "token_endpoint": f"{flow.issuer.url}/token"}
    status, location, cookies, _ = await flow.get(SIGN_IN)
    assert (status, location, cookies) == (303, FAILED, [])


async def test_without_a_client_nobody_can_sign_in_at_the_issuer(tmp_path: Path):
    async with serving(tmp_path, console=ConsoleAccess(b"s" * 32, "default")) as server:
        flow = Flow(Issuer(""), server)
        assert (await flow.get(f"{SIGN_IN}/options"))[3] == {"openid_connect": False}
        assert (await flow.get(SIGN_IN))[0] == 401
        assert await flow.complete("x", "a=b") == (FAILED, [])


async def test_the_scopes_are_those_of_openid_connect():
    async with identifying("https://id.example.com") as identity:
        with pytest.raises(HeadraceError, match="must contain openid"):
            OidcCodeFlow(identity, CLIENT, "", "profile")


def test_an_attempt_expires():
    now = 1000.0
    access = ConsoleAccess(b"s" * 32, "default", lambda: now)
    attempt = SignInAttempt("state", "nonce", "verifier")
    cookie = access.attempt_cookie(attempt)
    assert access.attempt_of(cookie) == attempt
    assert access.session_of(cookie) is None
    now += ATTEMPT_SECONDS
    assert access.attempt_of(cookie) is None
