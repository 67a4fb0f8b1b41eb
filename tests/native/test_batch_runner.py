"""What keeps a batch whole: taken up again after a crash, slowed down, stopped, paused, with a store that fails."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from headrace.apps.catalog import Release
from headrace.batches import BatchRunner, Line, Progress, Spool, read_lines, run_of, source_of
from headrace.batches import runner as working_at
from headrace.conversations.messages import Chats
from headrace.errors import InvalidParam, StoreError
from headrace.kernel.events import Record, RunId
from headrace.node import Config, Context, Node, Pause, Result
from headrace.ports import Batch, BatchLine, Storage
from headrace.runs.service import RunService, Submission
from headrace.stores.memory import MemoryJournal, memory_storage
from headrace.values import File, Value
from tests.runs import service
from tests.runs.service import ECHO, GATED, Gate, publish, run_service, working

BATCH = "5c0a2f0e-98a5-4f3c-8d1c-8a7b6c5d4e3f"


@asynccontextmanager
async def dispatching(where: RunService, store: Storage) -> AsyncGenerator[BatchRunner]:
    batch_runner = BatchRunner(where, store.batches, store.claims, Chats(where))
    task = asyncio.create_task(batch_runner.run())
    try:
        yield batch_runner
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def batch(release: Release, total: int, **more: Any) -> Batch:
    return Batch(BATCH, release.app.id, release.version.id, "ada", total, 1.0, **more)


def texts(count: int) -> list[BatchLine]:
    return [BatchLine(n, {"q": f"line {n}"}) for n in range(count)]


async def over(batch_runner: BatchRunner) -> Batch:
    for _ in range(12_000):
        result = await batch_runner.batches.find_batch(BATCH)
        if result is not None and result.ended_at is not None:
            return result
        await asyncio.sleep(0.005)
    raise AssertionError("the batch does not end")


async def outputs_of(batch_runner: BatchRunner, which: Batch) -> list[Any]:
    return [result.outputs async for result in batch_runner.lines.results(which)]


class Counting(MemoryJournal):
    """Notes which runs were submitted, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[RunId] = []
        self.failing: set[RunId] = set()

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        if records[0].seq == 1:
            self.submitted.append(records[0].run)
            if records[0].run in self.failing:
                self.failing.discard(records[0].run)
                failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                failed.set_exception(StoreError("the disk is full"))
                return failed
        return super().append(records)


# --------------------------------------------------------------------------------------------------------- taken up


@pytest.mark.parametrize("before", [0, 1, 99, 150, 260, 300])
async def test_lines_begun_before_are_not_begun_again(before: int) -> None:
    journal = Counting()
    store = memory_storage(journal)
    where = run_service(store)
    release = await publish(where, ECHO)
    stored_batch = batch(release, 300)
    await store.batches.add_batch(stored_batch, texts(300))
    async with working(where):
        for n in range(before):
            await where.submit(
                Submission(release, "ada", {"q": f"line {n}"}, source=source_of(BATCH)), run_of(BATCH, n)
            )
        async with dispatching(where, store) as batch_runner:
            assert (await over(batch_runner)).status == "ended"
            assert await outputs_of(batch_runner, stored_batch) == [{"q": f"line {n}"} for n in range(300)]
    assert Counter(journal.submitted) == Counter(run_of(BATCH, n) for n in range(300))


