"""What every journal promises."""

from __future__ import annotations

import asyncio
import math
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import SequenceConflict
from headrace.kernel.events import (
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.ports import Journal, Storage
from headrace.stores.sql import SqlStorage
from headrace.values import Variable

from .examples import PICTURE, any_event, numbered, queued, whole


@pytest.fixture
def store(storage: Storage) -> Journal:
    return storage.journal


async def test_records_come_back_as_they_went_in(store: Journal) -> None:
    records = whole("r1", name="宜蘭礁溪五日遊 🏝️")
    await store.append(records)
    assert await store.read("r1") == records
    assert await store.read("r1", after=3) == records[3:]
    assert await store.read("r1", after=5) == []
    assert await store.read("r1", after=99) == []
    assert await store.read("r1", limit=1) == records[:1]
    assert await store.read("r1", after=1, limit=2) == records[1:3]


async def test_an_unknown_run_has_no_records(store: Journal) -> None:
    await store.append(whole("r1"))
    assert await store.read("r2") == []
    assert await store.read("") == []
    assert await store.read("r1\0\ud800' OR 1=1 --") == []


async def test_several_runs_are_read_together(store: Journal) -> None:
    for run in ("r1", "r2"):
        await store.append(whole(run))
    unknown = [f"unknown{number}" for number in range(1000)]
    records = {run: await store.read(run) for run in ("r1", "r2")}
    assert await store.read_all(["r2", "r1", "r1\0\ud800' OR 1=1 --", *unknown, "r1"]) == records
    assert await store.read_all([]) == {}


async def test_a_taken_number_is_a_conflict_and_writes_nothing(store: Journal) -> None:
    first = numbered("r1", [queued("r1"), RunStarted()])
    await store.append(first)
    with pytest.raises(SequenceConflict) as conflict:
        await store.append(numbered("r1", [NodeStarted("a"), NodeStarted("b")], after=1))
    assert (conflict.value.run, conflict.value.seq) == ("r1", 2)
    with pytest.raises(SequenceConflict):
        await store.append(whole("r1"))
    assert await store.read("r1") == first


async def test_of_two_who_write_the_same_number_one_wins(store: Journal) -> None:
    await store.append(numbered("r1", [queued("r1"), RunStarted()]))
    appends = [store.append(numbered("r1", [NodeStarted(f"n{n}")], after=2)) for n in range(8)]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert results == [None, *results[1:]]
    assert all(isinstance(result, SequenceConflict) for result in results[1:])
    assert [record.event for record in await store.read("r1", after=2)] == [NodeStarted("n0")]


async def test_a_conflict_harms_no_other_run(store: Journal) -> None:
    await store.append(whole("taken"))
    appends = [store.append(whole("taken" if n == 3 else f"r{n}")) for n in range(8)]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [n for n, result in enumerate(results) if result is not None] == [3]
    for n in (0, 1, 2, 4, 5, 6, 7):
        assert await store.read(f"r{n}") == whole(f"r{n}")


async def test_appends_take_effect_in_the_order_of_calls(store: Journal) -> None:
    records = numbered("r1", [queued("r1"), RunStarted(), *(NodeStarted(f"n{n}") for n in range(500))])
    await asyncio.gather(*(store.append([record]) for record in records))
    assert await store.read("r1") == records


async def test_what_is_appended_behind_a_failed_append_fails_too(store: Journal) -> None:
    before = numbered("r1", [queued("r1"), RunStarted(), StopRequested("ada")])
    await store.append(before)
    # an owner that was displaced at 3 had gone on to 5; its 4 would follow on well, and make no sense
    displaced = [store.append(numbered("r1", [NodeStarted(f"n{seq}")], after=seq - 1)) for seq in (3, 4, 5)]
    results = await asyncio.gather(*displaced, return_exceptions=True)
    assert [type(result) for result in results] == [SequenceConflict] * 3
    assert await store.read("r1") == before
    # once it knows, it may go on from the tail
    await store.append(numbered("r1", [RunEnded("stopped")], after=3))
    assert [record.seq for record in await store.read("r1")] == [1, 2, 3, 4]


async def test_a_gap_is_never_written(store: Journal) -> None:
    await store.append(numbered("r1", [queued("r1")]))
    with pytest.raises(SequenceConflict):
        await store.append(numbered("r1", [NodeStarted("late")], after=5))
    with pytest.raises(SequenceConflict):
        await store.append(numbered("r2", [NodeStarted("late")], after=1))
    assert [record.seq for record in await store.read("r1")] == [1]
    assert await store.read("r2") == []
    await store.append(numbered("r1", [RunStarted()], after=1))


@pytest.mark.parametrize(
    "records",
    [
        [Record("r1", None, 1.0, RunStarted())],
        [Record("r1", 0, 1.0, RunStarted())],
        [Record("r1", 1, 1.0, RunStarted()), Record("r1", 3, 1.0, RunStarted())],
        [Record("r1", 1, 1.0, RunStarted()), Record("r2", 2, 1.0, RunStarted())],
    ],
    ids=["no number", "zero", "a gap", "two runs"],
)
async def test_records_that_do_not_follow_on_are_refused(store: Journal, records: list[Record]) -> None:
    with pytest.raises(ValueError, match="run r1"):
        await store.append(records)
    assert await store.read("r1") == []


async def test_appending_nothing_is_done_at_once(store: Journal) -> None:
    await store.append([])


async def test_sixty_four_tasks_write_at_once(store: Journal) -> None:
    async def write(run: str) -> None:
        for record in numbered(run, [queued(run), RunStarted(), *(NodeStarted(str(n)) for n in range(20))]):
            await store.append([record])

    await asyncio.gather(*(write(f"r{n}") for n in range(64)))
    for n in range(64):
        assert [record.seq for record in await store.read(f"r{n}")] == list(range(1, 23))


async def test_files_and_variables_survive_inside_values(store: Journal) -> None:
    picked = Variable({"files": [PICTURE]}, ("node", "files"), "id")
    outputs = {"file": PICTURE, "list": [PICTURE, 1], "picked": picked, "nested": {"a": [{"b": picked}]}}
    records = numbered("r1", [queued("r1", photo=PICTURE), RunStarted(), NodeSucceeded("n", outputs, outputs)])
    await store.append(records)
    assert await store.read("r1") == records


async def test_data_that_looks_like_a_file_or_variable_stays_data(store: Journal) -> None:
    outputs = {
        "file": {"dify_model_identity": "__dify__file__"},
        "variable": {"__headrace_variable__": 5},
        "tagged": [{"$": "file", "v": 3}, {"$": None}, PICTURE],
    }
    records = numbered("r1", [queued("r1"), RunStarted(), NodeSucceeded("n", outputs)])
    await store.append(records)
    assert await store.read("r1") == records


async def test_numbers_and_texts_that_json_lacks_survive(store: Journal) -> None:
    outputs = {
        "big": [2**64 - 1, 2**64, -(2**70), 10**5000],
        "infinite": [math.inf, {"below": -math.inf}],
        "half a pair": "\ud83d",
        "nul": "a\0b",
        "keys": {1: "one", None: "none"},
        "none": None,
    }
    records = numbered("r1", [queued("r1", **outputs), RunStarted(), NodeSucceeded("n", outputs, error_free(outputs))])
    await store.append([*records, *numbered("r1", [RunEnded("succeeded", outputs)], after=3)])
    assert (await store.read("r1"))[:3] == records
    await store.append(numbered("r2", [queued("r2", it=math.nan)]))
    [record] = await store.read("r2")
    assert math.isnan(record.event.inputs["it"])  # type: ignore[union-attr]


def error_free(outputs: dict[str, Any]) -> dict[str, Any]:
    return {"error": None, **outputs}


@pytest.mark.parametrize("times", [1_000, 20_000, 500_000])
async def test_kilobytes_and_megabytes_of_text_survive(store: Journal, times: int) -> None:
    records = numbered("r1", [queued("r1", text="漢字😀\n\"'\\" * times), RunStarted()])
    await store.append(records)
    assert await store.read("r1") == records


_names = count()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=any_event)
async def test_every_event_comes_back_equal(store: Journal, event: Any) -> None:
    run = f"run {next(_names)}"
    await store.append([Record(run, 1, 1234.000001, event)])
    assert await store.read(run) == [Record(run, 1, 1234.000001, event)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.lists(any_event, min_size=1, max_size=4), min_size=1, max_size=4))
