"""What goes over the connection itself: requests as real clients send them, byte by byte, and how answers end."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import Client, Serving, serving
from tests.api.wire import RUN, body_of, connected, echo, read_reply, sent, with_body

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
        assert [item.status for item in replies] == [200] * 5
        assert [item.json["data"]["outputs"]["q"] for item in replies[::2]] == ["one", "two", "three"]
        assert [item.json["name"] for item in replies[1::2]] == ["tiny"] * 2


async def test_a_tunnel_is_refused(server: Serving) -> None:
    for target in (b"example.com:443", b"/v1/info"):
        [reply] = await sent(server, [b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\n" % target], ["CONNECT"])
        assert 400 <= reply.status < 500
        assert reply.json["status"] == reply.status


async def test_a_body_after_an_offer_is_still_bounded(tmp_path: Path) -> None:
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


# ------------------------------------------------------------------------------------------------------------ HEAD


async def test_head_is_answered_without_a_body_wherever_get_is(server: Serving) -> None:
    """And the connection can be used on: nothing of a body is left in it."""
    app = await echo(server)
    run = (await app.run({"q": "hi"}))[1]["workflow_run_id"]
    paths = {
        "/v1/info": 200,
        "/v1/parameters": 200,
        f"/v1/workflows/run/{run}": 200,
        f"/v1/workflow/{run}/events?user=u1": 200,
        f"/api/v1/workflow-runs/{run}": 200,
        f"/api/v1/workflow-runs/{run}/events": 200,
        "/healthz": 200,
        "/openapi.json": 200,
        "/nothing": 404,
        RUN: 405,
    }
    head = "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    for path, status in paths.items():
        head_request = head.format(method="HEAD", path=path, key=app.key).encode()
        after = head.format(method="GET", path="/v1/info", key=app.key).encode()
        replies = await sent(server, [head_request, after], ["HEAD", "GET"])
        assert [item.status for item in replies] == [status, 200], path
        assert replies[1].json["name"] == "tiny"
    [reply] = await sent(server, [b"HEAD /v1/info HTTP/1.1\r\nHost: x\r\n\r\n"], ["HEAD"])
    assert reply.status == 401


async def test_what_scripts_of_web_pages_may_read(server: Serving) -> None:
    app = await echo(server)
    [reply] = await sent(server, [PLAIN.format(key=app.key).encode()], ["GET"])
    exposed = {item.strip() for item in reply.headers["access-control-expose-headers"].split(",")}
    assert {"X-Version", "X-Env", "X-Request-Id", "Retry-After", "ETag", "Content-Disposition"} <= exposed


# ------------------------------------------------------------------------------------------------------ packed bodies


async def posted(app: Client, body: bytes, encoding: str, path: str = RUN, **headers: str) -> tuple[int, Any]:
    sent = {"Content-Encoding": encoding, "Content-Type": "application/json", **headers}
    return await app.call("POST", path, data=body, headers=sent, skip_auto_headers=["Content-Encoding"])


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZip", "deflate", "identity"])
async def test_a_packed_body_is_unpacked(server: Serving, encoding: str) -> None:
    app = await echo(server)
    pack = {"deflate": zlib.compress, "identity": bytes}.get(encoding, gzip.compress)
    status, body = await posted(app, pack(body_of(q="packed")), encoding)
    assert (status, body["data"]["outputs"]) == (200, {"q": "packed"})


ZIPPED = gzip.compress(body_of(), mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", body_of(), 400),
        ("gzip", ZIPPED[:-9], 400),
        ("gzip", ZIPPED + b"more", 400),
        ("deflate", ZIPPED, 400),
        ("gzip", b"", 400),
        ("br", body_of(), 415),
        ("gzip, gzip", ZIPPED, 415),
    ],
)
async def test_a_body_that_is_not_what_its_encoding_says(
    server: Serving, encoding: str, body: bytes, status: int
) -> None:
    app = await echo(server)
    result, response = await posted(app, body, encoding)
    assert (result, response["status"]) == (status, status)


async def test_a_packed_body_is_as_large_as_what_it_holds(tmp_path: Path) -> None:
    bomb = gzip.compress(body_of() + b" " * 50_000_000)  # beforehand: an idle connection is closed after a while
    assert len(bomb) < 100_000
    async with serving(tmp_path, max_body=100_000) as small:
        app = await echo(small)
        status, _ = await posted(app, gzip.compress(body_of(q="x" * 40) + b" " * 90_000), "gzip")
        assert status == 200
        for encoding, packed in (("gzip", bomb), ("deflate", zlib.compress(b" " * 200_000))):
            status, response = await posted(app, packed, encoding)
            assert (status, response["code"]) == (413, "request_entity_too_large")


async def test_an_upload_may_be_packed_too(server: Serving) -> None:
    app = await echo(server)
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
    form += b"Content-Type: text/plain\r\n\r\nhello\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    status, body = await posted(app, gzip.compress(form), "gzip", "/v1/files/upload", **kind)
    assert (status, body["size"]) == (201, 5)


# ------------------------------------------------------------------------------------------------------------ slashes


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("//v1/info", 200, None),
        ("///v1/info?a=1", 200, None),
        ("/v1//info?a=//&b=%2F", 308, "/v1/info?a=//&b=%2F"),
        ("/v1////info", 308, "/v1/info"),
        ("//v1//info", 308, "/v1/info"),
        ("/v1", 308, "/v1/"),
        ("/v1/", 200, None),
        ("/v1/info/", 404, None),
        ("/v1//info/", 404, None),
        ("/v1//nothing", 404, None),
        ("//", 404, None),
        ("//evil.example//..", 404, None),
    ],
)
async def test_slashes_too_many_or_too_few(server: Serving, path: str, status: int, location: str | None) -> None:
    """As Werkzeug 3 answers them with Dify's routes."""
    app = await echo(server)
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {app.key}\r\n\r\n"
    [reply] = await sent(server, [request.encode()], ["GET"])
    assert (reply.status, reply.headers.get("location")) == (status, location)
    if status == 404:
        assert reply.json["code"] == "not_found"


