"""The hosts that receive callbacks: how many attempts each has at once, and how long what comes next has to wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace.webhooks.delivery_policy import DeliveryPolicy

_LONGEST_POSTPONED = 300.0  # seconds: a slow receiver may have become faster


@dataclass(slots=True)
class Receiver:
    """A host that receives callbacks. `queued`: those in its queue; `room`: for attempts; `seconds`: the average
    duration of an attempt; `busy_until`: when the postponed ones will have been sent."""

    room: asyncio.Semaphore
    queued: int = 0
    seconds: float = 0.05
    busy_until: float = 0.0


class Receivers:
    """The receivers with callbacks in their queues."""

    def __init__(self, policy: DeliveryPolicy) -> None:
        self._policy = policy
        self._receivers: dict[str, Receiver] = {}

    def of(self, url: str) -> Receiver:
        host = _host(url)
        receiver = self._receivers.get(host)
        if receiver is None:
            receiver = self._receivers[host] = Receiver(asyncio.Semaphore(self._policy.per_receiver))
        return receiver

    def leave(self, url: str, receiver: Receiver) -> None:
        """One of the callbacks in the queue has been tried."""
        receiver.queued -= 1
        if not receiver.queued:
            del self._receivers[_host(url)]

    def postponed_to(self, receiver: Receiver, now: float) -> float:
        """When a callback that does not fit into the queue will be due."""
        seconds = receiver.seconds / self._policy.per_receiver
        receiver.busy_until = max(receiver.busy_until, now + receiver.queued * seconds) + seconds
        return min(receiver.busy_until, now + _LONGEST_POSTPONED)


def _host(url: str) -> str:
    """The receiver of a URL, for its queue."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return url
