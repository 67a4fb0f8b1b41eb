"""What every list of runs promises."""

from __future__ import annotations

from dataclasses import replace
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
        "r1",
        "app",
        "v1",
        "failed",
        "service-api",
        "end-ada",
        "ada",
        "boom",
        1.0,
        7,
        3,
        1,
        1000.5,
        1002.0,
        None,
        0,
        "USD",
    )
    assert await store.runs.find_run("r1") == ended
    assert await store.runs.list_runs(RunFilter("app")) == (1, [ended])


async def test_a_run_written_at_once_is_told_the_same(store: Storage) -> None:
    await store.journal.append(whole("r1"))
    assert await store.runs.find_run("r1") == ListedRun(
        "r1",
        "app",
        "v1",
        "succeeded",
        "service-api",
        "end-ada",
        "ada",
        None,
        1.5,
        7,
        1,
        0,
        1000.5,
        1002.5,
        None,
        0,
        "USD",
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


async def test_ended_runs_are_summed_by_day_app_model_key_and_user(store: Storage) -> None:
    costs = [
        {"provider": "openai", "model": "gpt-5", "total_tokens": 5, "total_price": "0.0000002", "currency": "USD"},
        {"provider": "tongyi", "model": "qwen", "total_tokens": 2, "total_price": "0.1", "currency": "USD"},
    ]
    for n, (day, status, app) in enumerate([(1, "succeeded", "a"), (1, "failed", "a"), (2, "succeeded", "b")]):
        request = replace(queued(f"r{n}", app, user="ada"), key="k1")
        ended = RunEnded(status, {}, tokens=7, costs=costs, node="llm" if status == "failed" else None)
        await store.journal.append(numbered(f"r{n}", [request, RunStarted()], at=day * 86400.0))
        await store.journal.append(numbered(f"r{n}", [ended], after=2, at=day * 86400.0))
    await store.journal.append(numbered("open", [queued("open", "a")], at=86400.0))

    async def sums(by: str, *apps: str, days: tuple[int, int] = (0, 10)) -> dict[str, tuple[int, ...]]:
        rows = await store.runs.sums(apps or ("a", "b", "c"), days, by)
        assert {(row.bucket, row.currency) for row in rows} <= {(-4, "USD")}  # they took half a second
        return {row.name: (row.runs, row.failed, row.tokens, row.price) for row in rows}

    assert await sums("app") == {"a": (2, 1, 14, 200000400), "b": (1, 0, 7, 100000200)}
    assert await sums("day") == {"1": (2, 1, 14, 200000400), "2": (1, 0, 7, 100000200)}
    assert await sums("key", "a") == {"k1": (2, 1, 14, 200000400)}
    assert await sums("end_user", "b") == {"ada": (1, 0, 7, 100000200)}
    assert await sums("model") == {"openai/gpt-5": (3, 1, 15, 600), "tongyi/qwen": (3, 1, 6, 300000000)}
    assert await sums("day", days=(2, 2)) == {"2": (1, 0, 7, 100000200)}
    assert await sums("day", days=(3, 2)) == {}
    summary = await store.runs.find_run("r1")
    assert summary is not None
    assert (summary.key, summary.price, summary.currency, summary.error_node) == ("k1", 100000200, "USD", "llm")


async def test_several_currencies_have_no_price_together(store: Storage) -> None:
    costs = [{"model": "m", "total_price": "1", "currency": currency} for currency in ("USD", "RMB")]
    await store.journal.append(numbered("r", [queued("r"), RunEnded("succeeded", costs=costs)]))
    summary = await store.runs.find_run("r")
    assert summary is not None
    assert (summary.price, summary.currency) == (None, None)
    rows = await store.runs.sums(["app"], (0, 10), "model")
    assert sorted((row.currency, row.price) for row in rows) == [("RMB", 10**9), ("USD", 10**9)]


async def test_sums_have_a_limit(store: Storage) -> None:
    """A run ends whatever a model says that it has cost."""
    costs = [{"model": "m", "total_price": "1e12", "currency": "USD"}]
    for n in range(5):
        ended = RunEnded("succeeded", costs=costs, tokens=2**70)
        await store.journal.append(numbered(f"r{n}", [queued(f"r{n}", user=f"u{n}"), ended]))
    for by in ("day", "model", "end_user"):
        rows = await store.runs.sums(["app"], (0, 10), by)
        assert sum(row.runs for row in rows) == 5
        assert all(row.price >= 2**61 for row in rows)
