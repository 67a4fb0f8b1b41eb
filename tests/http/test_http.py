"""The HTTP client: what it sends, what it refuses, and what it does not put up with."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from headrace.adapters.http import HttpClient
from headrace.errors import NodeError
from headrace.ports.services import HttpRequest, Part
from tests.certificates import Authority
from tests.http.servers import echo, head_of, parsed, serve, speak


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient(["127.0.0.1"])
    yield client
    await client.aclose()


async def refused(client: HttpClient, request: HttpRequest) -> NodeError:
    with pytest.raises(NodeError) as caught:
        await client.send(request)
    return caught.value


# ------------------------------------------------------------------------------------------------------- sending


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method(http: HttpClient, method: str):
    async with serve({"/x": echo}) as base:
        answer = await http.send(HttpRequest(method, f"{base}/x?a=1"))
    assert answer.status == 200
    assert answer.url == f"{base}/x?a=1"
    if method == "HEAD":
        assert answer.body == b""
    else:
        assert parsed(answer.body)["method"] == method


async def test_what_is_sent_is_what_was_asked_and_little_else(http: HttpClient):
    async with serve({"/x": echo}) as base:
        answer = await http.send(HttpRequest("POST", f"{base}/x", [("X-A", "1"), ("x-b", "漢")], b"{}"))
    headers = parsed(answer.body)["headers"]
    assert isinstance(headers, dict)
    assert list(headers)[:6] == ["host", "accept", "accept-encoding", "user-agent", "x-a", "x-b"]
    assert headers.pop("host").startswith("127.0.0.1:")
    assert headers == {
        "x-a": "1",
        "x-b": "漢",
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "user-agent": "Headrace/0.1",
        "content-length": "2",
    }


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/a%2Fb?x=%2B&y=1+2&sign=a%3D%3D", "/a%2Fb?x=%2B&y=1+2&sign=a%3D%3D"),
        ("/ä b?q=漢 字#part", "/%C3%A4%20b?q=%E6%BC%A2%20%E5%AD%97"),
        ("?q=1", "/?q=1"),
        ("/100%?x=%zz", "/100%25?x=%25zz"),
        ('/a"<>b', "/a%22%3C%3Eb"),
    ],
)
async def test_a_url_arrives_as_it_was_written(http: HttpClient, url: str, target: str):
    async with serve({"/{path:.*}": echo}) as base:
        answer = await http.send(HttpRequest("GET", base + url))
    assert parsed(answer.body)["target"] == target


async def test_the_length_that_is_sent_is_the_bodys_own(http: HttpClient):
    async with serve({"/x": echo}) as base:
        answer = await http.send(
            HttpRequest("POST", f"{base}/x", [("Content-Length", "1"), ("Transfer-Encoding", "chunked")], b"abc")
        )
    assert parsed(answer.body)["body"] == "abc"


async def test_a_large_body_arrives_whole_also_on_a_connection_used_before(http: HttpClient):
    content = bytes(range(97, 123)) * 100_000
    async with serve({"/x": echo}) as base:
        for _ in range(3):
            answer = await http.send(HttpRequest("PUT", f"{base}/x", (), content))
            assert parsed(answer.body)["body"] == content.decode()


async def test_a_multipart_body(http: HttpClient):
    async def fields(request: web.Request) -> web.Response:
        received: list[object] = []
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            assert not isinstance(part, type(reader))
            received.append([part.name, part.filename, part.headers.get("Content-Type"), (await part.read()).decode()])
        return web.json_response(received)

    async with serve({"/x": fields}) as base:
        parts = [Part("a", "ä".encode()), Part('f"', b"GIF", 'b"\r\nX: y.gif', "image/gif"), Part("e", b"", "", "x/y")]
        answer = await http.send(HttpRequest("POST", f"{base}/x", [("content-type", "wrong")], parts=parts))
    assert answer.body == (
        b'[["a", null, null, "\\u00e4"], ["f%22", "b%22%0D%0AX: y.gif", "image/gif", "GIF"], ["e", "", "x/y", ""]]'
    )


async def test_credentials_in_the_url_become_a_header(http: HttpClient):
    async with serve({"/x": echo}) as base:
        answer = await http.send(HttpRequest("GET", f"{base}/x".replace("//", "//us%65r:p%40ss@")))
        assert parsed(answer.body)["headers"]["authorization"] == "Basic dXNlcjpwQHNz"  # type: ignore[index]
        assert "@" not in answer.url
        answer = await http.send(
            HttpRequest("GET", f"{base}/x".replace("//", "//user:pw@"), [("Authorization", "Bearer mine")])
        )
        assert parsed(answer.body)["headers"]["authorization"] == "Bearer mine"  # type: ignore[index]


async def test_a_hosts_name_may_be_spelled_differently(http: HttpClient):
    async with serve({"/x": echo}) as base:
        answer = await http.send(HttpRequest("GET", f"{base}/x", [("Host", "virtual.example")]))
    assert parsed(answer.body)["headers"]["host"] == "virtual.example"  # type: ignore[index]


@pytest.mark.parametrize("header", [("", "x"), ("a b", "x"), ("ä", "x"), ("X", "a\r\nY: b"), ("X", "a\x00")])
async def test_a_bad_header_is_named_and_not_sent(http: HttpClient, header: tuple[str, str]):
    error = await refused(http, HttpRequest("GET", "http://127.0.0.1:9/", [header]))
    assert error.kind == "HttpRequestNodeError"
    assert repr(header[0]) in str(error)


async def test_cookies_are_not_kept(http: HttpClient):
    async def bake(request: web.Request) -> web.Response:
        answer = web.json_response({"cookies": dict(request.cookies)})
        answer.set_cookie("a", "1")
        return answer

    async with serve({"/x": bake}) as base:
        for _ in range(2):
            answer = await http.send(HttpRequest("GET", f"{base}/x"))
            assert answer.body == b'{"cookies": {}}'


async def test_proxies_of_the_environment_are_not_heeded(http: HttpClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with serve({"/x": echo}) as base:
        assert (await http.send(HttpRequest("GET", f"{base}/x"))).status == 200


async def test_repeated_headers_of_an_answer_are_all_reported(http: HttpClient):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-L: caf\xe9\r\nContent-Length: 0\r\n\r\n"
        )

    async with speak(talk) as base:
        answer = await http.send(HttpRequest("GET", base))
    assert list(answer.headers) == [
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-L", "café"),
        ("Content-Length", "0"),
    ]


# -------------------------------------------------------------------------------------------------------- egress


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::1]:{port}/",
        "http://[::]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://0:{port}/",
        "http://localhost:{port}/",
        "http://LOCALHOST.:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://１２７.０.０.１:{port}/",
        "http://user@127.0.0.1:{port}/",
        "http://8.8.8.8@127.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[64:ff9b::7f00:1]:{port}/",
        "http://[2002:7f00:1::]:{port}/",
        "http://100.100.100.200/",
    ],
)
async def test_private_addresses_are_refused_however_they_are_spelt(url: str):
    reached = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()

    client = HttpClient()
    async with speak(talk) as base:
        error = await refused(client, HttpRequest("GET", url.format(port=base.rpartition(":")[2])))
    await client.aclose()
    assert error.kind == "EgressRefused"
    assert "HEADRACE_EGRESS_ALLOW" in str(error)
    assert not reached.is_set()


async def test_an_allowed_host_and_port_is_reached_and_its_neighbour_is_not():
    async with serve({"/x": echo}) as base, serve({"/x": echo}) as other:
        client = HttpClient([base.removeprefix("http://")])
        assert (await client.send(HttpRequest("GET", f"{base}/x"))).status == 200
        assert (await client.send(HttpRequest("GET", f"{base}/x".replace("127.0.0.1", "2130706433")))).status == 200
        assert (await refused(client, HttpRequest("GET", f"{other}/x"))).kind == "EgressRefused"
        await client.aclose()


async def test_a_name_that_resolves_inside_is_refused():
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with serve({"/x": echo}) as base:
        client = HttpClient(resolve=resolve)
        port = base.rpartition(":")[2]
        error = await refused(client, HttpRequest("GET", f"http://inside.example:{port}/x"))
        await client.aclose()
    assert error.kind == "EgressRefused"
    assert f"inside.example:{port}" in str(error)


async def test_a_name_that_changes_its_mind_gains_nothing():
    """The address that is checked is the one connected to: a second look-up would find another."""
    answers = iter([["192.0.2.1", "127.0.0.1"], ["127.0.0.1"]])
    requested: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        requested.append(host)
        return next(answers)

    async with serve({"/x": echo}) as base:
        port = int(base.rpartition(":")[2])
        client = HttpClient(["192.0.2.1"], resolve=resolve)
        error = await refused(client, HttpRequest("GET", f"http://rebind.example:{port}/x", connect_timeout=0.2))
        assert error.kind == "HttpRequestNodeError"  # 192.0.2.1 was tried, and it alone
        assert requested == ["rebind.example"]
        await client.aclose()
        client = HttpClient(["192.0.2.1"], resolve=resolve)
        assert (await refused(client, HttpRequest("GET", f"http://rebind.example:{port}/x"))).kind == "EgressRefused"
        await client.aclose()


async def test_a_name_without_addresses(http: HttpClient):
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    client = HttpClient(resolve=resolve)
    error = await refused(client, HttpRequest("GET", "http://nowhere.example/"))
    await client.aclose()
    assert (error.kind, str(error)) == ("HttpRequestNodeError", "[Errno -2] Name or service not known")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://h/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://h:99999/",
        "http://h:x/",
        "http://[::1/",
        "http://1.2.3.4.5/",
        "http://99999999999/",
        "http://h/\r\nX: y",
        "http://h\x00/",
        "gopher://127.0.0.1/",
    ],
)
async def test_what_is_no_url_to_request(http: HttpClient, url: str):
    assert (await refused(http, HttpRequest("GET", url))).kind == "InvalidURLError"


# ----------------------------------------------------------------------------------------------------- redirects


def redirect(status: int, location: str):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": location}, text="moved")

    return answer


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (302, "PUT", "PUT", "abc"),
        (307, "POST", "POST", "abc"),
        (308, "POST", "POST", "abc"),
        (302, "GET", "GET", "abc"),
    ],
)
async def test_redirects_are_followed_as_browsers_do(http: HttpClient, status: int, method: str, then: str, body: str):
    async with serve({"/a": redirect(status, "b?c=1"), "/b": echo}) as base:
        answer = await http.send(HttpRequest(method, f"{base}/a", [("Content-Type", "text/plain")], b"abc"))
    received = parsed(answer.body)
    assert (received["method"], received["body"], received["target"]) == (then, body, "/b?c=1")
    assert ("content-type" in received["headers"]) == bool(body)  # type: ignore[operator]
    assert answer.url == f"{base}/b?c=1"


async def test_a_redirect_may_be_left_alone(http: HttpClient):
    async with serve({"/a": redirect(302, "/b")}) as base:
        answer = await http.send(HttpRequest("GET", f"{base}/a", follow_redirects=False))
    assert (answer.status, answer.body) == (302, b"moved")


async def test_a_status_of_a_redirect_without_a_location_is_an_answer(http: HttpClient):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=304)

    async with serve({"/a": answer}) as base:
        assert (await http.send(HttpRequest("GET", f"{base}/a"))).status == 304


@pytest.mark.parametrize("location", ["http://127.0.0.2:1/x", "//localhost:1/", "http://169.254.169.254/"])
async def test_a_redirect_to_a_private_address_is_refused(location: str):
    async with serve({"/a": redirect(302, location)}) as base:
        client = HttpClient([base.removeprefix("http://")])
        assert (await refused(client, HttpRequest("GET", f"{base}/a"))).kind == "EgressRefused"
        await client.aclose()


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://h/", "javascript:1", "http://[", "//a]b/"])
async def test_a_redirect_to_what_is_no_url_to_request(http: HttpClient, location: str):
    async with serve({"/a": redirect(302, location)}) as base:
        assert (await refused(http, HttpRequest("GET", f"{base}/a"))).kind == "InvalidURLError"


async def test_credentials_stay_with_their_origin(http: HttpClient):
    secrets = [
        ("Authorization", "Bearer s"),
        ("Cookie", "s"),
        ("X-API-Key", "s"),
        ("apikey", "s"),
        ("X-Auth-Token", "s"),
    ]
    async with (
        serve({"/b": echo}) as other,
        serve({"/a": redirect(307, f"{other}/b"), "/c": redirect(307, "/d"), "/d": echo}) as base,
    ):
        headers = [*secrets, ("X-Other", "kept"), ("Host", "virtual.example")]
        away = parsed((await http.send(HttpRequest("GET", f"{base}/a", headers))).body)["headers"]
        home = parsed((await http.send(HttpRequest("GET", f"{base}/c", headers))).body)["headers"]
    assert isinstance(away, dict)
    assert isinstance(home, dict)
    for name, _ in secrets:
        assert name.lower() not in away
        assert name.lower() in home
    assert (away["x-other"], away["host"]) == ("kept", other.removeprefix("http://"))


async def test_a_url_that_readers_take_for_different_hosts_is_none(http: HttpClient):
    """Before the backslash is home, behind it is another host: nobody gets the credentials."""
    async with serve({"/{path:.*}": echo}) as other, serve({"/b": echo}) as base:
        tricky = f"{base}\\@{other.removeprefix('http://')}/b"
        async with serve({"/a": redirect(302, tricky)}) as first:
            for url in (tricky, f"{first}/a"):
                error = await refused(http, HttpRequest("GET", url, [("Authorization", "Bearer s")]))
                assert error.kind == "InvalidURLError"


async def test_a_circle_of_redirects_ends(http: HttpClient):
    async with serve({"/a": redirect(302, "/a")}) as base:
        error = await refused(http, HttpRequest("GET", f"{base}/a"))
    assert "More than 10 redirects" in str(error)


# --------------------------------------------------------------------------------------------- sizes, time, errors


@pytest.mark.parametrize("length", ["Content-Length: 5000000", "Transfer-Encoding: chunked", "Connection: close"])
async def test_an_answer_that_is_too_large_is_cut_off(http: HttpClient, length: str):
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        try:
            while True:
                writer.write(b"2710\r\n%s\r\n" % (b"x" * 10_000) if "chunked" in length else b"x" * 10_000)
                await writer.drain()
        except ConnectionError:
            closed.set()
            raise

    async with speak(talk) as base:
        error = await refused(http, HttpRequest("GET", base, max_size=100_000))
        async with asyncio.timeout(60):
            await closed.wait()
    assert error.kind == "ResponseSizeError"
    assert "max size is 0.10 MB" in str(error)


async def test_a_packed_answer_is_unpacked_as_far_as_the_limit_goes(http: HttpClient):
    async def packed(request: web.Request) -> web.Response:
        size = int(request.query["size"])
        return web.Response(body=gzip.compress(b"0" * size), headers={"Content-Encoding": "gzip"})

    async with serve({"/x": packed}) as base:
        answer = await http.send(HttpRequest("GET", f"{base}/x?size=100000", max_size=100_000))
        assert answer.body == b"0" * 100_000
        assert dict(answer.headers)["Content-Encoding"] == "gzip"
        error = await refused(http, HttpRequest("GET", f"{base}/x?size=50000000", max_size=100_000))
    assert error.kind == "ResponseSizeError"


async def test_an_answer_to_head_may_tell_of_any_size(http: HttpClient):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n")

    async with speak(talk) as base:
        answer = await http.send(HttpRequest("HEAD", base, max_size=10))
    assert (answer.status, answer.body) == (200, b"")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    await reader.read()


async def test_a_server_that_says_nothing_times_out(http: HttpClient):
    async with speak(silent) as base:
        error = await refused(http, HttpRequest("GET", base, read_timeout=0.05))
    assert error.kind == "HttpRequestNodeError"
    assert re.fullmatch(r"timed out: 127\.0\.0\.1:\d+ sent nothing for 0\.05 s", str(error))


async def test_a_server_that_stops_in_the_middle_times_out(http: HttpClient):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await reader.read()

    async with speak(talk) as base:
        error = await refused(http, HttpRequest("GET", base, read_timeout=0.05))
    assert "timed out" in str(error)


async def test_a_slow_answer_that_keeps_coming_does_not_time_out(http: HttpClient):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 14000\r\n\r\n")
        for _ in range(14):
            await asyncio.sleep(0.25)
            writer.write(b"x" * 1000)

    async with speak(talk) as base:
        assert (await http.send(HttpRequest("GET", base, read_timeout=3))).body == b"x" * 14000


@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_that_drips_is_not_waited_for_longer_than_the_time_out(http: HttpClient, packed: bool):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        encoding = b"Content-Encoding: gzip\r\n" if packed else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n" + encoding + b"\r\n")
        whole = gzip.compress(b"x" * 5000, 0) if packed else b"x" * 5000
        for byte in whole:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    async with speak(talk) as base:
        since = asyncio.get_running_loop().time()
        error = await refused(http, HttpRequest("GET", base, read_timeout=0.3))
        took = asyncio.get_running_loop().time() - since
    assert error.kind == "HttpRequestNodeError"
    assert "timed out" in str(error)
    assert took < 60, "it would have taken a hundred seconds"
    if not packed:
        assert re.search(r"sent its response too slowly, for longer than 0\.3 s", str(error))


async def test_a_server_that_sips_the_request_is_not_waited_for(http: HttpClient):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2000):
            await reader.read(1024)
            await asyncio.sleep(0.05)

    async with speak(talk) as base:
        error = await refused(
            http, HttpRequest("POST", base, (), b"x" * 30_000_000, write_timeout=0.3, read_timeout=30)
        )
    assert "timed out" in str(error)


async def test_a_server_that_takes_nothing_times_out(http: HttpClient):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        await asyncio.sleep(10)

    async with speak(talk) as base:
        error = await refused(
            http, HttpRequest("POST", base, (), b"x" * 30_000_000, write_timeout=0.1, read_timeout=30)
        )
    assert "accepted nothing of the request for 0.1 s" in str(error)


async def test_a_host_that_cannot_be_reached_times_out():
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(10)
        return []

    client = HttpClient(resolve=resolve)
    error = await refused(client, HttpRequest("GET", "http://slow.example/", connect_timeout=0.05))
    await client.aclose()
    assert str(error) == "timed out: no connection to slow.example:80 within 0.05 s"


async def test_a_refused_connection_says_so(http: HttpClient):
    with socket.socket() as reservation:
        reservation.bind(("127.0.0.1", 0))
        error = await refused(http, HttpRequest("GET", f"http://127.0.0.1:{reservation.getsockname()[1]}/none"))
    assert (error.kind, str(error)) == ("HttpRequestNodeError", "[Errno 111] Connection refused")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "Server disconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "ended before it was complete"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "decompressed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", "not valid HTTP"),
    ],
)
async def test_a_broken_answer_is_an_error_in_words(http: HttpClient, said: bytes, words: str):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(said)
        await writer.drain()

    async with speak(talk) as base:
        error = await refused(http, HttpRequest("POST", base))
    assert error.kind == "HttpRequestNodeError"
    assert words in str(error)


async def test_cancelling_closes_the_connection(http: HttpClient):
    requested, gone = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        requested.set()
        await reader.read()
        gone.set()

    async with speak(talk) as base:
        task = asyncio.create_task(http.send(HttpRequest("GET", base)))
        await requested.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(60):
            await gone.wait()


async def test_two_hundred_slow_requests_wait_together(http: HttpClient):
    all_here = asyncio.Barrier(200)

    async def slow(request: web.Request) -> web.Response:
        await all_here.wait()  # nobody is answered before everybody asked
        return web.Response(text=request.query["n"])

    async with serve({"/slow": slow}) as base, asyncio.timeout(60):
        answers = await asyncio.gather(*(http.send(HttpRequest("GET", f"{base}/slow?n={n}")) for n in range(200)))
    assert [int(answer.body) for answer in answers] == list(range(200))


@pytest.fixture
def certified(tmp_path: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that nobody vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Authority(tmp_path).issue("server").both)
    return context


async def test_a_certificate_nobody_vouches_for_is_refused_unless_configured_otherwise(
    http: HttpClient, certified: ssl.SSLContext
):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=certified)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert "CERTIFICATE_VERIFY_FAILED" in str(await refused(http, HttpRequest("GET", url)))
    assert (await http.send(HttpRequest("GET", url, verify=False))).body == b"ok"
    assert "CERTIFICATE_VERIFY_FAILED" in str(await refused(http, HttpRequest("GET", url)))
    server.close()


def test_the_client_costs_nothing_until_it_is_used():
    code = (
        "import sys; from headrace.adapters.http import HttpClient; HttpClient(); assert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
