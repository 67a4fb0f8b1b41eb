"""A real `headrace serve` with a real provider: tokens that were got by signing in open what they say they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import jwt
import pytest
from mcp.client import Client
from mcp.client.auth.utils import (
    build_protected_resource_metadata_discovery_urls,
    extract_resource_metadata_from_www_auth,
    handle_protected_resource_response,
)
from mcp.client.streamable_http import streamable_http_client

from tests.oidc.provider import CLIENT, Provider
from tests.server.process import Serve

FLOW = Path(__file__).parents[1] / "data" / "apps" / "simple_passthrough.yml"
USERS = [
    {"sub": "runner", "team": "blue", "roles": ["headrace.run", "headrace.read"]},
    {"sub": "reader", "team": "blue", "roles": ["headrace.read"]},
    {"sub": "stranger", "team": "red", "roles": ["headrace.run", "headrace.read", "headrace.manage"]},
    {"sub": "homeless", "roles": ["headrace.run"]},
]


@pytest.fixture(scope="module")
def provider() -> Generator[Provider]:
    with Provider(USERS) as started:
        yield started


@pytest.fixture(scope="module")
def serving(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serve]:
    environ = {
        "HEADRACE_WORKSPACE": "blue",
        "HEADRACE_OIDC_ISSUER": provider.url,
        "HEADRACE_OIDC_AUDIENCE": f"other,{CLIENT}",
        "HEADRACE_OIDC_WORKSPACE_CLAIM": "team",
        "HEADRACE_OIDC_CLIENT_ID": "console",
        "HEADRACE_OIDC_CLIENT_SECRET": "secret",
        "HEADRACE_LOG_LEVEL": "DEBUG",
    }
    with Serve(tmp_path_factory.mktemp("serve"), [FLOW], environ) as server:
        yield server


def run(serving: Serve, token: str, **headers: str) -> httpx.Response:
    body = {"inputs": {"query": "hello"}, "response_mode": "blocking", "user": "me"}
    headers_sent = {"Authorization": f"Bearer {token}", **headers}
    return httpx.post(f"{serving.url}/v1/workflows/run", json=body, headers=headers_sent, timeout=60)


def refusal(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()["code"]


def test_a_token_runs_a_workflow(provider: Provider, serving: Serve):
    token = provider.token("runner")
    for _ in range(2):
        answer = run(serving, token)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["status"] == "succeeded"
    logs = httpx.get(f"{serving.url}/v1/workflows/logs", headers={"Authorization": f"Bearer {token}"})
    assert logs.json()["total"] == 2


def test_a_token_without_the_permission_may_not(provider: Provider, serving: Serve):
    token = provider.token("reader")
    assert refusal(run(serving, token)) == (403, "forbidden")
    assert httpx.get(f"{serving.url}/v1/info", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_token_of_another_workspace_sees_nothing(provider: Provider, serving: Serve):
    token = provider.token("stranger")
    app = serving.apps["simple_passthrough"]["app_id"]
    assert refusal(run(serving, token, **{"Headrace-App": app})) == (404, "not_found")
    answer = httpx.get(f"{serving.url}/v1/info", headers={"Authorization": f"Bearer {token}", "Headrace-App": app})
    assert refusal(answer) == (404, "not_found")
    assert "simple" not in answer.text
    assert run(serving, token).status_code == 400  # there is no app that it could mean


def test_tokens_that_are_not_good_are_refused_alike(provider: Provider, serving: Serve):
    good = provider.token("runner")
    head, body, signature = good.split(".")
    unsigned = jwt.encode(jwt.decode(good, options={"verify_signature": False}), None, "none")
    tokens = [
        provider.token("homeless"),
        provider.token("runner", client="somebody-else"),
        unsigned,
        f"{head}.{body}.{'A' * len(signature)}",
        f"{head}.{body}.",
        "a.b.c",
        "..",
    ]
    with Provider(USERS) as elsewhere:
        tokens.append(elsewhere.token("runner"))
    answers = [run(serving, token) for token in tokens]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert json.loads(answers[0].text) == {
        "code": "unauthorized",
        "message": "Access token is invalid",
        "status": 401,
    }
    assert answers[0].headers["WWW-Authenticate"].startswith("Bearer")
    assert run(serving, good).status_code == 200
    output = "".join(serving.said)
    assert "a bearer token was refused: it is for ['somebody-else']" in output
    for token in (good, *tokens[:5]):
        assert token not in output
        assert token.split(".")[1] not in output


def test_people_sign_in_to_the_console(provider: Provider, serving: Serve):
    with httpx.Client(timeout=60) as browser:
        begun = browser.get(f"{serving.url}/api/v1/console/sign-in")
        assert begun.status_code == 303
        signed_in = browser.post(begun.headers["location"], data={"sub": "runner"})
        back = browser.get(signed_in.headers["location"])
        assert (back.status_code, back.headers["location"]) == (303, "/console")
        headers = {"X-Headrace-Console": "1"}
        session = browser.get(f"{serving.url}/api/v1/console/session", headers=headers)
        assert (session.json()["user"], session.json()["permissions"]) == (f"{provider.url}#runner", ["run", "read"])
        assert len(browser.get(f"{serving.url}/api/v1/apps", headers=headers).json()["data"]) == 1
        assert browser.post(f"{serving.url}/api/v1/keys", headers=headers, json={}).status_code == 403
        again = browser.get(signed_in.headers["location"])
        assert again.headers["location"] == "/console?sign-in=failed"
    with httpx.Client(timeout=60) as other:
        assert other.get(signed_in.headers["location"]).headers["location"] == "/console?sign-in=failed"


def test_keys_go_on_beside_tokens(serving: Serve):
    key = serving.keys["simple_passthrough"]
    assert run(serving, key).status_code == 200
    assert refusal(run(serving, key[:-1] + "!")) == (401, "unauthorized")


def test_a_start_without_an_audience_is_refused(tmp_path: Path):
    command = [sys.executable, "-m", "headrace", "serve", str(FLOW), "--port", "0", "--data", str(tmp_path)]
    environ = {**os.environ, "HEADRACE_OIDC_ISSUER": "https://id.example.com"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert ended.stderr == "Error: HEADRACE_OIDC_AUDIENCE: must be set to the audience of the issuer's tokens.\n"


async def test_a_client_of_mcp_finds_where_to_sign_in(provider: Provider, serving: Serve):
    async with httpx2.AsyncClient() as http:
        refused = await http.post(f"{serving.url}/mcp", json={})
        assert refused.status_code == 401
        url = extract_resource_metadata_from_www_auth(refused) or ""
        assert url in build_protected_resource_metadata_discovery_urls(None, f"{serving.url}/mcp")
        metadata = await handle_protected_resource_response(await http.get(url))
    assert metadata is not None
    assert str(metadata.resource) == f"{serving.url}/mcp"
    assert [str(issuer).rstrip("/") for issuer in metadata.authorization_servers] == [provider.url]
    headers = {"Authorization": f"Bearer {provider.token('runner')}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{serving.url}/mcp", http_client=http)) as client,
    ):
        (tool,) = (await client.list_tools()).tools
        assert not (await client.call_tool(tool.name, {"query": "hello"})).is_error
