"""trigger-schedule: a run at each instant of a schedule. It has no outputs but the system variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from headrace.node import Config, OutputType, null_means_default
from headrace.nodes.cron import Schedule
from headrace.nodes.trigger import Trigger

_TIME = re.compile(r"\s*(1[0-2]|0?[1-9]):([0-5]?[0-9])\s+([AP])M\s*", re.IGNORECASE)
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class VisualConfig(Config):
    """What the editor's form has."""

    time: str = "12:00 AM"
    on_minute: Annotated[int, Field(ge=0, le=59)] = 0
    weekdays: list[Literal["sun", "mon", "tue", "wed", "thu", "fri", "sat"]] = Field(default_factory=list[Any])
    monthly_days: list[int | Literal["last"]] = Field(default_factory=list[Any])

    _null = null_means_default("time", "on_minute", "weekdays", "monthly_days")


class ScheduleConfig(Config):
    mode: Literal["visual", "cron"] = "visual"
    frequency: Literal["hourly", "daily", "weekly", "monthly"] = "daily"
    visual_config: VisualConfig = Field(default_factory=VisualConfig)
    cron_expression: str = ""
    timezone: str = "UTC"

    _null = null_means_default("mode", "frequency", "visual_config", "cron_expression", "timezone")


class TriggerSchedule(Trigger[ScheduleConfig]):
    type = "trigger-schedule"
    kind: ClassVar[str] = "schedule"
    notes: ClassVar[str] = "by the rules of triggers.md for changes of the clocks and missed times"

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {}

    @cached_property
    def schedule(self) -> Schedule:
        """When it is due. ValueError if that is not valid."""
        config = self.config
        return Schedule(config.cron_expression if config.mode == "cron" else _visual(config), config.timezone or "UTC")

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        try:
            if self.schedule.next(0.0) is None:
                yield (), f"the schedule {self.schedule} is never due"
        except ValueError as error:
            yield (), f"the schedule is never due: {error}"


def _visual(config: ScheduleConfig) -> str:
    """The cron expression of the editor's form. ValueError if something is missing."""
    visual = config.visual_config
    if config.frequency == "hourly":
        return f"{visual.on_minute} * * * *"
    match = _TIME.fullmatch(visual.time)
    if match is None:
        raise ValueError(f"{visual.time[:50]!r} is not a time such as 9:30 AM")
    time = f"{int(match[2])} {int(match[1]) % 12 + (12 if match[3].upper() == 'P' else 0)}"
    if config.frequency == "daily":
        return f"{time} * * *"
    if config.frequency == "weekly":
        if not visual.weekdays:
            raise ValueError("it has no days of the week")
        return f"{time} * * {','.join(sorted(str(_WEEKDAYS.index(day)) for day in set(visual.weekdays)))}"
    if not visual.monthly_days:
        raise ValueError("it has no days of the month")
    days = [str(day) for day in sorted({day for day in visual.monthly_days if isinstance(day, int)})]
    return f"{time} {','.join([*days, *(['L'] if 'last' in visual.monthly_days else [])])} * *"
