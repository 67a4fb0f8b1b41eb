"""When schedules are due, and the runs that they start: on time, once, and after a pause of the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from headrace.background import background
from headrace.errors import NotFound
from headrace.nodes.cron import Schedule, five_fields
from headrace.nodes.trigger_schedule import TriggerSchedule
from headrace.ports import TimerKind
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage
from headrace.triggers import ScheduleTimer
from tests.timers import NotedTimers
from tests.triggers.world import Clock, World, cron, triggered, webhook, world

HOUR, DAY = 3600.0, 86400.0


def at(text: str) -> float:
    """Seconds since the epoch of a time in UTC, or with its own offset."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def due(expression: str, timezone: str, since: str, count: int) -> list[str]:
    schedule = Schedule(expression, timezone)
    return [schedule.local(instant).strftime("%m-%d %H:%M%z") for instant in islice(schedule.after(at(since)), count)]


@pytest.mark.parametrize(
    ("expression", "timezone", "since", "expected"),
    [
        # the clocks go forward: a time that does not exist is due at the first instant after it
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-07T12:00",
            ["03-08 03:00-0400", "03-09 02:30-0400", "03-10 02:30-0400"],
        ),
        ("0,30 2 * * *", "America/New_York", "2026-03-08T00:00", ["03-08 03:00-0400", "03-09 02:00-0400"]),
        ("*/30 2 * * *", "America/New_York", "2026-03-07T12:00", ["03-08 03:00-0400", "03-09 02:00-0400"]),
        ("0 * * * *", "America/New_York", "2026-03-08T05:30", ["03-08 01:00-0500", "03-08 03:00-0400"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["10-04 02:30+1100", "10-05 02:15+1100"]),
        # and back: a time that comes twice is due once, one of every hour each time
        ("30 1 * * *", "America/New_York", "2026-11-01T00:00", ["11-01 01:30-0400", "11-02 01:30-0500"]),
        ("30 1 * * *", "America/New_York", "2026-11-01T06:10", ["11-02 01:30-0500", "11-03 01:30-0500"]),
        ("*/30 1 * * *", "America/New_York", "2026-11-01T05:10", ["11-01 01:30-0400", "11-02 01:00-0500"]),
        (
            "0 * * * *",
            "America/New_York",
            "2026-11-01T04:30",
            ["11-01 01:00-0400", "11-01 01:00-0500", "11-01 02:00-0500"],
        ),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        # leap days, and ends of months
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["02-29 00:00+0000", "02-29 00:00+0000"]),
        ("0 9 L * *", "Asia/Shanghai", "2028-02-01T00:00", ["02-29 09:00+0800", "03-31 09:00+0800"]),
        ("0 9 1,15,L * *", "UTC", "2026-02-02T00:00", ["02-15 09:00+0000", "02-28 09:00+0000", "03-01 09:00+0000"]),
        ("0 9 * * 5L", "UTC", "2026-01-01T00:00", ["01-30 09:00+0000", "02-27 09:00+0000"]),
        # Dify's own spellings
        ("0 9 ? * L", "UTC", "2026-11-30T00:00", ["12-06 09:00+0000"]),
        ("0 9 * * L5", "UTC", "2026-01-01T00:00", ["01-30 09:00+0000", "02-27 09:00+0000"]),
        ("0 9 * * fri-SUN", "UTC", "2026-11-30T00:00", ["12-04 09:00+0000", "12-05 09:00+0000", "12-06 09:00+0000"]),
        ("0 22-1 * * *", "UTC", "2026-11-30T22:30", ["11-30 23:00+0000", "12-01 00:00+0000", "12-01 01:00+0000"]),
        ("0 9 1 NOV-jan *", "UTC", "2026-11-30T00:00", ["12-01 09:00+0000", "01-01 09:00+0000", "11-01 09:00+0000"]),
        ("0 9 * * 1/2", "UTC", "2026-12-04T10:00", ["12-07 09:00+0000", "12-09 09:00+0000", "12-11 09:00+0000"]),
        ("0 9 * * fri-MON/2", "UTC", "2026-11-30T10:00", ["12-04 09:00+0000", "12-06 09:00+0000"]),
        ("0 9 * * 7-2", "UTC", "2026-11-30T10:00", ["12-01 09:00+0000", "12-06 09:00+0000", "12-07 09:00+0000"]),
        ("0 9 * * 7/3", "UTC", "2026-11-30T10:00", ["12-02 09:00+0000", "12-05 09:00+0000", "12-06 09:00+0000"]),
        ("0 23-4/2 * * *", "UTC", "2026-11-30T10:00", ["11-30 23:00+0000", "12-01 02:00+0000"]),
        ("0 9 15W * *", "UTC", "2026-01-01T00:00", ["01-15 09:00+0000", "02-16 09:00+0000"]),
        ("0 9 W1 * MON", "UTC", "2026-07-02T00:00", ["08-03 09:00+0000", "09-01 09:00+0000", "10-01 09:00+0000"]),
        ("0 9 31W * *", "UTC", "2026-01-01T00:00", ["01-30 09:00+0000", "02-27 09:00+0000", "03-31 09:00+0000"]),
        ("0 9 * * 7", "UTC", "2026-11-30T00:00", ["12-06 09:00+0000"]),
        ("0 9 */10 * mon", "UTC", "2026-01-05T12:00", ["01-11 09:00+0000", "01-12 09:00+0000", "01-19 09:00+0000"]),
        ("@daily", "Asia/Kolkata", "2026-11-30T00:00", ["12-01 00:00+0530"]),
        (" 5  4 * jan,FEB MON-FRI ", "UTC", "2026-11-30T00:00", ["01-01 04:05+0000"]),
    ],
)
def test_when_it_is_due(expression: str, timezone: str, since: str, expected: list[str]):
    assert due(expression, timezone, since, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "must have five fields"),
        ("* * * * * *", "must have five fields"),
        ("@reboot", "must have five fields"),
        ("60 * * * *", "Bad minute"),
        ("a * * * *", "Bad minute"),
        ("*/0 * * * *", "Bad minute"),
        ("0 9 * * FRI-JAN", "Bad day-of-week"),
        ("0 9 * * SAT-MON/0", "Bad day-of-week"),
        ("0 9 15,20W * *", "Bad day-of-month"),
        ("0 9 32W * *", "Bad day-of-month"),
        ("0 0 31 2 *", "Bad day-of-month"),
        ("1," * 200 + "1 * * * *", "200 characters at most"),
    ],
)
def test_expressions_that_are_not_valid(expression: str, message: str):
    with pytest.raises(ValueError, match=message):
        Schedule(expression, "UTC")


