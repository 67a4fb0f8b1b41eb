"""Requests of which only the status counts."""

from __future__ import annotations

import asyncio

import pytest

from headrace.adapters import http_session
from headrace.adapters.http import HttpClient
from headrace.ports.services import HttpRequest, HttpResponse
from tests.http.servers import head_of, speak


async def fetch(url: str) -> HttpResponse:
    client = HttpClient(["127.0.0.1"])
    try:
        return await client.send(HttpRequest("POST", url, content=b"{}", max_size=10, cut_off=True))
    finally:
        await client.aclose()


async def answered(*pieces: bytes, stays: bool = False) -> HttpResponse:
    """What a request makes of a server that says these pieces, and then leaves or just stays."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if stays:
            await reader.read()

    async with speak(talk) as url:
        return await fetch(url)


async def test_a_small_body_is_read():
    answer = await answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", stays=True)
    assert (answer.status, answer.body) == (200, b"ok")


@pytest.mark.parametrize("length", [b"Content-Length: 1000000\r\n", b"Connection: close\r\n"])
async def test_a_large_one_is_cut_off(length: bytes):
    answer = await answered(b"HTTP/1.1 201 Created\r\n" + length + b"\r\n", b"0123456789abcdef" * 100, stays=True)
    assert (answer.status, answer.body) == (201, b"0123456789")


async def test_one_that_breaks_off_is_as_long_as_it_came():
    answer = await answered(b"HTTP/1.1 202 Accepted\r\nContent-Length: 8\r\n\r\n", b"half")
    assert (answer.status, answer.body) == (202, b"half")


async def test_one_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_session, "_SOON", 0.05)
    answer = await answered(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", stays=True)
    assert (answer.status, answer.body) == (200, b"")
