"""What every store of the states of triggers promises."""

from __future__ import annotations

import asyncio

import pytest

from headrace.ports import App, Storage, Triggers, TriggerState


@pytest.fixture
def store(storage: Storage) -> Triggers:
    return storage.triggers


async def test_a_state_is_what_was_stored_last(store: Triggers) -> None:
    assert await store.trigger_states(["t1"]) == {}
    await store.advance_trigger("t1", "a1", "0 9 * * * (UTC)", 100.5)
    first = TriggerState("t1", "a1", False, "0 9 * * * (UTC)", 100.5)
    assert await store.trigger_states(["t1", "t2"]) == {"t1": first}
    await store.pause_trigger("t1", "a1", paused=True, at=200.0)
    await store.pause_trigger("t2", "a1", paused=True, at=200.0)
    states = await store.trigger_states([f"t{number}" for number in range(1200)])
    assert states == {
        "t1": TriggerState("t1", "a1", True, "0 9 * * * (UTC)", 100.5),
        "t2": TriggerState("t2", "a1", True),
    }


async def test_a_schedule_that_is_resumed_is_handled_up_to_then(store: Triggers) -> None:
    await store.advance_trigger("t1", "a1", "@daily", 100.0)
    await store.pause_trigger("t1", "a1", paused=True, at=200.0)
    await store.pause_trigger("t1", "a1", paused=False, at=300.0)
    assert (await store.trigger_states(["t1"]))["t1"] == TriggerState("t1", "a1", False, "@daily", 300.0)


async def test_what_is_handled_begins_anew_with_another_schedule(store: Triggers) -> None:
    await store.advance_trigger("t1", "a1", "@daily", 100.0)
    await store.advance_trigger("t1", "a1", "@hourly", 50.0)
    assert (await store.trigger_states(["t1"]))["t1"] == TriggerState("t1", "a1", False, "@hourly", 50.0)


async def test_what_is_handled_of_a_schedule_never_decreases(store: Triggers) -> None:
    await asyncio.gather(*(store.advance_trigger("t1", "a1", "@daily", float(number % 10)) for number in range(20)))
    assert (await store.trigger_states(["t1"]))["t1"].handled == 9.0


async def test_states_with_a_schedule_are_listed(store: Triggers) -> None:
    assert await store.scheduled_triggers() == []
    await store.pause_trigger("t1", "a1", paused=True, at=1.0)
    await store.advance_trigger("t2", "a1", "@daily", 2.0)
    await store.advance_trigger("t3", "a2", "@hourly", 3.0)
    await store.advance_trigger("t3", "a2", "", 4.0)
    assert await store.scheduled_triggers() == [TriggerState("t2", "a1", False, "@daily", 2.0)]


async def test_it_is_removed_with_its_app(storage: Storage, store: Triggers) -> None:
    for app in ("a1", "a2"):
        await storage.catalog.save_app(App(app, app, "workflow", f"{app}.yml", "v"))
        await store.advance_trigger(f"of {app}", app, "@daily", 1.0)
    assert await storage.catalog.remove_app("a1")
    assert set(await store.trigger_states(["of a1", "of a2"])) == {"of a2"}
