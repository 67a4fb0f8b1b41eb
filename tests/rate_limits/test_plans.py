"""The file of plans: what may be in it, and how it is read again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headrace.errors import LoadError
from headrace.rate_limits import PlanFile, load_plans
from headrace.rate_limits import plans as plan_files

WHOLE = """
plans:
  free: {requests_per_minute: 60, concurrent_runs: 5, runs_per_day: 1000, max_upload_mb: 0.5}
  pro: {requests_per_minute: 6000}
  none: {}
default: free
workspaces: {acme: pro}
apps: {shop: free}
keys: {k1: none}
"""


def _file(folder: Path, text: str) -> Path:
    file = folder / "plans.yml"
    file.write_text(text)
    return file


def test_a_whole_file(tmp_path: Path) -> None:
    plans = load_plans(_file(tmp_path, WHOLE))
    assert plans.default == "free"
    assert plans.plans["free"].max_upload_mb == 0.5
    assert plans.plans["pro"].concurrent_runs is None
    assert (plans.workspaces, plans.apps, plans.keys) == ({"acme": "pro"}, {"shop": "free"}, {"k1": "none"})


def test_json_will_do(tmp_path: Path) -> None:
    text = json.dumps({"plans": {"a": {"runs_per_day": 1}}, "default": "a"}, indent=1)
    assert load_plans(_file(tmp_path, text)).plans["a"].runs_per_day == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plans: {a: {requests_per_minute: 0}}", "plans.a.requests_per_minute: Input should be greater than or equal"),
        ("plans: {a: {concurrent_runs: -1}}", "plans.a.concurrent_runs: "),
        ("plans: {a: {runs_per_day: 1.5}}", "plans.a.runs_per_day: "),
        ("plans: {a: {runs_per_day: '5'}}", "plans.a.runs_per_day: "),
        ("plans: {a: {runs_per_day: yes}}", "plans.a.runs_per_day: "),
        ("plans: {a: {runs_per_day: 1" + "0" * 400 + "}}", "plans.a.runs_per_day: "),
        ("plans: {a: {max_upload_mb: .nan}}", "plans.a.max_upload_mb: "),
        ("plans: {a: {max_upload_mb: .inf}}", "plans.a.max_upload_mb: "),
        ("plans: {a: {max_upload_mb: 0}}", "plans.a.max_upload_mb: "),
        ("plans: {a: {requests_per_second: 1}}", "plans.a.requests_per_second: Extra inputs are not permitted"),
        ("plans: {a: 5}", "plans.a: "),
        ("plans: {1: {}}", "plans.1: "),
        ("default: gold", "default: there is no plan 'gold'"),
        ("workspaces: {acme: gold}", "workspaces.acme: there is no plan 'gold'"),
        ("plans: {a: {}}\nkeys: {k: [a]}", "keys.k: "),
        ("plans: {a: {}, a: {}}", "line 1: 'a' is given twice"),
        ("plans: {a: {}}\nworkspaces: {w: a}\nworkspaces: {}", "line 3: 'workspaces' is given twice"),
        ("plan: {}", "plan: Extra inputs"),
        ("", "the file: "),
        ("- a", "the file: "),
        ("plans: {a", "is not valid YAML: "),
        ("plans: !!python/object:os.system {}", "is not valid YAML: "),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_that_names_the_field(text: str, expected: str, tmp_path: Path) -> None:
    file = _file(tmp_path, text)
    with pytest.raises(LoadError) as caught:
        load_plans(file)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="No such file"):
        load_plans(tmp_path / "plans.yml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(LoadError, match="UTF-8"):
        load_plans(tmp_path / "binary")
    (tmp_path / "large").write_bytes(b"#" * (plan_files.LARGEST_FILE + 1))
    with pytest.raises(LoadError, match="larger than 1 MB"):
        load_plans(tmp_path / "large")


def test_it_is_read_again_when_it_changes_and_kept_where_the_new_one_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plan_files, "CHECK_SECONDS", 0.0)
    file = _file(tmp_path, "plans: {a: {runs_per_day: 1}}")
    plans = PlanFile(file)
    first = plans.current()
    assert plans.current() is first
    _file(tmp_path, "plans: {a: {runs_per_day: 22}}")
    assert plans.current().plans["a"].runs_per_day == 22
    _file(tmp_path, "plans: {a: {runs_per_day: none}}")
    for _ in range(3):
        assert plans.current().plans["a"].runs_per_day == 22
    assert len([record for record in caplog.records if "plans.a.runs_per_day" in record.message]) == 1, "said once"
    os.unlink(file)
    assert plans.current().plans["a"].runs_per_day == 22
    _file(tmp_path, "plans: {a: {runs_per_day: 333}}")
    assert plans.current().plans["a"].runs_per_day == 333
