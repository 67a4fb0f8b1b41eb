"""What a Headrace process is put into: a peer that its runs wait for, certificates, callers."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cli.flows import Server, field, flow

# ------------------------------------------------------------------------------------------------------------- runs


class Gate:
    """An HTTP server that answers once it is opened. `asked` counts who came to it, `bodies` is what they brought."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.request_count = 0
        self.bodies: list[bytes] = []
        self._came = asyncio.Event()
        self.url = ""

    async def reached_by(self, many: int) -> None:
        async with asyncio.timeout(60):
            while self.request_count < many:
                self._came.clear()
                await self._came.wait()

    async def body_where(self, which: Callable[[bytes], bool]) -> bytes:
        """The first body of a kind, once it is there."""
        async with asyncio.timeout(60):
            while not (matches := [body for body in self.bodies if which(body)]):
                self._came.clear()
                await self._came.wait()
            return matches[0]

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.request_count += 1
        self._came.set()
        await self.open.wait()
        return web.Response(text="through")


@asynccontextmanager
async def gate() -> AsyncGenerator[Gate]:
    new_gate = Gate()
    app = web.Application()
    app.router.add_route("*", "/", new_gate.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    new_gate.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield new_gate
    finally:
        new_gate.open.set()
        await runner.cleanup()


def waiting_flow(path: Path, url: str) -> Path:
    """A workflow whose only work is to ask the gate; its output is `text`."""
    call = {
        "id": "ask",
        "type": "http-request",
        "title": "Ask",
        "method": "get",
        "url": url,
        "headers": "",
        "params": "",
        "authorization": {"type": "no-auth"},
        "body": {"type": "none", "data": []},
    }
    return flow(path, call, variables=[field("query")], outputs={"text": ("ask", "body")})


# ---------------------------------------------------------------------------------------------------------- callers


class Caller:
    """Calls a server with the key of its only app."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, url: str = "", **how: Any) -> None:
        self.session = session
        self.url = url or server.url
        (self.app,) = server.ready["apps"]
        self.headers = {"Authorization": f"Bearer {self.app['key']}"}
        self._how = how

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any, Mapping[str, str]]:
        """(status, JSON, headers)."""
        headers = {**self.headers, **more.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **self._how, **more) as answer:
            return answer.status, await answer.json(), answer.headers

    async def run(self, mode: str = "blocking") -> tuple[int, Any, Mapping[str, str]]:
        body = {"inputs": {"query": "hi"}, "response_mode": mode, "user": "u"}
        return await self.call("POST", "/v1/workflows/run", json=body)

    async def submit(self) -> str:
        """The id of a run that is queued, and followed by nobody."""
        path = f"/api/v1/workflows/{self.app['app_id']}/run"
        status, received, _ = await self.call("POST", path, json={"inputs": {"query": "hi"}, "user": "u"})
        assert status == 202, received
        return received["workflow_run_id"]

    async def ended(self, run: str) -> Mapping[str, Any]:
        """A run, once it has ended."""
        async with asyncio.timeout(60):
            while True:
                _, received, _ = await self.call("GET", f"/api/v1/workflow-runs/{run}?wait=10")
                if received["status"] not in ("queued", "running"):
                    return received


async def end(server: Server, *signals: signal.Signals) -> int:
    """Waits for a process's end, after the signals that are named. Its exit code."""
    for item in signals[:-1]:
        server.process.send_signal(item)
    if signals:
        return await asyncio.to_thread(server.stop, signals[-1])
    return await asyncio.to_thread(_said, server)


def _said(server: Server) -> int:
    assert server.process.stdout is not None
    assert server.process.stderr is not None
    server.said += server.process.stderr.read()
    server.process.stdout.close()
    server.process.stderr.close()
    return server.process.wait(60)


# ----------------------------------------------------------------------------------------------------- certificates


class Authority:
    """Signs certificates, and writes them into a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        own = self._sign(self._name, self._key, ca=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, password: str = "", file: str = "") -> tuple[Path, Path]:
        """(certificate, key) for `name`, at 127.0.0.1 and localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        x509_certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        locked = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        certificate, private = (self._folder / f"{file or name}.{kind}" for kind in ("crt", "key"))
        certificate.write_bytes(x509_certificate.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
        return certificate, private

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
