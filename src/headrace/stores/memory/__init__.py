"""Storage in memory: for one-off runs, tests, and services that need not remember."""

from __future__ import annotations

from headrace.ports import Storage
from headrace.stores.memory.async_api import MemoryBatches, MemoryCallbacks, MemoryIdempotency
from headrace.stores.memory.buckets import MemoryBuckets
from headrace.stores.memory.catalog import MemoryCatalog
from headrace.stores.memory.conversations import MemoryConversations
from headrace.stores.memory.journal import MemoryJournal
from headrace.stores.memory.leases import MemoryClaims, MemoryLeases
from headrace.stores.memory.model_slots import MemoryModelSlots
from headrace.stores.memory.subscriptions import MemorySubscriptions
from headrace.stores.memory.triggers import MemoryTriggers

__all__ = ["MemoryCallbacks", "MemoryConversations", "MemoryJournal", "memory_storage"]


def memory_storage(journal: MemoryJournal | None = None, *, keep: int = 10_000) -> Storage:
    """Storage of its own. Of ended runs, delivered callbacks and the lines of ended batches the last `keep` are
    kept."""
    journal = journal or MemoryJournal(MemoryCallbacks(keep), MemoryConversations(), keep)
    idempotency, batches, triggers = MemoryIdempotency(), MemoryBatches(keep), MemoryTriggers()
    owners = (idempotency, journal.callbacks, batches, journal.conversations, triggers)
    return Storage(
        journal=journal,
        leases=MemoryLeases(journal),
        claims=MemoryClaims(),
        runs=journal,
        catalog=MemoryCatalog([owner.remove_of for owner in owners]),
        conversations=journal.conversations,
        forms=journal.forms,
        idempotency=idempotency,
        callbacks=journal.callbacks,
        batches=batches,
        buckets=MemoryBuckets(journal.row),
        model_slots=MemoryModelSlots(),
        triggers=triggers,
        subscriptions=MemorySubscriptions(),
        pruner=None,
        queue=None,
        unstarted=None,
        knowledge=None,
    )
