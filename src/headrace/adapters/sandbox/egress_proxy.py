"""An HTTP proxy on loopback inside the service, the only destination of confined programs.

A program may connect to the hosts of HEADRACE_CODE_EGRESS, if http-request may, too (`adapters.egress`). Names are
resolved here, and only checked addresses are connected to. TLS is between the program and the host, in a tunnel
(CONNECT); plain HTTP is forwarded, one request per connection. A tunnel, whose content cannot be seen, may lead to the
ports of HTTP, and to others only if the list has them with the host.

Every connection begins with a token that only the supervisors of confined processes know (`supervisor`), so that no
other process on this machine can use the proxy.
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
PROXY = "http://127.0.0.1:9"  # the URL for programs; every connection leads to the proxy, whatever the address
_TOKEN = 16  # bytes
_LONGEST_HEAD = 64 * 1024
_HEAD_SECONDS, _CONNECT_SECONDS, _IDLE_SECONDS = 30, 20, 30
_TUNNELS = (80, 443)
_MOST = 512  # connections at once
_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"upgrade"}


# The certificate authorities of various distributions.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def certificates_here() -> str | None:
    """The file of trusted certificate authorities: SSL_CERT_FILE, or the system's."""
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
    head: bytes  # the forwarded head of the request; empty for a tunnel


class EgressProxy:
    """`hosts` as in HEADRACE_CODE_EGRESS, `allow` as in HEADRACE_EGRESS_ALLOW; HeadraceError if one is invalid."""

    def __init__(self, hosts: Sequence[str], allow: Sequence[str] = (), egress: Egress | None = None) -> None:
        self._hosts = Hosts(hosts, SETTING)
        self._egress = egress or Egress(allow)
        self._token = secrets.token_bytes(_TOKEN)
        self._starting = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> tuple[str, int, str]:
        """Starts to listen, unless it does already. Returns (host, port, token in hexadecimal)."""
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
            pass  # the peer is gone or too slow, so there is nobody to report it to
        finally:
            self._connections -= 1
            writer.close()

    async def _connect(self, target: _Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = target.host, target.port
        address = literal(host)
        # other names are not even resolved, because a DNS query could leak data
        if not (self._hosts.names(host, port) if address is None else self._hosts.cover(host, port, address)):
            raise _Refused("403 Forbidden", f"Code may not connect to {host}:{port}. To allow it, add it to {SETTING}.")
        if not target.head and port not in _TUNNELS and not self._hosts.names_port(host, port):
            raise _Refused(
                "403 Forbidden", f"Code may only use HTTP. To allow port {port}, add {host}:{port} to {SETTING}."
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
        reason = str(why) or "it does not respond"
        raise _Refused("502 Bad Gateway", f"{host}:{port} cannot be connected to: {reason}")


def _target(request: bytes) -> _Target:
    """The target of a request. _Refused if it is not a request for a proxy."""
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
        raise _Refused("400 Bad Request", "Code may only use HTTP and HTTPS, through a proxy.") from None
    if method == "CONNECT":
        return _Target(host, port, b"")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [line for line in lines if line.partition(b":")[0].strip().lower() not in _HOP_BY_HOP]
    head = b"\r\n".join([f"{method} {path} {version}".encode(), *headers, b"Connection: close"])
    return _Target(host, port, head + b"\r\n\r\n")


async def _between(
    mine: asyncio.StreamReader, theirs: asyncio.StreamWriter, answer: asyncio.StreamReader, back: asyncio.StreamWriter
) -> None:
    """Copies both directions until both have ended; once the program's has, the other one has limited time."""
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
