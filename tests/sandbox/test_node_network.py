"""JavaScript and the network: through the proxy of HEADRACE_CODE_EGRESS with Node.js 24, and else not at all."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from headrace.adapters.sandbox import LocalSandbox
from headrace.adapters.sandbox.egress_proxy import EgressProxy
from headrace.adapters.sandbox.node import NodePool
from headrace.adapters.sandbox.node_program import NETWORK, NodeProgram, NoNode, bundled, find_node, inspect
from headrace.errors import NodeError
from tests.sandbox import node_programs


def new_enough() -> NodeProgram:
    for find in (find_node, lambda: inspect(bundled() or "absent")):
        try:
            program = find()
        except (NoNode, OSError):
            continue
        if program.major >= NETWORK:
            return program
    pytest.skip(f"NOT TESTED: the network of JavaScript, because there is no Node.js {NETWORK} here")


class Web:
    """A server on loopback, and what came to it."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.read(65536)
        self.came.append(head.split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def web() -> AsyncIterator[Web]:
    new_web = Web()
    server = await asyncio.start_server(new_web.serve, "127.0.0.1", 0)
    new_web.port = server.sockets[0].getsockname()[1]
    yield new_web
    server.close()


def getting(module: str, url: str) -> str:
    return (
        f"async function main() {{ return {{r: await new Promise((done, fail) => require('{module}').get('{url}', "
        "(answer) => { let body = ''; answer.on('data', (d) => body += d).on('end', () => done(body)) })"
        ".on('error', fail))} }"
    )


def fetching(url: str) -> str:
    return f"async function main() {{ const a = await fetch('{url}'); return {{s: a.status, r: await a.text()}} }}"


async def test_it_goes_where_it_may_and_nowhere_else(web: Web) -> None:
    program = new_enough()
    here = f"http://localhost:{web.port}"
    egress = EgressProxy([f"localhost:{web.port}"], [f"localhost:{web.port}"])
    sandbox = LocalSandbox(egress=egress, node=NodePool(egress=egress, find=lambda: program))

    async def outcome(code: str) -> object:
        try:
            return await sandbox.run("javascript", code, {}, 20)
        except NodeError as error:
            return str(error)

    try:
        assert await outcome(fetching(f"{here}/a")) == {"s": 200, "r": "hello"}
        assert await outcome(getting("http", f"{here}/b")) == {"r": "hello"}
        assert web.came == [b"GET /a HTTP/1.1", b"GET /b HTTP/1.1"]
        refused = await outcome(fetching("http://10.1.2.3/"))
        assert "10.1.2.3" in json.dumps(refused) or "403" in json.dumps(refused)
        # a socket of its own leads to the proxy all the same, which takes no address from it
        raw = (
            "async function main() { return {r: await new Promise((done, fail) => { let text = ''; "
            f"require('net').connect({web.port}, '127.0.0.1', function () {{ this.write('GET / HTTP/1.1\\r\\n\\r\\n'); "
            "this.on('data', (d) => text += d).on('end', () => done(text)) }).on('error', fail) })} }"
        )
        assert "400 Bad Request" in str(await outcome(raw))
        for code in (
            "require('dgram').createSocket('udp4').on('error', fail).send('x', 53, '127.0.0.1', fail)",
            "require('net').createServer().on('error', fail).listen(0, () => done(1))",
            "require('net').connect('/run/x').on('error', fail).on('connect', () => done(1))",
        ):
            assert "EPERM" in str(
                await outcome(f"async function main() {{ return {{r: await new Promise((done, fail) => {code})}} }}")
            )
        assert len(web.came) == 2
        assert sandbox.missing("javascript", fetching(here)) is None
    finally:
        await sandbox.aclose()


async def test_an_older_node_says_that_the_network_needs_a_newer_one(web: Web) -> None:
    program = node_programs.any_program()
    if program.major >= NETWORK:
        pytest.skip(f"NOT TESTED: this Node.js, {program.version}, has the network")
    egress = EgressProxy(["*"], [f"localhost:{web.port}"])
    sandbox = LocalSandbox(egress=egress, node=NodePool(egress=egress, find=lambda: program))
    code = fetching(f"http://localhost:{web.port}/")
    try:
        with pytest.raises(NodeError, match=rf"(?s)fetch failed.*network, which needs Node\.js {NETWORK}; here is"):
            await sandbox.run("javascript", code, {}, 20)
        assert f"needs Node.js {NETWORK}" in (sandbox.missing("javascript", code) or "")
        assert web.came == []
    finally:
        await sandbox.aclose()


async def test_without_egress_the_error_says_what_to_set(web: Web) -> None:
    node_programs.any_program()
    sandbox = LocalSandbox()
    try:
        with pytest.raises(NodeError, match=r"(?s)fetch failed.*HEADRACE_CODE_EGRESS"):
            await sandbox.run("javascript", fetching(f"http://127.0.0.1:{web.port}/"), {}, 20)
        assert web.came == []
    finally:
        await sandbox.aclose()
