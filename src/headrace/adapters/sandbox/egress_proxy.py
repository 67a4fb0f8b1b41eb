"""The one place that confined programs are connected to: a proxy for HTTP on loopback, inside the service.

A program may connect to what HEADRACE_CODE_EGRESS lists, as far as http-request may go there (`adapters.egress`). The
name is resolved here, and the connection goes to an address that passed. TLS is between the program and the host, in a
tunnel (CONNECT); plain HTTP is passed on, one request a connection. A tunnel leads to the ports of HTTP, and to others
only where the list names them with the host: what is said in it cannot be seen.

Every connection begins with a token that only the supervisors of confined processes know (`supervisor`): for anybody
else on this machine the proxy is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace.adapters.egress import Egress, EgressRefused, Hosts, literal

SETTING = "HEADRACE_CODE_EGRESS"
PROXY = "http://127.0.0.1:9"  # how programs know it: every connection of theirs leads here, whatever the address
_TOKEN = 16  # bytes
_LONGEST_HEAD = 64 * 1024
_HEAD_SECONDS, _CONNECT_SECONDS, _IDLE_SECONDS = 30, 20, 30
_TUNNELS = (80, 443)
_MOST = 512  # connections at once
_OF_THE_HOP = {b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"upgrade"}


# Where distributions keep the authorities that everybody trusts.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def certificates_here() -> str | None:
    """The file of the authorities that this service trusts: SSL_CERT_FILE, or the system's."""
    for path in (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_CERTIFICATES):
        if path and os.path.isfile(path):
            return os.path.realpath(path)
    return None


class _Refused(Exception):
    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class _Target:
    host: str
    port: int
    head: bytes  # what is passed on of the request; nothing of one for a tunnel


class EgressProxy:
    """`hosts` as in HEADRACE_CODE_EGRESS, `allow` as in HEADRACE_EGRESS_ALLOW; HeadraceError where one is not valid."""

    def __init__(self, hosts: Sequence[str], allow: Sequence[str] = (), egress: Egress | None = None) -> None:
        self._hosts = Hosts(hosts, SETTING)
        self._egress = egress or Egress(allow)
        self._token = secrets.token_bytes(_TOKEN)
        self._starting = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> tuple[str, int, str]:
        """Listens, if it does not yet. (host, port, token in hexadecimal)."""
        async with self._starting:
            if self._server is None:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LONGEST_HEAD)
            host, port = self._server.sockets[0].getsockname()
        return host, port, self._token.hex()

    async def aclose(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._egress.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                if not hmac.compare_digest(await reader.readexactly(_TOKEN), self._token):
                    return
                target = _target(await reader.readuntil(b"\r\n\r\n"))
            if self._connections > _MOST:
                raise _Refused("503 Service Unavailable", "Too many connections of code nodes are open.")
            there, back = await self._connect(target)
            try:
                if target.head:
                    back.write(target.head)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await _between(reader, back, there, writer)
            finally:
                back.close()
        except _Refused as refused:
            text = str(refused).encode()
            head = (
                f"HTTP/1.1 {refused.status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}"
            )
            writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + text)
            with contextlib.suppress(OSError):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it went away, or took its time: nobody is there to hear of it
        finally:
            self._connections -= 1
            writer.close()

    async def _connect(self, target: _Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = target.host, target.port
        address = literal(host)
        # what is not listed is not even resolved: a question to a name server carries a name out
        if not (self._hosts.names(host, port) if address is None else self._hosts.cover(host, port, address)):
            raise _Refused(
                "403 Forbidden", f"Code may not connect to {host}:{port}. If it is meant to, add it to {SETTING}."
            )
        if not target.head and port not in _TUNNELS and not self._hosts.names_port(host, port):
            raise _Refused(
                "403 Forbidden", f"Code has HTTP only. If port {port} is meant, add {host}:{port} to {SETTING}."
            )
        try:
            addresses = await self._egress.addresses(host, port)
        except EgressRefused as error:
            raise _Refused("403 Forbidden", str(error)) from None
        except (OSError, UnicodeError) as error:
            raise _Refused("502 Bad Gateway", f"{host} cannot be resolved: {error}") from None
        why: Exception | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(str(address), port)
            except OSError as error:  # TimeoutError is one
                why = error
        reason = str(why) or "it does not answer"
        raise _Refused("502 Bad Gateway", f"{host}:{port} cannot be connected to: {reason}")


def _target(request: bytes) -> _Target:
    """Where a request is for. _Refused where it is none for a proxy."""
    first, *lines = request[:-4].split(b"\r\n")
    try:
        method, url, version = first.decode("ascii").split(" ")
        if method == "CONNECT":
            parts = urlsplit(f"//{url}")
        else:
            parts = urlsplit(url)
            if parts.scheme != "http":
                raise ValueError
        host, port = parts.hostname, parts.port or 80
        if not host:
            raise ValueError
    except ValueError:
        raise _Refused("400 Bad Request", "Code has HTTP and HTTPS only, through a proxy.") from None
    if method == "CONNECT":
        return _Target(host, port, b"")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [line for line in lines if line.partition(b":")[0].strip().lower() not in _OF_THE_HOP]
    head = b"\r\n".join([f"{method} {path} {version}".encode(), *headers, b"Connection: close"])
    return _Target(host, port, head + b"\r\n\r\n")


async def _between(
    mine: asyncio.StreamReader, theirs: asyncio.StreamWriter, answer: asyncio.StreamReader, back: asyncio.StreamWriter
) -> None:
    """Both directions, until both have ended; a program that has gone gives the other side a while."""
    sending = asyncio.create_task(_pump(mine, theirs))
    receiving = asyncio.create_task(_pump(answer, back))
    try:
        await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        if receiving.done():
            return
        async with asyncio.timeout(_IDLE_SECONDS):
            await receiving
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
