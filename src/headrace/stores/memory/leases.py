"""Leases and claims without other processes."""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from headrace.kernel.events import RunId
from headrace.ports import Journal


class MemoryLeases:
    """Implements Leases: every unfinished run belongs to this worker."""

    worker = "the only one"
    expired = False
    shared = False
    others = 0
    next_expiry = inf

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def heartbeat(self) -> bool:
        return False

    async def orphaned(self) -> list[RunId]:
        return await self._journal.unfinished()

    async def undriven(self, most: int) -> list[RunId]:
        return []  # no worker could have died

    async def living_workers(self) -> set[str]:
        return {self.worker}

    async def acquire(self, of: Collection[RunId]) -> set[RunId]:
        return {*of} & {*await self._journal.unfinished()}

    async def disown(self, run: RunId) -> None:
        """No other worker could acquire it."""

    async def release(self, keep: Collection[RunId] = ()) -> None:
        """No other worker could acquire them."""


class MemoryClaims:
    """Implements Claims: no other worker claims anything."""

    async def claim(self, names: Collection[str]) -> set[str]:
        return set(names)

    async def release(self, names: Collection[str]) -> None:
        """No other worker could claim them."""
