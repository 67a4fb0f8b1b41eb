"""What is another thing in the synchronous half."""

from __future__ import annotations

from asyncio import Lock, sleep

__all__ = ["Lock", "sleep"]
