"""`headrace run` asks on the terminal for the forms of a run."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.human_input.flows import OUTPUTS, PARAGRAPH, human_input, workflow

SELECT = {"type": "select", "output_variable_name": "level", "option_source": {"type": "constant", "value": ["low"]}}
FILES = {"type": "file", "output_variable_name": "doc", "allowed_file_types": ["document"]}


def review(tmp_path: Path) -> Path:
    file = tmp_path / "review.yml"
    form = human_input(inputs=[PARAGRAPH, SELECT, FILES], form_content="Is {{#s.q#}} fine?")
    file.write_text(workflow({"ask": form}, ["s>ask", "ask:approve>e"], OUTPUTS), "utf-8")
    return file


def test_a_form_is_filled_in_on_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.setattr(import_module("headrace.cli.run"), "on_terminal", lambda: True)
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    typed = ["fine", "low", str(tmp_path / "missing.txt"), "approve", "better", "high", "low", str(notes), "approve"]
    done = invoke("run", review(tmp_path), "-i", "q=tea", input="\n".join(typed) + "\n")
    assert done.exit_code == 0, done.output
    assert "Is tea fine?" in done.stderr
    assert "missing.txt cannot be read" in done.stderr
    outputs = json.loads(done.stdout[done.stdout.index("{") :])
    assert (outputs["action"], outputs["comment"]) == ("approve", "better")


def test_an_answer_that_comes_too_late_leads_to_the_branch_of_a_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    monkeypatch.setattr(import_module("headrace.cli.run"), "on_terminal", lambda: True)
    file = tmp_path / "late.yml"
    edges = ["s>ask", "ask:approve>e", "ask:__timeout>e"]
    file.write_text(workflow({"ask": human_input(timeout=0)}, edges, OUTPUTS), "utf-8")
    done = invoke("run", file, "-i", "q=tea", input="fine\napprove\n")
    assert done.exit_code == 0, done.output
    assert "This form has expired" in done.stderr
    assert json.loads(done.stdout[done.stdout.index("{") :])["action"] == ""


def test_elsewhere_the_run_says_that_it_waits(tmp_path: Path, invoke: Invoke) -> None:
    done = invoke("run", review(tmp_path), "-i", "q=tea")
    assert done.exit_code == 1
    assert "the run waits for a person: run it on a terminal, or serve the file" in done.stderr
