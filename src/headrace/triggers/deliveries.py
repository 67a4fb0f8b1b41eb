"""One run for a delivery that its sender repeats within a day."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid5

from headrace.errors import RequestError
from headrace.kernel.events import RunId
from headrace.ports import IdempotencyStore
from headrace.triggers.served import ServedTrigger
from headrace.triggers.signatures import Delivery

_SECONDS = 24 * 3600.0
_DONE = 200


class Deliveries:
    """Knows the deliveries of the last day. The id of a run follows from that of the delivery and from when it was
    first seen, so that a repetition starts no other run, across processes and crashes."""

    def __init__(self, store: IdempotencyStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def once(
        self, trigger: ServedTrigger, delivery: Delivery | None, start: Callable[[RunId | None], Awaitable[object]]
    ) -> None:
        """Calls `start` with the id of the run, unless the delivery has started one; without a delivery, with None. 409
        for one with the same id and another body."""
        if delivery is None:
            await start(None)
            return
        app, now = trigger.app.id, self._clock()
        key = f"{trigger.source} {hashlib.sha256(delivery.id.encode()).hexdigest()}"
        existing = await self._store.claim(app, key, delivery.digest, now, now - _SECONDS)
        if existing is not None and existing.digest != delivery.digest:
            raise RequestError("The Idempotency-Key was used with another body.", "idempotency_conflict", 409)
        if existing is None or existing.status is None:
            at = now if existing is None else existing.created_at
            run = str(uuid5(UUID(trigger.id), f"{delivery.id} {at!r}"))
            await start(run)
            await self._store.complete(app, key, _DONE, run.encode())
