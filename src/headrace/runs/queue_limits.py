"""How many runs may wait for a worker, of one workspace and of all."""

from __future__ import annotations

import math
from collections.abc import Mapping

from headrace.cache import Cache
from headrace.errors import ServerOverloaded, TooManyRequests
from headrace.ports import Backlog, Backlogs

_MAX_AGE_SECONDS = 0.1  # of the numbers, so that a flood of requests does not count each time
_MAX_RETRY_SECONDS = 60
_FREED = 0.1  # the share of a bound that is to be free again when a client tries again


class QueueLimits:
    """Refuses runs while too many wait; 0: any number may. A few more than the bound may wait, since the numbers are up
    to 0.1 s old."""

    def __init__(self, queue: Backlogs, of_workspace: int, of_all: int) -> None:
        self._queue = queue
        self._of_workspace = of_workspace
        self._of_all = of_all
        self._backlogs = Cache[Mapping[str, Backlog]](1, _MAX_AGE_SECONDS)

    async def check(self, workspace: str) -> None:
        """TooManyRequests where too many runs of a workspace wait, ServerOverloaded where too many do altogether."""
        backlogs = await self._backlogs.get(None, self._queue.backlogs)
        backlog = backlogs.get(workspace)
        if self._of_workspace and backlog is not None and backlog.waiting >= self._of_workspace:
            message = f"{backlog.waiting} runs of the workspace are waiting. Please try again later."
            raise TooManyRequests(message, _retry_after(backlog, self._of_workspace))
        waiting = sum(backlog.waiting for backlog in backlogs.values())
        if self._of_all and waiting >= self._of_all:
            oldest = max(backlog.oldest for backlog in backlogs.values())
            raise ServerOverloaded(_retry_after(Backlog(waiting, oldest), self._of_all))


def _retry_after(backlog: Backlog, most: int) -> int:
    """The seconds until a part of the bound is free again, at the rate at which runs are claimed: those that wait have
    come since the oldest of them, so as many were claimed in that time while their number has stayed the same."""
    rate = backlog.waiting / max(backlog.oldest, 1.0)
    excess = backlog.waiting - most * (1 - _FREED)
    return min(max(1, math.ceil(excess / rate)), _MAX_RETRY_SECONDS)
