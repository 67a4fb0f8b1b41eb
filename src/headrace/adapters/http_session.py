"""The part of the HTTP client that uses aiohttp: connections, time-outs, limits, and errors."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from headrace.adapters.body_timeout import last_moment
from headrace.adapters.egress import Egress, EgressRefused, literal
from headrace.adapters.http_redirects import REDIRECTS, Hop, Origin, failed
from headrace.errors import NodeError
from headrace.ports.services import HttpRequest, HttpResponse

Phase = Literal["connect", "write", "read"]

_CHUNK = 64 * 1024
_MAX_HEADER = 64 * 1024
_SOON = 2.0  # seconds for a body that may be cut off
# Characters that are allowed in a path or query are left as written (signed URLs depend on it); others, and percent
# signs that do not begin an escape, are percent-encoded.
_TO_ENCODE = re.compile(r"[^A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]|%(?![0-9A-Fa-f]{2})")


class Watch:
    """The time-outs of one request, on one timer: every progress extends it, up to the limit of the whole body."""

    def __init__(self, request: HttpRequest, timer: asyncio.Timeout) -> None:
        self.phase: Phase = "connect"
        self._timer = timer
        self._since = 0.0  # when the phase began
        self._size = 0  # bytes of its body so far
        self._dripped = False  # the timer is set to the limit of the whole body
        self.seconds: dict[Phase, float] = {
            "connect": request.connect_timeout,
            "write": request.write_timeout,
            "read": request.read_timeout,
        }

    def enter(self, phase: Phase) -> None:
        self.phase, self._size = phase, 0
        self._since = asyncio.get_running_loop().time()
        self._set(self._since)

    def progress(self, size: int) -> None:
        """More bytes were received or sent."""
        self._size += size
        self._set(asyncio.get_running_loop().time())

    def _set(self, now: float) -> None:
        seconds = self.seconds[self.phase]
        soon, last = now + seconds, last_moment(self._since, seconds, self._size)
        self._dripped = last < soon
        self._timer.reschedule(min(soon, last))

    def error(self, host: str) -> NodeError:
        seconds = f"{self.seconds[self.phase]:g} s"
        match self.phase:
            case "connect":
                return failed(f"timed out: no connection to {host} within {seconds}")
            case "write" if self._dripped:
                return failed(f"timed out: {host} accepted the request too slowly, for longer than {seconds}")
            case "read" if self._dripped:
                return failed(f"timed out: {host} sent its response too slowly, for longer than {seconds}")
            case "write":
                return failed(f"timed out: {host} accepted nothing of the request for {seconds}")
            case "read":
                return failed(f"timed out: {host} sent nothing for {seconds}")


class _Body:
    """A large body, sent in pieces so that a slow receiver is noticed. It may be iterated again."""

    def __init__(self, content: bytes, watch: Watch) -> None:
        self._content = content
        self._watch = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._watch.enter("write")
        for at in range(0, len(self._content), _CHUNK):
            yield self._content[at : at + _CHUNK]
            self._watch.progress(_CHUNK)
        self._watch.enter("read")


class _Resolver(AbstractResolver):
    """Resolves to addresses that passed the guard."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in await self._egress.addresses(host, port)
        ]

    async def close(self) -> None:
        """There is nothing to close."""


async def _connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    watch: Watch = context.trace_request_ctx
    watch.enter("read")


