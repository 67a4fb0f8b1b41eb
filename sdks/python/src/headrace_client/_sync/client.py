# Made by generate_sync.py from _async/client.py: change that one.
"""The client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from os import PathLike
from random import random
from ssl import SSLContext
from types import TracebackType

import httpx

from headrace_client._sync import compat
from headrace_client._sync.apps import Apps
from headrace_client._sync.chats import Chats
from headrace_client._sync.core import Session
from headrace_client._sync.runs import Runs
from headrace_client._sync.transport import Address, Transport
from headrace_client.options import PollingPlan, RetryPolicy, key_of, roots_of, seconds_of
from headrace_client.wire import Cert, tls

_CONNECT = 10.0  # seconds at most to reach a server
_SILENCE = 60.0  # servers ping every 10 s
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=4.0)


def _limit(name: str, seconds: float) -> httpx.Timeout:
    seconds = seconds_of(name, seconds)
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT))


class Client(Runs, Chats, Apps):
    """Calls one app of a Headrace or Dify server.

    `api_key`: the app's key; else API_KEY of the environment. `base_url`: else API_BASE_URL, else Dify Cloud; with or
    without `/v1`, `/api` or `/api/v1`; `/api` may also be what a proxy puts before them. `user`: whom calls are made
    for where they do not say. `timeout`: seconds, or an httpx.Timeout, for each try of a call. `stream_silence`:
    seconds without a byte after which a stream counts as cut. `verify`: False, a CA bundle or an SSLContext; `cert`: a
    client certificate (file, or file and key, and the key's password). `http_client`: an httpx.Client of your own,
    which stays open when this client is closed. `clock`, `sleep` and `chance` (0 to 1) are for tests.

    Keep one client, and share it between threads: it pools its connections. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        user: str = "headrace-client",
        timeout: float | httpx.Timeout = 60.0,
        stream_silence: float = _SILENCE,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        polling: PollingPlan | None = None,
        headers: Mapping[str, str] | None = None,
        verify: bool | str | PathLike[str] | SSLContext = True,
        cert: Cert | None = None,
        proxy: str | httpx.Proxy | None = None,
        limits: httpx.Limits = _LIMITS,
        http_client: httpx.Client | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = compat.sleep,
        chance: Callable[[], float] = random,
    ) -> None:
        policy = retry or RetryPolicy()
        if max_retries is not None:
            policy = replace(policy, max_retries=max_retries)
        key = key_of(api_key)
        self._owned = http_client is None
        self._http = http_client or httpx.Client(verify=tls(verify, cert), proxy=proxy, limits=limits)
        transport = Transport(
            Address(*roots_of(base_url)),
            key,
            self._http,
            timeout=timeout if isinstance(timeout, httpx.Timeout) else _limit("timeout", timeout),
            silence=_limit("stream_silence", stream_silence),
            retry=policy,
            headers=headers or {},
            clock=clock,
            sleep=sleep,
            chance=chance,
        )
        super().__init__(Session(transport, user, polling or PollingPlan()))

    @property
    def base_url(self) -> str:
        """Where the server is, without the path of any of its APIs."""
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
    ) -> Client:
        """This client with some options changed, for one call or for many: `headers` are added to those it has. Shares
        the connections, and what has been found out about the server; closing it closes nothing."""
        session, transport = self._session, self._transport
        policy = retry or transport.retry
        if max_retries is not None:
            policy = replace(policy, max_retries=max_retries)
        changed = copy(self)
        changed._owned = False
        changed._transport = transport.with_options(
            timeout if timeout is None or isinstance(timeout, httpx.Timeout) else _limit("timeout", timeout),
            None if stream_silence is None else _limit("stream_silence", stream_silence),
            policy,
            headers,
        )
        changed._session = Session(changed._transport, user or session.user, polling or session.polling, session.known)
        return changed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        if self._owned:
            self._http.close()
