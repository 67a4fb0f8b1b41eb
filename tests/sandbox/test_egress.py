"""The network of Python code: HTTP to what the operator lists, and nothing else."""

import asyncio
import re
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.adapters.sandbox import EgressProxy, LocalSandbox, Packages
from headrace.errors import HeadraceError, NodeError
from tests.closing import read_to_close
from tests.deploy.worlds import Authority
from tests.processes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIBRARIES = ("httpx", "aiohttp")


@dataclass
class Web:
    """A server over HTTP and one over HTTPS, and what came to them."""

    plain: int = 0
    secure: int = 0
    heads: list[str] = field(default_factory=list[str])
    open: int = 0


@asynccontextmanager
async def served(authority: Authority) -> AsyncIterator[Web]:
    web = Web()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        web.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            web.heads.append(head)
            if "/slow" in head:
                await reader.read()  # until the other side has gone
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            web.open -= 1
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as plain,
        await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as secure,
    ):
        web.plain = plain.sockets[0].getsockname()[1]
        web.secure = secure.sockets[0].getsockname()[1]
        yield web


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(authority: Authority) -> AsyncIterator[Web]:
    async with served(authority) as web:
        yield web


def installed(folder: Path) -> Packages:
    """The libraries that are here for the tests, as the environment of a requirements file."""
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(LIBRARIES))
    packages = Packages(requirements, folder)
    here = {distribution.name.lower() for distribution in metadata.distributions()}
    waiting, known = list(LIBRARIES), set[str]()
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = packages.folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
        for line in distribution.requires or ():
            required = re.match(r"[\w.-]+", line)
            if required and "extra ==" not in line and required[0].lower() in here:
                waiting.append(required[0].lower())
    return packages


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connected(
    web: Web, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalSandbox]:
    hosts = [f"localhost:{web.plain}", f"localhost:{web.secure}", "127.0.0.1"]
    allow = [f"localhost:{web.plain}", f"localhost:{web.secure}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority.file))
        sandbox = LocalSandbox(
            egress=EgressProxy([*hosts, "10.1.2.3", "mail.localhost"], allow),
            packages=installed(tmp_path_factory.mktemp("packages")),
        )
        await sandbox.start()
        await sandbox.run("python3", "import httpx\ndef main():\n    return {}\n", {}, 30)
    yield sandbox
    await sandbox.aclose()


CLIENTS = {
    "urllib": "import urllib.request\ndef get(url):\n    return urllib.request.urlopen(url).read().decode()",
    "http.client": (
        "import http.client, urllib.parse\n"
        "def get(url):\n"
        "    parts = urllib.parse.urlsplit(url)\n"
        "    kind = http.client.HTTPSConnection if parts.scheme == 'https' else http.client.HTTPConnection\n"
        "    connection = kind(parts.hostname, parts.port)\n"
        "    connection.request('GET', parts.path)\n"
        "    return connection.getresponse().read().decode()"
    ),
    "httpx": "import httpx, os\ndef get(url):\n    return httpx.get(url).text",
    "httpx, not blocking": (
        "import asyncio, httpx\n"
        "async def go(url):\n"
        "    async with httpx.AsyncClient() as client:\n"
        "        return (await client.get(url)).text\n"
        "def get(url):\n"
        "    return asyncio.run(go(url))"
    ),
    "aiohttp": (
        "import asyncio, aiohttp\n"
        "async def go(url):\n"
        "    async with aiohttp.ClientSession() as session, session.get(url) as response:\n"
        "        return await response.text()\n"
        "def get(url):\n"
        "    return asyncio.run(go(url))"
    ),
}
MAIN = "\ndef main(url):\n    return {'r': get(url)}\n"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_libraries_reach_what_is_listed(connected: LocalSandbox, web: Web, client: str, scheme: str) -> None:
    port = web.plain if scheme == "http" else web.secure
    url = f"{scheme}://localhost:{port}/path"
    web.heads.clear()
    assert await connected.run("python3", CLIENTS[client] + MAIN, {"url": url}, 20) == {"r": "hello"}
    (head,) = web.heads
    assert head.startswith("GET /path HTTP/1.1\r\n")
    assert f"host: localhost:{port}" in head.lower()
    assert "proxy-" not in head.lower()


REFUSED = {
    "a host that is not listed": ("http://example.org/", "add it to HEADRACE_CODE_EGRESS"),
    "the same over TLS": ("https://example.org/", "403"),
    "a listed host at a private address": ("http://10.1.2.3/", "add 10.1.2.3:80 to HEADRACE_EGRESS_ALLOW"),
    "the cloud's metadata": ("http://169.254.169.254/latest/", "HEADRACE_CODE_EGRESS"),
    "the service itself": ("http://127.0.0.1:8040/", "HEADRACE_EGRESS_ALLOW"),
    "an address in disguise": ("http://0x7f000001:1/", "HEADRACE_EGRESS_ALLOW"),
    "the same, not listed": ("http://0xa9fea9fe/", "HEADRACE_CODE_EGRESS"),
}
READ = (
    "import urllib.request, urllib.error\n"
    "def get(url):\n"
    "    try:\n"
    "        return urllib.request.urlopen(url).read().decode()\n"
    "    except urllib.error.HTTPError as error:\n"
    "        return f'{error.code} {error.read().decode()}'\n"
    "    except OSError as error:\n"
    "        return str(error)\n"
)


@pytest.mark.parametrize("attack", REFUSED)
async def test_others_are_refused_with_what_to_set(connected: LocalSandbox, attack: str) -> None:
    url, why = REFUSED[attack]
    answer = (await connected.run("python3", READ + MAIN, {"url": url}, 20))["r"]
    assert "403" in answer
    assert why in answer


async def test_a_certificate_for_another_name_is_the_clients_error(connected: LocalSandbox, web: Web) -> None:
    code = READ + "\ndef main(url):\n    return {'r': get(url)}\n"
    url = f"https://wrong.localhost:{web.secure}/"
    sandbox = LocalSandbox(egress=EgressProxy([f"wrong.localhost:{web.secure}"], [f"wrong.localhost:{web.secure}"]))
    try:
        assert "CERTIFICATE_VERIFY_FAILED" in (await sandbox.run("python3", code, {"url": url}, 20))["r"]
    finally:
        await sandbox.aclose()


ATTACKS = {
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a unix socket": "socket.socket(socket.AF_UNIX)",
    "netlink": "socket.socket(16, 3, 0)",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "an address to listen at": "socket.socket().bind(('127.0.0.1', 0))",
    "listening": "socket.socket().listen()",
    "data with the first packet": "socket.socket().sendto(b'x', 0x20000000, ('127.0.0.1', port))",
    "a message with the first packet": "socket.socket().sendmsg([b'x'], [], 0x20000000, ('127.0.0.1', port))",
    "a name server": "socket.getaddrinfo('example.com', 80)",
    "mail": "__import__('smtplib').SMTP('mail.localhost', 25)",
    "a file": "open(path).read()",
    "a program": "__import__('subprocess').run(['id'])",
    "executable memory": "__import__('mmap').mmap(-1, 4096, prot=7)",
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_there_is_nothing_but_http(connected: LocalSandbox, web: Web, secrets: Path, attack: str) -> None:
    web.heads.clear()
    code = f"import socket\ndef main(port, path):\n    return {{'got': str({ATTACKS[attack]})}}\n"
    with pytest.raises(NodeError):
        await connected.run("python3", code, {"port": web.plain, "path": str(secrets)}, 20)
    assert web.heads == []


async def test_a_socket_leads_to_the_proxy_wherever_it_is_connected_to(connected: LocalSandbox, web: Web) -> None:
    code = (
        "import socket\ndef main(port):\n    with socket.create_connection(('127.0.0.1', port)) as s:\n        pass\n"
    )
    with pytest.raises(NodeError, match=r"HEADRACE_EGRESS_ALLOW|only use HTTP"):
        await connected.run("python3", code, {"port": 1}, 20)
    raw = (
        "import socket\n"
        "def main(port):\n"
        "    s = socket.socket()\n"
        "    s.connect(('127.0.0.1', port))\n"
        "    s.sendall(b'EHLO me\\r\\n\\r\\n')\n"
        "    return {'r': s.recv(1000).decode()}\n"
    )
    answer = (await connected.run("python3", raw, {"port": web.plain}, 20))["r"]
    assert answer.startswith("HTTP/1.1 400 ")


async def test_the_proxy_is_closed_to_everybody_else(web: Web) -> None:
    proxy = EgressProxy(["*"], ["*"])
    host, port, _ = await proxy.start()
    try:
        for token in (b"", b"x" * 16):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(token + f"GET http://localhost:{web.plain}/ HTTP/1.1\r\n\r\n".encode())
            assert await read_to_close(reader) == b""
            writer.close()
    finally:
        await proxy.aclose()


async def test_a_program_that_ends_leaves_no_connection(connected: LocalSandbox, web: Web) -> None:
    code = READ + "\ndef main(url):\n    get(url)\n    return {}\n"
    with pytest.raises(NodeError, match="ran longer"):
        await connected.run("python3", code, {"url": f"http://localhost:{web.plain}/slow"}, 0.5)
    await eventually(lambda: web.open == 0)


@pytest.mark.parametrize("entry", ["ho st", "host:0", "10.0.0.0/99", "a/b"])
async def test_an_entry_that_is_not_valid_names_the_setting(entry: str) -> None:
    with pytest.raises(HeadraceError, match="HEADRACE_CODE_EGRESS"):
        EgressProxy([entry])


async def test_a_program_that_had_an_effect_does_not_run_again(connected: LocalSandbox, web: Web) -> None:
    """Where the process that others are forked from is killed, a program may have called somebody already."""
    web.heads.clear()
    url = f"http://localhost:{web.plain}/slow"
    call = asyncio.create_task(connected.run("python3", READ + MAIN, {"url": url}, 20))
    await eventually(lambda: len(web.heads) == 1)
    zygote = connected._plain._zygote
    assert zygote is not None
    zygote.process.kill()
    with pytest.raises(NodeError, match="ended without an answer"):
        await call
    assert len(web.heads) == 1
    assert await connected.run("python3", "def main():\n    return {'r': 1}\n", {}, 20) == {"r": 1}


# ---------------------------------------------------------------------------------------------------------------- lint


LINT: dict[str, tuple[str, str | None, str | None]] = {  # what is imported; what is said of it without and with egress
    "urllib.request": ("import urllib.request", "'urllib.request'", None),
    "from urllib": ("from urllib import request", "'urllib.request'", None),
    "urllib.parse": ("from urllib.parse import quote", None, None),
    "http.client": ("import http.client as h", "'http.client'", None),
    "http.HTTPStatus": ("from http import HTTPStatus", None, None),
    "socket": ("import socket", "'socket'", None),
    "smtplib": ("import smtplib", "'smtplib'", "'smtplib'"),
    "ftplib, tried": ("try:\n    import ftplib\nexcept ImportError:\n    pass", "'ftplib'", "'ftplib'"),
    "inside": ("def f():\n    import imaplib, poplib", "'imaplib' and 'poplib'", "'imaplib' and 'poplib'"),
    "json": ("import json", None, None),
}


@pytest.mark.parametrize("name", LINT)
async def test_lint_names_what_needs_a_network(name: str) -> None:
    code, without, with_egress = LINT[name]
    problem = LocalSandbox().missing("python3", code)
    assert (problem is None) == (without is None)
    if without is not None:
        assert problem is not None
        assert f"imports {without} for the network" in problem
        assert "HEADRACE_CODE_EGRESS" in problem
    connected = LocalSandbox(egress=EgressProxy(["*"])).missing("python3", code)
    assert (connected is None) == (with_egress is None)
    if with_egress is not None:
        assert connected is not None
        assert f"imports {with_egress}, but" in connected
