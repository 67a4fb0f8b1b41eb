"""Hears of every request: for the metrics, and for a line of log each where that is wanted. Answers `/metrics`."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope

from headrace.errors import Unauthorized
from headrace.telemetry.logs import REQUEST
from headrace.telemetry.metrics import Metrics

logger = logging.getLogger("headrace.access")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLIENT_CLOSED_REQUEST = 499  # nobody was left to be answered
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STREAMED = b"text/event-stream"
_STARTED, _STATUS, _STREAM = "headrace.began", "headrace.status", "headrace.stream"


class RequestTelemetry:
    """Hears of requests from `RequestContext`. `access_log`: a line for each."""

    def __init__(self, metrics: Metrics | None, *, access_log: bool = False) -> None:
        self._metrics = metrics
        self._access_log = access_log

    def on_request(self, scope: Scope, request: str) -> None:
        """A request has come in; `request` is its id."""
        REQUEST.set(request)
        scope[_STARTED] = time.perf_counter()

    def on_headers(self, scope: Scope, head: Message) -> None:
        """The head of its answer goes out."""
        scope[_STATUS] = head["status"]
        if self._metrics and any(value.startswith(_STREAMED) for _, value in head["headers"]):
            self._metrics.streams += 1
            scope[_STREAM] = time.perf_counter()

    def on_done(self, scope: Scope) -> None:
        """It is over, whatever became of it."""
        now = time.perf_counter()
        began, status, stream = scope[_STARTED], scope.get(_STATUS, CLIENT_CLOSED_REQUEST), scope.get(_STREAM)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", "unmatched")
        if self._metrics:
            self._metrics.requests.add((route, method, str(status)))
            self._metrics.request_seconds.add((route, method), (stream or now) - began)
            if stream:
                self._metrics.streams -= 1
        if self._access_log:
            seconds = round(now - began, 6)
            more = {"method": method, "path": scope["path"], "status": status, "seconds": seconds}
            logger.info("%s %s %d", method, route, status, extra={**more, "client": _client(scope)})


def _client(scope: Scope) -> str | None:
    return scope["client"][0] if scope.get("client") else None


class MetricsRoute:
    """`/metrics`. With a `token`, whoever asks must bear it. `look` refreshes what is looked up, and may wait."""

    def __init__(self, metrics: Metrics, refresh: Callable[[], Awaitable[None]], token: str | None = None) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._token = token

    async def endpoint(self, request: Request) -> Response:
        if self._token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            known = hmac.compare_digest(given.strip().encode(), self._token.encode())
            if scheme.lower() != "bearer" or not known:
                raise Unauthorized("The token for metrics is missing or wrong.")
        await self._refresh()
        return Response(self._metrics.text(), media_type=None, headers={"Content-Type": CONTENT_TYPE})
