"""Storage: all ports of one store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.ports.async_api import Batches, Callbacks, IdempotencyStore
from headrace.ports.catalog import Catalog
from headrace.ports.conversations import Conversations
from headrace.ports.dispatch import Backlogs, RunQueue
from headrace.ports.forms import Forms
from headrace.ports.journal import Claims, Journal, Leases, Runs
from headrace.ports.model_slots import ModelSlots
from headrace.ports.pruning import Pruner
from headrace.ports.rate_limits import Buckets
from headrace.ports.triggers import SubscriptionStore, Triggers

if TYPE_CHECKING:
    from headrace.ports.knowledge_store import KnowledgeStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The ports of one store; `pruner` is None where it forgets by itself, `queue`, `unstarted` and `knowledge`
    where it belongs to one process. `unstarted` counts the runs that nobody has started, whatever brings them to
    workers."""

    journal: Journal
    leases: Leases
    claims: Claims
    runs: Runs
    catalog: Catalog
    conversations: Conversations
    forms: Forms
    idempotency: IdempotencyStore
    callbacks: Callbacks
    batches: Batches
    buckets: Buckets
    model_slots: ModelSlots
    triggers: Triggers
    subscriptions: SubscriptionStore
    pruner: Pruner | None
    queue: RunQueue | None
    unstarted: Backlogs | None
    knowledge: KnowledgeStorage | None

    async def aclose(self) -> None:
        """Closes the store; the ports cannot be used after that."""