async def test_records_come_back_equal_however_they_were_appended(store: Journal, parts: list[list[Any]]) -> None:
    run = f"run {next(_names)}"
    records = [
        Record(run, seq, 1234.000001 + seq / 7, event)
        for seq, event in enumerate((event for part in parts for event in part), 1)
    ]
    written = 0
    for part in parts:
        await store.append(records[written : written + len(part)])
        written += len(part)
    for after in range(len(records) + 1):
        assert await store.read(run, after) == records[after:]
        assert await store.read(run, after, 2) == records[after : after + 2]
    assert await store.read_all([run]) == {run: records}
    assert await store.last_sequences([run]) == {run: len(records)}


async def test_a_number_among_records_appended_together_is_a_conflict(store: Journal) -> None:
    records = [*whole("r1")[:3], Record("r1", 4, 1000.0, StopRequested("ada"))]
    await store.append(records)
    for taken in (1, 2, 3, 4):
        with pytest.raises(SequenceConflict):
            await store.append([Record("r1", taken, 1001.0, RunResumed())])
        with pytest.raises(SequenceConflict):
            await store.append([Record("r1", seq, 1001.0, RunResumed()) for seq in range(taken, 9)])
    assert await store.read("r1") == records


async def test_another_process_conflicts_with_records_appended_together(url: str) -> None:
    mine, other = await SqlStorage.open(url), await SqlStorage.open(url)
    records = whole("r1")
    await mine.journal.append(records[:2])
    await other.journal.append(records[2:])
    for seq in (3, 4, 5):
        with pytest.raises(SequenceConflict):
            await mine.journal.append([Record("r1", seq, 1.0, StopRequested("ada"))])
    assert await mine.journal.read("r1") == records
    await mine.aclose()
    await other.aclose()


