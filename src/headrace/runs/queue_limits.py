"""How many runs may wait for a worker, of one workspace and of all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.cache import Cache
from headrace.errors import ServerOverloaded, TooManyRequests
from headrace.ports import Backlog, Backlogs

_MAX_AGE_SECONDS = 0.1  # of the numbers, so that a flood of requests does not count each time
_RESTS = 10  # times as long as counting takes, at least, until it is done again
_MAX_RETRY_SECONDS = 60
_FREED = 0.1  # the share of a bound that is to be free again when a client tries again
_AVERAGED_SECONDS = 10.0  # over which the rate is averaged


@dataclass(slots=True)
class _Waiting:
    """The runs that wait, and how many began to wait no longer in how many seconds; what is longer ago counts less."""

    count: int
    claimed: float
    seconds: float

    @classmethod
    def unmeasured(cls, backlog: Backlog) -> _Waiting:
        """Those that wait have come since the oldest of them: so as many were claimed, if their number was the same."""
        return cls(backlog.waiting, backlog.waiting / max(backlog.oldest, 1.0), 1.0)

    def measured(self, backlog: Backlog, seconds: float) -> _Waiting:
        """What there is `seconds` later. A time without runs to claim says nothing of the rate, nor does a long one, in
        which they may have been claimed at once."""
        if not (self.count and backlog.newest) or seconds > _AVERAGED_SECONDS:
            return self.unmeasured(backlog)
        left = math.exp(-seconds / _AVERAGED_SECONDS)
        claimed = max(0, self.count - backlog.earlier)
        return _Waiting(backlog.waiting, left * self.claimed + claimed, left * self.seconds + seconds)

    def retry_after(self, most: int) -> int:
        """The seconds until a part of the bound is free again, at the rate at which runs are claimed."""
        excess = self.count - most * (1 - _FREED)
        if excess * self.seconds >= _MAX_RETRY_SECONDS * self.claimed:
            return _MAX_RETRY_SECONDS
        return max(1, math.ceil(excess * self.seconds / self.claimed))


class QueueLimits:
    """Refuses runs while too many wait; 0: any number may. A few more than the bound may wait, since the numbers are up
    to 0.1 s old, or older where it takes long to count them."""

    def __init__(
        self, queue: Backlogs, of_workspace: int, of_all: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._queue = queue
        self._of_workspace = of_workspace
        self._of_all = of_all
        self._clock = clock
        self._cache = Cache[Mapping[str | None, _Waiting]](1, _MAX_AGE_SECONDS)
        self._last: Mapping[str | None, _Waiting] = {}
        self._counted_at = 0.0
        self._count_after: float = 0.0
        self._newest: float = 0.0  # when the last run that was counted began to wait

    async def check(self, workspace: str) -> None:
        """TooManyRequests where too many runs of a workspace wait, ServerOverloaded where too many do altogether."""
        waiting = await self._cache.get(None, self._count)
        here, all_ = waiting.get(workspace), waiting[None]
        if self._of_workspace and here is not None and here.count >= self._of_workspace:
            message = f"{here.count} runs of the workspace are waiting. Please try again later."
            raise TooManyRequests(message, here.retry_after(self._of_workspace))
        if self._of_all and all_.count >= self._of_all:
            raise ServerOverloaded(all_.retry_after(self._of_all))

    async def _count(self) -> Mapping[str | None, _Waiting]:
        """What waits, by workspace and (None) altogether. How many of those that were counted last are gone is what all
        processes have claimed since."""
        now = self._clock()
        if self._last and now < self._count_after:
            return self._last
        backlogs: dict[str | None, Backlog] = {**await self._queue.backlogs(self._newest)}
        backlogs[None] = Backlog(
            sum(backlog.waiting for backlog in backlogs.values()),
            max((backlog.oldest for backlog in backlogs.values()), default=0.0),
            max((backlog.newest for backlog in backlogs.values()), default=0.0),
            sum(backlog.earlier for backlog in backlogs.values()),
        )
        last, seconds = self._last, now - self._counted_at
        self._last = {
            workspace: last[workspace].measured(backlog, seconds) if workspace in last else _Waiting.unmeasured(backlog)
            for workspace, backlog in backlogs.items()
        }
        self._count_after = now + _RESTS * (self._clock() - now)
        self._counted_at, self._newest = now, backlogs[None].newest
        return self._last
