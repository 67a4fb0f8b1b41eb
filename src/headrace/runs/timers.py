"""Timers of one process: its loops look at the database often enough to find what those of others have set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from headrace.ports.timers import DueRows, Timer, TimerKind

_HORIZON_SECONDS = 90.0  # longer than any time between looks at the database; what is due later, they find
_EARLY_SECONDS = 0.01  # before a timer is tried again that came early


class LocalTimers:
    """Implements Timers: wakes the rows at the moment."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rows: dict[TimerKind, DueRows] = {}
        self._handles: dict[Timer, asyncio.TimerHandle] = {}

    def set(self, timer: Timer) -> None:
        left = timer.at - self._clock()
        if timer.kind in self._rows and timer not in self._handles and left < _HORIZON_SECONDS:
            self._wait(timer, max(0.0, left))

    def _wait(self, timer: Timer, seconds: float) -> None:
        self._handles[timer] = asyncio.get_running_loop().call_later(seconds, self._end, timer)

    def _end(self, timer: Timer) -> None:
        if (left := timer.at - self._clock()) > 0:
            self._wait(timer, max(left, _EARLY_SECONDS))
        else:
            del self._handles[timer]
            self._rows[timer.kind].wake()

    @asynccontextmanager
    async def serving(self, kind: TimerKind, rows: DueRows) -> AsyncGenerator[None]:
        self._rows[kind] = rows
        try:
            yield
        finally:
            del self._rows[kind]
            for timer in [timer for timer in self._handles if timer.kind == kind]:
                self._handles.pop(timer).cancel()

    def look_seconds(self, usual: float) -> float:
        return usual
