"""What is another thing in the synchronous half."""

from __future__ import annotations

import asyncio
from asyncio import Lock, sleep

__all__ = ["Lock", "acquired", "sleep"]


async def acquired(lock: Lock, seconds: float | None) -> bool:
    """Takes a lock. Whether it was free within so many seconds."""
    try:
        await asyncio.wait_for(lock.acquire(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
