"""Lists of runs are read from an index in order, whatever they are filtered by."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.kernel.summary import FAILED, PAUSED, RUNNING
from headrace.ports import RunFilter
from headrace.stores.sql import SqlStorage
from tests.contracts.examples import whole
from tests.stores.plans import listening, plan_of


@pytest.mark.parametrize(
    ("by", "index"),
    [
        ({}, "ix_runs_app_created_at (app=?)"),
        ({"after": 1.0}, "ix_runs_app_created_at (app=? AND created_at>?)"),
        ({"older": (2.0, "r")}, "ix_runs_app_created_at (app=? AND created_at<?)"),
        ({"keyword": "tea"}, "ix_runs_app_created_at (app=?)"),
        ({"session": "ada"}, "ix_runs_session (app=? AND session=?)"),
        ({"session": "ada", "after": 1.0}, "ix_runs_session (app=? AND session=? AND created_at>?)"),
        ({"session": "ada", "keyword": "tea"}, "ix_runs_session (app=? AND session=?)"),
        ({"version": "v1"}, "ix_runs_version (app=? AND version=?)"),
        ({"version": "v1", "older": (2.0, "r")}, "ix_runs_version (app=? AND version=? AND created_at<?)"),
        ({"status": FAILED}, "ix_runs_unusual (app=? AND status=?)"),
        ({"status": PAUSED, "after": 1.0}, "ix_runs_unusual (app=? AND status=? AND created_at>?)"),
        ({"status": RUNNING}, "ix_runs_open"),
        ({"source": "console"}, "ix_runs_source (source=?)"),
    ],
)
async def test_runs_are_read_from_an_index(store: SqlStorage, by: dict[str, Any], index: str):
    with listening(store) as statements:
        await store.runs.list_runs(RunFilter("app", counted=False, **by))
    first, *_ = await plan_of(store, *statements[-1])
    assert first.startswith(("SEARCH", "SCAN runs USING INDEX ix_runs_open"))
    assert index in first


async def test_a_search_does_not_fold_each_text(store: SqlStorage):
    with listening(store) as statements:
        await store.runs.list_runs(RunFilter("app", keyword="Tea"))
    assert all("lower(" not in statement for statement, _ in statements)


async def test_last_numbers_are_found_without_reading_all_events(store: SqlStorage):
    await store.journal.append(whole("r1"))
    with listening(store) as statements:
        assert await store.journal.last_sequences(["r1"]) == {"r1": 5}
    steps = await plan_of(store, *statements[-1])
    assert [step for step in steps if "events" in step] == [
        "SEARCH events USING COVERING INDEX sqlite_autoindex_events_1 (run=? AND seq=?)",
        "SEARCH events_1 USING INDEX sqlite_autoindex_events_1 (run=?)",  # of which the last row is read
    ]
    assert not [step for step in steps if "GROUP BY" in step]