@pytest.mark.parametrize("timezone", ["", "Mars/Base", "../etc/passwd", "\0"])
def test_time_zones_that_are_not_valid(timezone: str):
    with pytest.raises(ValueError, match="is not a time zone"):
        Schedule("@daily", timezone)


@pytest.mark.parametrize(
    ("config", "expression"),
    [
        ({"frequency": "hourly", "visual_config": {"on_minute": 5}}, "5 * * * *"),
        ({"frequency": "daily", "visual_config": {"time": "9:30 AM"}}, "30 9 * * *"),
        ({"visual_config": {"time": "12:05 am"}}, "5 0 * * *"),
        ({"visual_config": {"time": "9:5 PM"}}, "5 21 * * *"),
        ({"visual_config": {"time": "12:00 PM"}}, "0 12 * * *"),
        ({"visual_config": None, "timezone": None}, "0 0 * * *"),
        ({"frequency": "weekly", "visual_config": {"time": "1:00 PM", "weekdays": ["fri", "sun"]}}, "0 13 * * 0,5"),
        (
            {"frequency": "monthly", "visual_config": {"time": "1:00 PM", "monthly_days": ["last", 15, 1]}},
            "0 13 1,15,L * *",
        ),
        ({"mode": "cron", "cron_expression": "@weekly"}, "0 0 * * 0"),
        # exports have the editor's default in `config`, whatever was chosen
        ({"visual_config": {"time": "9:30 AM"}, "config": {"mode": "cron", "cron_expression": "bad"}}, "30 9 * * *"),
    ],
)
def test_the_form_of_the_editor(config: dict[str, Any], expression: str):
    node = TriggerSchedule(TriggerSchedule.Config.model_validate(config))
    assert node.schedule.expression == expression
    assert list(node.problems()) == []


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"visual_config": {"time": "25:00"}}, "'25:00' is not a time such as 9:30 AM"),
        ({"frequency": "weekly"}, "it has no days of the week"),
        ({"frequency": "monthly"}, "it has no days of the month"),
        ({"mode": "cron"}, "must have five fields"),
        ({"timezone": "Moon"}, "'Moon' is not a time zone"),
    ],
)
def test_a_schedule_that_is_not_valid_is_reported(config: dict[str, Any], problem: str):
    node = TriggerSchedule(TriggerSchedule.Config.model_validate(config))
    ((_, message),) = node.problems()
    assert message.startswith("the schedule is never due: ")
    assert problem in message


