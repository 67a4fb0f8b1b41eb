"""How many connections a process may hold: its limit of open files, less what it needs for anything else."""

from __future__ import annotations

import sys
from typing import NamedTuple

_UNLIMITED = 1_000_000
_LEAST = 16  # connections, however few descriptors there are


class ConnectionLimit(NamedTuple):
    """`most` connections of callers; `spare` descriptors are kept for the database, files, models and programs."""

    most: int
    spare: int


def connection_limit(limit: int | None = None) -> ConnectionLimit:
    """Of a limit of open files (RLIMIT_NOFILE unless given) a quarter is kept, at least 64 and at most 1024."""
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
