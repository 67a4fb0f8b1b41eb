"""What clients may rely on: every response names the API's version, and removals are announced long before.

Plain ASGI, as `request_context` is, so that streams pass through untouched.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.api.http.routing import Operation

NOTICE_MONTHS = 6  # at least, between the announcement that a route will be removed and its removal
_DEPRECATION = "headrace.deprecation"  # in a request's scope: the headers that its route adds


class VersionHeaders:
    """Wraps the whole API, `RequestContext` included: responses to paths under one of `prefixes` get `headers`, and
    those of a deprecated route its headers; also errors, expected or not."""

    def __init__(self, app: ASGIApp, prefixes: Sequence[str], headers: Mapping[str, str]) -> None:
        self._app = app
        self._roots = tuple(prefixes)
        self._under = tuple(f"{prefix}/" for prefix in prefixes)
        self._always = _raw(headers)
        self._always.append((b"access-control-expose-headers", ", ".join(headers).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        ours = path.startswith(self._under) or path in self._roots

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                always = self._always if ours else []
                message["headers"] = [*message.get("headers", ()), *always, *scope.get(_DEPRECATION, ())]
            await send(message)

        await self._app(scope, receive, send_with_headers)


@dataclass(frozen=True, slots=True)
class Deprecation:
    """That an operation should not be used any more; see `deprecated`."""

    since: date
    sunset: date
    link: str

    @property
    def headers(self) -> Mapping[str, str]:
        """Deprecation (RFC 9745), Sunset (RFC 8594), and where to read what to do instead."""
        return {
            "Deprecation": f"@{int(_midnight(self.since).timestamp())}",
            "Sunset": format_datetime(_midnight(self.sunset), usegmt=True),
            "Link": f'<{self.link}>; rel="deprecation"; type="text/html"',
        }

    def of(self, operation: Operation) -> Operation:
        """The operation, described as deprecated; all its responses have the headers."""
        headers = _raw(self.headers)

        async def endpoint(request: Request) -> Response:
            request.scope[_DEPRECATION] = headers
            return await operation.endpoint(request)

        until = f"Deprecated since {self.since}, available until {self.sunset}: see {self.link}."
        description = f"{operation.description}\n\n{until}"
        return replace(operation, endpoint=endpoint, deprecated=True, description=description)


def deprecated(since: date, sunset: date, link: str) -> Deprecation:
    """Announces that a route will be removed at `sunset` (a day, UTC). `link` is a page that says what to use instead.

    ValueError if that is less than six months after `since`, or the link is not an http or https URL.
    """
    earliest = _months_after(since, NOTICE_MONTHS)
    if sunset < earliest:
        raise ValueError(f"a route deprecated on {since} must be available until {earliest} at least, not {sunset}")
    plain = link.isascii() and link.isprintable() and not set(link) & set(' <>"\\')
    if not plain or urlsplit(link).scheme not in ("http", "https") or not urlsplit(link).hostname:
        raise ValueError(f"{link!r} is not an http or https URL")
    return Deprecation(since, sunset, link)


def _months_after(day: date, months: int) -> date:
    """The same day of the month, or its last one where it is shorter."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