def test_named_expressions():
    assert [five_fields(name) for name in ("@yearly", "@hourly")] == ["0 0 1 1 *", "0 * * * *"]


# -------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path, clock=Clock(at("2026-11-30T08:00"))) as running:
        yield running


async def starts(here: World) -> list[str]:
    """When runs were started."""
    return [datetime.fromtimestamp(run.created_at, UTC).strftime("%d %H:%M") for run in await here.runs()]


async def test_runs_start_when_they_are_due(here: World):
    await here.publish(triggered(cron("0 9 * * *"), outputs={"at": ["sys", "timestamp"]}))
    timers = NotedTimers(here.run_service)
    timer = ScheduleTimer(here.triggers, HOUR)
    for early in ("2026-11-30T08:00", "2026-11-30T08:59:30", "2026-11-30T08:59:59.999"):
        here.clock.now = at(early)
        await timer.poll()
        assert timers.times(TimerKind.SCHEDULE) == [at("2026-11-30T09:00")]
    assert await here.runs() == []
    here.clock.now = at("2026-11-30T09:00:00.02")
    for _ in range(3):
        await timer.poll()
    assert await starts(here) == ["30 09:00"]
    (queued,) = await here.queued()
    assert (queued.source, queued.start, queued.inputs) == ("trigger-schedule:t1", "t1", {})
    assert (await here.outputs())["sys.timestamp"] == at("2026-11-30T09:00")


async def test_what_was_due_before_it_was_served_resumed_or_changed_does_not_start(here: World):
    timer = ScheduleTimer(here.triggers, HOUR)
    here.clock.now = at("2026-11-30T09:10")
    await here.publish(triggered(cron("0 9 * * *")))
    await timer.poll()
    here.clock.now = at("2026-11-30T09:20")
    await here.publish(triggered(cron("15 9 * * *")))
    await timer.poll()
    assert await starts(here) == []
    await here.triggers.pause(await here.trigger(), paused=True)
    here.clock.now = at("2026-12-01T09:16")
    await timer.poll()
    await here.triggers.pause(await here.trigger(), paused=False)
    await timer.poll()
    assert await starts(here) == []
    here.clock.now = at("2026-12-02T09:15:01")
    await timer.poll()
    assert await starts(here) == ["02 09:15"]


async def test_a_schedule_that_another_process_resumes_starts_on_time(here: World):
    await here.publish(triggered(cron("0 9 * * *")))
    timers, trigger = NotedTimers(here.run_service), await here.trigger()
    timer = ScheduleTimer(here.triggers, HOUR)
    await here.triggers.pause(trigger, paused=True)
    here.clock.now = at("2026-11-30T08:59:30")
    await timer.poll()
    assert timers.times(TimerKind.SCHEDULE) == [at("2026-11-30T09:00")]
    await here.triggers.pause(trigger, paused=False)
    here.clock.now += 30.0
    await timer.poll()
    assert await starts(here) == ["30 09:00"]


@pytest.mark.parametrize("without", [webhook(), cron("0 9 * * *", id="other")])
async def test_what_was_due_while_a_schedule_was_not_served_does_not_start(here: World, without: dict[str, Any]):
    """The same schedule comes back within the grace, as after a rollback of an app."""
    scheduled, timer = triggered(cron("30 9 * * *")), ScheduleTimer(here.triggers, HOUR)
    await here.publish(scheduled)
    await timer.poll()
    here.clock.now = at("2026-11-30T09:25")
    await here.publish(triggered(without))
    await timer.poll()
    here.clock.now = at("2026-11-30T09:40")
    await here.publish(scheduled)
    await timer.poll()
    assert await here.runs() == []
    here.clock.now = at("2026-12-01T09:30:01")
    await timer.poll()
    assert await starts(here) == ["01 09:30"]


async def test_a_schedule_that_cannot_be_loaded_for_a_time_is_kept(here: World, monkeypatch: pytest.MonkeyPatch):
    """Another process, of a newer version, may run it."""
    await here.publish(triggered(cron("30 9 * * *")))
    timer = ScheduleTimer(here.triggers, HOUR)
    await timer.poll()
    here.clock.now = at("2026-11-30T09:25")

    async def version(*_: Any) -> Any:
        raise NotFound("Version not found")

    with monkeypatch.context() as patch:
        patch.setattr(here.run_service.apps, "version", version)
        await timer.poll()
    here.clock.now = at("2026-11-30T09:35")
    await timer.poll()
    assert await starts(here) == ["30 09:35"]


