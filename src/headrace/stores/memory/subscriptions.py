"""Subscriptions to services in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.ports import TriggerSubscription


class MemorySubscriptions:
    """Implements SubscriptionStore."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, TriggerSubscription] = {}

    async def add_subscription(self, subscription: TriggerSubscription) -> bool:
        names = {(other.workspace, other.name) for other in self._subscriptions.values()}
        if (subscription.workspace, subscription.name) in names:
            return False
        self._subscriptions[subscription.id] = subscription
        return True

    async def find_subscription(self, subscription: str) -> TriggerSubscription | None:
        return self._subscriptions.get(subscription)

    async def subscriptions(self, workspace: str | None = None) -> Sequence[TriggerSubscription]:
        candidates = [
            subscription for subscription in self._subscriptions.values() if workspace in (None, subscription.workspace)
        ]
        return sorted(candidates, key=lambda subscription: (subscription.workspace, subscription.name))

    async def due_subscriptions(self, now: float, limit: int) -> Sequence[TriggerSubscription]:
        due = [
            (subscription.refresh_at, subscription.id, subscription)
            for subscription in self._subscriptions.values()
            if subscription.refresh_at is not None
            and subscription.refresh_at <= now
            and subscription.claimed_until <= now
        ]
        return [one for _, _, one in sorted(due)[:limit]]

    async def claim_subscription(
        self, subscription: str, claim: str, now: float, until: float
    ) -> TriggerSubscription | None:
        record = self._subscriptions.get(subscription)
        if record is None or now < record.claimed_until <= until + (until - now):
            return None
        new = self._subscriptions[subscription] = replace(record, claim=claim, claimed_until=until)
        return new

    async def save_subscription(self, subscription: TriggerSubscription, claim: str) -> bool:
        record = self._subscriptions.get(subscription.id)
        if record is None or record.claim != claim:
            return False
        self._subscriptions[subscription.id] = subscription
        return True

    async def remove_subscription(self, subscription: str, claim: str) -> bool:
        record = self._subscriptions.get(subscription)
        if record is None or record.claim != claim:
            return False
        del self._subscriptions[subscription]
        return True
