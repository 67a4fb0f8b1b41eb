"""HTTP to model providers: a pool of connections, streams of events, and the errors of calls.

Imported on the first call only, because aiohttp takes a tenth of a second to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from json import JSONDecodeError
from types import TracebackType
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from headrace import __version__
from headrace.adapters.body_timeout import last_moment
from headrace.adapters.models.failures import CONNECTION, Failure, refused
from headrace.adapters.models.sse import Events
from headrace.adapters.urls import is_loopback
from headrace.content.python_json import load_json

_ERROR_BODY = 64 * 1024  # bytes of a refusal that are read
_ERROR_SECONDS = 10
_WHOLE_BODY = 32 * 1024 * 1024  # bytes of a response that is not a stream
_AFTER_END = 5  # seconds to wait for the usage after the end of an answer
_DRAIN = 0.05  # seconds to wait for the end of a stream, so that the connection can be reused


class Decoder(Protocol):
    """Turns the bytes of a stream into events. `done`: the provider marked the end."""

    done: bool

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The events that are complete now."""
        ...

    def end(self) -> list[dict[str, Any]]:
        """The rest, once the stream has ended."""
        ...


class Transport:
    """The pool. `connect` and `idle` in seconds: to get a connection, and between two pieces of an answer."""

    def __init__(self, environ: Mapping[str, str], connect: float, idle: float) -> None:
        self._idle = idle
        self._proxies = {
            name.lower().removesuffix("_proxy"): value
            for name, value in environ.items()
            if name.lower().endswith("_proxy") and value
        }
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_read=idle),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"headrace/{__version__}", "Accept-Encoding": "identity"},
        )

    def post(
        self, who: str, url: str, headers: Mapping[str, str], body: bytes, decoder: Decoder | None = None
    ) -> Stream:
        """Sends a JSON body; enter it for the stream of events. `who` names the provider in errors; `decoder` reads
        the stream if it does not consist of server-sent events of OpenAI's protocol."""
        request_headers = {
            **headers,
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
        }
        return self._send("POST", who, url, request_headers, body, decoder)

    def get(self, who: str, url: str, headers: Mapping[str, str]) -> Stream:
        """Sends a GET request; enter it for the response."""
        return self._send("GET", who, url, headers, None)

    async def whole(
        self,
        method: str,
        who: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | aiohttp.FormData | None = None,
        *,
        max_size: int,
    ) -> tuple[bytes, str]:
        """(body, content type) of a response that is not a stream. Failure if the call fails, or the body is larger
        than `max_size` bytes."""
        async with self._send(method, who, url, headers, body) as stream:
            return await stream.whole(max_size)

    def _send(
        self,
        method: str,
        who: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | aiohttp.FormData | None,
        decoder: Decoder | None = None,
    ) -> Stream:
        request = self._session.request(
            method,
            url if decoder is None else URL(url, encoded=True),  # a signature is of the URL as it is written
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy(url),
        )
        return Stream(who, urlsplit(url).netloc.rpartition("@")[2], request, self._idle, decoder)

    async def aclose(self) -> None:
        await self._session.close()

    def _proxy(self, url: str) -> str | None:
        """The proxy of the environment for a URL; none for this machine."""
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        host = parts.hostname or ""
        if not proxy or is_loopback(host) or _bypassed(host, self._proxies.get("no", "")):
            return None
        return proxy


