"""A model server over loopback: it says what a test scripts, byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest

from headrace.adapters.models import ModelClient
from headrace.errors import NodeError
from headrace.ports.services import ChatChunk, ChatRequest, Message


@dataclass
class ReceivedRequest:
    """One request as the server saw it, and the way to answer it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    gone: asyncio.Event
    """Set once the client has closed the connection."""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, **headers: str) -> None:
        """The head of a chunked answer; names with underscores."""
        headers_sent = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers_sent.items())
        await self.send(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def stream(self, *events: Any, done: bool = True) -> None:
        """A whole good answer of these events."""
        await self.head()
        for event in events:
            await self.chunk(sse(event))
        if done:
            await self.chunk(b"data: [DONE]\n\n")
        await self.chunk(b"")

    async def refuse(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers_sent = {"Content-Type": "application/json", "Content-Length": str(len(data))} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers_sent.items())
        await self.send(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + data)


def sse(event: Any) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def piece(text: str | None = None, *, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """An event of a chat stream."""
    received = delta if text is None else {"content": text, **delta}
    return {"id": "1", "choices": [{"index": 0, "delta": received, "finish_reason": finish}]}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


Script = Callable[[ReceivedRequest], Awaitable[None]]


@dataclass
class ModelServer:
    """Answers the first request by the first script, and so on; the last script answers all that follow."""

    scripts: list[Script] = field(default_factory=list)
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    def answer(self, *scripts: Script) -> None:
        self.scripts = list(scripts)

    def say(self, *events: Any) -> None:
        self.answer(lambda request: request.stream(*events))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        gone = asyncio.Event()
        next_byte = asyncio.ensure_future(reader.read(1))
        try:
            while first := await next_byte:
                line = first + await reader.readline()
                head = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                headers = {name.lower(): value for name, value in (item.split(": ", 1) for item in head)}
                sent = await reader.readexactly(int(headers["content-length"]))
                body = json.loads(sent) if sent.startswith(b"{") else dict(parse_qsl(sent.decode()))
                request = ReceivedRequest(line.split()[1].decode(), headers, body, writer, gone)
                self.requests.append(request)
                script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
                answering = asyncio.ensure_future(script(request))
                next_byte = asyncio.ensure_future(reader.read(1))
                await asyncio.wait([answering, next_byte], return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():  # the client hung up
                    answering.cancel()
                    return
                await answering
                if writer.is_closing():
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            gone.set()
            next_byte.cancel()
            writer.close()


def ask(text: str = "hello", **more: Any) -> ChatRequest:
    return ChatRequest(**{"provider": "openai", "model": "m", "messages": [Message("user", text)]} | more)


async def hear(client: ModelClient, request: ChatRequest) -> list[ChatChunk]:
    return [chunk async for chunk in client.chat(request)]


def text_of(chunks: list[ChatChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


GOOD = (piece("Hel"), piece("lo"), piece(finish="stop"), usage(5, 2))


async def good(request: ReceivedRequest) -> None:
    await request.stream(*GOOD)


async def failure(client: ModelClient, **more: object) -> NodeError:
    with pytest.raises(NodeError) as raised:
        await hear(client, ask(**more))
    return raised.value
