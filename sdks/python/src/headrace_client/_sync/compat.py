"""What is another thing in the asynchronous half."""

from __future__ import annotations

from threading import Lock
from time import sleep

__all__ = ["Lock", "acquired", "sleep"]


def acquired(lock: Lock, seconds: float | None) -> bool:
    """Takes a lock. Whether it was free within so many seconds."""
    return lock.acquire(timeout=-1 if seconds is None else seconds)
