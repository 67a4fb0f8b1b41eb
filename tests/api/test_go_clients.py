"""Requests as Go's net/http writes them, byte by byte, and answers as its clients read them.

Of a request, net/http writes the line, Host, User-Agent, `Connection: close` if the request asks for it, the length of
the body, the caller's headers in the order of their names, and last what the transport adds: `Accept-Encoding: gzip`
where the caller has no such header, after which it unpacks an answer that says that it is packed. A body of unknown
length goes out in chunks, each of them flushed as the body's reader yields it; one that waits for `100 Continue` only
after that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from tests.api.serving import Client, Serving
from tests.api.wire import RUN, Reply, body_of, connected, echo, read_reply, sent

STREAM = "text/event-stream"


class GoClient(NamedTuple):
    """`headers` are what it sets besides the key, `newline` is what its JSON encoder ends a body with."""

    headers: Mapping[str, str]
    agent: str = "Go-http-client/1.1"
    newline: bytes = b""


CLIENTS = {
    "json.NewEncoder": GoClient({"Content-Type": "application/json"}, newline=b"\n"),
    "dify-sdk-go": GoClient({"Cache-Control": "no-cache", "Content-Type": "application/json; charset=utf-8"}),
    "go-resty v2": GoClient(
        {"Accept": "application/json", "Content-Type": "application/json"},
        "go-resty/2.16.5 (https://github.com/go-resty/resty)",
    ),
    "that reads events": GoClient({"Accept": STREAM, "Connection": "keep-alive", "Content-Type": "application/json"}),
}
PLAIN = CLIENTS["json.NewEncoder"]


def head(
    app: Client,
    client: GoClient = PLAIN,
    path: str = RUN,
    method: str = "POST",
    *,
    length: int | None = None,
    close: bool = False,
    **headers: str,
) -> bytes:
    """What comes before a body; one without a `length` is in chunks."""
    caller = {**client.headers, **headers, "Authorization": f"Bearer {app.key}"}
    lines = [f"{method} {path} HTTP/1.1", f"Host: {app.url.removeprefix('http://')}", f"User-Agent: {client.agent}"]
    lines += ["Connection: close"] if close else []
    if method == "POST":
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    lines += [f"{name}: {caller[name]}" for name in sorted(caller)]
    return "\r\n".join([*lines, "Accept-Encoding: gzip", "", ""]).encode()


def chunks(*writes: bytes) -> list[bytes]:
    return [b"%x\r\n%b\r\n" % (len(write), write) for write in writes] + [b"0\r\n\r\n"]


def halves(body: bytes) -> tuple[bytes, bytes]:
    return body[: len(body) // 2], body[len(body) // 2 :]


def plain(reply: Reply) -> Reply:
    """What net/http reads as it came: it is not packed."""
    assert "content-encoding" not in reply.headers, reply
    return reply


def events(reply: Reply) -> list[str]:
    """The events of a stream, as dify-sdk-go reads them: a line of any other kind it takes for an error."""
    assert reply.headers["content-type"].startswith(STREAM)
    lines = [line.strip() for line in reply.body.decode().split("\n")]
    lines = [line for line in lines if line and line != "event: ping"]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: "))["event"] for line in lines]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_run_is_read_and_the_connection_is_used_on(server: Serving, name: str, chunked: bool) -> None:
    app, client = await echo(server), CLIENTS[name]
    replies: list[Reply] = []
    async with connected(server) as (reader, writer):
        for mode in ("blocking", "streaming"):
            body = body_of(mode) + client.newline
            writer.write(head(app, client, length=None if chunked else len(body)))
            for piece in chunks(*halves(body)) if chunked else [body]:
                writer.write(piece)
                await writer.drain()
            replies.append(plain(await read_reply(reader)))
        writer.write(head(app, client, "/v1/info", "GET"))
        replies.append(plain(await read_reply(reader)))
    assert [reply.status for reply in replies] == [200, 200, 200]
    whole, stream, info = replies
    assert whole.json["data"]["outputs"] == {"q": "hi"}
    names = events(stream)
    assert (names[0], names[-1]) == ("workflow_started", "workflow_finished")
    assert info.json["name"] == "tiny"


@pytest.mark.parametrize("mode", ["blocking", "streaming"])
async def test_a_connection_that_is_not_to_be_kept_ends_with_the_answer(server: Serving, mode: str) -> None:
    app = await echo(server)
    async with connected(server) as (reader, writer):
        body = body_of(mode)
        writer.write(head(app, length=len(body), close=True) + body)
        reply = plain(await read_reply(reader))
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await reader.read() == b""


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(server: Serving) -> None:
    app = await echo(server)
    body = body_of()
    for pieces, length in (([body], len(body)), (chunks(*halves(body)), None)):
        async with connected(server) as (reader, writer):
            writer.write(head(app, length=length, Expect="100-continue"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            assert plain(await read_reply(reader)).json["data"]["outputs"] == {"q": "hi"}


async def test_a_body_that_waits_to_be_asked_for_is_not_where_the_request_is_refused(server: Serving) -> None:
    """net/http then leaves the connection; a client may also send the body all the same, and go on."""
    app = await echo(server)
    body = body_of()
    refused = head(app, length=len(body), Expect="100-continue").replace(app.key.encode(), b"app-wrong")
    async with connected(server) as (reader, writer):
        writer.write(refused)
        reply = plain(await read_reply(reader))
        assert (reply.status, reply.json["code"]) == (401, "unauthorized")
        writer.write(body + head(app, path="/v1/info", method="GET"))
        assert (await read_reply(reader, "GET")).status == 200


@pytest.mark.parametrize("length", [0, None], ids=["length", "chunks"])
async def test_a_post_without_a_body_is_refused_however_it_says_so(server: Serving, length: int | None) -> None:
    """dify-sdk-go reads every body before it sends it, so that net/http does not know that this one is empty."""
    app = await echo(server)
    client = CLIENTS["dify-sdk-go"]
    body = chunks() if length is None else []
    pieces = [head(app, client, length=length), *body, head(app, client, "/v1/info", "GET")]
    replies = await sent(server, pieces, ["POST", "GET"])
    assert [reply.status for reply in map(plain, replies)] == [400, 200]


async def test_an_upload_through_a_pipe_comes_in_a_chunk_for_each_write(server: Serving) -> None:
    app = await echo(server)
    boundary = "f0" * 30
    writes = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="user"\r\n\r\n'.encode(),
        b"u1",
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode(),
        b"hel",
        b"lo",
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    form = GoClient({"Content-Type": f"multipart/form-data; boundary={boundary}"})
    [reply] = await sent(server, [head(app, form, "/v1/files/upload"), *chunks(*writes)], ["POST"])
    assert (reply.status, plain(reply).json["size"], reply.json["name"]) == (201, 5, "a.txt")
