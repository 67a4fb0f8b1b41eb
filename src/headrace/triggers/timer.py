"""Starts the runs of schedules when they are due.

One task sleeps until the next instant of any schedule. The id of a run follows from its trigger and its instant, so
that several processes on one database, and a restart, start it once. An instant that was missed, because no process was
running or the clock jumped, is made up for if it is the last one and not older than `grace` seconds.

`handled` of a trigger's state begins when its schedule is first seen, changes, is resumed, or is served again after a
version without it: what was due before does not count. It begins anew as well if the clock was set back by more than
`grace`: a process that was started with a clock years ahead would otherwise have handled those years.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID, uuid5

from headrace.background import Periodic
from headrace.errors import RequestError
from headrace.nodes.cron import Schedule
from headrace.nodes.trigger_schedule import TriggerSchedule
from headrace.ports import TriggerState
from headrace.triggers.served import ServedTrigger, TriggerService

logger = logging.getLogger(__name__)

_LONGEST_SLEEP = 60.0  # seconds: another process may have published an app, and the clock may have been set


class ScheduleTimer:
    """`run` continues until it is cancelled."""

    def __init__(self, triggers: TriggerService, grace: float) -> None:
        self._triggers = triggers
        self._grace = grace
        self._polling = Periodic("looking for due schedules", self.poll, _LONGEST_SLEEP)

    def wake(self) -> None:
        """An app has changed."""
        self._polling.wake()

    async def run(self) -> None:
        await self._polling.run()

    async def poll(self) -> float:
        """Starts what is due. Returns how many seconds to sleep."""
        apps = await self._triggers.run_service.apps.catalog.apps()
        scheduled = [
            trigger for trigger in await self._triggers.triggers(apps) if isinstance(trigger.trigger, TriggerSchedule)
        ]
        await self._triggers.forget_removed(apps, scheduled)
        states = await self._triggers.states(scheduled)
        pause = _LONGEST_SLEEP
        for served in scheduled:
            following = await self._fire(served, states[served.id])
            if following is not None:
                pause = min(pause, max(0.0, following - self._triggers.clock()))
        return pause

    async def _fire(self, served: ServedTrigger, state: TriggerState) -> float | None:
        """Starts the run of a schedule if it is due. Returns when it is due next."""
        schedule = schedule_of(served)
        if schedule is None:
            return None
        now = self._triggers.clock()
        is_ahead = state.handled > now + self._grace
        if is_ahead:
            logger.warning("%s, %s: the clock was set back, it begins anew", served.app.source, served.title)
            await self._triggers.store.advance_trigger(served.id, served.app.id, "", now)  # only this decreases it
        if is_ahead or state.schedule != str(schedule):
            await self._advance(served, schedule, now)
            return schedule.next(now)
        if state.paused:
            return schedule.next(now)  # another process may have resumed it by then
        due = schedule.next(state.handled)
        if due is None or due > now:
            return due
        latest = schedule.latest(max(state.handled, now - self._grace), now)
        if latest != due:
            missed = datetime.fromtimestamp(due, UTC).isoformat()
            logger.warning("%s, %s: missed what was due from %s on", served.app.source, served.title, missed)
        if latest is not None:
            try:
                await self._triggers.fire(served, {}, str(uuid5(UUID(served.id), f"due {latest!r}")))
            except RequestError as error:
                if error.status == 503:
                    raise  # this process is about to end: the next one starts the run
                logger.error("%s, %s: not started: %s", served.app.source, served.title, error)
        await self._advance(served, schedule, now if latest is None else latest)
        return schedule.next(now)

    async def _advance(self, served: ServedTrigger, schedule: Schedule, until: float) -> None:
        await self._triggers.store.advance_trigger(served.id, served.app.id, str(schedule), until)


def schedule_of(served: ServedTrigger) -> Schedule | None:
    """The schedule of a trigger; None if it has none, or one that is not valid, which `lint` reports."""
    try:
        return served.trigger.schedule if isinstance(served.trigger, TriggerSchedule) else None
    except ValueError:
        return None
