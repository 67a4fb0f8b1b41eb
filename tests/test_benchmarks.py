"""The benchmarks' table: what a reader of it sees. Nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import machine, model, run, table
from benchmarks.helpers import load
from benchmarks.table import MET, MISSED, NOT_MEASURED, Row, Target

ROOT = Path(__file__).parents[1]

PAIRS = [(1000.0, 4000.0), (1234.5, 4000.0), (2000.0, 5000.0)]
ROWS = [
    Row("Engine", "chain", 0.0161, "ms", Target(0.05), {"Burr": 0.0288, "graphon": "(no Python 3.12 here)"}),
    table.ratio("Served", "64 connections", PAIRS, "runs/s", "bare", Target(0.5, more=True), "p50 | p99", "too slow"),
    Row("Served", "broken", None, "", Target(1), {}, "RuntimeError: boom"),
    Row("Served", "by the way", 2.0, "s"),
]


@pytest.mark.parametrize(
    ("target", "figure", "verdict"),
    [
        (Target(3), 3.0, MET),
        (Target(3), 3.001, MISSED),
        (Target(1500, more=True), 1500.0, MET),
        (Target(1500, more=True), 1499.9, MISSED),
        (Target(3), None, NOT_MEASURED),
        (None, 7.0, ""),
    ],
)
def test_a_figure_is_judged_by_its_target(target: Target | None, figure: float | None, verdict: str):
    assert Row("", "", figure, "", target).verdict == verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.01609, "0.0161"), (0.00002, "2.0e-05"), (9.996, "10"), (99.96, "100"), (1234.5, "1,234")],
)
def test_numbers_have_three_figures(value: float, text: str):
    assert table.number(value) == text


def test_the_terminal_shows_each_figure_beside_target_and_peers():
    lines = table.plain(ROWS).splitlines()
    chain = next(line for line in lines if line.startswith("chain"))
    assert [part.strip() for part in chain.split("  ") if part.strip()] == [
        "chain",
        "0.0161 ms",
        "≤ 0.05 ms",
        "met",
        "Burr 0.0288, graphon (no Python 3.12 here)",
    ]
    served = next(line for line in lines if line.startswith("64 connections"))
    assert [part.strip() for part in served.split("  ") if part.strip()] == [
        "64 connections",
        "0.309 x",
        "0.25 - 0.4",
        "≥ 0.5 x",
        "MISSED",
        "Headrace 1,234 runs/s, bare 4,000",
        "(p50 | p99; too slow)",
    ]
    assert lines.count("Engine") == lines.count("Served") == 1


def test_why_a_target_is_missed_is_said_where_it_is_missed():
    met = table.ratio("Served", "fast", [(3.0, 4.0)], "runs/s", "bare", Target(0.5, more=True), missed="too slow")
    assert met.verdict == MET
    assert "too slow" not in table.plain([met])


def test_a_figure_of_several_values_is_their_median():
    row = table.figure("Idle", "memory", [71.0, 90.0, 70.0], "MB")
    assert row.cells()[1:3] == ["71 MB", "70 - 90"]


def test_the_page_has_a_table_a_group_whose_cells_stay_cells():
    lines = table.markdown(ROWS).splitlines()
    assert [line for line in lines if line.startswith("###")] == ["### Engine", "### Served"]
    rows = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {len(table.HEADINGS) + 1}
    assert any("**MISSED**" in line for line in rows)


def test_what_is_missed_is_said_in_a_line():
    assert table.summary(ROWS) == (
        "1 of 3 targets met. Not met: Served: 64 connections (MISSED); Served: broken (not measured)."
    )


def test_new_figures_replace_the_old_and_nothing_else():
    page = f"# Title\n\n{run.BEGIN}\nold\n{run.END}\n\nWhy it is so.\n"
    new = run.with_figures(page, "new")
    assert new == page.replace("old", "new")
    assert run.with_figures(new, "new") == new
    with pytest.raises(ValueError, match="lacks its marks"):
        run.with_figures("# Title\n", "new")


def test_a_group_that_is_measured_again_replaces_its_table_only():
    old = run.figures(ROWS, "here")
    again = Row("Served", "64 connections", 0.6, "x", Target(0.5, more=True))
    added = Row("Tests", "make test", 14.0, "min", Target(6))
    new = run.with_groups(old, [again, added], "Measured again.")
    summary = table.summary([ROWS[0], again, added])
    engine = table.markdown(ROWS[:1])
    served, tests = (table.markdown([row], "Measured again.") for row in (again, added))
    assert new == "\n\n".join([old.partition("\n\n")[0], summary, engine, served, tests])
    assert run.with_groups(new, [again], "Measured again.") == new


def test_the_page_in_the_repository_can_take_figures():
    page = run.PAGE.read_text("utf-8")
    run.with_figures(page, "new")
    assert table.summary_of_page(page) in page


def test_machine_facts_name_cores_and_python_and_no_place():
    facts = machine.facts()
    assert f"{machine.cores()} cores" in facts
    assert "Python" in facts
    assert "/" not in facts.replace("GNU/Linux", "")
    assert machine.resident_mb(machine.os.getpid()) > 1


def measured(rows: Sequence[Row] | Exception):
    def measure(quick: bool) -> list[Row]:
        if isinstance(rows, Exception):
            raise rows
        return list(rows)

    return measure


def test_a_missed_target_ends_well_and_a_broken_benchmark_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(run, "BENCHMARKS", {"missed": measured([ROWS[1]]), "broken": measured(OSError("boom"))})
    assert run.main(["missed"]) == 0
    assert "MISSED" in capsys.readouterr().out
    assert run.main(["broken", "missed"]) == 1
    out = capsys.readouterr().out
    assert "OSError: boom" in out
    assert "1,234 runs/s" in out


def test_the_page_is_written_when_all_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"{run.BEGIN}\n{run.END}\n")
    monkeypatch.setattr(run, "PAGE", page)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "BENCHMARKS", {"all": measured(ROWS[:2])})
    assert run.main(["--write"]) == 0
    assert "| chain | 0.0161 ms |  | ≤ 0.05 ms | met |" in page.read_text()
    before = page.read_text()
    monkeypatch.setattr(run, "BENCHMARKS", {"all": measured(OSError("boom"))})
    assert run.main(["--write"]) == 1
    assert page.read_text() == before


@pytest.mark.parametrize("arguments", [["nonsense"], ["--write", "--quick"]])
def test_bad_usage_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        run.main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_tokens_count_only_in_the_events_that_tell_them():
    chunk = b'data: {"event":"text_chunk","text":" token token"}\n\n'
    finished = b'data: {"event":"workflow_finished","text":" token token"}\n\n'
    body = chunk + finished + chunk
    chunks = [body[:30], body[30:100], body[100:]]  # cut anywhere
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert load.count(answer, {"event": '"event":"text_chunk"', "text": " token"}) == 4


@pytest.mark.parametrize("journal", ["memory", "sqlite"])
def test_the_engine_runs_the_graphs_it_is_timed_with(journal: str, tmp_path: Path):
    requests = [{"shape": shape, "nodes": 5, "times": 2} for shape in ("chain", "fan_out", "waiting_fan_out")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "contestants" / "with_headrace.py"), journal, str(tmp_path)],
        input="".join(json.dumps(item) + "\n" for item in requests),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    name, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert name["name"].startswith("Headrace")
    assert [len(answer["ms"]) for answer in answers] == [2, 2, 2]


FIGURES = model.Figures(records=50, stored=20_000, wal=25_000, worker=0.05, server=0.002)


def test_the_page_about_scaling_has_what_the_model_computes():
    """From the figures of the page of benchmarks; `python benchmarks/model.py --write` writes it."""
    computed = model.table(model.measured(model.FIGURES.read_text()))
    page = model.PAGE.read_text()
    assert model.written(page, computed) == page


def test_what_the_model_computes():
    million, hundred = (model.load_of(runs, FIGURES) for runs in (1_000_000, 100_000_000))
    assert million["runs a second, mean and peak"] == "12 and 58"
    assert (million["runs at once at the peak"], hundred["runs at once at the peak"]) == ("579", "57,870")
    assert million["cores of hosts (API and workers)"] == "5"  # 57.87 runs a second x 0.05 s / 0.6
    assert (million["stored a day"], hundred["stored a day"]) == ("20 GB", "2 TB")
    assert million["databases (cells)"] == "1"
    assert hundred["databases (cells)"] == "15; the first limit is stored data"  # 60 TB in 30 days / 4 TB


@pytest.mark.parametrize("lost", ["### Volume", "| WAL a run "])
def test_a_model_without_a_figure_fails(lost: str):
    with pytest.raises(ValueError, match="the page lacks"):
        model.measured(model.FIGURES.read_text().replace(lost, "###"))
