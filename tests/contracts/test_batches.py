"""What every store of batches promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.kernel.events import RunEnded, RunPaused, RunQueued
from headrace.ports import App, Batch, Batches, BatchLine

from .examples import PICTURE, numbered, queued

BATCH = Batch("b1", "a1", "v1", "ada", 3, 1000.5, concurrency=7, rpm=60)
LINES = [
    BatchLine(0, {"name": "礁溪\0\ud800", "n": 2**70, "photo": PICTURE, "list": [None, 1.5, {"$": "x"}]}),
    BatchLine(1, {}, "line 2: not JSON \0 商"),
    BatchLine(2, {"text": "x" * 100_000}),
]


def lines(count: int) -> list[BatchLine]:
    return [BatchLine(n, {"n": n, "text": f"line {n}"}) for n in range(count)]


async def _all(store: Batches, batch: str, limit: int) -> list[BatchLine]:
    found: list[BatchLine] = []
    while page := await store.batch_lines(batch, len(found), limit):
        assert len(page) <= limit
        found += page
    return found


async def test_a_batch_and_its_lines_come_back_as_they_went_in(store: Batches) -> None:
    assert await store.find_batch("b1") is None
    await store.add_batch(BATCH, LINES)
    assert await store.find_batch("b1") == BATCH
    first, second, third = await store.batch_lines("b1")
    assert (first, third) == (LINES[0], LINES[2])
    assert (second.index, second.inputs) == (1, {})
    assert "商" in (second.error or "")
    assert await store.batch_lines("no such") == []
    assert await store.find_batch("\ud800") is None


async def test_a_batch_may_be_empty(store: Batches) -> None:
    await store.add_batch(replace(BATCH, total=0, rpm=None), [])
    assert await store.find_batch("b1") == replace(BATCH, total=0, rpm=None)
    assert await store.batch_lines("b1") == []


async def test_lines_are_read_in_pages_in_order(store: Batches) -> None:
    await store.add_batch(BATCH, [*reversed(lines(2500))])
    await store.add_batch(replace(BATCH, id="b2"), lines(10))
    assert await _all(store, "b1", 700) == lines(2500)
    assert await store.batch_lines("b1") == lines(1000)
    assert await store.batch_lines("b1", 2498) == lines(2500)[2498:]
    assert await store.batch_lines("b1", 2500) == await store.batch_lines("b1", 10**30) == []
    assert await store.batch_lines("b1", 3, 0) == []
    assert await store.batch_lines("b2", -5, 2) == lines(2)


async def test_a_batch_added_again_stays_as_it_is(store: Batches) -> None:
    await store.add_batch(BATCH, lines(3))
    await store.add_batch(replace(BATCH, user="eve", total=1), [BatchLine(0, {"n": "other"}), BatchLine(9, {})])
    assert await store.find_batch("b1") == BATCH
    assert await store.batch_lines("b1") == lines(3)


async def test_saving_a_batch_replaces_it(store: Batches) -> None:
    await store.add_batch(BATCH, lines(3))
    over = replace(BATCH, status="ended", ended_at=2000.25)
    await store.save_batch(over)
    assert await store.find_batch("b1") == over
    assert await store.batch_lines("b1") == lines(3)
    await store.save_batch(replace(BATCH, id="never added"))
    assert await store.find_batch("never added") is None


async def test_batches_are_listed_newest_first(store: Batches) -> None:
    for n, app, status in ((1, "a1", "ended"), (3, "a2", "running"), (2, "a1", "running"), (4, "a1", "stopped")):
        await store.add_batch(replace(BATCH, id=f"b{n}", app=app, created_at=float(n), status=status), [])

    async def listed(*which: str | None) -> list[str]:
        return [batch.id for batch in await store.batches(*which)]

    assert await listed() == ["b4", "b3", "b2", "b1"]
    assert await listed("a1") == ["b4", "b2", "b1"]
    assert await listed(None, "running") == ["b3", "b2"]
    assert await listed("a1", "running") == ["b2"]
    assert await listed("a1", "ended") == ["b1"]
    assert await listed("nobody's") == await listed("a1", "no such") == []


@pytest.mark.parametrize("source", ["batch:b1", "service-api", "cli"])
async def test_the_runs_of_a_source_are_counted_by_status(store: Any, source: str) -> None:
    def asked(run: str, which: str = source) -> RunQueued:
        return replace(queued(run), source=which)

    assert dict(await store.count_runs(source)) == {}
    for n, status in enumerate(["succeeded", "failed", "succeeded", "stopped"]):
        await store.append(numbered(f"r{n}", [asked(f"r{n}"), RunEnded(status)]))
    await store.append(numbered("open", [asked("open")]))
    await store.append(numbered("paused", [asked("paused"), RunPaused()]))
    await store.append(numbered("other", [asked("other", "batch:b10"), RunEnded("failed")]))
    counted = {"succeeded": 2, "failed": 1, "stopped": 1, "running": 1, "paused": 1}
    assert dict(await store.count_runs(source)) == counted
    await store.append(numbered("open", [RunEnded("succeeded")], after=1))
    del counted["running"]
    assert dict(await store.count_runs(source)) == {**counted, "succeeded": 3}


async def test_a_removed_app_takes_its_batches_and_answers_along(store: Any) -> None:
    for app in ("a1", "a2"):
        await store.save_app(App(app, app, "workflow", app, "v1"))
        await store.add_batch(replace(BATCH, id=f"b-{app}", app=app), lines(1200))
        await store.claim_answer(app, "k", "d", 100.0, 0.0)
    await store.remove_app("a1")
    assert await store.find_batch("b-a1") is None
    assert await store.batch_lines("b-a1") == []
    assert await store.find_answer("a1", "k") is None
    await store.save_batch(replace(BATCH, id="b-a1"))  # by whoever was just at it
    assert [batch.id for batch in await store.batches()] == ["b-a2"]
    assert len(await store.batch_lines("b-a2", 0, 5000)) == 1200
    assert await store.find_answer("a2", "k") is not None
