"""Vertex AI: Gemini and Claude on Google Cloud, and the credentials for them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.adapters.models import ModelClient, google_cloud
from headrace.ports.services import Message
from tests.models import test_anthropic, test_gemini
from tests.models.server import ModelServer, ReceivedRequest, Script, ask, failure, good, hear, text_of
from tests.models.test_request import Stored

GEMINI: dict[str, Any] = {"provider": "langgenius/vertex_ai/vertex_ai", "model": "gemini-2.5-flash"}
CLAUDE: dict[str, Any] = GEMINI | {"model": "claude-3-5-sonnet-v2@20241022"}
TOKEN = "ya29.secret"
AUDIENCE = "https://oauth2.googleapis.com/token"  # of a service account, whatever the address for tokens is
KEY = rsa.generate_private_key(65537, 2048)


def service_account(server: ModelServer) -> dict[str, str]:
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "k1",
        "private_key": pem,
        "client_email": "runner@my-project.iam.gserviceaccount.com",
        "token_uri": f"{server.url}/token",
    }


def environ_of(server: ModelServer, **more: str) -> dict[str, str]:
    key = base64.b64encode(json.dumps(service_account(server)).encode()).decode()
    return {"VERTEX_SERVICE_ACCOUNT_KEY": key, "GOOGLE_VERTEX_BASE_URL": server.url} | more


@pytest.fixture
async def client(server: ModelServer) -> AsyncIterator[ModelClient]:
    client = ModelClient(environ_of(server, VERTEX_LOCATION="europe-west4"), Stored(), backoff=0.001, idle=1.0)
    yield client
    await client.aclose()


async def give_token(request: ReceivedRequest) -> None:
    await request.refuse(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})


def say(server: ModelServer, answer: Script, token: Script = give_token) -> None:
    server.answer(lambda request: token(request) if request.path == "/token" else answer(request))


async def hello(request: ReceivedRequest) -> None:
    await test_gemini.send(request, *test_gemini.HELLO)


async def test_gemini_with_a_service_account(server: ModelServer, client: ModelClient):
    say(server, hello)
    messages = [Message("system", "Be brief."), Message("user", "Hi")]
    for _ in range(2):
        chunks = await hear(client, ask(**GEMINI, messages=messages, parameters={"max_output_tokens": 9}))
        assert text_of(chunks) == "Hello"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.wire()["total_price"] == "0.0000530"
    token, *calls = server.requests
    claims = jwt.decode(token.body["assertion"], KEY.public_key(), algorithms=["RS256"], audience=AUDIENCE)
    assert claims["iss"] == "runner@my-project.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert [call.headers["authorization"] for call in calls] == [f"Bearer {TOKEN}"] * 2  # of one token
    assert calls[0].path == (
        "/v1beta1/projects/my-project/locations/europe-west4/publishers/google/models/gemini-2.5-flash"
        ":streamGenerateContent?alt=sse"
    )
    assert calls[0].body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 9},
    }


async def test_claude_in_its_own_protocol(server: ModelServer):
    say(server, lambda request: test_anthropic.send(request, *test_anthropic.HELLO))
    client = ModelClient(environ_of(server, VERTEX_LOCATION="asia-east1", VERTEX_ANTHROPIC_LOCATION="us-east5"))
    chunks = await hear(client, ask(**CLAUDE, parameters={"max_tokens": 50}))
    await client.aclose()
    assert (text_of(chunks), chunks[-1].finish_reason) == ("Hello", "end_turn")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.wire()["total_price"] == "0.0001350"  # 10 * 3 $ and 7 * 15 $ per million
    call = server.requests[-1]
    assert call.path == (
        "/v1/projects/my-project/locations/us-east5/publishers/anthropic/models/claude-3-5-sonnet-v2@20241022"
        ":streamRawPredict"
    )
    assert call.headers["authorization"] == f"Bearer {TOKEN}"
    assert call.body == {
        "anthropic_version": "vertex-2023-10-16",
        "stream": True,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }


async def test_other_publishers_need_a_gateway(client: ModelClient):
    raised = await failure(client, **GEMINI | {"model": "mistral-medium-3"})
    assert (raised.kind, "VERTEX_AI_BASE_URL" in str(raised)) == ("InvokeBadRequestError", True)


@pytest.mark.parametrize(
    ("more", "model", "location"),
    [
        ({}, "gemini-2.5-pro", "global"),
        ({"GOOGLE_CLOUD_LOCATION": "us-central1"}, "gemini-2.5-pro", "us-central1"),
        ({"VERTEX_LOCATION": "us-central1"}, "gemini-3-pro-preview", "global"),
        ({"VERTEX_LOCATION": "eu", "VERTEX_GLOBAL_MODELS": "gemini-x, gemini-y"}, "gemini-3-pro-preview", "eu"),
        ({"VERTEX_LOCATION": "eu", "VERTEX_GLOBAL_MODELS": "gemini-x, gemini-y"}, "gemini-y", "global"),
    ],
)
async def test_the_location_of_a_model(server: ModelServer, more: dict[str, str], model: str, location: str):
    say(server, hello)
    client = ModelClient(environ_of(server, **more))
    await hear(client, ask(**GEMINI | {"model": model}))
    await client.aclose()
    assert f"/locations/{location}/" in server.requests[-1].path


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
    ],
)
def test_the_address_of_a_location(server: ModelServer, location: str, host: str):
    environ = environ_of(server) | {"GOOGLE_VERTEX_BASE_URL": ""}
    assert google_cloud.address_of(google_cloud.resolve(environ), location) == f"https://{host}"


async def test_application_default_credentials(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    say(server, hello)
    path = tmp_path / "adc.json"
    path.write_text(json.dumps(service_account(server)))
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(path), "GOOGLE_VERTEX_BASE_URL": server.url}
    environ["GOOGLE_CLOUD_PROJECT"] = "other-project"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    client = ModelClient(environ)
    assert text_of(await hear(client, ask(**GEMINI))) == "Hello"
    await client.aclose()
    assert server.requests[-1].path.startswith("/v1beta1/projects/other-project/locations/global/")


async def test_credentials_that_do_not_exist_are_named(server: ModelServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    client = ModelClient({"VERTEX_PROJECT_ID": "p", "GOOGLE_VERTEX_BASE_URL": server.url})
    raised = await failure(client, **GEMINI)
    await client.aclose()
    assert (raised.kind, "/nowhere.json" in str(raised)) == ("ProviderTokenNotInitError", True)


async def test_credentials_that_are_refused(server: ModelServer, client: ModelClient):
    error = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    say(server, hello, lambda request: request.refuse(400, error))
    raised = await failure(client, **GEMINI)
    assert (raised.kind, "Invalid JWT Signature." in str(raised)) == ("InvokeAuthorizationError", True)
    assert [request.path for request in server.requests] == ["/token"]


async def test_no_message_has_the_token(server: ModelServer, client: ModelClient):
    say(server, lambda request: request.refuse(403, {"error": {"code": 403, "message": f"{TOKEN} may not"}}))
    raised = await failure(client, **GEMINI)
    assert (str(raised), raised.kind) == ("*** may not", "InvokeAuthorizationError")


@pytest.mark.parametrize("valid", ["second", "none"])
async def test_a_token_that_was_revoked_is_replaced_once(server: ModelServer, client: ModelClient, valid: str):
    issued: list[str] = []

    async def give(request: ReceivedRequest) -> None:
        issued.append(("first", "second", "third")[len(issued)])
        await request.refuse(200, {"access_token": issued[-1], "expires_in": 3600, "token_type": "Bearer"})

    async def check(request: ReceivedRequest) -> None:
        if request.headers["authorization"] == f"Bearer {valid}":
            await hello(request)
        else:
            await request.refuse(401, {"error": {"code": 401, "message": "the token was revoked"}})

    say(server, check, give)
    if valid == "none":
        assert (await failure(client, **GEMINI)).kind == "InvokeAuthorizationError"
    else:
        assert text_of(await hear(client, ask(**GEMINI))) == "Hello"
    assert issued == ["first", "second"]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "Set VERTEX_PROJECT_ID"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/x.json"}, "Set VERTEX_PROJECT_ID"),
        ({"VERTEX_PROJECT_ID": "p", "VERTEX_LOCATION": "evil.com/"}, "VERTEX_LOCATION is not a location"),
        ({"VERTEX_PROJECT_ID": "p", "VERTEX_ANTHROPIC_LOCATION": "X"}, "VERTEX_ANTHROPIC_LOCATION is not a location"),
        ({"VERTEX_PROJECT_ID": "p", "GOOGLE_VERTEX_BASE_URL": "localhost"}, "GOOGLE_VERTEX_BASE_URL is not a valid"),
        ({"VERTEX_SERVICE_ACCOUNT_KEY": "e30="}, "VERTEX_SERVICE_ACCOUNT_KEY is not the JSON key"),
        ({"VERTEX_SERVICE_ACCOUNT_KEY": "{"}, "VERTEX_SERVICE_ACCOUNT_KEY is not the JSON key"),
        ({"VERTEX_SERVICE_ACCOUNT_KEY": "ü"}, "VERTEX_SERVICE_ACCOUNT_KEY is not the JSON key"),
        ({"VERTEX_PROJECT_ID": "p"}, None),
    ],
)
def test_a_missing_setting_is_named(environ: dict[str, str], message: str | None):
    missing = ModelClient(environ).missing("langgenius/vertex_ai/vertex_ai")
    assert missing is None if message is None else message in str(missing)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace.adapters.models.google_cloud.find_spec", lambda name: None)
    assert 'pip install "headrace[vertex]"' in str(ModelClient({"VERTEX_PROJECT_ID": "p"}).missing("vertex_ai"))


async def test_a_gateway_with_openais_protocol(server: ModelServer):
    server.answer(good)
    client = ModelClient({"VERTEX_AI_BASE_URL": f"{server.url}/v1", "VERTEX_PROJECT_ID": "p"})
    assert text_of(await hear(client, ask(**GEMINI))) == "Hello"
    await client.aclose()
    assert server.requests[0].path == "/v1/chat/completions"
