"""The client."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import replace
from os import PathLike
from random import random
from ssl import SSLContext
from types import TracebackType

import httpx

from headrace_client._async import compat
from headrace_client._async.apps import AsyncApps
from headrace_client._async.chats import AsyncChats
from headrace_client._async.core import AsyncSession
from headrace_client._async.runs import AsyncRuns
from headrace_client._async.transport import AsyncAddress, AsyncTransport
from headrace_client.options import PollingPlan, RetryPolicy, check_seconds, resolve_key, resolve_roots
from headrace_client.wire import Cert, build_tls

_MAX_CONNECT = 10.0  # seconds at most to reach a server
_STREAM_SILENCE = 60.0  # servers ping every 10 s
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=4.0)


def _to_timeout(name: str, seconds: float) -> httpx.Timeout:
    seconds = check_seconds(name, seconds)
    return httpx.Timeout(seconds, connect=min(seconds, _MAX_CONNECT))


class AsyncClient(AsyncRuns, AsyncChats, AsyncApps):
    """A client for one app of a Headrace or Dify server.

    `api_key`: the app's key; by default API_KEY of the environment. `base_url`: by default API_BASE_URL, or Dify Cloud;
    with or without `/v1`, `/api` or `/api/v1`; `/api` can also be a proxy's prefix. `user`: the user of calls that do
    not name one. `timeout`: seconds, or an httpx.Timeout, for each attempt of a call. `stream_silence`: seconds without
    a byte after which a stream counts as cut. `verify`: False, a CA bundle or an SSLContext; `cert`: a client
    certificate (file, or file and key, and the key's password). `http_client`: your own httpx.AsyncClient, which is not
    closed with this client. `clock`, `sleep` and `chance` (0 to 1) are for tests.

    Create one client and share it between tasks: it pools its connections. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        user: str = "headrace-client",
        timeout: float | httpx.Timeout = 60.0,
        stream_silence: float = _STREAM_SILENCE,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        polling: PollingPlan | None = None,
        headers: Mapping[str, str] | None = None,
        verify: bool | str | PathLike[str] | SSLContext = True,
        cert: Cert | None = None,
        proxy: str | httpx.Proxy | None = None,
        limits: httpx.Limits = _LIMITS,
        http_client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = compat.sleep,
        chance: Callable[[], float] = random,
    ) -> None:
        policy = retry or RetryPolicy()
        if max_retries is not None:
            policy = replace(policy, max_retries=max_retries)
        key = resolve_key(api_key)
        self._owns_http = http_client is None
        self._http = http_client or httpx.AsyncClient(verify=build_tls(verify, cert), proxy=proxy, limits=limits)
        transport = AsyncTransport(
            AsyncAddress(*resolve_roots(base_url)),
            key,
            self._http,
            timeout=timeout if isinstance(timeout, httpx.Timeout) else _to_timeout("timeout", timeout),
            silence=_to_timeout("stream_silence", stream_silence),
            retry=policy,
            headers=headers or {},
            clock=clock,
            sleep=sleep,
            chance=chance,
        )
        super().__init__(AsyncSession(transport, user, polling or PollingPlan()))

    @property
    def base_url(self) -> str:
        """The server's URL, without the path of an API."""
        return self._transport.root

    def with_options(
        self,
        *,
        user: str | None = None,
        timeout: float | httpx.Timeout | None = None,
        stream_silence: float | None = None,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        polling: PollingPlan | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncClient:
        """A copy of this client with other options, for one call or many; `headers` are added to the existing ones. It
        shares the connections and what is known about the server; closing the copy does not close them."""
        session, transport = self._session, self._transport
        policy = retry or transport.retry
        if max_retries is not None:
            policy = replace(policy, max_retries=max_retries)
        new = copy(self)
        new._owns_http = False
        new._transport = transport.with_options(
            timeout if timeout is None or isinstance(timeout, httpx.Timeout) else _to_timeout("timeout", timeout),
            None if stream_silence is None else _to_timeout("stream_silence", stream_silence),
            policy,
            headers,
        )
        new._session = AsyncSession(new._transport, user or session.user, polling or session.polling, session.state)
        return new

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._owns_http:
            await self._http.aclose()
