"""Cron expressions, as Dify writes them, and the instants at which they are due."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_LONGEST = 200  # characters of an expression
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DAYS_OF_MONTH, _DAYS_OF_WEEK, _MINUTES = "1-31", "0-6", "0-59"
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_VALUES = (range(60), range(24), range(1, 32), range(1, 13), range(7))  # of the fields
_NAMES = ((), (), (), _MONTHS, _WEEKDAYS)
_RANGE = re.compile(r"([0-9]{1,2}|[A-Z]{3})-([0-9]{1,2}|[A-Z]{3})(?:/([0-9]{1,2}))?")
_WORKDAY = re.compile(r"W?([1-9]|[12][0-9]|3[01])W?")


class Schedule:
    """When a schedule is due. ValueError if the expression or the time zone is not valid.

    A local time that the clocks skip is due at the first instant after it. One that they repeat is due once, the first
    time; an expression whose hour is `*` or `*/2` is due each time.
    """

    def __init__(self, expression: str, timezone: str) -> None:
        self.expression = five_fields(expression)
        self.timezone = timezone
        self._zone = _zone(timezone)
        self._cron, self._workday = _without_workday(self.expression)
        self._check()

    def __str__(self) -> str:
        return f"{self.expression} ({self.timezone})"

    def after(self, at: float) -> Iterator[float]:
        """The instants after a time, in seconds since the epoch."""
        from cronsim import CronSim

        for due in CronSim(self._cron, datetime.fromtimestamp(at, self._zone)):
            if self._workday and due.day != _nearest_workday(due, self._workday):
                continue
            instant = due.timestamp()
            if instant > at:  # within a repeated hour, its first pass may come first
                yield instant

    def next(self, at: float) -> float | None:
        """The first instant after a time; None if there is none."""
        return next(self.after(at), None)

    def latest(self, since: float, until: float) -> float | None:
        """The last instant after a time and not after another; None if there is none."""
        latest = None
        for instant in self.after(since):
            if instant > until:
                break
            latest = instant
        return latest

    def local(self, at: float) -> datetime:
        """An instant in the schedule's time zone."""
        return datetime.fromtimestamp(at, self._zone)

    def _check(self) -> None:
        from cronsim import CronSim, CronSimError

        try:
            CronSim(self._cron, datetime.fromtimestamp(0, self._zone))
        except CronSimError as error:
            raise ValueError(f"{self.expression!r} is not a valid cron expression: {error}") from None


def _without_workday(expression: str) -> tuple[str, int]:
    """An expression as cronsim reads it, and the day of the month whose nearest weekday it names, 0 if it names none:
    with `15W` the days around the 15th."""
    minute, hour, day, month, weekday = expression.split()
    match = _WORKDAY.fullmatch(day) if "W" in day else None
    if match is None:
        return expression, 0
    workday = int(match[1])
    days = f"{max(1, min(workday - 2, 26))}-{min(31, workday + 2)}"  # February ends on the 28th, or two days earlier
    return f"{minute} {hour} {days} {month} {weekday}", workday


def _nearest_workday(at: datetime, day: int) -> int:
    """The day from Monday to Friday of that month which is nearest to a day, or to the month's last."""
    last = monthrange(at.year, at.month)[1]
    day = min(day, last)
    match at.replace(day=day).weekday():
        case 5:
            return day - 1 if day > 1 else day + 2
        case 6:
            return day + 1 if day < last else day - 2
        case _:
            return day


def five_fields(expression: str) -> str:
    """An expression in five fields, as cronsim reads them. ValueError if it has not five.

    Facts (croniter, which Dify uses): `?` stands for `*`, a day of the week `L` for Sunday, and `L5` for the last
    Friday of the month. A range may wrap around, as `FRI-SUN` and `22-2`, and `7` begin one as Sunday; `1/2` in the
    days of the week ends on Saturday. A step in a range that wraps around is counted so that `22-4/2` is 22, 0, 2 and
    4, but `23-4/2` is 23, 2 and 4. `15W` or `W15` is the day from Monday to Friday that is nearest to the 15th,
    whatever the days of the week are. If both day fields are restricted, either is enough, also where one begins with
    `*/`.

    `*/30 2` names local times as `0,30 2` does, so that the change of the clocks must not skip them; cronsim does skip
    those of an expression whose minutes begin with `*`.
    """
    text = " ".join(expression.split())
    if len(text) > _LONGEST:
        raise ValueError(f"a cron expression has {_LONGEST} characters at most")
    fields = _NAMED.get(text.lower(), text).upper().split()
    if len(fields) != 5:
        raise ValueError(f"{text!r} is not a cron expression: it must have five fields, or be @daily or the like")
    fields = ["*" if field == "?" else field for field in fields]
    fields[4] = ",".join(map(_weekday, fields[4].split(",")))
    minute, hour, day, month, weekday = (
        ",".join(_unwrapped(item, values, names) for item in field.split(","))
        for field, values, names in zip(fields, _VALUES, _NAMES, strict=True)
    )
    day = day.replace("?", "*")
    if "W" in day and _WORKDAY.fullmatch(day):
        weekday = "*"
    if not hour.startswith("*"):
        minute = minute.replace("*", _MINUTES)
    if "*" not in (day, weekday):
        day, weekday = day.replace("*", _DAYS_OF_MONTH), weekday.replace("*", _DAYS_OF_WEEK)
    return f"{minute} {hour} {day} {month} {weekday}"


def _weekday(item: str) -> str:
    """A day of the week, or several, as cronsim reads them."""
    if item == "L":
        return "0"
    item = re.sub(r"^L([0-7])$", r"\1L", item)  # the last one of the month
    item = re.sub(r"^7/", "0/", item)
    return re.sub(r"^([0-6]|[A-Z]{3})/", r"\1-6/", item)


def _unwrapped(item: str, values: Sequence[int], names: Sequence[str]) -> str:
    """The values of a range that wraps around; another item is returned as it is."""
    if (match := _RANGE.fullmatch(item)) is None:
        return item
    by_name = dict(zip(names, values, strict=False))
    first, last = (int(end) if end.isdigit() else by_name.get(end, -1) for end in match.groups()[:2])
    step = int(match[3] or 1)
    if first == 7 and last < 7 and names is _WEEKDAYS:
        first = 0
    if first not in values or last not in values or first <= last or not step:
        return f"{first}-{last}" + item[match.end(2) :] if item.startswith("7-") else item
    before = range(first, values[-1] + 1, step)
    rest = values[-1] - before[-1]
    gap = step - rest if before[-1] - values[0] + step > len(values) and rest < step else 0
    return ",".join(map(str, [*range(values[0] + gap, last + 1, step), *before]))


def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name[:100]!r} is not a time zone") from None
