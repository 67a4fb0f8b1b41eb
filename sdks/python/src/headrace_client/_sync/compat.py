"""What differs from the asynchronous half."""

from __future__ import annotations

from threading import Lock
from time import sleep

__all__ = ["Lock", "acquire_within", "sleep"]


def acquire_within(lock: Lock, seconds: float | None) -> bool:
    """Acquires a lock; False if that takes longer than `seconds`."""
    return lock.acquire(timeout=-1 if seconds is None else seconds)
