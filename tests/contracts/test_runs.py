"""What every list of runs promises."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.kernel.events import NodeStarted, RunEnded, RunStarted
from headrace.ports import ListedRun, RunFilter, Storage

from .examples import PICTURE, numbered, queued, whole


async def _listed(store: Storage, **which: Any) -> list[str]:
    total, page = await store.runs.list_runs(RunFilter(**{"app": "app", **which}))
    assert total >= len(page)
    return [summary.run for summary in page]


async def test_a_run_is_told_from_beginning_to_end(store: Storage) -> None:
    assert await store.runs.find_run("r1") is None
    begun = numbered("r1", [queued("r1", name="Ada"), RunStarted(), NodeStarted("end")])
    await store.journal.append(begun[:1])
    waiting = ListedRun("r1", "app", "v1", "running", "service-api", "end-ada", "ada", None, 0.0, 0, 0, 0, 1000.5, None)
    assert await store.runs.find_run("r1") == waiting
    await store.journal.append(begun[1:])
    assert await store.runs.find_run("r1") == waiting
    await store.journal.append(numbered("r1", [RunEnded("failed", {}, "boom", 7, 3, 1)], after=3))
    ended = ListedRun(
        "r1", "app", "v1", "failed", "service-api", "end-ada", "ada", "boom", 1.0, 7, 3, 1, 1000.5, 1002.0
    )
    assert await store.runs.find_run("r1") == ended
    assert await store.runs.list_runs(RunFilter("app")) == (1, [ended])


async def test_a_run_written_at_once_is_told_the_same(store: Storage) -> None:
    await store.journal.append(whole("r1"))
    assert await store.runs.find_run("r1") == ListedRun(
        "r1", "app", "v1", "succeeded", "service-api", "end-ada", "ada", None, 1.5, 7, 1, 0, 1000.5, 1002.5
    )


async def test_a_task_names_its_run(store: Storage) -> None:
    await store.journal.append(whole("r1"))
    assert await store.runs.find_task("task-r1") == "r1"
    assert await store.runs.find_task("task-r2") is None
    assert await store.runs.find_task("\ud800") is None


async def test_the_newest_runs_come_first_in_pages(store: Storage) -> None:
    for n in range(7):
        await store.journal.append(whole(f"r{n}", at=1000 + n))
    await store.journal.append(whole("other", app="other"))
    assert await _listed(store) == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    total, page = await store.runs.list_runs(RunFilter("app", page=2, limit=3))
    assert (total, [summary.run for summary in page]) == (7, ["r3", "r2", "r1"])
    assert await _listed(store, page=4, limit=3) == []
    assert await _listed(store, page=10**6, limit=100) == []
    assert await _listed(store, page=0, limit=2) == ["r6", "r5"]
    assert await _listed(store, limit=0) == []
    assert await _listed(store, app="nobody's") == []


async def test_runs_are_found_by_status_time_and_user(store: Storage) -> None:
    await store.journal.append(whole("good", at=1000))
    await store.journal.append(whole("bad", "failed", at=2000))
    await store.journal.append(numbered("open", [queued("open", user="grace")], at=3000))
    assert await _listed(store, status="succeeded") == ["good"]
    assert await _listed(store, status="failed") == ["bad"]
    assert await _listed(store, status="running") == ["open"]
    assert await _listed(store, status="no such") == []
    assert await _listed(store, before=2000.5) == ["bad", "good"]
    assert await _listed(store, after=2000.5) == ["open", "bad"]
    assert await _listed(store, after=1500, before=2500) == ["bad"]
    assert await _listed(store, session="grace") == ["open"]
    assert await _listed(store, session="ada", status="failed") == ["bad"]


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        ("礁溪", ["tea"]),
        ("HOT spring", ["tea"]),
        ("done t", ["tea"]),  # an output
        ("100%", ["percent"]),
        ("%", ["percent"]),
        ("1_0", []),
        ("\\", ["back"]),
        ("line\nbreak", ["back"]),
        ('"quoted"', ["back"]),
        ("a.png", ["back"]),
        ("under_sc", ["under_score"]),  # a run's id
        ("no such", []),
        ("", ["under_score", "back", "percent", "tea"]),
    ],
)
async def test_keywords_are_found_in_inputs_outputs_and_ids(store: Storage, keyword: str, expected: list[str]) -> None:
    await store.journal.append(whole("tea", at=1000, name="宜蘭礁溪五日遊", kind={"of": ["hot spring"]}))
    await store.journal.append(whole("percent", at=2000, name="100% sure"))
    await store.journal.append(whole("back", at=3000, name='line\nbreak \\ "quoted"', photo=PICTURE))
    await store.journal.append(whole("under_score", at=4000))
    assert await _listed(store, keyword=keyword) == expected


async def test_odd_inputs_do_not_hinder_listing(store: Storage) -> None:
    odd = {
        "half": "\ud83d",
        "nul": "a\0b",
        "big": [10**5000],
        "list": ["\ud83d"],
        "keys": {1: 2},
        "long": "x" * 100_000,
    }
    await store.journal.append(numbered("r1", [queued("r1", user="u\0\ud800", **odd)]))
    [summary] = (await store.runs.list_runs(RunFilter("app")))[1]
    assert summary.run == "r1"
    assert await _listed(store, session="u\0\ud800") == ["r1"]
    assert await _listed(store, keyword="\ud83d\0") == []


async def test_what_comes_after_a_run_in_the_list(store: Storage) -> None:
    for n in range(5):
        await store.journal.append(whole(f"r{n}", at=1000 + n // 2))  # some at the very same time
    listed: list[str] = []
    older = None
    while True:
        _, page = await store.runs.list_runs(RunFilter("app", limit=2, older=older, counted=False))
        if not page:
            break
        listed += [summary.run for summary in page]
        older = page[-1].created_at, page[-1].run
    assert listed == await _listed(store) == ["r4", "r3", "r2", "r1", "r0"]


async def test_runs_are_found_by_version_and_source(store: Storage) -> None:
    await store.journal.append(whole("r1"))
    assert await _listed(store, version="v1", source="service-api") == ["r1"]
    assert await _listed(store, version="v2") == await _listed(store, source="batch:b") == []
