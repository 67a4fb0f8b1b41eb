"""How fast callbacks are delivered, and how often they are tried."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

BACK_OFF = (5.0, 30.0, 120.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)  # seconds from a failed try to the next


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How callbacks are retried and throttled. Times are in seconds.

    `back_off`: how long after each failed try the next one comes; after the last there is none. `jitter`: by which
    share of that it may come earlier or later. `poll_seconds`: how often the store is asked for what is due.
    `concurrency`: tries under way at once, `per_receiver` of them to one host. `backlog`: callbacks of one receiver
    that are held ready.
    """

    back_off: Sequence[float] = BACK_OFF
    jitter: float = 0.1
    poll_seconds: float = 3.0
    concurrency: int = 500
    per_receiver: int = 10
    backlog: int = 200

    def spread(self, seconds: float) -> float:
        """About that long."""
        return seconds * random.uniform(1 - self.jitter, 1 + self.jitter)
