"""Timers that are only noted."""

from __future__ import annotations

from headrace.ports import Timer, TimerKind
from headrace.runs.service import RunService
from headrace.runs.timers import LocalTimers


class NotedTimers(LocalTimers):
    """Those that were set, none of which brings its moment."""

    def __init__(self, run_service: RunService) -> None:
        super().__init__(run_service.environment.clock)
        self.set_so_far: list[Timer] = []
        run_service.timers = self

    def set(self, timer: Timer) -> None:
        self.set_so_far.append(timer)

    def times(self, kind: TimerKind) -> list[float]:
        """When those of a kind are due that were set since the last call."""
        times = [timer.at for timer in self.set_so_far if timer.kind == kind]
        self.set_so_far.clear()
        return times
