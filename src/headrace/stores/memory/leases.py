"""Leases and claims where there is no other process."""

from __future__ import annotations

from collections.abc import Collection

from headrace.kernel.events import RunId
from headrace.ports import Journal


class MemoryLeases:
    """Implements Leases: every unfinished run is this worker's own."""

    shared = False

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def heartbeat(self) -> bool:
        return False

    async def orphaned(self) -> list[RunId]:
        return await self._journal.unfinished()

    async def acquire(self, run: RunId) -> bool:
        return run in await self._journal.unfinished()

    async def release(self, keep: Collection[RunId] = ()) -> None:
        """There is nobody else to take them."""


class MemoryClaims:
    """Implements Claims: there is nobody else to claim anything."""

    async def claim(self, names: Collection[str]) -> set[str]:
        return set(names)

    async def release(self, names: Collection[str]) -> None:
        """Nothing was taken from anybody."""