def _bypassed(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY has the host, one of its domains, or `*`."""
    names = [name.strip().lstrip(".").partition(":")[0].lower() for name in no_proxy.split(",") if name.strip()]
    return any(name == "*" or host == name or host.endswith(f".{name}") for name in names)


class Stream:
    """The events of one response, in batches as they arrive. Leaving the block closes the connection at once, unless
    the response was read to its end. Failure if the call fails."""

    def __init__(
        self,
        who: str,
        host: str,
        request: Awaitable[aiohttp.ClientResponse],
        idle: float,
        decoder: Decoder | None = None,
    ) -> None:
        self._who = who
        self._host = host
        self._request = request
        self._idle = idle
        self._events: Decoder = decoder or Events()
        self._response: aiohttp.ClientResponse | None = None
        self._ended = False
        self._patience: float | None = None
        self._dripping: float | None = None  # since when an event of the stream has been incomplete

    async def __aenter__(self) -> Stream:
        try:
            self._response = await self._request
            if self._response.status != 200:
                raise await self._refusal(self._response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.close()
            raise self._failure(error) from None
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._response is not None and self.complete:
                await self._drain(self._response)
        finally:
            self.close()

    @property
    def complete(self) -> bool:
        """The provider marked the end, so the stream was not cut off."""
        return self._events.done

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers, case-insensitive; none before it arrived."""
        return self._response.headers if self._response is not None else {}

    def close(self) -> None:
        """Returns the connection to the pool if all was read, else closes it."""
        if self._response is not None:
            if self._response.content.is_eof():
                self._response.release()
            else:
                self._response.close()

    def hurry(self) -> None:
        """The answer has ended: the rest (its usage) gets little time."""
        self._patience = _AFTER_END

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> list[dict[str, Any]]:
        """The events that have arrived; an empty list if none is complete yet."""
        response = self._response
        if response is None or self._ended or self._events.done:
            raise StopAsyncIteration
        try:
            if response.content_type == "application/json":
                self._ended = True
                return await self._whole(response)
            chunk = await self._read(response)
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error) from None
        if chunk:
            events = self._events.feed(chunk)
            if events or b"\n" in chunk:
                self._dripping = None
            elif self._dripping is None:
                self._dripping = asyncio.get_running_loop().time()
            return events
        self._ended = True
        return self._events.end()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if self._patience is not None:
            async with asyncio.timeout(self._patience):
                return await response.content.readany()
        if self._dripping is not None:  # single bytes do not count as progress
            async with asyncio.timeout_at(self._dripping + self._idle):
                return await response.content.readany()
        return await response.content.readany()

    async def _whole(self, response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
        """A response in one piece, from a provider that does not stream (or labels its stream as JSON)."""
        body = await _read_up_to(response, _WHOLE_BODY, self._idle)
        if body.lstrip()[:5] == b"data:":
            return self._events.feed(body) + self._events.end()
        try:
            payload: Any = load_json(body, mended=False)
        except JSONDecodeError:
            payload = None
        if not isinstance(payload, dict):
            raise Failure(f"{self._who} sent a response that is not a JSON object.", CONNECTION)
        self._events.done = True
        return [cast("dict[str, Any]", payload)]

    async def whole(self, max_size: int) -> tuple[bytes, str]:
        """(body, content type), read to its end."""
        response = self._response
        assert response is not None
        try:
            body = await _read_up_to(response, max_size + 1, self._idle)
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error) from None
        if len(body) > max_size:
            raise Failure(f"{self._who} sent a response of more than {max_size} bytes.", CONNECTION)
        return body, response.content_type

    async def _refusal(self, response: aiohttp.ClientResponse) -> Failure:
        try:
            async with asyncio.timeout(_ERROR_SECONDS):
                body = await _read_up_to(response, _ERROR_BODY, _ERROR_SECONDS)
        except (aiohttp.ClientError, OSError):
            body = b""
        url = str(response.url.with_query(None))
        return refused(self._who, url, response.status, response.reason or "", response.headers, body)

    async def _drain(self, response: aiohttp.ClientResponse) -> None:
        """Reads the end of the body (usually it came with the last event), so that the connection can be reused."""
        try:
            async with asyncio.timeout(_DRAIN):
                while not response.content.at_eof():
                    await response.content.readany()
        except (aiohttp.ClientError, OSError):
            return

    def _failure(self, error: Exception) -> Failure:
        """The failure, with a message that has no headers, and of the URL only the host."""
        who = f"{self._who} ({self._host})"
        match error:
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                return Failure(f"{who}: the connection is not secure: {error}", CONNECTION)
            case aiohttp.ConnectionTimeoutError():
                return Failure(f"{who} could not be reached in time.", CONNECTION, retry=True)
            case aiohttp.ClientConnectorError():
                reason = error.os_error.strerror or error.os_error
                return Failure(f"{who} could not be reached: {reason}", CONNECTION, retry=True)
            case TimeoutError() if not isinstance(error, aiohttp.ServerTimeoutError):
                return Failure(f"{who} sent its answer too slowly to wait any longer.", CONNECTION)
            case TimeoutError():
                return Failure(f"{who} sent nothing for {self._idle:g} seconds.", CONNECTION)
            case aiohttp.InvalidURL() | ValueError():
                return Failure(f"{who}: the request cannot be sent: the base URL or key is malformed.", CONNECTION)
            case _:
                return Failure(f"{who} closed the connection before the answer was complete.", CONNECTION, retry=True)


async def _read_up_to(response: aiohttp.ClientResponse, size: int, seconds: float) -> bytes:
    """The body, up to `size` bytes. TimeoutError if it takes longer than `seconds` plus what its size allows
    (`body_timeout`)."""
    body = bytearray()
    since = asyncio.get_running_loop().time()
    async with asyncio.timeout_at(last_moment(since, seconds, 0)) as timer:
        while len(body) < size and (part := await response.content.read(size - len(body))):
            body += part
            timer.reschedule(last_moment(since, seconds, len(body)))
    return bytes(body)
