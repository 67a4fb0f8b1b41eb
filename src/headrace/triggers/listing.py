"""Triggers as lists show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from headrace.frozen import frozen
from headrace.nodes.cron import Schedule
from headrace.ports.journal import ListedRun
from headrace.triggers.served import ServedTrigger, TriggerService
from headrace.triggers.timer import schedule_of


@frozen
class TriggerLine:
    """A trigger as it is now. `path` is that of a webhook's URL; `next_at` is when a schedule is due."""

    trigger: ServedTrigger
    status: Literal["active", "paused", "invalid"]
    path: str | None
    schedule: Schedule | None
    next_at: float | None
    last_run: ListedRun | None


async def trigger_lines(service: TriggerService, triggers: Sequence[ServedTrigger]) -> list[TriggerLine]:
    states, now = await service.states(triggers), service.clock()
    lines: list[TriggerLine] = []
    for trigger in triggers:
        schedule, paused = schedule_of(trigger), states[trigger.id].paused
        next_at = None if schedule is None else schedule.next(now)
        invalid = trigger.trigger.kind == "schedule" and next_at is None
        status = "invalid" if invalid else "paused" if paused else "active"
        shown_at = None if paused else next_at
        lines.append(
            TriggerLine(trigger, status, service.path(trigger), schedule, shown_at, await service.last_run(trigger))
        )
    return lines
