"""What the asynchronous API remembers, in a database that is killed, shared, full or busy."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import RunEnded, RunPaused, RunQueued, RunResumed, RunStarted
from headrace.ports import Batch, BatchLine
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.writer import Call
from tests.contracts.examples import numbered, queued, whole
from tests.stores.plans import listening, plan_of

BATCH = Batch("b1", "a1", "v1", "ada", 10_000, 1000.5)
LINES = [BatchLine(n, {"name": f"line {n}", "text": "x" * 200}) for n in range(10_000)]


def request(run: str) -> RunQueued:
    return replace(queued(run), callback="http://example.com/hook")


async def _killed(url: str, script: str, after: int) -> list[str]:
    """Runs a script that is killed (SIGKILL) once it has written so many lines. Returns all that it wrote."""
    writing = await asyncio.create_subprocess_exec(sys.executable, "-c", script, url, stdout=asyncio.subprocess.PIPE)
    assert writing.stdout
    lines: list[str] = []
    while (line := await writing.stdout.readline()).endswith(b"\n"):
        lines.append(line.decode().strip())
        if len(lines) == after:
            writing.kill()  # what it wrote before it died is read to the end
    assert await writing.wait() == -9
    return lines


# ------------------------------------------------------------------------------------------------------- callbacks

RUNNING = """
import asyncio, sys
from itertools import count
from headrace.kernel.events import Record, RunEnded, RunPaused, RunQueued, RunResumed, RunStarted
from headrace.stores.sql import SqlStorage

async def run(store, name):
    events = [RunQueued('app', 'v', 't' + name, 'u', {}, {}, callback='http://example.com'), RunStarted(), RunPaused(),
              RunResumed(), RunEnded('succeeded')]
    for seq, event in enumerate(events, 1):
        await store.journal.append([Record(name, seq, 1.0, event)])
    sys.stdout.write(name + '\\n')
    sys.stdout.flush()

async def forever(store, name):
    for n in count():
        await run(store, f'{name}-{n}')

async def main():
    store = await SqlStorage.open(sys.argv[1])
    await asyncio.gather(*(forever(store, f'r{n}') for n in range(8)))