async def test_a_post_keeps_its_body_over_a_redirect(server: Serving) -> None:
    app = await echo(server)
    headers = {"Authorization": f"Bearer {app.key}", "Content-Type": "application/json"}
    async with app.session.post(f"{app.url}/v1//workflows///run", data=body_of(q="kept"), headers=headers) as answer:
        assert (await answer.json())["data"]["outputs"] == {"q": "kept"}
        assert [item.status for item in answer.history] == [308]


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the kernel does not count segments")
async def test_the_head_of_a_response_leaves_with_its_body(server: Serving) -> None:
    app = await echo(server)
    info = f"Host: x\r\nAuthorization: Bearer {app.key}\r\n\r\n".encode()
    async with connected(server) as (reader, writer):
        connection: socket.socket = writer.get_extra_info("socket")
        for number, method in enumerate(("GET", "HEAD", "GET"), 1):
            writer.write(b"%b /v1/info HTTP/1.1\r\n%b" % (method.encode(), info))
            assert (await read_reply(reader, method)).status == 200
            assert _segments(connection) == number


def _segments(connection: socket.socket) -> int:
    """How many segments with data a socket has received: `tcpi_data_segs_in` of Linux's `struct tcp_info`."""
    return int.from_bytes(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 156)[152:], sys.byteorder)


async def test_the_index_says_which_api_this_is(server: Serving) -> None:
    [reply] = await sent(server, [b"GET /v1/ HTTP/1.1\r\nHost: x\r\n\r\n"], ["GET"])
    assert reply.json == {"welcome": "Dify OpenAPI", "api_version": "v1", "server_version": "1.12.1"}
