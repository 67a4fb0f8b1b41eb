"""What every store of batches promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.kernel.events import RunEnded, RunPaused, RunQueued
from headrace.ports import App, Batch, BatchLine, Storage

from .examples import PICTURE, numbered, queued

BATCH = Batch("b1", "a1", "v1", "ada", 3, 1000.5, concurrency=7, rpm=60)
LINES = [
    BatchLine(0, {"name": "礁溪\0\ud800", "n": 2**70, "photo": PICTURE, "list": [None, 1.5, {"$": "x"}]}),
    BatchLine(1, {}, "line 2: not JSON \0 商"),
    BatchLine(2, {"text": "x" * 100_000}),
]


def lines(count: int) -> list[BatchLine]:
    return [BatchLine(n, {"n": n, "text": f"line {n}"}) for n in range(count)]


async def _all(store: Storage, batch: str, limit: int) -> list[BatchLine]:
    read: list[BatchLine] = []
    while page := await store.batches.batch_lines(batch, len(read), limit):
        assert len(page) <= limit
        read += page
    return read


async def test_a_batch_and_its_lines_come_back_as_they_went_in(store: Storage) -> None:
    assert await store.batches.find_batch("b1") is None
    await store.batches.add_batch(BATCH, LINES)
    assert await store.batches.find_batch("b1") == BATCH
    first, second, third = await store.batches.batch_lines("b1")
    assert (first, third) == (LINES[0], LINES[2])
    assert (second.index, second.inputs) == (1, {})
    assert "商" in (second.error or "")
    assert await store.batches.batch_lines("no such") == []
    assert await store.batches.find_batch("\ud800") is None


async def test_a_batch_may_be_empty(store: Storage) -> None:
    await store.batches.add_batch(replace(BATCH, total=0, rpm=None), [])
    assert await store.batches.find_batch("b1") == replace(BATCH, total=0, rpm=None)
    assert await store.batches.batch_lines("b1") == []


async def test_lines_are_read_in_pages_in_order(store: Storage) -> None:
    await store.batches.add_batch(BATCH, [*reversed(lines(2500))])
    await store.batches.add_batch(replace(BATCH, id="b2"), lines(10))
    assert await _all(store, "b1", 700) == lines(2500)
    assert await store.batches.batch_lines("b1") == lines(1000)
    assert await store.batches.batch_lines("b1", 2498) == lines(2500)[2498:]
    assert await store.batches.batch_lines("b1", 2500) == await store.batches.batch_lines("b1", 10**30) == []
    assert await store.batches.batch_lines("b1", 3, 0) == []
    assert await store.batches.batch_lines("b2", -5, 2) == lines(2)


async def test_a_batch_added_again_stays_as_it_is(store: Storage) -> None:
    await store.batches.add_batch(BATCH, lines(3))
    await store.batches.add_batch(replace(BATCH, user="eve", total=1), [BatchLine(0, {"n": "other"}), BatchLine(9, {})])
    assert await store.batches.find_batch("b1") == BATCH
    assert await store.batches.batch_lines("b1") == lines(3)


async def test_saving_a_batch_replaces_it(store: Storage) -> None:
    await store.batches.add_batch(BATCH, lines(3))
    over = replace(BATCH, status="ended", ended_at=2000.25)
    await store.batches.save_batch(over)
    assert await store.batches.find_batch("b1") == over
    assert await store.batches.batch_lines("b1") == lines(3)
    await store.batches.save_batch(replace(BATCH, id="never added"))
    assert await store.batches.find_batch("never added") is None


async def test_batches_are_listed_newest_first(store: Storage) -> None:
    for n, app, status in ((1, "a1", "ended"), (3, "a2", "running"), (2, "a1", "running"), (4, "a1", "stopped")):
        await store.batches.add_batch(replace(BATCH, id=f"b{n}", app=app, created_at=float(n), status=status), [])

    async def listed(*which: str | None) -> list[str]:
        return [batch.id for batch in await store.batches.batches(*which)]

    assert await listed() == ["b4", "b3", "b2", "b1"]
    assert await listed("a1") == ["b4", "b2", "b1"]
    assert await listed(None, "running") == ["b3", "b2"]
    assert await listed("a1", "running") == ["b2"]
    assert await listed("a1", "ended") == ["b1"]
    assert await listed("nobody's") == await listed("a1", "no such") == []


@pytest.mark.parametrize("source", ["batch:b1", "service-api", "cli"])
async def test_the_runs_of_a_source_are_counted_by_status(store: Storage, source: str) -> None:
    def request(run: str, which: str = source) -> RunQueued:
        return replace(queued(run), source=which)

    assert dict(await store.runs.count_runs(source)) == {}
    for n, status in enumerate(["succeeded", "failed", "succeeded", "stopped"]):
        await store.journal.append(numbered(f"r{n}", [request(f"r{n}"), RunEnded(status)]))
    await store.journal.append(numbered("open", [request("open")]))
    await store.journal.append(numbered("paused", [request("paused"), RunPaused()]))
    await store.journal.append(numbered("other", [request("other", "batch:b10"), RunEnded("failed")]))
    counted = {"succeeded": 2, "failed": 1, "stopped": 1, "running": 1, "paused": 1}
    assert dict(await store.runs.count_runs(source)) == counted
    await store.journal.append(numbered("open", [RunEnded("succeeded")], after=1))
    del counted["running"]
    assert dict(await store.runs.count_runs(source)) == {**counted, "succeeded": 3}


async def test_a_removed_app_takes_its_batches_and_answers_along(store: Storage) -> None:
    for app in ("a1", "a2"):
        await store.catalog.save_app(App(app, app, "workflow", app, "v1"))
        await store.batches.add_batch(replace(BATCH, id=f"b-{app}", app=app), lines(1200))
        await store.idempotency.claim(app, "k", "d", 100.0, 0.0)
    await store.catalog.remove_app("a1")
    assert await store.batches.find_batch("b-a1") is None
    assert await store.batches.batch_lines("b-a1") == []
    assert await store.idempotency.claim("a1", "k", "d", 2.0, 0.0) is None
    await store.batches.save_batch(replace(BATCH, id="b-a1"))  # by the runner that was working on it
    assert [batch.id for batch in await store.batches.batches()] == ["b-a2"]
    assert len(await store.batches.batch_lines("b-a2", 0, 5000)) == 1200
    assert await store.idempotency.claim("a2", "k", "d", 2.0, 0.0) is not None
