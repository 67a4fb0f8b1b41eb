"""Starts the runs of schedules when they are due.

A timer is set to the next instant of each schedule, and all are looked at every minute. The id of a run follows from
its trigger and its instant, so that several processes on one database, and a restart, start it once. An instant that
was missed, because no process was running or the clock jumped, is made up for if it is the last one and not older than
`grace` seconds.

`handled` of a trigger's state begins when its schedule is first seen, changes, is resumed, or is served again after a
version without it: what was due before does not count. It begins anew as well if the clock was set back by more than
`grace`: a process that was started with a clock years ahead would otherwise have handled those years.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

from headrace.background import Batched, Periodic
from headrace.errors import RequestError
from headrace.nodes.cron import Schedule
from headrace.nodes.trigger_schedule import TriggerSchedule
from headrace.ports import Timer, TimerKind, TriggerState
from headrace.triggers.served import ServedTrigger, TriggerService

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0  # another process may have published an app, and the clock may have been set
_HANDLED_AT_ONCE = 10_000  # schedules


class ScheduleTimer:
    """`run` continues until it is cancelled."""

    def __init__(self, triggers: TriggerService, grace: float) -> None:
        self._triggers = triggers
        self._grace = grace
        self._timers = triggers.run_service.timers
        look_seconds = self._timers.look_seconds(_LOOK_SECONDS)
        self._polling = Periodic("looking for due schedules", self.poll, look_seconds)
        self._handling = Batched(self._handle, _HANDLED_AT_ONCE)  # many schedules are due at the same time

    def wake(self) -> None:
        """An app has changed, or a schedule is due."""
        self._polling.wake()

    async def run(self) -> None:
        async with self._timers.serving(TimerKind.SCHEDULE, self):
            await self._polling.run()

    async def handle(self, row: str) -> None:
        await self._handling.get(row)

    async def _handle(self, rows: Sequence[str]) -> Mapping[str, None]:
        await self.poll()
        return {}

    async def poll(self) -> None:
        """Starts what is due, and sets the timers of what will be."""
        apps = await self._triggers.run_service.apps.catalog.apps()
        schedules = [
            trigger for trigger in await self._triggers.triggers(apps) if isinstance(trigger.trigger, TriggerSchedule)
        ]
        await self._triggers.forget_removed(apps, schedules)
        states = await self._triggers.states(schedules)
        for trigger in schedules:
            following = await self._fire(trigger, states[trigger.id])
            if following is not None:
                self._timers.set(Timer(TimerKind.SCHEDULE, trigger.id, following, trigger.app.id))

    async def _fire(self, trigger: ServedTrigger, state: TriggerState) -> float | None:
        """Starts the run of a schedule if it is due. Returns when it is due next."""
        schedule = schedule_of(trigger)
        if schedule is None:
            return None
        now = self._triggers.clock()
        is_ahead = state.handled > now + self._grace
        if is_ahead:
            logger.warning(
                "%s, %s: the clock was set back; counting starts from the current time",
                trigger.app.source,
                trigger.title,
            )
            await self._triggers.store.advance_trigger(trigger.id, trigger.app.id, "", now)  # only this decreases it
        if is_ahead or state.schedule != str(schedule):
            await self._advance(trigger, schedule, now)
            return schedule.next(now)
        if state.paused:
            return schedule.next(now)  # another process may have resumed it by then
        due = schedule.next(state.handled)
        if due is None or due > now:
            return due
        latest = schedule.latest(max(state.handled, now - self._grace), now)
        if latest != due:
            missed_at = datetime.fromtimestamp(due, UTC).isoformat()
            logger.warning("%s, %s: missed what was due from %s on", trigger.app.source, trigger.title, missed_at)
        if latest is not None:
            try:
                await self._triggers.fire(trigger, {}, str(uuid5(UUID(trigger.id), f"due {latest!r}")))
            except RequestError as error:
                if error.status == 503:
                    raise  # this process is about to end: the next one starts the run
                logger.error("%s, %s: not started: %s", trigger.app.source, trigger.title, error)
        await self._advance(trigger, schedule, now if latest is None else latest)
        return schedule.next(now)

    async def _advance(self, trigger: ServedTrigger, schedule: Schedule, until: float) -> None:
        await self._triggers.store.advance_trigger(trigger.id, trigger.app.id, str(schedule), until)


def schedule_of(trigger: ServedTrigger) -> Schedule | None:
    """The schedule of a trigger; None if it has none, or one that is not valid, which `lint` reports."""
    try:
        return trigger.trigger.schedule if isinstance(trigger.trigger, TriggerSchedule) else None
    except ValueError:
        return None
