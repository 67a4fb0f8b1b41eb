"""The time limit of a whole body, so that a peer cannot evade the idle time-out by sending single bytes."""

from __future__ import annotations

SLOWEST = 1024.0  # bytes a second; a faster peer is not limited


def last_moment(since: float, seconds: float, size: int) -> float:
    """The deadline of a body that began at `since`, after `size` bytes: `seconds`, plus the time that they may take at
    the slowest rate. Times in seconds, by the same clock."""
    return since + seconds + size / SLOWEST
