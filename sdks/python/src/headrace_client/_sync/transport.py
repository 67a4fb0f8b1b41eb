# Made by generate_sync.py from _async/transport.py: change that one.
"""Requests: sent, repeated where that does no harm, and answered or told of as an error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from copy import copy
from random import random
from typing import Any

import httpx
from pydantic_core import PydanticSerializationError, to_json

from headrace_client._sync import compat
from headrace_client.errors import APITimeoutError, HeadraceError, UsageError
from headrace_client.models import Payload, request_id
from headrace_client.options import RetryPolicy, headers_of
from headrace_client.wire import (
    MARK,
    VERSION,
    arrived,
    connection_error,
    error_of,
    hopeless,
    is_document,
    is_parameters,
    is_silent,
    object_of,
    retry_after,
    seconds,
)

_log = logging.getLogger("headrace_client")

Timeout = float | httpx.Timeout | None
Form = Callable[[], dict[str, Any]]
"""Makes a multipart form's parts anew, for each time that it is sent: `data` and `files`, as httpx takes them."""


class Address:
    """Where a server's paths begin: at `root`, or at `other`, until that is found out; see `roots_of`."""

    def __init__(self, root: str, other: str | None) -> None:
        self.root = root
        self.other = other
        self.settling = compat.Lock()


class Transport:
    """One server, one key, one pool of connections."""

    def __init__(
        self,
        address: Address,
        key: str,
        http: httpx.Client,
        *,
        timeout: httpx.Timeout,
        silence: httpx.Timeout,
        retry: RetryPolicy,
        headers: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = compat.sleep,
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
        usual = {
            "Authorization": f"Bearer {key}",
            "User-Agent": f"headrace-client-python/{VERSION}",
            "Accept": "application/json, text/event-stream; ids=true",
        }
        self._headers = headers_of(usual, headers)

    @property
    def root(self) -> str:
        return self._address.root

    def with_options(
        self,
        timeout: httpx.Timeout | None,
        silence: httpx.Timeout | None,
        retry: RetryPolicy | None,
        headers: Mapping[str, str] | None,
    ) -> Transport:
        """The same server and connections with other options; None keeps one."""
        changed = copy(self)
        changed._timeout = timeout or self._timeout
        changed.silence = silence or self.silence
        changed.retry = retry or self.retry
        changed._headers = headers_of(self._headers, headers or {})
        return changed

    def get(self, path: str, params: Mapping[str, Any] | None = None, timeout: Timeout = None) -> Payload:
        """The JSON object that a GET answers."""
        return object_of(self.request("GET", path, params=params, timeout=timeout))

    def post(self, path: str, body: Mapping[str, Any], timeout: Timeout = None, *, repeat: bool = True) -> Payload:
        """The JSON object that a POST answers. `repeat`: whether it may be sent again although it may have arrived."""
        return object_of(self.request("POST", path, json=body, timeout=timeout, repeat=repeat))

    def request(
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
        refused: Callable[[httpx.Response], bool] | None = None,
    ) -> httpx.Response:
        """The answer to a request: its body read, unless `stream`, which may be silent as long as `silence` says. An
        error of the tree for any status but 2xx, except where `refused` takes it as an answer.

        `timeout`: seconds within which there must be an answer, repeats and the waits between them included; or an
        httpx.Timeout for each single try.
        """
        limit = timeout if isinstance(timeout, (int, float)) else None
        until = None if limit is None else self.clock() + limit
        if self._address.other is not None:
            self._settle(timeout, until)
        url = self.root + path
        sent = headers_of(self._headers, headers) if headers else self._headers
        content: bytes | None = None
        if json is not None:
            try:
                content = to_json(json)
            except (PydanticSerializationError, UnicodeError) as unwritable:
                raise UsageError(f"The request cannot be written as JSON: {unwritable}") from unwritable
            sent = {**sent, "Content-Type": "application/json"}
        query = {name: value for name, value in params.items() if value is not None} if params else None
        attempt = 0
        while True:
            after: float | None = None
            error: HeadraceError
            began = self.clock()
            try:
                request = self.http.build_request(
                    method,
                    url,
                    content=content,
                    params=query,
                    headers=sent,
                    timeout=self._try_timeout(timeout, until, stream),
                    **(form() if form else {}),
                )
                response = self.http.send(request, stream=stream)
            except httpx.TransportError as broken:
                error = connection_error(broken, method, url)
                error.__cause__ = broken
                again = not hopeless(broken) and (repeat or not arrived(broken))
            except (httpx.InvalidURL, httpx.DecodingError) as broken:
                raise HeadraceError(f"{method} {url}: {broken}") from broken
            except RuntimeError as broken:  # httpx: the client has been closed
                raise UsageError(f"{method} {url}: {broken}") from broken
            else:
                number, took = response.status_code, self.clock() - began
                _log.debug(
                    "%s %s answered %d in %.3f s, request %s", method, path, number, took, request_id(response.headers)
                )
                if refused is not None and refused(response):
                    return response
                if response.is_success and not (stream and is_document(response)):
                    return response
                if stream:
                    self._read(response)
                error = error_of(response, self._key)
                again = response.status_code == 429 or (response.status_code >= 500 and repeat)
                after = retry_after(response)
            wait = self.retry.wait(attempt, self._chance(), after) if again else None
            if wait is None:
                raise error
            if until is not None and self.clock() + wait >= until:
                if isinstance(error, APITimeoutError):
                    raise error
                message = f"{error.message} (and {seconds(limit or 0)} are over)"
                raise APITimeoutError(message, status=error.status) from error
            _log.info("%s; trying again in %.1f s", error.message, wait)
            self.sleep(wait)
            attempt += 1

    def _settle(self, timeout: Timeout, until: float | None) -> None:
        """Finds out, once, which of its two addresses the server has, before anything else is asked of it: some paths
        are of one API under the one, and of another under the other. Where it cannot be told for certain, `root` is
        taken, and the next call asks again."""

        def rest() -> float | None:
            return None if until is None else max(0.001, until - self.clock())

        address = self._address
        if not compat.acquired(address.settling, rest()):
            raise APITimeoutError(f"{self.root}: no answer in time")
        try:
            for root in (address.other, address.root) if address.other is not None else ():
                candidate = copy(self)
                candidate._address = Address(root, None)
                answer = candidate.request(
                    "GET", "/v1/parameters", timeout=rest() or timeout, refused=lambda found: not is_silent(found)
                )
                if MARK in answer.headers:
                    address.other = None  # the asynchronous API has no such path: the `/api` is its own, then
                    return
                if is_parameters(answer):
                    address.root, address.other = root, None
                    return
        finally:
            address.settling.release()

    def _read(self, response: httpx.Response) -> None:
        """Reads the body of an error that was to be a stream; what cannot be read is left out."""
        try:
            response.read()
        except httpx.TransportError as broken:
            raise connection_error(broken, response.request.method, str(response.request.url)) from broken
        finally:
            response.close()

    def _try_timeout(self, timeout: Timeout, until: float | None, stream: bool) -> httpx.Timeout:
        usual = self.silence if stream else self._timeout
        if until is None:
            return timeout if isinstance(timeout, httpx.Timeout) else usual
        rest = max(0.001, until - self.clock())
        connect = rest if usual.connect is None else min(rest, usual.connect)
        if not stream:
            return httpx.Timeout(rest, connect=connect)
        # what is left for the stream to begin in is no measure for how long it may be silent later
        read = None if usual.read is None else max(rest, usual.read)
        return httpx.Timeout(rest, connect=connect, read=read)
