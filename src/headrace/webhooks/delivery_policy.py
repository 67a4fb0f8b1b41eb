"""How fast callbacks are delivered, and how often they are retried."""

from __future__ import annotations

import random
from collections.abc import Sequence

from headrace.frozen import frozen

BACK_OFF = (5.0, 30.0, 120.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)  # seconds from a failed attempt to the next


@frozen
class DeliveryPolicy:
    """How callbacks are retried and throttled. Times are in seconds.

    `back_off`: after each failed attempt, the time until the next one; after the last there is none. `jitter`: by which
    share that time varies. `poll_seconds`: how often the store is asked for due callbacks. `concurrency`: attempts at
    once, `per_receiver` of them to one host. `backlog`: queued callbacks of one receiver.
    """

    back_off: Sequence[float] = BACK_OFF
    jitter: float = 0.1
    poll_seconds: float = 3.0
    concurrency: int = 500
    per_receiver: int = 10
    backlog: int = 200

    def spread(self, seconds: float) -> float:
        """The time with jitter."""
        return seconds * random.uniform(1 - self.jitter, 1 + self.jitter)
