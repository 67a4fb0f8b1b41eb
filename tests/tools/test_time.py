"""The provider `time`: Dify's answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.adapters.tools.builtin.time import CURRENT_TIME
from headrace.errors import NodeError
from headrace.ports.services.tool_parameters import arguments
from tests.tools.calling import answer_of, builtin_tools

NOW = datetime(2026, 1, 5, 23, 30, 15, tzinfo=UTC)
TOOLS = builtin_tools(now=NOW.astimezone)


async def ask(name: str, **parameters: Any) -> str:
    return await answer_of(TOOLS, "time", name, parameters)


@pytest.mark.parametrize(
    ("name", "parameters", "answer"),
    [
        ("current_time", {"format": "%Y-%m-%d %H:%M:%S", "timezone": "UTC"}, "2026-01-05 23:30:15"),
        ("current_time", {"format": "%H:%M", "timezone": "Asia/Shanghai"}, "07:30"),
        ("current_time", {"format": "", "timezone": "UTC"}, "2026-01-05 23:30:15 UTC"),
        ("current_time", {"format": "", "timezone": "America/New_York"}, "2026-01-05 18:30:15 EST"),
        ("current_time", {"format": None, "timezone": "Nowhere/Land"}, "Invalid timezone: Nowhere/Land"),
        ("current_time", {"format": None, "timezone": "America"}, "Invalid timezone: America"),
        ("localtime_to_timestamp", {"localtime": "2026-01-05 08:00:00", "timezone": "Asia/Shanghai"}, "1767571200"),
        ("localtime_to_timestamp", {"localtime": "2026-01-05 08:00:00"}, "1767571200"),
        ("localtime_to_timestamp", {"localtime": "2026-1-5 8:0:0", "timezone": "UTC"}, "1767600000"),
        ("localtime_to_timestamp", {"localtime": "1970-01-01 08:00:00"}, "Invalid localtime: 1970-01-01 08:00:00"),
        ("timestamp_to_localtime", {"timestamp": 1767571200, "timezone": "Asia/Tokyo"}, "2026-01-05 09:00:00"),
        ("timestamp_to_localtime", {"timestamp": 1767571200.9}, "2026-01-05 08:00:00"),
        ("timestamp_to_localtime", {"timestamp": 0, "timezone": "UTC"}, "1970-01-01 00:00:00"),
        ("timezone_conversion", {"current_time": "2026-01-05 08:00:00"}, "2026-01-05 09:00:00"),
        (
            "timezone_conversion",
            {"current_time": "2026-07-01 12:00:00", "current_timezone": "UTC", "target_timezone": "Europe/Berlin"},
            "2026-07-01 14:00:00",
        ),
        # clocks are set back: the hour occurs twice
        ("localtime_to_timestamp", {"localtime": "2026-10-25 02:30:00", "timezone": "Europe/Berlin"}, "1792891800"),
        # clocks are set forward: the hour does not exist
        ("localtime_to_timestamp", {"localtime": "2026-03-29 02:30:00", "timezone": "Europe/Berlin"}, "1774747800"),
        ("weekday", {"year": 2026, "month": 1, "day": 5}, "January 5, 2026 is Monday."),
        ("weekday", {"year": 2024, "month": 2, "day": 29}, "February 29, 2024 is Thursday."),
        ("weekday", {"year": 2026, "month": 2, "day": 30}, "Invalid date: Year 2026, Month 2, Day 30."),
        ("weekday", {"year": 0, "month": 1, "day": 1}, "Invalid date: Year 0, Month 1, Day 1."),
    ],
)
async def test_answers(name: str, parameters: dict[str, Any], answer: str):
    assert await ask(name, **parameters) == answer


@pytest.mark.parametrize("name", ["localtime_to_timestamp", "timestamp_to_localtime"])
async def test_an_empty_time_zone_is_the_servers(name: str, monkeypatch: pytest.MonkeyPatch):
    local = datetime(2026, 1, 5, 8).astimezone()
    if name == "localtime_to_timestamp":
        assert await ask(name, localtime="2026-01-05 08:00:00", timezone="") == str(int(local.timestamp()))
    else:
        assert await ask(name, timestamp=local.timestamp(), timezone="") == "2026-01-05 08:00:00"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("localtime_to_timestamp", {"localtime": "5 January"}, "does not match format"),
        ("localtime_to_timestamp", {}, "does not match format"),
        ("localtime_to_timestamp", {"localtime": "2026-01-05 08:00:00", "timezone": "x/y"}, "Invalid timezone: 'x/y'"),
        ("timestamp_to_localtime", {"timestamp": None}, "timestamp is missing"),
        ("timestamp_to_localtime", {"timestamp": 1e20}, "out of range"),
        ("timezone_conversion", {"current_time": "noon"}, "does not match format"),
        (
            "timezone_conversion",
            {"current_time": "2026-01-05 08:00:00", "target_timezone": "../etc"},
            "Invalid timezone: '../etc'",
        ),
        ("weekday", {"year": 2026, "day": 5}, "the month"),
        ("weekday", {"year": 2026, "month": None, "day": 5}, "the month"),
    ],
)
async def test_failures(name: str, parameters: dict[str, Any], message: str):
    with pytest.raises(NodeError, match=message) as raised:
        await ask(name, **parameters)
    assert raised.value.kind == "ToolInvokeError"


def test_the_settings_of_current_time_have_defaults():
    assert arguments(CURRENT_TIME, {}, {}) == {"format": "%Y-%m-%d %H:%M:%S", "timezone": "UTC"}
    with pytest.raises(NodeError, match="value Europe/Paris not in options"):
        arguments(CURRENT_TIME, {}, {"timezone": "Europe/Paris"})


async def test_a_provider_has_its_tools_and_no_others():
    with pytest.raises(NodeError, match="The provider 'time' has no tool 'sundial', only: current_time") as raised:
        await ask("sundial")
    assert raised.value.kind == "ToolNotFoundError"
