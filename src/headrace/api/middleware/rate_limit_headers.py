"""How limits show on the wire: `RateLimit` headers on the answers to calls that met one.

`RateLimit-Limit`, `-Remaining` and `-Reset` tell of the limit with the fewest left; `RateLimit-Policy` and `RateLimit`
(draft-ietf-httpapi-ratelimit-headers-10) of every kind that was met. Resets are the seconds until all of it is there
again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.rate_limits import CALL, Call, Met

HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy", "RateLimit")
_EXPOSED = (b"access-control-expose-headers", ", ".join(HEADERS).encode())


class Limiting:
    """Wraps the API: notes which limits a call meets, and tells of them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = Call()
        token = CALL.set(call)

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and call.met:
                message["headers"] = [*message.get("headers", ()), *headers_of(call.met)]
            await send(message)

        try:
            await self._app(scope, receive, telling)
        finally:
            CALL.reset(token)


def headers_of(met: Sequence[Met]) -> list[tuple[bytes, bytes]]:
    """What is told of the limits that a call met: of each kind the one with the fewest left."""
    tightest: dict[str, Met] = {}
    for each in met:
        known = tightest.get(each.kind)
        if known is None or (each.left, -each.reset) < (known.left, -known.reset):
            tightest[each.kind] = each
    first = min(tightest.values(), key=lambda each: (each.left, -each.reset))
    every = [tightest[kind] for kind in sorted(tightest)]
    policies = [f'"{each.kind}";q={each.limit}' + (f";w={each.window}" if each.window else "") for each in every]
    states = [f'"{each.kind}";r={each.left};t={_whole(each.reset)}' for each in every]
    values = (str(first.limit), str(first.left), str(_whole(first.reset)), ", ".join(policies), ", ".join(states))
    told = [(name.lower().encode(), value.encode()) for name, value in zip(HEADERS, values, strict=True)]
    return [*told, _EXPOSED]


def _whole(seconds: float) -> int:
    return max(0, math.ceil(seconds - 1e-6))