async def test_unfinished_runs_oldest_first(store: Journal) -> None:
    assert await store.unfinished() == []
    await store.append(numbered("second", [queued("second")], at=2000))
    await store.append(numbered("first", [queued("first"), RunStarted(), NodeStarted("n")], at=1000))
    await store.append(whole("done"))
    await store.append(whole("failed", "failed"))
    assert await store.unfinished() == ["first", "second"]
    await store.append(numbered("first", [RunEnded("stopped")], after=3, at=1000))
    assert await store.unfinished() == ["second"]


async def test_a_paused_run_waits_until_it_is_resumed_or_stopped(store: Journal) -> None:
    for run in ("resumed", "stopped"):
        await store.append(numbered(run, [queued(run), RunStarted(), RunPaused(({"who": "ada"},))]))
    assert await store.unfinished() == []
    await store.append(numbered("resumed", [RunResumed()], after=3))
    assert await store.unfinished() == ["resumed"]
    await store.append(numbered("stopped", [StopRequested("ada")], after=3))
    assert sorted(await store.unfinished()) == ["resumed", "stopped"]
    for run in ("resumed", "stopped"):
        await store.append(numbered(run, [RunEnded("stopped")], after=4))
    assert await store.unfinished() == []


async def test_a_database_opened_again_gives_all_back(url: str) -> None:
    runs = [f"r{n}" for n in range(20)]
    store = await SqlStorage.open(url)
    appends = [store.journal.append(whole(run)) for run in runs]
    last = store.journal.append(numbered("open", [queued("open"), RunStarted()]))
    await store.aclose()
    assert all(result.done() for result in (*appends, last)), "closing writes what waits"
    again = await SqlStorage.open(url)
    for run in runs:
        assert await again.journal.read(run) == whole(run)
    assert await again.journal.unfinished() == ["open"]
    await again.journal.append(numbered("open", [NodeStarted("n"), RunEnded("succeeded")], after=2))
    assert await again.journal.unfinished() == []
    await again.aclose()


async def test_a_value_that_is_nested_too_deep_is_refused_by_every_store(store: Journal) -> None:
    deep: list[object] = []
    for _ in range(900):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 300 levels"):
        await store.append(numbered("r1", [queued("r1", deep=deep)]))
    assert await store.read("r1") == []
