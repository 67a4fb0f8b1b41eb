"""Odd, wrong and hostile requests: always the envelope, never a traceback, nothing lost."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import StoreError
from tests.api.serving import Client, Serving, serving, workflow

QUERY = {"label": "query", "type": "text-input", "variable": "query", "required": False, "max_length": None}
ECHO = workflow(variables=[QUERY], outputs={"query": ["start", "query"], "user": ["sys", "user_id"]})
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def app(server: Serving) -> Client:
    return await server.add("echo.yml", ECHO)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"{", 400, "bad_request"),
        (b"[1]", 400, "bad_request"),
        (b"null", 400, "bad_request"),
        (b'"x"', 400, "bad_request"),
        (b"\xff\xfe", 400, "bad_request"),
        (b'{"user": "\xff", "inputs": {}}', 400, "bad_request"),
        (b'{"user": "u", "inputs": NaN}', 400, "invalid_param"),
        (b'{"user": "u", "inputs": {"query": ' + b"[" * 2000 + b"]" * 2000 + b"}}", 400, "bad_request"),
        (b'{"user": "u", "inputs": {"query": ' + b"[" * 101 + b"]" * 101 + b"}}", 400, "bad_request"),
        (b'{"user": null, "inputs": 1}', 400, "invalid_param"),
        (b'{"user": 0, "inputs": {}}', 400, "invalid_param"),
        (b'{"user": "' + b"u" * 256 + b'", "inputs": {}}', 400, "invalid_param"),
        (b'{"user": "u", "inputs": []}', 400, "invalid_param"),
        (b'{"user": "u", "inputs": {}, "files": {}}', 400, "invalid_param"),
        (b'{"user": "u", "inputs": {}, "files": ["x"]}', 400, "invalid_param"),
        (b'{"user": "u", "inputs": {}, "files": [{"type": "image"}]}', 400, "invalid_param"),
        (b'{"user": "u", "inputs": {}, "response_mode": ["blocking"]}', 400, "invalid_param"),
    ],
)
async def test_a_body_that_makes_no_sense(app: Client, body: bytes, status: int, code: str) -> None:
    got = await app.call("POST", "/v1/workflows/run", data=body, headers=JSON)
    assert (got[0], got[1]["code"], got[1]["status"]) == (status, code, status)
    assert got[1]["message"]


async def test_a_body_as_deep_as_may_be_is_taken(app: Client) -> None:
    body = b'{"user": "u", "inputs": {"nobody asked": ' + b"[" * 90 + b"]" * 90 + b"}}"
    assert (await app.call("POST", "/v1/workflows/run", data=body, headers=JSON))[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_too_large(tmp_path: Path, chunked: bool) -> None:
    async with serving(tmp_path, max_body=1000) as server:
        app = await server.add("echo.yml", ECHO)

        async def pieces() -> Any:
            for _ in range(30):
                yield b" " * 100

        data = pieces() if chunked else b" " * 3000
        status, body = await app.call("POST", "/v1/workflows/run", data=data, headers=JSON)
        assert (status, body["code"]) == (413, "request_entity_too_large")
        assert (await app.run())[0] == 200


@pytest.mark.parametrize(
    ("user", "expected"),
    [("u", "u"), (5, "5"), (1.5, "1.5"), (True, "True"), ({"a": 1}, "{'a': 1}"), (["x"], "['x']"), ("漢", "漢")],
)
async def test_user_may_be_anything_but_nothing(app: Client, user: Any, expected: str) -> None:
    status, body = await app.run({}, user=user)
    assert (status, body["data"]["outputs"]["user"]) == (200, expected)


async def test_checks_come_in_difys_order(app: Client) -> None:
    """The key, the body's form, the user, and only then what is asked for."""

    async def code(body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        status, answer = await app.call("POST", "/v1/workflows/abc/run", data=body, headers=dict(headers))
        return status, answer["message"]

    wrong_key = {"Authorization": "Bearer nope"}
    assert (await code(b"{", wrong_key | {"Content-Type": "text/plain"}))[0] == 401
    assert (await code(b"{", {"Content-Type": "text/plain"}))[0] == 415
    assert await code(b'{"inputs": 1}', JSON) == (400, "Arg user must be provided.")
    assert (await code(b'{"inputs": 1, "user": "u"}', JSON))[1].startswith("inputs:")
    assert await code(b'{"inputs": {}, "user": "u"}', JSON) == (400, "Invalid workflow_id format: 'abc'. ")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/info/", 404, "not_found"),
        ("GET", "/v1/%00", 404, "not_found"),
        ("DELETE", "/v1/info", 405, "method_not_allowed"),
        ("GET", "/v1/workflows/run", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/info", 405, "method_not_allowed"),
        ("POST", "/v1/completion-messages", 400, "app_unavailable"),
        ("POST", "/v1/chat-messages", 400, "not_chat_app"),
    ],
)
async def test_paths_and_methods_that_are_not_there(
    app: Client, method: str, path: str, status: int, code: str
) -> None:
    more: dict[str, Any] = {"json": {"user": "u"}} if method == "POST" else {}
    got = await app.call(method, path, **more)
    assert (got[0], got[1]["code"], got[1]["status"]) == (status, code, status)


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=x",
        "page=100000",
        "limit=101",
        "limit=-1",
        "limit=" + "9" * 50,
        "limit=٣",
        "status=running",
        "created_at__before=soon",
        "created_at__after=2024-13-01",
        "created_by_account=a@example.com",
    ],
)
async def test_logs_refuse_what_they_cannot_look_for(app: Client, query: str) -> None:
    status, body = await app.call("GET", f"/v1/workflows/logs?{query}")
    assert (status, body["code"]) == (400, "invalid_param")


