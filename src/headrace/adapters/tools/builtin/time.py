"""The provider `time`: what time it is, and conversions between times, timestamps and time zones."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, tzinfo
from zoneinfo import ZoneInfo

from headrace.adapters.tools.builtin.builtin_tool import INVOKE_ERROR, BuiltinTool
from headrace.errors import NodeError
from headrace.ports.services import ToolContext, ToolParameter, ToolSpec
from headrace.values import Value

FORMAT = "%Y-%m-%d %H:%M:%S"
_SHANGHAI, _TOKYO = "Asia/Shanghai", "Asia/Tokyo"
_ZONES = (
    "UTC",
    "America/New_York",
    "America/Los_Angeles",
    "America/Chicago",
    "America/Sao_Paulo",
    _SHANGHAI,
    "Asia/Ho_Chi_Minh",
    _TOKYO,
    "Asia/Dubai",
    "Asia/Kolkata",
    "Asia/Seoul",
    "Asia/Singapore",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Moscow",
    "Australia/Sydney",
    "Pacific/Auckland",
    "Africa/Cairo",
)
"""Those that the editor offers as settings; parameters take any."""


def time_tools(now: Callable[[tzinfo], datetime]) -> Sequence[BuiltinTool]:
    """The tools of the provider. `now` is the time in a time zone."""

    def current_time(parameters: Mapping[str, Value]) -> str:
        name = parameters.get("timezone") or "UTC"
        try:
            zone = _zone(name)
        except ValueError:
            return f"Invalid timezone: {name}"
        return now(zone).strftime(parameters.get("format") or f"{FORMAT} %Z")

    return (
        _tool(CURRENT_TIME, current_time),
        _tool(LOCALTIME_TO_TIMESTAMP, _localtime_to_timestamp),
        _tool(TIMESTAMP_TO_LOCALTIME, _timestamp_to_localtime),
        _tool(TIMEZONE_CONVERSION, _timezone_conversion),
        _tool(WEEKDAY, _weekday),
    )


def _tool(spec: ToolSpec, function: Callable[[Mapping[str, Value]], str]) -> BuiltinTool:
    """A tool that fails with what is wrong with its parameters."""

    async def call(parameters: Mapping[str, Value], context: ToolContext) -> str:
        try:
            return function(parameters)
        except (ValueError, OverflowError, OSError) as error:
            raise NodeError(str(error), INVOKE_ERROR) from error

    return BuiltinTool(spec, call)


CURRENT_TIME = ToolSpec(
    "current_time",
    "Current Time",
    "A tool for getting the current time.",
    (
        ToolParameter("format", form="form", default=FORMAT, label="Format", description="Format, as of strftime"),
        ToolParameter("timezone", "select", form="form", default="UTC", options=_ZONES, label="Timezone"),
    ),
)
LOCALTIME_TO_TIMESTAMP = ToolSpec(
    "localtime_to_timestamp",
    "localtime to timestamp",
    "Converts a local time to a timestamp.",
    (
        ToolParameter("localtime", required=True, description="The local time, such as 2024-1-1 0:0:0"),
        ToolParameter("timezone", default=_SHANGHAI, description="The time zone, such as Asia/Shanghai"),
    ),
)
TIMESTAMP_TO_LOCALTIME = ToolSpec(
    "timestamp_to_localtime",
    "Timestamp to localtime",
    "Converts a timestamp to a local time.",
    (
        ToolParameter("timestamp", "number", required=True, description="Seconds since 1970"),
        ToolParameter("timezone", default=_SHANGHAI, description="The time zone, such as Asia/Shanghai"),
    ),
)
TIMEZONE_CONVERSION = ToolSpec(
    "timezone_conversion",
    "convert time to equivalent time zone",
    "Converts a time to another time zone.",
    (
        ToolParameter("current_time", required=True, description="The time, such as 2024-1-1 0:0:0"),
        ToolParameter("current_timezone", required=True, default=_SHANGHAI, description="Its time zone"),
        ToolParameter("target_timezone", required=True, default=_TOKYO, description="The other time zone"),
    ),
)
WEEKDAY = ToolSpec(
    "weekday",
    "Weekday Calculator",
    "Calculates the weekday of a date.",
    tuple(ToolParameter(name, "number", required=True, description=f"The {name}") for name in ("year", "month", "day")),
)


def _localtime_to_timestamp(parameters: Mapping[str, Value]) -> str:
    localtime = parameters.get("localtime")
    timestamp = int(_moment(localtime, parameters.get("timezone", _SHANGHAI)).timestamp())
    return str(timestamp) if timestamp else f"Invalid localtime: {localtime}"  # Dify takes 0 for a failure


def _timestamp_to_localtime(parameters: Mapping[str, Value]) -> str:
    timestamp, name = parameters.get("timestamp"), parameters.get("timezone", _SHANGHAI)
    if timestamp is None:
        raise ValueError("The timestamp is missing.")
    return datetime.fromtimestamp(timestamp, UTC).astimezone(_zone(name) if name else None).strftime(FORMAT)


def _timezone_conversion(parameters: Mapping[str, Value]) -> str:
    moment = _moment(parameters.get("current_time"), parameters.get("current_timezone", _SHANGHAI))
    return moment.astimezone(_zone(parameters.get("target_timezone", _TOKYO))).strftime(FORMAT)


def _weekday(parameters: Mapping[str, Value]) -> str:
    year, month, day = (parameters.get(name) for name in ("year", "month", "day"))
    if year is None or month is None or day is None:
        raise ValueError("The year, the month and the day are required.")
    try:
        target_day = date(int(year), int(month), int(day))
    except (ValueError, OverflowError):
        return f"Invalid date: Year {year}, Month {month}, Day {day}."
    return f"{calendar.month_name[target_day.month]} {target_day.day}, {target_day.year} is {target_day:%A}."


def _zone(name: str) -> tzinfo:
    """The time zone of an IANA name. ValueError if there is none."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; not a name; a folder of names
        raise ValueError(f"Invalid timezone: {name!r}") from None


def _moment(text: Value, name: str) -> datetime:
    """A local time in a time zone, "" for the server's. One that occurs twice, as clocks are set back, is the later
    one; one that never does, as clocks are set forward, is as much later. As in Dify."""
    zone = _zone(name) if name else None
    local = datetime.strptime(str(text or ""), FORMAT)  # noqa: DTZ007  # its zone is added here
    return max((local.replace(tzinfo=zone, fold=fold) for fold in (0, 1)), key=datetime.timestamp).astimezone(UTC)