async def test_a_line_left_out_before_a_crash_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before the last few was refused by the store, and the process died before it was tried again."""
    monkeypatch.setattr(working_at, "_AHEAD", 5)
    journal = Counting()
    store = memory_storage(journal)
    where = run_service(store)
    release = await publish(where, ECHO)
    await store.batches.add_batch(batch(release, 30), texts(30))
    begun = [n for n in range(20) if n not in (15, 17)]
    async with working(where):
        for n in begun:
            await where.submit(
                Submission(release, "ada", {"q": f"line {n}"}, source=source_of(BATCH)), run_of(BATCH, n)
            )
        async with dispatching(where, store) as batch_runner:
            await over(batch_runner)
            assert await outputs_of(batch_runner, batch(release, 30)) == [{"q": f"line {n}"} for n in range(30)]
    assert Counter(journal.submitted) == Counter(run_of(BATCH, n) for n in range(30))


async def test_let_go_in_the_middle_and_taken_up_again() -> None:
    Gate.reset()
    journal = Counting()
    store = memory_storage(journal)
    where = run_service(store)
    release = await publish(where, GATED)
    async with working(where):
        async with dispatching(where, store) as batch_runner:
            await batch_runner.add(batch(release, 10, concurrency=4), [BatchLine(n, {}) for n in range(10)])
            await Gate.begun.wait()
        assert len(journal.submitted) <= 4
        Gate.release.set()
        async with dispatching(where, store) as batch_runner:
            await over(batch_runner)
            assert await batch_runner.lines.progress(batch(release, 10)) == Progress(succeeded=10)
    assert len(journal.submitted) == len(set(journal.submitted)) == 10


async def test_more_concurrent_than_before() -> None:
    Gate.reset()
    store = memory_storage()
    where = run_service(store)
    release = await publish(where, GATED)
    async with working(where), dispatching(where, store) as batch_runner:
        stored_batch = await batch_runner.add(batch(release, 10, concurrency=1), [BatchLine(n, {}) for n in range(10)])
        await Gate.begun.wait()
        assert Gate.entered == 1
        stored_batch = await batch_runner.set_pace(stored_batch, 5, None)
        assert (stored_batch.concurrency, (await store.batches.find_batch(BATCH) or stored_batch).concurrency) == (5, 5)
        for _ in range(12_000):
            if Gate.entered == 5:
                break
            await asyncio.sleep(0.005)
        assert Gate.entered == 5
        Gate.release.set()
        await over(batch_runner)


async def test_stopped_before_a_crash_and_not_gone_on_with() -> None:
    Gate.reset()
    store = memory_storage()
    where = run_service(store)
    release = await publish(where, GATED)
    await store.batches.add_batch(batch(release, 10, status="stopped"), [BatchLine(n, {}) for n in range(10)])
    for n in range(3):
        await where.submit(Submission(release, "ada", {}, source=source_of(BATCH)), run_of(BATCH, n))
    async with working(where), dispatching(where, store) as batch_runner:
        result = await over(batch_runner)
        assert result.status == "stopped"
        assert await batch_runner.lines.progress(result) == Progress(stopped=10)


async def test_stopped_by_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_at, "LOOK_SECONDS", 0.01)
    Gate.reset()
    store = memory_storage()
    where = run_service(store)
    release = await publish(where, GATED)
    async with working(where), dispatching(where, store) as batch_runner:
        stored_batch = await batch_runner.add(batch(release, 50), [BatchLine(n, {}) for n in range(50)])
        await Gate.begun.wait()
        elsewhere = BatchRunner(where, store.batches, store.claims, Chats(where))
        assert (await elsewhere.stop(stored_batch)).status == "stopped"
        result = await over(batch_runner)
        assert (result.status, (await batch_runner.lines.progress(result)).stopped) == ("stopped", 50)


async def test_a_batch_whose_app_is_gone_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    store = memory_storage()
    where = run_service(store)
    release = await publish(where, ECHO)
    stored_batch = Batch(BATCH, release.app.id, BATCH, "ada", 3, 1.0)  # of a version that nobody knows
    await store.batches.add_batch(stored_batch, texts(3))
    async with working(where), dispatching(where, store) as batch_runner:
        assert (await over(batch_runner)).status == "stopped"
    assert "cannot continue: Workflow not found" in caplog.text


# ------------------------------------------------------------------------------------------------------- under way


async def test_a_store_that_fails_costs_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.batches.line_submitter._BACK_OFF_SECONDS", 0.02)
    monkeypatch.setattr(working_at, "_AHEAD", 5)
    journal = Counting()
    store = memory_storage(journal)
    where = run_service(store)
    release = await publish(where, ECHO)
    journal.failing = {run_of(BATCH, n) for n in (0, 7, 29)}
    async with working(where), dispatching(where, store) as batch_runner:
        stored_batch = await batch_runner.add(batch(release, 30), texts(30))
        assert (await over(batch_runner)).status == "ended"
        assert await outputs_of(batch_runner, stored_batch) == [{"q": f"line {n}"} for n in range(30)]
    place = journal.submitted.index(run_of(BATCH, 7))
    assert journal.submitted[place + 1 :].count(run_of(BATCH, 7)) == 1
    again = journal.submitted.index(run_of(BATCH, 7), place + 1)
    assert run_of(BATCH, 12) not in journal.submitted[:again], (
        "lines are begun only so far ahead of one that is not safe"
    )


class Asks(Node[Config]):
    """Pauses the first time."""

    type = "asks"
    paused_runs: ClassVar[set[str]] = set()

    async def run(self, ctx: Context) -> Result | Pause:
        if ctx.run in self.paused_runs:
            return Result({})
        self.paused_runs.add(ctx.run)
        return Pause({"node_id": ctx.spec.id})


async def test_a_paused_run_makes_room_and_the_batch_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(service.REGISTRY, "asks", Asks)  # pyright: ignore[reportArgumentType]
    store = memory_storage()
    where = run_service(store)
    release = await publish(where, GATED.replace("type: gate", "type: asks"))
    async with working(where):
        async with dispatching(where, store) as batch_runner:
            stored_batch = await batch_runner.add(
                batch(release, 3, concurrency=1), [BatchLine(n, {}) for n in range(3)]
            )
            for _ in range(12_000):
                if (await batch_runner.lines.progress(stored_batch)).paused == 3:
                    break
                await asyncio.sleep(0.005)
            assert await batch_runner.lines.progress(stored_batch) == Progress(paused=3)
            assert [result.status async for result in batch_runner.lines.results(stored_batch)] == ["paused"] * 3
        async with dispatching(where, store) as batch_runner:
            for n in range(3):
                assert (await store.batches.find_batch(BATCH) or stored_batch).ended_at is None
                await where.resume(run_of(BATCH, n))
            assert (await over(batch_runner)).status == "ended"


async def test_whoever_waits_gets_each_result_as_soon_as_it_is_known() -> None:
    Gate.reset()
    store = memory_storage()
    where = run_service(store)
    echo, gated = await publish(where, ECHO), await publish(where, GATED, "gated.yml")
    async with working(where), dispatching(where, store) as batch_runner:
        stored_batch = await batch_runner.add(batch(echo, 500), [BatchLine(0, {}, "no good"), *texts(500)[1:]])
        matches = [result async for result in batch_runner.results(stored_batch)]
        assert [item.index for item in matches] == list(range(500))
        assert [item.status for item in matches] == ["failed"] + ["succeeded"] * 499

        other = Batch(BATCH[:-1] + "0", gated.app.id, gated.version.id, "ada", 4, 1.0, concurrency=2)
        lines = [BatchLine(0, {}, "no good"), *(BatchLine(n, {}) for n in range(1, 4))]
        results = batch_runner.results(await batch_runner.add(other, lines))
        assert (await anext(results)).status == "failed"
        waiting = asyncio.ensure_future(anext(results))
        await Gate.begun.wait()
        assert not waiting.done()
        Gate.release.set()
        assert (await waiting).status == "succeeded"
        assert [result.status async for result in results] == ["succeeded"] * 2


# ------------------------------------------------------------------------------------------------------------ lines


async def _as_it_is(fields: Any) -> Line:
    if fields["inputs"].get("q") == "bad":
        raise InvalidParam("q will not do")
    return Line(fields["inputs"], fields.get("query"))


async def test_lines_are_numbered_without_blank_ones() -> None:
    text = (
        b'\xef\xbb\xbf\n{"inputs": {"q": 1}}\n\n \t\r\n{"inputs": {"q": "bad"}}\r\n{"inputs": {"q": 3}, "query": "hi"}'
    )
    result = [line async for line in read_lines(io.BytesIO(text), _as_it_is)]
    assert result == [BatchLine(0, {"q": 1}), BatchLine(1, {}, "q will not do"), BatchLine(2, {"q": 3}, query="hi")]


async def test_a_defect_is_no_bad_line() -> None:
    async def broken(_: Any) -> Any:
        raise StoreError("the database is gone")

    with pytest.raises(StoreError):
        _ = [line async for line in read_lines([b'{"inputs": {}}'], broken)]


def test_a_spool_is_a_sequence() -> None:
    photo: Value = File("image", "local_file", "a.png", ".png", "image/png", 3, related_id="r")
    lines = [BatchLine(0, {"photo": photo, "n": 2**70}), BatchLine(1, {}, "why"), BatchLine(2, {"q": "礁溪"})]
    spool = Spool(io.BytesIO())
    for line in lines:
        spool.append(line)
        assert spool[0] == lines[0]  # reading in between does no harm
    assert (len(spool), list(spool), spool[-1], spool[1:]) == (3, lines, lines[2], lines[1:])
    with pytest.raises(IndexError):
        spool[3]