async def test_what_nobody_foresaw_is_logged_and_told_to_nobody(
    app: Client, server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("the innermost secret")

    monkeypatch.setattr(server.run_service, "get", broken)
    with caplog.at_level(logging.ERROR):
        status, body = await app.call("GET", "/v1/workflows/run/b2cf19b6-e525-4b29-a302-cead928e0231")
    assert (status, body["code"], body["status"]) == (500, "internal_server_error", 500)
    assert "secret" not in json.dumps(body)
    assert "the innermost secret" in caplog.text
    assert "Traceback" in caplog.text


async def test_storage_that_fails_is_a_503(
    app: Client, server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: Any) -> Any:
        raise StoreError("database or disk is full: /somewhere/inside")

    monkeypatch.setattr(server.run_service, "get", full)
    caplog.set_level(logging.DEBUG)  # the store itself says that it is away
    status, body = await app.call("GET", "/v1/workflows/run/b2cf19b6-e525-4b29-a302-cead928e0231")
    assert (status, body["code"]) == (503, "service_unavailable")
    assert "somewhere" not in body["message"]
    assert "somewhere" in caplog.text
    assert "Traceback" not in caplog.text


async def test_what_no_storage_takes_is_a_500(
    app: Client, server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def damaged(*_: Any) -> Any:
        raise StoreError("event 7 cannot be read: /somewhere/inside", transient=False)

    monkeypatch.setattr(server.run_service, "get", damaged)
    status, body = await app.call("GET", "/v1/workflows/run/b2cf19b6-e525-4b29-a302-cead928e0231")
    assert (status, body["code"]) == (500, "internal_server_error")
    assert "somewhere" not in body["message"]
    assert "somewhere" in caplog.text


async def test_a_stream_that_breaks_ends_with_an_error_event(
    app: Client, server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = (await app.run({}, user="u1"))[1]["workflow_run_id"]

    async def broken(*_: Any, **__: Any) -> Any:
        for record in await server.store.journal.read(run):
            yield record
            raise ZeroDivisionError("the innermost secret")

    monkeypatch.setattr(server.run_service, "follow", broken)
    async with app.stream(f"/v1/workflow/{run}/events?user=u1") as stream:
        events = await stream.rest()
    assert [event.name for event in events] == ["error"]
    assert (events[0].body["status"], events[0].body["code"]) == (500, "internal_server_error")
    assert "secret" not in stream.raw.decode()
    assert "the innermost secret" in caplog.text


async def test_a_stream_whose_storage_is_away_says_so_and_logs_no_stack(
    app: Client, server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = (await app.run({}, user="u1"))[1]["workflow_run_id"]

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreError("disk I/O error: /somewhere/inside")
        yield

    monkeypatch.setattr(server.run_service, "follow", away)
    async with app.stream(f"/v1/workflow/{run}/events?user=u1") as stream:
        events = await stream.rest()
    assert [(event.name, event.body["status"], event.body["code"]) for event in events] == [
        ("error", 503, "service_unavailable")
    ]
    assert "somewhere" not in stream.raw.decode()
    assert "Traceback" not in caplog.text


async def test_health(app: Client, server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await app.call("GET", "/healthz") == (200, {"status": "ok"})
    assert (await app.call("GET", "/readyz"))[0] == 200

    async def broken(*_: Any) -> Any:
        raise StoreError("locked")

    monkeypatch.setattr("headrace.api.health._PROBE_SECONDS", 0.0)
    for name in ("read", "probe"):
        with monkeypatch.context() as away:
            away.setattr(server.store.journal, name, broken)
            status, body = await app.call("GET", "/readyz")
        assert (status, body) == (
            503,
            {
                "code": "service_unavailable",
                "message": "The journal cannot be read or written: locked",
                "status": "not ready",
            },
        )
        assert (await app.call("GET", "/readyz"))[0] == 200
    assert (await app.call("GET", "/healthz"))[0] == 200


async def test_not_ready_until_it_says_so(tmp_path: Path) -> None:
    ready = asyncio.Event()
    async with serving(tmp_path, ready=ready.is_set) as server:
        url = f"{server.url}/readyz"
        async with server.session.get(url) as answer:
            assert answer.status == 503
        ready.set()
        async with server.session.get(url) as answer:
            assert answer.status == 200


async def test_browsers_may_call_from_anywhere(app: Client, server: Serving) -> None:
    fields = {
        "Origin": "https://example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with server.session.options(f"{server.url}/v1/workflows/run", headers=fields) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    async with server.session.get(f"{server.url}/v1/info") as answer:
        assert answer.status == 401
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Expose-Headers"] == (
            "X-Version, X-Env, X-Request-Id, Retry-After, ETag, Content-Disposition, WWW-Authenticate"
        )


async def test_browsers_may_call_from_where_it_is_allowed(tmp_path: Path) -> None:
    async with serving(tmp_path, cors_origins=["https://a.example"]) as server:
        for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
            async with server.session.get(f"{server.url}/healthz", headers={"Origin": origin}) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
                assert answer.headers["Vary"] == "Origin"