class Session:
    """A pool of connections. Sends single requests; the caller follows redirects."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_connected)
        trace.on_connection_reuseconn.append(_connected)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, resolver=_Resolver(egress), ttl_dns_cache=10),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[trace],
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
        )

    async def aclose(self) -> None:
        await self._session.close()

    async def send(self, hop: Hop, limits: HttpRequest) -> HttpResponse:
        """Sends one request. The body of a redirect is not read if it will be followed."""
        url = self._target(hop.url)
        host = f"{url.host}:{url.port}"
        timer = asyncio.timeout(None)
        watch = Watch(limits, timer)
        try:
            async with timer:
                watch.enter("connect")
                return await self._exchange(url, hop, limits, watch)
        except EgressRefused as error:
            raise failed(str(error), "EgressRefused") from None
        except TimeoutError as error:
            # if it has not expired, this is the system's ETIMEDOUT
            raise (watch.error(host) if timer.expired() else failed(_words(error))) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failed(_words(error)) from error

    def origin(self, url: str) -> Origin:
        """The origin by the same parsing that is used to connect."""
        target = self._target(url)
        return target.scheme, target.raw_host or "", target.port or 0

    async def _exchange(self, url: URL, hop: Hop, limits: HttpRequest, watch: Watch) -> HttpResponse:
        headers = list(hop.headers)
        if url.user is not None:
            if not any(name.lower() == "authorization" for name, _ in headers):
                credentials = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
                headers.append(("Authorization", f"Basic {credentials}"))
            url = url.with_user(None)
        data: bytes | _Body | None = hop.body or None
        if len(hop.body) > _CHUNK:
            data = _Body(hop.body, watch)
            headers.append(("Content-Length", str(len(hop.body))))
        async with self._session.request(
            hop.method,
            url,
            headers=headers,
            data=data,
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
            ssl=limits.verify,
            trace_request_ctx=watch,
        ) as response:
            heads = [(_decoded(name), _decoded(value)) for name, value in response.raw_headers]
            body = b""
            if not (limits.follow_redirects and response.status in REDIRECTS and "location" in response.headers):
                body = await _read(response, hop.method, limits, watch)
            return HttpResponse(response.status, heads, body, str(url))

    def _target(self, text: str) -> URL:
        """The URL to connect to, its host checked as far as possible without resolving it."""
        if any(ord(char) < 32 or ord(char) == 127 for char in text):
            raise failed(f"Invalid URL {text!r}: it has control characters", "InvalidURLError")
        try:
            url = URL(text)
            host, port = url.raw_host, url.port
        except ValueError as error:
            raise failed(f"Invalid URL {text!r}: {error}", "InvalidURLError") from None
        if url.scheme not in ("http", "https"):
            raise failed(f"Invalid URL {text!r}: it should start with http:// or https://", "InvalidURLError")
        if not host or not port:
            raise failed(f"Invalid URL {text!r}: it has no host", "InvalidURLError")
        address = literal(host)
        if address is not None:
            if not self._egress.permits(host, port, address):
                raise failed(str(EgressRefused(host, port)), "EgressRefused")
            url = url.with_host(str(address))
        elif ":" in host or host.replace(".", "").isdigit():
            raise failed(f"Invalid URL {text!r}: {host} is not a valid address", "InvalidURLError")
        path, _, query = _after_authority(text).partition("?")
        return URL.build(
            scheme=url.scheme,
            authority=url.raw_authority,
            path=_encoded(path) or "/",
            query_string=_encoded(query),
            encoded=True,
        )


async def _read(response: aiohttp.ClientResponse, method: str, limits: HttpRequest, watch: Watch) -> bytes:
    """The decompressed body. NodeError if it is larger than `max_size`, whatever its declared length."""
    max_size = limits.max_size
    if limits.cut_off:
        return await _beginning(response, max_size)
    length = response.content_length or 0
    if length > max_size and method != "HEAD":
        raise _too_large(max_size, length)
    body = bytearray()
    watch.enter("read")
    async for chunk in response.content.iter_any():
        watch.progress(len(chunk))
        if len(body) + len(chunk) > max_size:
            raise _too_large(max_size)
        body += chunk
    return bytes(body)


async def _beginning(response: aiohttp.ClientResponse, max_size: int) -> bytes:
    """The beginning of the body, as far as it arrives soon and fits; only the status matters."""
    body = bytearray()
    try:
        async with asyncio.timeout(_SOON):
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > max_size:
                    break
            else:
                return bytes(body)
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    response.close()  # without waiting for the rest
    return bytes(body[:max_size])


def _too_large(max_size: int, size: int | None = None) -> NodeError:
    current = f", but current size is {size / 1024 / 1024:.2f} MB" if size else ""
    return failed(
        f"Response size is too large, max size is {max_size / 1024 / 1024:.2f} MB{current}.", "ResponseSizeError"
    )


def _after_authority(url: str) -> str:
    """The path and query of an absolute URL, as written."""
    rest = url.partition("://")[2].partition("#")[0]
    match = re.search(r"[/?]", rest)
    return rest[match.start() :] if match else ""


def _encoded(text: str) -> str:
    return _TO_ENCODE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace")), text)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _words(error: Exception) -> str:
    """The error's message, if possible the system's."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return str(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return _of_system(error.os_error)
        case aiohttp.ServerDisconnectedError():
            return "Server disconnected without sending a response."
        case aiohttp.ClientPayloadError():
            return f"The response ended before it was complete, or could not be decompressed: {error}"
        case aiohttp.ClientResponseError():
            return f"The response is not valid HTTP: {error.message}"
        case OSError():
            return _of_system(error)
        case _:
            return str(error) or type(error).__name__


def _of_system(error: OSError) -> str:
    if error.errno is None or isinstance(error, socket.gaierror):
        return str(error) or type(error).__name__
    return f"[Errno {error.errno}] {os.strerror(error.errno)}"
