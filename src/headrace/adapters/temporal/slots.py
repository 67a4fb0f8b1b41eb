"""Headrace's slots as those of a worker of Temporal's SDK."""

from __future__ import annotations

import asyncio

from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerTuner,
)

from headrace.ports.dispatch import Slots


class _SlotSupplier(CustomSlotSupplier):
    """Slots that a drive can lend while it waits for another one."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._loop = asyncio.get_running_loop()

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        await self._slots.acquire()
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        pass

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        self._loop.call_soon_threadsafe(self._slots.release)  # the SDK calls it in a thread of its own


def tuner(slots: Slots) -> WorkerTuner:
    """For a worker that does nothing but activities."""
    one_slot = FixedSizeSlotSupplier(1)
    return WorkerTuner.create_composite(
        workflow_supplier=one_slot,
        activity_supplier=_SlotSupplier(slots),
        local_activity_supplier=one_slot,
        nexus_supplier=one_slot,
    )
