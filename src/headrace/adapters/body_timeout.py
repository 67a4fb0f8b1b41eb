"""How long a body may take in all: who drips it, a byte before each time-out, is not waited for."""

from __future__ import annotations

SLOWEST = 1024.0  # bytes a second: who is faster has time for as long a body as it likes


def last_moment(since: float, seconds: float, size: int) -> float:
    """When a body that was begun at `since` has to have gone on, of which `size` bytes have come: it has `seconds`, and
    the time that so much takes at the slowest. Times in seconds, by one clock."""
    return since + seconds + size / SLOWEST
