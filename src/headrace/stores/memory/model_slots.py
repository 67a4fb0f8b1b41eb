"""Slots for calls of models without other processes."""

from __future__ import annotations

from headrace.ports import Granted


class MemoryModelSlots:
    """Implements ModelSlots."""

    async def request(self, name: str, limit: int, active: int, waiting: int) -> Granted:
        return Granted(max(0, min(waiting, limit - active)), others_wait=False)
