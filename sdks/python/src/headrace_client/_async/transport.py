"""Sends requests, retries them where that is safe, and raises errors for responses that are not a success."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from random import random
from typing import Any

import httpx
from pydantic_core import PydanticSerializationError, to_json

from headrace_client._async import compat
from headrace_client.errors import APITimeoutError, HeadraceError, UsageError
from headrace_client.options import RetryPolicy, merge_headers
from headrace_client.response_model import Payload, request_id
from headrace_client.wire import (
    API_VERSION_HEADER,
    VERSION,
    connection_error,
    format_seconds,
    is_document,
    is_inconclusive,
    is_parameters,
    is_permanent,
    may_have_arrived,
    parse_error,
    parse_object,
    parse_retry_after,
)

_log = logging.getLogger("headrace_client")

Timeout = float | httpx.Timeout | None
Form = Callable[[], dict[str, Any]]
"""Builds the parts of a multipart form for each attempt: `data` and `files`, as httpx takes them."""


class AsyncAddress:
    """The server's root URL; or, until it is known, the two that are possible: see `resolve_roots`."""

    def __init__(self, root: str, alternative: str | None) -> None:
        self.root = root
        self.alternative = alternative
        self.lock = compat.Lock()


class AsyncTransport:
    """Sends requests to one server, with one key and one connection pool."""

    def __init__(
        self,
        address: AsyncAddress,
        key: str,
        http: httpx.AsyncClient,
        *,
        timeout: httpx.Timeout,
        silence: httpx.Timeout,
        retry: RetryPolicy,
        headers: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = compat.sleep,
        chance: Callable[[], float] = random,
    ) -> None:
        self._address = address
        self.http = http
        self.retry = retry
        self.clock = clock
        self.sleep = sleep
        self.silence = silence
        self._timeout = timeout
        self._chance = chance
        self._key = key
        defaults = {
            "Authorization": f"Bearer {key}",
            "User-Agent": f"headrace-client-python/{VERSION}",
            "Accept": "application/json, text/event-stream; ids=true",
        }
        self._headers = merge_headers(defaults, headers)

    @property
    def root(self) -> str:
        return self._address.root

    def with_options(
        self,
        timeout: httpx.Timeout | None,
        silence: httpx.Timeout | None,
        retry: RetryPolicy | None,
        headers: Mapping[str, str] | None,
    ) -> AsyncTransport:
        """A transport with other options and the same server and connections; None keeps an option."""
        new = copy(self)
        new._timeout = timeout or self._timeout
        new.silence = silence or self.silence
        new.retry = retry or self.retry
        new._headers = merge_headers(self._headers, headers or {})
        return new

    async def get(self, path: str, params: Mapping[str, Any] | None = None, timeout: Timeout = None) -> Payload:
        """The JSON object that a GET returns."""
        return parse_object(await self.request("GET", path, params=params, timeout=timeout))

    async def post(
        self, path: str, body: Mapping[str, Any], timeout: Timeout = None, *, repeat: bool = True
    ) -> Payload:
        """The JSON object that a POST returns. `repeat`: whether to retry even if the server may have received it."""
        return parse_object(await self.request("POST", path, json=body, timeout=timeout, repeat=repeat))

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        form: Form | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Timeout = None,
        repeat: bool = True,
        stream: bool = False,
        accept: Callable[[httpx.Response], bool] | None = None,
    ) -> httpx.Response:
        """The response to a request, with its body read unless `stream`; a stream times out as `silence` says. Raises
        an error for any status but 2xx, unless `accept` returns True for the response.

        `timeout`: seconds for the whole call, including retries and the waits between them; or an httpx.Timeout for
        each attempt.
        """
        limit = timeout if isinstance(timeout, (int, float)) else None
        deadline = None if limit is None else self.clock() + limit
        if self._address.alternative is not None:
            await self._detect_root(timeout, deadline)
        url = self.root + path
        all_headers = merge_headers(self._headers, headers) if headers else self._headers
        content: bytes | None = None
        if json is not None:
            try:
                content = to_json(json)
            except (PydanticSerializationError, UnicodeError) as failure:
                raise UsageError(f"The request cannot be serialized as JSON: {failure}") from failure
            all_headers = {**all_headers, "Content-Type": "application/json"}
        query = {name: value for name, value in params.items() if value is not None} if params else None
        attempt = 0
        may_have_run = False  # an attempt whose response was lost
        while True:
            retry_after: float | None = None
            error: HeadraceError
            started_at = self.clock()
            try:
                request = self.http.build_request(
                    method,
                    url,
                    content=content,
                    params=query,
                    headers=all_headers,
                    timeout=self._attempt_timeout(timeout, deadline, stream),
                    **(form() if form else {}),
                )
                response = await self.http.send(request, stream=stream)
            except httpx.TransportError as failure:
                error = connection_error(failure, method, url)
                error.__cause__ = failure
                may_have_run = may_have_run or may_have_arrived(failure)
                retryable = not is_permanent(failure) and (repeat or not may_have_arrived(failure))
            except (httpx.InvalidURL, httpx.DecodingError) as failure:
                raise HeadraceError(f"{method} {url}: {failure}") from failure
            except RuntimeError as failure:  # httpx: the client has been closed
                raise UsageError(f"{method} {url}: {failure}") from failure
            else:
                status, elapsed = response.status_code, self.clock() - started_at
                _log.debug(
                    "%s %s returned %d in %.3f s, request %s",
                    method,
                    path,
                    status,
                    elapsed,
                    request_id(response.headers),
                )
                if accept is not None and accept(response):
                    return response
                if response.is_success and not (stream and is_document(response)):
                    return response
                if status == 404 and method == "DELETE" and may_have_run:
                    return response  # the attempt before has deleted it
                if stream:
                    await self._read_body(response)
                error = parse_error(response, self._key)
                may_have_run = may_have_run or status >= 500
                retryable = status == 429 or (status >= 500 and repeat)
                retry_after = parse_retry_after(response)
            wait = self.retry.wait(attempt, self._chance(), retry_after) if retryable else None
            if wait is None:
                raise error
            if deadline is not None and self.clock() + wait >= deadline:
                if isinstance(error, APITimeoutError):
                    raise error
                message = f"{error.message} (timed out after {format_seconds(limit or 0)})"
                raise APITimeoutError(message, status=error.status) from error
            _log.info("%s; retrying in %.1f s", error.message, wait)
            await self.sleep(wait)
            attempt += 1

    async def _detect_root(self, timeout: Timeout, deadline: float | None) -> None:
        """Detects, once and before any other request, which of the two possible roots the server has: the same path
        can be one API's under the one, and another's under the other. If the result is not certain, `root` is used,
        and the next call tries again."""

        def remaining() -> float | None:
            return None if deadline is None else max(0.001, deadline - self.clock())

        address = self._address
        if not await compat.acquire_within(address.lock, remaining()):
            raise APITimeoutError(f"{self.root}: no response in time")
        try:
            for root in (address.alternative, address.root) if address.alternative is not None else ():
                candidate = copy(self)
                candidate._address = AsyncAddress(root, None)
                response = await candidate.request(
                    "GET",
                    "/v1/parameters",
                    timeout=remaining() or timeout,
                    accept=lambda response: not is_inconclusive(response),
                )
                if API_VERSION_HEADER in response.headers:
                    # the asynchronous API does not have this path, so the `/api` of the URL is its own
                    address.alternative = None
                    return
                if is_parameters(response):
                    address.root, address.alternative = root, None
                    return
        finally:
            address.lock.release()

    async def _read_body(self, response: httpx.Response) -> None:
        """Reads the body of an error in place of a stream, and closes it."""
        try:
            await response.aread()
        except httpx.TransportError as failure:
            raise connection_error(failure, response.request.method, str(response.request.url)) from failure
        finally:
            await response.aclose()

    def _attempt_timeout(self, timeout: Timeout, deadline: float | None, stream: bool) -> httpx.Timeout:
        default = self.silence if stream else self._timeout
        if deadline is None:
            return timeout if isinstance(timeout, httpx.Timeout) else default
        remaining = max(0.001, deadline - self.clock())
        connect = remaining if default.connect is None else min(remaining, default.connect)
        if not stream:
            return httpx.Timeout(remaining, connect=connect)
        # the time left for the stream to start does not limit how long it may be silent later
        read = None if default.read is None else max(remaining, default.read)
        return httpx.Timeout(remaining, connect=connect, read=read)
