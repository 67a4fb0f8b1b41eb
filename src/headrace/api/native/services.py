"""The services of the asynchronous API, besides those that every dialect uses."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.api.native.idempotency import Idempotency
from headrace.batches import BatchRunner
from headrace.ports import IdempotencyStore
from headrace.triggers import SubscriptionService
from headrace.webhooks import WebhookSender


@dataclass
class NativeServices:
    """Filled in by `server.serve`; `idempotency` is the one that all endpoints share."""

    idempotency_store: IdempotencyStore
    webhook_sender: WebhookSender
    batch_runner: BatchRunner
    subscriptions: SubscriptionService
    idempotency: Idempotency = field(init=False)

    def __post_init__(self) -> None:
        self.idempotency = Idempotency(self.idempotency_store)
