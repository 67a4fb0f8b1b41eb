"""`headrace lint`: every problem of every file, and an exit code that tells how bad it is."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Invoke
from tests.cli.flows import field, flow, llm


def test_a_file_that_can_run(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "echo.yml", variables=[field("query")])
    done = invoke("lint", file)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{file}: no problems\n", "")


def test_what_is_missing_here(tmp_path: Path, invoke: Invoke):
    robot = {"id": "robot", "type": "robot-arm", "title": "Robot"}
    file = flow(tmp_path / "f.yml", llm("deepseek"), robot, variables=[field("query")])
    done = invoke("lint", file)
    assert done.exit_code == 1
    unknown, credentials = done.stdout.splitlines()
    assert "line " in unknown
    assert "node 'Robot'" in unknown
    assert "robot-arm" in unknown
    assert "node 'Write'" in credentials
    assert "DEEPSEEK_API_KEY" in credentials
    assert done.stderr == "2 problems in 1 of 1 file.\n"
    assert invoke("lint", file, DEEPSEEK_API_KEY="x").stdout == f"{unknown}\n"


def test_what_cannot_be_loaded(tmp_path: Path, invoke: Invoke):
    good = flow(tmp_path / "good.yml")
    bad = flow(tmp_path / "bad.yml")
    bad.write_text(bad.read_text().replace("type: start", "type: llm"))
    done = invoke("lint", good, bad, tmp_path / "gone.yml", tmp_path, good)
    assert done.exit_code == 2
    assert f"{good}: no problems" in done.stdout
    assert done.stdout.count("good.yml") == 1
    for file in (bad, tmp_path / "gone.yml", tmp_path):
        assert f"{file}: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_json(tmp_path: Path, invoke: Invoke):
    good, bad = flow(tmp_path / "good.yml"), tmp_path / "bad.yml"
    bad.write_text("a: 1\na: 2\n")
    done = invoke("lint", good, bad, "--json")
    assert done.exit_code == 2
    fine, broken = json.loads(done.stdout)
    assert fine == {"file": str(good), "loads": True, "problems": []}
    assert (broken["file"], broken["loads"]) == (str(bad), False)
    assert any(problem["fatal"] for problem in broken["problems"])


def test_lint_leaves_nothing_behind(tmp_path: Path, invoke: Invoke):
    flow(tmp_path / "good.yml")
    invoke("lint", "good.yml")
    assert [each.name for each in tmp_path.iterdir()] == ["good.yml"]
