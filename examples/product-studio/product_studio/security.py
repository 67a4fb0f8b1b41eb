"""What holds for every request: allowed hosts, headers that keep the browser strict, and a line in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Set

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST_REFUSED = PlainTextResponse("This host is not allowed. See AllowedHosts.\n", 400)


class Guard:
    """Wraps the application, so that the responses to its errors go through here, too."""

    def __init__(self, app: ASGIApp, hosts: Set[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        since, status = time.perf_counter(), 0

        async def respond(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", _cache(scope["path"]))
            await send(message)

        host = _host(Headers(scope=scope).get("host", ""))
        app = self._app if _is_allowed(host, self._hosts) else _HOST_REFUSED
        try:
            await app(scope, receive, respond)
        finally:
            seconds = round(time.perf_counter() - since, 4)
            fields = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": seconds}
            if app is _HOST_REFUSED:
                _log.warning("host %r is not in AllowedHosts", host, extra=fields)
            else:
                _log.info("request", extra=fields)


def _host(value: str) -> str:
    """A Host header without its port, and without the brackets of an IPv6 address."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].lower()


def _is_allowed(host: str, allowed: Set[str]) -> bool:
    if "*" in allowed or host in allowed:
        return True
    return any(name.startswith("*.") and host.endswith(name[1:]) for name in allowed)


def _cache(path: str) -> str:
    """Built files have their content's hash in their name; the page itself is checked again; responses are not kept."""
    if path.startswith("/assets/"):
        return "public, max-age=31536000, immutable"
    return "no-store" if path.startswith("/api/") else "no-cache"
