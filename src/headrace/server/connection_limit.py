"""How many connections a process may have: its limit of open files, less what it needs for other purposes."""

from __future__ import annotations

import sys
from typing import NamedTuple

_UNLIMITED = 1_000_000
_LEAST = 16  # connections, however few descriptors there are


class ConnectionLimit(NamedTuple):
    """`most` connections of clients; `spare` descriptors are reserved for the database, files, models and programs."""

    most: int
    spare: int


def connection_limit(limit: int | None = None) -> ConnectionLimit:
    """A quarter of the limit of open files (RLIMIT_NOFILE unless given) is reserved, at least 64 and at most 1024."""
    if limit is None:
        limit = _limit()
    spare = min(max(64, limit // 4), 1024)
    return ConnectionLimit(max(_LEAST, limit - spare), spare)


def _limit() -> int:
    if sys.platform == "win32":
        return _UNLIMITED
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft
