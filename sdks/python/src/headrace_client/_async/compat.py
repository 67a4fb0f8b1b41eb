"""What differs from the synchronous half."""

from __future__ import annotations

import asyncio
from asyncio import Lock, sleep

__all__ = ["Lock", "acquire_within", "sleep"]


async def acquire_within(lock: Lock, seconds: float | None) -> bool:
    """Acquires a lock; False if that takes longer than `seconds`."""
    try:
        await asyncio.wait_for(lock.acquire(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
