"""Requests as bytes over a connection of their own, and what comes back over it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tests.api.serving import Client, Serving, workflow

RUN = "/v1/workflows/run"


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_reply(reader: asyncio.StreamReader, method: str = "POST") -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (item.partition(": ") for item in lines)}
    body = b""
    if method == "HEAD":
        pass
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await reader.read()
    return Reply(int(line.split()[1]), headers, body)


@asynccontextmanager
async def connected(server: Serving) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of its own, and 60 seconds to use it."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.close()


async def sent(server: Serving, pieces: Sequence[bytes], methods: Sequence[str]) -> list[Reply]:
    """The replies to what is sent piece by piece over one connection, which is left open: one for each method."""
    async with connected(server) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return [await read_reply(reader, method) for method in methods]


async def echo(server: Serving) -> Client:
    variables = [{"variable": "q", "label": "q", "type": "text-input", "required": True}]
    return await server.add("echo.yml", workflow(variables=variables, outputs={"q": ["start", "q"]}))


def body_of(mode: str = "blocking", q: str = "hi") -> bytes:
    return json.dumps({"inputs": {"q": q}, "response_mode": mode, "user": "u1"}).encode()


def with_body(head: str, key: str, body: bytes, path: str = RUN, *, chunked: bool = False) -> bytes:
    if not chunked:
        return head.format(path=path, key=key, length=f"Content-Length: {len(body)}\r\n").encode() + body
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(item), item) for item in (body[:half], body[half:], b""))
    return head.format(path=path, key=key, length="Transfer-Encoding: chunked\r\n").encode() + chunks
