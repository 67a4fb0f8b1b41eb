"""Requests that are too large, or that take too long to arrive; and what every answer says to browsers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.serving import Serving, serving, workflow
from tests.cli.flows import Server, field, flow
from tests.closing import read_to_close
from tests.deploy.worlds import gate, waiting_flow

SECONDS = 0.5  # in which a request is to arrive; the server looks once a second


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limits")
    started = Server(
        flow(folder / "echo.yml", variables=[field("query")]),
        cwd=folder,
        HEADRACE_REQUEST_SECONDS=str(SECONDS),
        HEADRACE_MAX_BODY="2000",
        HEADRACE_DRAIN_SECONDS="0",
    )
    yield started
    started.stop()


@asynccontextmanager
async def connection(server: Server) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def answered(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """(status, JSON) of all that is sent until the connection is closed; (0, None) for nothing."""
    raw = await read_to_close(reader)
    if not raw:
        return 0, None
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


async def send(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    """Sends piece by piece, until the connection is closed."""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)


HEAD = b"POST /v1/workflows/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("first", "then", "status", "code"),
    [
        (b"GET /v1/info HTTP/1.1\r\n", b"X-A: b\r\n", 408, "request_timeout"),
        (b"GET /v1/in", b"f", 408, "request_timeout"),
        (b"", b"", 0, None),  # a connection, and nothing more
        (b"", b"\r\n", 0, None),
        (HEAD + b"Authorization: Bearer KEY\r\nContent-Length: 1000\r\n\r\n{", b" ", 408, "request_timeout"),
        (
            HEAD + b"Authorization: Bearer KEY\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
            b"1\r\n \r\n",
            408,
            "request_timeout",
        ),
        (
            HEAD + b"Content-Length: 100000\r\n\r\n{",
            b" ",
            401,
            "unauthorized",
        ),  # answered at once, and closed after a while
    ],
)
async def test_a_request_that_drips(server: Server, first: bytes, then: bytes, status: int, code: str | None) -> None:
    async with connection(server) as (reader, writer):
        writer.write(first.replace(b"KEY", server.ready["apps"][0]["key"].encode()))
        dripping = asyncio.create_task(send(writer, itertools.repeat(then)))
        if status == 401:
            response = await read_to_close(reader)
            assert b" 401 " in response.partition(b"\r\n")[0]
            assert response.count(b"HTTP/1.1") == 1  # nothing else when it is closed
        else:
            response_status, received = await answered(reader)
            assert (response_status, received and received["code"], received and received["status"]) == (
                status,
                code,
                status or None,
            )
        dripping.cancel()


async def test_a_second_request_may_take_its_time_to_begin(server: Server) -> None:
    """An idle connection is no slow request."""
    async with connection(server) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(60):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
                assert await reader.readexactly(length) == b'{"status": "ok"}'
            await asyncio.sleep(SECONDS + 1.1)


async def test_an_answer_may_take_as_long_as_it_likes(tmp_path: Path) -> None:
    async with gate() as peer:
        server = Server(
            waiting_flow(tmp_path / "w.yml", peer.url),
            cwd=tmp_path,
            HEADRACE_EGRESS_ALLOW="127.0.0.1",
            HEADRACE_REQUEST_SECONDS="0.1",
        )
        body = {"inputs": {}, "response_mode": "streaming", "user": "u"}
        headers = {"Authorization": f"Bearer {server.ready['apps'][0]['key']}"}
        async with httpx.AsyncClient(timeout=60) as client:
            streaming = asyncio.create_task(client.post(f"{server.url}/v1/workflows/run", json=body, headers=headers))
            await peer.reached_by(1)
            await asyncio.sleep(1.5)
            peer.open.set()
            assert "workflow_finished" in (await streaming).text
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 70_000, 431, "request_header_fields_too_large"),
    ],
)
async def test_what_is_no_request(server: Server, sent: bytes, status: int, code: str) -> None:
    async with connection(server) as (reader, writer):
        pieces = [sent[at : at + 10_000] for at in range(0, len(sent), 10_000)]
        (response_status, received), _ = await asyncio.gather(answered(reader), send(writer, pieces))
        assert (response_status, received["code"], received["status"]) == (status, code, status)


def test_a_body_that_is_too_large(server: Server) -> None:
    headers = {"Authorization": f"Bearer {server.ready['apps'][0]['key']}"}
    for size, status in ((1000, 200), (3000, 413)):
        body = {"inputs": {"query": "x"}, "response_mode": "blocking", "user": "u", "more": "x" * size}
        answer = httpx.post(f"{server.url}/v1/workflows/run", json=body, headers=headers)
        assert answer.status_code == status
    assert answer.json()["code"] == "request_entity_too_large"


# ---------------------------------------------------------------------------------------------------- for browsers

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


async def head(server: Serving, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.request(method, server.url + path, headers=headers)


async def test_every_answer_says_what_browsers_may_do_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for path in ("/v1/info", "/healthz", "/nothing", "/api/v1/workflow-runs/x"):
            answer = await head(server, path)
            fields = {name: answer.headers.get_list(name) for name in ALWAYS}
            assert fields == {name: [value] for name, value in ALWAYS.items()}, path
            assert "Strict-Transport-Security" not in answer.headers
    async with serving(tmp_path, secure=True) as server:
        assert (await head(server, "/nothing")).headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_a_stream_and_a_file_say_what_is_right_for_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        client = await server.add("w.yml", workflow())
        async with client.stream() as stream:
            assert stream.answer.headers.getall("Cache-Control") == ["no-cache"]
            assert stream.answer.headers["X-Accel-Buffering"] == "no"
            await stream.rest()
        form = httpx.Request("POST", "http://x", files={"file": ("a.txt", b"hi", "text/plain")}, data={"user": "u"})
        _, response = await client.call(
            "POST", "/v1/files/upload", data=form.read(), headers={"Content-Type": form.headers["Content-Type"]}
        )
        answer = await head(server, response["source_url"].removeprefix(server.url))
        assert answer.headers.get_list("Cache-Control") == ["private, max-age=3600"]
        assert len(answer.headers.get_list("Content-Security-Policy")) == 1
        assert len(answer.headers.get_list("X-Content-Type-Options")) == 1


async def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        page = await head(server, "/docs")
        (policy,) = page.headers.get_list("Content-Security-Policy")
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert not re.findall(r"<script|\ssrc=|<link|@import|url\(", page.text)
        assert "servers" not in (await head(server, "/openapi.json")).json()


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (["*"], "https://a.example", "*"),
        (["https://a.example", "https://b.example"], "https://b.example", "https://b.example"),
        (["https://a.example"], "https://evil.example", None),
        (["https://a.example"], "https://a.example.evil.example", None),
        (["https://a.example"], "null", None),
        ([], "https://a.example", None),
    ],
)
async def test_origins_that_browsers_may_call_from(
    tmp_path: Path, origins: list[str], origin: str, allowed: str | None
) -> None:
    async with serving(tmp_path, cors_origins=origins) as server:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (
            await head(server, "/v1/info", Origin=origin),
            await head(server, "/v1/workflows/run", "OPTIONS", **headers),
        ):
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            if origins and origins != ["*"]:
                assert answer.headers["Vary"] == "Origin"
