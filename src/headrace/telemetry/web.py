"""Observes every request: for the metrics and, if enabled, the access log. Serves `/metrics`."""

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
CLIENT_CLOSED_REQUEST = 499  # the client closed the connection; as in nginx
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STREAMED = b"text/event-stream"
_STARTED, _STATUS, _STREAM = "headrace.began", "headrace.status", "headrace.stream"


class RequestTelemetry:
    """The observer of `RequestContext`. `access_log`: log a line for each request."""

    def __init__(self, metrics: Metrics | None, *, access_log: bool = False) -> None:
        self._metrics = metrics
        self._access_log = access_log

    def on_request(self, scope: Scope, request: str) -> None:
        """A request has arrived; `request` is its id."""
        REQUEST.set(request)
        scope[_STARTED] = time.perf_counter()

    def on_headers(self, scope: Scope, head: Message) -> None:
        """The headers of its response are sent."""
        scope[_STATUS] = head["status"]
        if self._metrics and any(value.startswith(_STREAMED) for _, value in head["headers"]):
            self._metrics.streams += 1
            scope[_STREAM] = time.perf_counter()

    def on_done(self, scope: Scope) -> None:
        """The request has ended, with or without a response."""
        now = time.perf_counter()
        started, status, stream = scope[_STARTED], scope.get(_STATUS, CLIENT_CLOSED_REQUEST), scope.get(_STREAM)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", "unmatched")
        if self._metrics:
            self._metrics.requests.add((route, method, str(status)))
            self._metrics.request_seconds.add((route, method), (stream or now) - started)
            if stream:
                self._metrics.streams -= 1
        if self._access_log:
            seconds = round(now - started, 6)
            fields = {"method": method, "path": scope["path"], "status": status, "seconds": seconds}
            logger.info("%s %s %d", method, route, status, extra={**fields, "client": _client(scope)})


def _client(scope: Scope) -> str | None:
    return scope["client"][0] if scope.get("client") else None


class MetricsRoute:
    """`/metrics`. With a `token`, requests must send it as a bearer token. `refresh` reads what is not counted here."""

    def __init__(self, metrics: Metrics, refresh: Callable[[], Awaitable[None]], token: str | None = None) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._token = token

    async def endpoint(self, request: Request) -> Response:
        if self._token is not None:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            matches = hmac.compare_digest(token.strip().encode(), self._token.encode())
            if scheme.lower() != "bearer" or not matches:
                raise Unauthorized("The token for metrics is missing or wrong.")
        await self._refresh()
        return Response(self._metrics.text(), media_type=None, headers={"Content-Type": CONTENT_TYPE})