async def test_of_what_was_missed_the_last_one_starts_unless_it_is_too_old(
    here: World, caplog: pytest.LogCaptureFixture
):
    await here.publish(triggered(cron("*/15 * * * *"), cron("0 9 * * *", id="daily")))
    timer = ScheduleTimer(here.triggers, HOUR)
    await timer.poll()
    here.clock.now = at("2026-11-30T11:20")
    await timer.poll()
    assert [(run.source, run.created_at) for run in await here.runs()] == [("trigger-schedule:t1", here.clock.now)]
    assert caplog.text.count("missed what was due from") == 2
    here.clock.now = at("2026-11-30T11:29")
    await timer.poll()
    assert len(await here.runs()) == 1


async def test_a_clock_that_goes_back_starts_nothing_again(here: World):
    await here.publish(triggered(cron("0 9 * * *")))
    timer = ScheduleTimer(here.triggers, HOUR)
    await timer.poll()
    for moment in ("2026-11-30T09:00:01", "2026-11-30T08:59:00", "2026-11-30T09:00:05"):
        here.clock.now = at(moment)
        await timer.poll()
    assert len(await here.runs()) == 1


async def test_a_clock_that_was_years_ahead_does_not_stop_a_schedule(here: World, caplog: pytest.LogCaptureFixture):
    await here.publish(triggered(cron("0 9 * * *")))
    timer = ScheduleTimer(here.triggers, HOUR)
    for moment in ("2026-11-30T09:00", "2030-01-01T09:00", "2026-11-30T08:59", "2026-11-30T09:00:01"):
        here.clock.now = at(moment)
        await timer.poll()
    assert await starts(here) == ["30 09:00", "01 09:00"]
    assert caplog.text.count("the clock was set back") == 1
    for moment in ("2026-12-01T09:00:01", "2026-12-02T09:00:01"):
        here.clock.now = at(moment)
        await timer.poll()
    assert len(await here.runs()) == 4


async def test_two_processes_and_a_restart_start_it_once(tmp_path: Path):
    storage = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    clock = Clock(at("2026-11-01T00:00-04:00"))
    async with world(tmp_path, storage, clock) as first, world(tmp_path, storage, clock) as second:
        await first.publish(triggered(cron("30 1 * * *", "America/New_York")))
        timers = [ScheduleTimer(first.triggers, DAY), ScheduleTimer(second.triggers, DAY)]
        await asyncio.gather(*(timer.poll() for timer in timers))
        # through the repeated hour, in steps of ten minutes
        for _ in range(24):
            clock.now += 600
            await asyncio.gather(*(timer.poll() for timer in timers))
        assert len(await first.runs()) == 1
    async with world(tmp_path, storage, clock) as third:
        await ScheduleTimer(third.triggers, DAY).poll()
        assert len(await third.runs()) == 1
        clock.now = at("2026-11-02T01:45-05:00")
        await ScheduleTimer(third.triggers, DAY).poll()
        assert len(await third.runs()) == 2
    await storage.aclose()


async def test_an_app_that_is_published_wakes_the_timer(here: World):
    polled: asyncio.Queue[int] = asyncio.Queue()

    class Timer(ScheduleTimer):
        async def poll(self) -> None:
            polled.put_nowait(len(await here.triggers.triggers()))
            await super().poll()

    timer = Timer(here.triggers, HOUR)
    async with background("schedules", timer.run()), asyncio.timeout(60):
        assert await polled.get() == 0
        await here.publish(triggered(cron("0 0 1 1 *")))
        timer.wake()
        assert await polled.get() == 1


async def test_an_app_without_triggers_is_not_loaded(here: World, monkeypatch: pytest.MonkeyPatch):
    plain = triggered(cron("0 9 * * *")).replace("trigger-schedule", "start").replace("cron_expression", "ignored")
    await here.publish(plain)

    async def version(*_: Any) -> Any:
        raise AssertionError("it was loaded")

    monkeypatch.setattr(here.run_service.apps, "version", version)
    timers = NotedTimers(here.run_service)
    await ScheduleTimer(here.triggers, HOUR).poll()
    assert timers.set_so_far == []


async def test_an_app_of_an_older_version_gets_its_triggers_when_it_is_served_again(tmp_path: Path):
    storage = memory_storage()
    async with world(tmp_path, storage) as here:
        release = await here.publish(triggered(cron("0 9 * * *")))
        app = await storage.catalog.app(release.app.id)
        assert app is not None
        settings = {name: value for name, value in app.settings.items() if name != "has_triggers"}
        await storage.catalog.save_app(replace(app, settings=settings))
        assert await here.triggers.triggers() == []
        await here.publish(triggered(cron("0 9 * * *")))
        assert len(await here.triggers.triggers()) == 1
