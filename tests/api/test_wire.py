"""What goes over the connection itself: requests as real clients send them, byte by byte, and how answers end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from tests.api.serving import Client, Serving, serving, workflow

# as Java's HttpClient sends it with every first request to a host; `curl --http2` does likewise
JAVA = (
    "POST {path} HTTP/1.1\r\n"
    "Connection: Upgrade, HTTP2-Settings\r\n"
    "{length}"
    "Host: 127.0.0.1\r\n"
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    "Upgrade: h2c\r\n"
    "User-Agent: Java-http-client/17.0.9\r\n"
    "Authorization: Bearer {key}\r\n"
    "Content-Type: application/json\r\n"
    "\r\n"
)
CURL = (
    "POST {path} HTTP/1.1\r\n"
    "Host: 127.0.0.1\r\n"
    "User-Agent: curl/7.88.1\r\n"
    "Accept: */*\r\n"
    "Connection: Upgrade, HTTP2-Settings\r\n"
    "Upgrade: h2c\r\n"
    "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    "Authorization: Bearer {key}\r\n"
    "Content-Type: application/json\r\n"
    "{length}"
    "\r\n"
)
PLAIN = "GET /v1/info HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
WEBSOCKET = (
    "GET /v1/info HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: keep-alive, Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
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
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
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


async def sent(server: Serving, pieces: Sequence[bytes], methods: Sequence[str]) -> list[Reply]:
    """The replies to what is sent piece by piece over one connection, which is left open: one for each method."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(20):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            return [await read_reply(reader, method) for method in methods]
    finally:
        writer.close()


async def echo(server: Serving) -> Client:
    variables = [{"variable": "q", "label": "q", "type": "text-input", "required": True}]
    return await server.add("echo.yml", workflow(variables=variables, outputs={"q": ["start", "q"]}))


def body_of(mode: str = "blocking", q: str = "hi") -> bytes:
    return json.dumps({"inputs": {"q": q}, "response_mode": mode, "user": "u1"}).encode()


def with_body(head: str, key: str, body: bytes, path: str = RUN, *, chunked: bool = False) -> bytes:
    if not chunked:
        return head.format(path=path, key=key, length=f"Content-Length: {len(body)}\r\n").encode() + body
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (body[:half], body[half:], b""))
    return head.format(path=path, key=key, length="Transfer-Encoding: chunked\r\n").encode() + chunks


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("head", [JAVA, CURL], ids=["java", "curl"])
async def test_an_offer_of_http2_is_passed_over_and_the_body_is_read(server: Serving, head: str, chunked: bool) -> None:
    app = await echo(server)
    for mode in ("blocking", "streaming"):
        request = with_body(head, app.key, body_of(mode), chunked=chunked)
        end = request.index(b"\r\n\r\n") + 4
        for at in (len(request), end, end - 1, end - 3, end + 1, len(request) - 1, 20):
            [reply] = await sent(server, [request[:at], request[at:]], ["POST"])
            assert reply.status == 200, reply
            assert "upgrade" not in reply.headers
            if mode == "blocking":
                assert reply.json["data"]["outputs"] == {"q": "hi"}
            else:
                assert b"workflow_finished" in reply.body


async def test_an_offer_is_passed_over_byte_by_byte(server: Serving) -> None:
    app = await echo(server)
    request = with_body(JAVA, app.key, body_of())
    [reply] = await sent(server, [request[at : at + 1] for at in range(len(request))], ["POST"])
    assert reply.json["data"]["outputs"] == {"q": "hi"}


async def test_requests_that_follow_an_offer_are_answered(server: Serving) -> None:
    """All in one piece, as a client that pipelines sends them; and one by one, as on a connection that is kept."""
    app = await echo(server)
    requests = [
        with_body(JAVA, app.key, body_of(q="one")),
        PLAIN.format(key=app.key).encode(),
        with_body(CURL, app.key, body_of(q="two"), chunked=True),
        WEBSOCKET.format(key=app.key).encode(),
        with_body(JAVA, app.key, body_of(q="three")),
    ]
    for pieces in ([b"".join(requests)], requests):
        replies = await sent(server, pieces, ["POST", "GET", "POST", "GET", "POST"])
        assert [each.status for each in replies] == [200] * 5
        assert [each.json["data"]["outputs"]["q"] for each in replies[::2]] == ["one", "two", "three"]
        assert [each.json["name"] for each in replies[1::2]] == ["tiny"] * 2


async def test_a_tunnel_is_refused(server: Serving) -> None:
    for target in (b"example.com:443", b"/v1/info"):
        [reply] = await sent(server, [b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\n" % target], ["CONNECT"])
        assert 400 <= reply.status < 500
        assert reply.json["status"] == reply.status


async def test_a_body_after_an_offer_is_still_bounded(tmp_path: Any) -> None:
    async with serving(tmp_path, max_body=1000) as small:
        app = await echo(small)
        [reply] = await sent(small, [with_body(JAVA, app.key, body_of(q="x" * 2000))], ["POST"])
        assert (reply.status, reply.json["code"]) == (413, "request_entity_too_large")


@pytest.mark.parametrize("mode", ["blocking", "streaming"])
async def test_http_1_0_gets_an_answer_without_chunks(server: Serving, mode: str) -> None:
    app = await echo(server)
    head = "POST {path} HTTP/1.0\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n{length}\r\n"
    [reply] = await sent(server, [with_body(head, app.key, body_of(mode))], ["POST"])
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in reply.headers
    if mode == "blocking":
        assert reply.json["data"]["outputs"] == {"q": "hi"}
    else:
        blocks = reply.body.split(b"\n\n")
        assert json.loads(blocks[0].removeprefix(b"data: "))["event"] == "workflow_started"
        assert json.loads(blocks[-2].removeprefix(b"data: "))["event"] == "workflow_finished"
        assert blocks[-1] == b""