asyncio.run(main())
"""


async def test_after_kill_9_a_callback_is_there_exactly_where_its_record_is(url: str) -> None:
    acknowledged = await _killed(url, RUNNING, 100)
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    due = "SELECT run, seq FROM events WHERE type IN ('RunEnded', 'RunPaused') ORDER BY run, seq"
    records = database.execute(due).fetchall()
    owed = database.execute("SELECT run, seq FROM callbacks ORDER BY run, seq").fetchall()
    database.close()
    assert owed == records
    assert {(run, seq) for run in acknowledged for seq in (3, 5)} <= set(owed), "what was acknowledged is there"


async def test_a_run_that_ends_in_another_process_owes_its_callback_too(store: SqlStorage, url: str) -> None:
    other = await SqlStorage.open(url)
    await store.journal.append(numbered("r1", [request("r1"), RunStarted()]))
    await other.journal.append(numbered("r1", [RunPaused()], after=2))
    await store.journal.append(numbered("r1", [RunResumed()], after=3))
    await other.journal.append(numbered("r1", [RunEnded("failed", {}, "boom")], after=4))
    assert [callback.event for callback in await store.callbacks.callbacks_of("r1")] == ["run.paused", "run.failed"]
    await other.aclose()


async def test_an_end_that_does_not_fit_on_the_disk_owes_nothing_yet(store: SqlStorage) -> None:
    def limit(pages: int) -> asyncio.Future[object]:
        def work(connection: Connection) -> object:
            return connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

        return store.writer.submit(Call(work, "test"))

    await store.journal.append(numbered("r1", [request("r1"), RunStarted()]))
    await limit(1)  # as many as there are
    huge = RunEnded("succeeded", {"text": "x" * 10**6})
    with pytest.raises(StoreError, match="full"):
        await store.journal.append(numbered("r1", [huge], after=2))
    assert await store.callbacks.callbacks_of("r1") == []
    await limit(10**6)
    await store.journal.append(numbered("r1", [huge], after=2))
    assert len(await store.callbacks.callbacks_of("r1")) == 1


async def test_many_runs_that_end_at_once_owe_one_each(store: SqlStorage) -> None:
    appends = [store.journal.append(numbered(f"r{n}", [request(f"r{n}"), RunEnded("succeeded")])) for n in range(600)]
    refused = store.journal.append(numbered("r7", [RunEnded("failed")], after=1))
    await asyncio.gather(*appends)
    with pytest.raises(SequenceConflict):
        await refused
    due = await store.callbacks.due_callbacks(1e12, 1000)
    assert sorted(callback.run for callback in due) == sorted(f"r{n}" for n in range(600))
    assert {callback.event for callback in due} == {"run.succeeded"}


async def test_runs_without_a_callback_cost_no_statement_more(store: SqlStorage) -> None:
    with listening(store) as statements:
        await store.journal.append(whole("r1"))
    assert [statement.split(" (")[0] for statement, _ in statements] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO events",
        "INSERT INTO runs",
        "INSERT INTO run_sums",  # only where a run ends
        "COMMIT",
    ]


async def test_memory_forgets_old_callbacks_but_none_that_is_due() -> None:
    store = memory_storage(keep=3)
    for n in range(10):
        await store.journal.append(numbered(f"r{n}", [request(f"r{n}"), RunEnded("succeeded")]))
    due = await store.callbacks.due_callbacks(1e12)
    assert len(due) == 10, "its runs may be forgotten, what they owe is not"
    for callback in due[:8]:
        await store.callbacks.save_callback(replace(callback, status="delivered", next_at=None))
    known = [bool(await store.callbacks.find_callback(callback.id)) for callback in due]
    assert known == [False] * 5 + [True] * 5


# --------------------------------------------------------------------------------------------------------- answers


async def test_of_claims_in_several_processes_one_is_the_first(store: SqlStorage, url: str) -> None:
    other = await SqlStorage.open(url)
    for key in map(str, range(20)):
        claims = [opener.idempotency.claim("a1", key, "d", 100.0, 0.0) for opener in (store, other) * 5]
        assert (await asyncio.gather(*claims)).count(None) == 1
    await store.idempotency.complete("a1", "3", 202, b"kept")
    record = await other.idempotency.claim("a1", "3", "d", 101.0, 0.0)
    assert record is not None
    assert (record.status, record.body) == (202, b"kept")
    await other.aclose()


async def test_of_claims_of_an_expired_answer_one_is_the_first(store: SqlStorage, url: str) -> None:
    other = await SqlStorage.open(url)
    await store.idempotency.claim("a1", "k", "old", 100.0, 0.0)
    claims = [opener.idempotency.claim("a1", "k", "new", 500.0, 200.0) for opener in (store, other) * 5]
    assert (await asyncio.gather(*claims)).count(None) == 1
    await other.aclose()


# --------------------------------------------------------------------------------------------------------- batches


async def test_ten_thousand_lines_go_in_while_runs_go_on(store: SqlStorage) -> None:
    adding = asyncio.create_task(store.batches.add_batch(BATCH, LINES))
    appended = 0
    while not adding.done():
        await store.journal.append(whole(f"r{appended}"))
        appended += 1
        assert (
            (await store.batches.find_batch("b1") is None)
            or adding.done()
            or len(await store.batches.batch_lines("b1", 9_999))
        )
    await adding
    assert appended >= 4, "the journal waited for a whole batch"
    assert await store.batches.batch_lines("b1", 0, 20_000) == LINES


ADDING = """
import asyncio, sys
from headrace.ports import Batch, BatchLine
from headrace.stores.sql import SqlStorage, batches

insert = batches._insert

def telling(connection, chunk):
    insert(connection, chunk)
    sys.stdout.write(f'{len(chunk)}\\n')
    sys.stdout.flush()

