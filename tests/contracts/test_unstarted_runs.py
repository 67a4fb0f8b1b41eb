"""The runs that nobody has started, by workspace: what bounds a queue that the database does not have."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from headrace.kernel.events import RunId, RunPaused, RunResumed, RunStarted, StopRequested
from headrace.ports import App
from headrace.stores.sql import SqlStorage

from .examples import numbered, queued, whole


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStorage]:
    store = await SqlStorage.open(url)
    yield store
    await store.aclose()


async def queue(store: SqlStorage, *runs: RunId, app: str = "app", at: float = 1000.0) -> None:
    for run in runs:
        await store.journal.append(numbered(run, [queued(run, app)], at=at))


async def test_runs_are_counted_by_workspace_until_they_start(store: SqlStorage) -> None:
    assert await store.unstarted.backlogs() == {}
    await store.catalog.save_app(App("app", "A", "workflow", "a.yml", "v1", "", 1000.0, workspace="a"))
    await store.catalog.save_app(App("second", "A2", "workflow", "a2.yml", "v1", "", 1000.0, workspace="a"))
    await queue(store, "r1", "r2", "r3", "stopped", "paused")
    await queue(store, "other", app="second")
    await queue(store, "unknown", app="gone")
    await store.journal.append(numbered("r1", [RunStarted()], after=1))
    await store.journal.append(numbered("stopped", [StopRequested("ada")], after=1))
    await store.journal.append(numbered("paused", [RunStarted(), RunPaused(), RunResumed()], after=1))
    await store.journal.append(whole("ended"))
    counted = await store.unstarted.backlogs()
    assert {workspace: backlog.waiting for workspace, backlog in counted.items()} == {"a": 3, "default": 1}


async def test_how_long_they_have_waited_and_how_many_since_when(store: SqlStorage) -> None:
    now = time.time()
    await queue(store, "first", at=now - 60)
    await queue(store, "second", at=now - 30)
    newest = (await store.unstarted.backlogs())["default"].newest
    await queue(store, "third", at=now - 10)
    backlog = (await store.unstarted.backlogs(newest))["default"]
    assert (backlog.waiting, backlog.earlier) == (3, 2)
    assert 59 <= backlog.oldest < 120
    await store.journal.append(numbered("first", [RunStarted()], after=1))
    backlog = (await store.unstarted.backlogs(newest))["default"]
    assert (backlog.waiting, backlog.earlier) == (2, 1)
    assert backlog.oldest < 59
