"""`RateLimit` headers on the responses to calls that a limit applied to.

`RateLimit-Limit`, `-Remaining` and `-Reset` describe the limit with the fewest left; `RateLimit-Policy` and `RateLimit`
(draft-ietf-httpapi-ratelimit-headers-10) every kind that applied. Resets are the seconds until the limit is fully
available again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from headrace.rate_limits import LimitState

HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy", "RateLimit")
_EXPOSED = (b"access-control-expose-headers", ", ".join(HEADERS).encode())


def headers_of(limit_states: Sequence[LimitState]) -> list[tuple[bytes, bytes]]:
    """The headers for the limits that applied to a call: of each kind the one with the fewest left."""
    tightest: dict[str, LimitState] = {}
    for limit in limit_states:
        current = tightest.get(limit.kind)
        if current is None or (limit.left, -limit.reset) < (current.left, -current.reset):
            tightest[limit.kind] = limit
    first = min(tightest.values(), key=lambda limit: (limit.left, -limit.reset))
    limits = [tightest[kind] for kind in sorted(tightest)]
    policies = [f'"{limit.kind}";q={limit.limit}' + (f";w={limit.window}" if limit.window else "") for limit in limits]
    states = [f'"{limit.kind}";r={limit.left};t={_whole(limit.reset)}' for limit in limits]
    values = (str(first.limit), str(first.left), str(_whole(first.reset)), ", ".join(policies), ", ".join(states))
    headers = [(name.lower().encode(), value.encode()) for name, value in zip(HEADERS, values, strict=True)]
    return [*headers, _EXPOSED]


def _whole(seconds: float) -> int:
    return max(0, math.ceil(seconds - 1e-6))