async def main():
    batches._insert = telling
    store = await SqlStorage.open(sys.argv[1])
    lines = [BatchLine(n, {'name': f'first {n}'}) for n in range(200_000)]
    await store.batches.add_batch(Batch('b1', 'a1', 'v1', 'ada', len(lines), 1.0), lines)

asyncio.run(main())
"""


async def test_a_batch_that_was_cut_off_never_was_and_can_be_added_again(url: str) -> None:
    await _killed(url, ADDING, 3)
    store = await SqlStorage.open(url)
    assert await store.batches.find_batch("b1") is None
    assert await store.batches.batches() == []
    assert await store.batches.batch_lines("b1", 0, 1), "some were written"
    await store.batches.add_batch(replace(BATCH, total=2), LINES[:2])
    assert await store.batches.batch_lines("b1") == LINES[:2]
    await store.aclose()


async def test_a_batch_with_a_line_that_cannot_be_kept_is_refused_whole(store: SqlStorage) -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 300 levels"):
        await store.batches.add_batch(BATCH, [*LINES[:1000], BatchLine(1000, {"deep": deep})])
    assert await store.batches.find_batch("b1") is None
    await store.journal.append(whole("r1"))  # whatever was enqueued before is written
    assert await store.batches.batch_lines("b1") == []


async def test_a_batch_given_up_by_its_caller_leaves_nothing(store: SqlStorage) -> None:
    adding = asyncio.create_task(store.batches.add_batch(BATCH, LINES))
    while not await store.batches.batch_lines("b1", 0, 1):
        pass
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    await store.journal.append(whole("r1"))
    assert await store.batches.find_batch("b1") is None
    assert await store.batches.batch_lines("b1") == []


async def test_memory_forgets_the_oldest_batches_that_are_over() -> None:
    store = memory_storage(keep=25)
    for n in range(4):
        await store.batches.add_batch(replace(BATCH, id=f"b{n}", created_at=float(n)), LINES[:10])
    for n in (1, 0, 2):
        ended = await store.batches.find_batch(f"b{n}")
        assert ended is not None
        await store.batches.save_batch(replace(ended, status="ended", ended_at=10.0 - n))
    assert [batch.id for batch in await store.batches.batches()] == ["b3", "b1", "b0"], "b2 was over first"
    await store.batches.add_batch(replace(BATCH, id="large"), LINES[:100])
    await store.batches.save_batch(replace(BATCH, id="large", status="stopped", ended_at=99.0))
    assert [batch.id for batch in await store.batches.batches()] == ["large", "b3"]
    assert len(await store.batches.batch_lines("large")) == 100
    assert await store.batches.batch_lines("b1") == []


# ---------------------------------------------------------------------------------------------------------- indexes


@pytest.mark.parametrize(
    ("asking", "index"),
    [
        ("due_callbacks", "ix_callbacks_due"),
        ("callbacks_of", "ix_callbacks_run"),
        ("count_runs", "COVERING INDEX ix_runs_source"),
        ("running", "ix_batches_running"),
        ("of_app", "ix_batches_app_created_at"),
        ("batch_lines", "batch=? AND number>?"),
        ("claim_key", "ix_answers_created_at"),
    ],
)
async def test_what_is_asked_often_is_found_by_an_index(store: SqlStorage, asking: str, index: str) -> None:
    with listening(store) as statements:
        match asking:
            case "due_callbacks":
                await store.callbacks.due_callbacks(5.0)
            case "callbacks_of":
                await store.callbacks.callbacks_of("r1")
            case "count_runs":
                await store.runs.count_runs("batch:b1")
            case "running":
                await store.batches.batches(status="running")
            case "of_app":
                await store.batches.batches("a1")
            case "batch_lines":
                await store.batches.batch_lines("b1", 5)
            case _:
                await store.idempotency.claim("a1", "k", "d", 5.0, 1.0)
    plan = await plan_of(store, *next(entry for entry in reversed(statements) if entry[0] != "COMMIT"))
    assert any(index in step for step in plan)
    assert not [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
