"""A client that is still sending when the server responds and closes the connection can read the response."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from headrace.server import connection
from tests.api.serving import Serving, serving
from tests.api.wire import connected
from tests.closing import read_to_close

MORE = b" " * 3_000_000  # more than sockets buffer
HEAD = b"POST /v1/workflows/run HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10000000\r\n\r\n{"
UNSIZED = b"POST /v1/workflows/run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NEVER = 600.0  # seconds


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (HEAD + MORE, 401),
        (HEAD.replace(b"1.1", b"1.0") + MORE, 401),
        (b"nonsense\r\n\r\n" + MORE, 400),
        (UNSIZED + b"nonsense\r\n" + MORE, 400),
        (b"GET /healthz HTTP/1.1\r\nX: " + MORE, 431),
    ],
    ids=["unauthorized", "http-1.0", "not-http", "not-chunks", "large-head"],
)
async def test_the_response_arrives_whole(
    server: Serving, monkeypatch: pytest.MonkeyPatch, request_bytes: bytes, status: int
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", NEVER)
    async with connected(server) as (reader, writer):
        writer.write(request_bytes)
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")  # raises where the connection is reset
        assert b"connection: close" in head.lower()
        assert (int(head.split()[1]), json.loads(body)["status"]) == (status, status)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Sends until the connection is reset."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b" " * 100)
            await writer.drain()
            await asyncio.sleep(0)


@pytest.mark.parametrize("bound", [("LINGER_SECONDS", 0.01), ("LINGER_BYTES", 1000)], ids=["seconds", "bytes"])
async def test_sending_has_bounds(server: Serving, monkeypatch: pytest.MonkeyPatch, bound: tuple[str, float]) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", NEVER)
    monkeypatch.setattr(connection, *bound)
    async with connected(server) as (reader, writer):
        writer.write(HEAD)
        assert b" 401 " in (await read_to_close(reader)).partition(b"\r\n")[0]
        await closed(writer)


async def test_a_server_that_ends_waits_for_no_such_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", NEVER)
    async with serving(tmp_path) as server:
        reader, writer = await asyncio.open_connection(*server.url.removeprefix("http://").split(":"))
        writer.write(HEAD)
        await read_to_close(reader)
    async with asyncio.timeout(60):
        await closed(writer)
    writer.close()
