"""What every store of callbacks promises: one is owed exactly when its run's end or pause is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid5

import pytest

from headrace.errors import SequenceConflict
from headrace.kernel.events import (
    Event,
    NodeStarted,
    Record,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.ports import App, Callback, Storage

from .examples import numbered, queued, whole

URL = "https://example.com/hook?商=1"
RUN = "0a6b8a0e-4f4a-4c7c-9d5f-1b1f2d3c4e5f"


def request(run: str, app: str = "app") -> RunQueued:
    return replace(queued(run, app), callback=URL)


def ended(run: str, status: str = "succeeded", at: float = 1000.0, app: str = "app") -> list[Record]:
    return numbered(run, [request(run, app), RunStarted(), RunEnded(status)], at=at)


async def _events(store: Storage, run: str) -> list[tuple[str, int]]:
    return [(callback.event, callback.seq) for callback in await store.callbacks.callbacks_of(run)]


async def test_a_run_that_ends_owes_one_callback(store: Storage) -> None:
    await store.journal.append(ended(RUN))
    owed = Callback(
        id=str(uuid5(UUID(RUN), "3")),
        app="app",
        run=RUN,
        url=URL,
        event="run.succeeded",
        seq=3,
        created_at=1001.5,
        next_at=1001.5,
    )
    assert await store.callbacks.callbacks_of(RUN) == [owed]
    assert await store.callbacks.find_callback(owed.id) == owed
    assert await store.callbacks.due_callbacks(1001.5) == [owed]
    assert await store.callbacks.due_callbacks(1001.4) == []
    assert await store.callbacks.find_callback("no such") is None
    assert await store.callbacks.callbacks_of("no such") == []


async def test_a_run_without_a_callback_owes_none(store: Storage) -> None:
    await store.journal.append(whole("r1"))
    await store.journal.append(numbered("r2", [queued("r2"), RunPaused()]))
    assert await store.callbacks.callbacks_of("r1") == await store.callbacks.callbacks_of("r2") == []
    assert await store.callbacks.due_callbacks(1e12) == []


@pytest.mark.parametrize("status", ["succeeded", "partial-succeeded", "failed", "stopped"])
async def test_the_event_tells_how_the_run_ended(store: Storage, status: str) -> None:
    await store.journal.append(ended("r1", status))
    assert await _events(store, "r1") == [(f"run.{status}", 3)]


async def test_a_run_owes_nothing_until_it_ends(store: Storage) -> None:
    events: Sequence[Event] = [request("r1"), RunStarted(), NodeStarted("a"), StopRequested("ada"), RunResumed(True)]
    for record in numbered("r1", events):
        await store.journal.append([record])
        assert await store.callbacks.callbacks_of("r1") == []
    await store.journal.append(numbered("r1", [RunEnded("stopped")], after=5))
    assert await _events(store, "r1") == [("run.stopped", 6)]


async def test_each_pause_owes_one_and_so_does_the_end(store: Storage) -> None:
    await store.journal.append(numbered("r1", [request("r1"), RunStarted(), RunPaused()]))
    assert await _events(store, "r1") == [("run.paused", 3)]
    await store.journal.append(numbered("r1", [RunResumed(), RunPaused()], after=3))
    await store.journal.append(numbered("r1", [RunResumed()], after=5))
    await store.journal.append(numbered("r1", [RunEnded("failed", {}, "boom")], after=6))
    assert await _events(store, "r1") == [("run.paused", 3), ("run.paused", 5), ("run.failed", 7)]
    assert len({callback.id for callback in await store.callbacks.callbacks_of("r1")}) == 3


async def test_an_end_that_is_refused_owes_nothing(store: Storage) -> None:
    await store.journal.append(numbered("r1", [request("r1"), RunStarted(), StopRequested("ada")]))
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("r1", [RunEnded("succeeded")], after=2))
    assert await store.callbacks.callbacks_of("r1") == []
    await store.journal.append(numbered("r1", [RunEnded("stopped")], after=3))
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("r1", [RunEnded("succeeded")], after=3))
    assert await _events(store, "r1") == [("run.stopped", 4)]


async def test_the_longest_due_come_first(store: Storage) -> None:
    for n in (3, 1, 4, 0, 2):
        await store.journal.append(ended(f"r{n}", at=1000.0 + n))
    assert [callback.run for callback in await store.callbacks.due_callbacks(2000.0)] == ["r0", "r1", "r2", "r3", "r4"]
    assert [callback.run for callback in await store.callbacks.due_callbacks(2000.0, 2)] == ["r0", "r1"]
    assert [callback.run for callback in await store.callbacks.due_callbacks(1003.5)] == ["r0", "r1", "r2"]
    assert await store.callbacks.due_callbacks(2000.0, 0) == []


async def test_a_try_that_failed_is_due_again_later(store: Storage) -> None:
    await store.journal.append(ended("r1"))
    [first] = await store.callbacks.due_callbacks(2000.0)
    tried = replace(first, attempts=1, next_at=2005.0, last_status=503, last_error="503 \0 \ud800 商")
    await store.callbacks.save_callback(tried)
    assert await store.callbacks.due_callbacks(2004.9) == []
    [again] = await store.callbacks.due_callbacks(2005.0)
    assert (again.id, again.attempts, again.last_status) == (first.id, 1, 503)
    assert "商" in (again.last_error or "")


async def test_what_is_delivered_or_given_up_is_not_due(store: Storage) -> None:
    for run in ("r1", "r2"):
        await store.journal.append(ended(run))
    first, second = await store.callbacks.due_callbacks(2000.0)
    delivered = replace(first, status="delivered", attempts=1, next_at=None, last_status=200, delivered_at=2000.5)
    failed = replace(second, status="failed", attempts=9, next_at=None, last_error="refused")
    await store.callbacks.save_callback(delivered)
    await store.callbacks.save_callback(failed)
    assert await store.callbacks.due_callbacks(1e12) == []
    assert await store.callbacks.callbacks_of(first.run) == [delivered]
    assert await store.callbacks.find_callback(second.id) == failed
    await store.callbacks.save_callback(replace(failed, status="pending", next_at=3000.0))  # requested again
    assert [callback.id for callback in await store.callbacks.due_callbacks(3000.0)] == [second.id]


async def test_a_removed_app_owes_nothing_any_more(store: Storage) -> None:
    for app in ("a1", "a2"):
        await store.catalog.save_app(App(app, app, "workflow", app, "v1"))
        for run in ("done", "due"):
            await store.journal.append(ended(f"{app}-{run}", app=app))
        [done] = await store.callbacks.callbacks_of(f"{app}-done")
        await store.callbacks.save_callback(replace(done, status="delivered", next_at=None))
    [due] = await store.callbacks.callbacks_of("a1-due")
    await store.catalog.remove_app("a1")
    assert [callback.run for callback in await store.callbacks.due_callbacks(1e12)] == ["a2-due"]
    assert await store.callbacks.callbacks_of("a1-due") == []
    assert [callback.status for callback in await store.callbacks.callbacks_of("a1-done")] == ["delivered"]
    await store.callbacks.save_callback(due)  # by the sender that was delivering it
    assert await store.callbacks.find_callback(due.id) is None
