"""`headrace knowledge`: from files to what a search finds in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    texts = {"pump.md": "The pump starts when the valve is open.", "motor.txt": "The motor needs oil."}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in texts]


def listed(invoke: Invoke, *more: str) -> Any:
    return json.loads(invoke("knowledge", "list", "--json", *more).stdout)


def test_from_files_to_a_search(invoke: Invoke, files: list[Path]):
    added = invoke("knowledge", "add", "Manuals", *map(str, files), "--economy")
    assert (added.exit_code, len(added.stdout.split())) == (0, 2), added.stderr
    [base] = listed(invoke)
    assert (base["name"], base["technique"], base["documents"]) == ("Manuals", "economy", "2")
    assert {item["name"]: item["status"] for item in listed(invoke, "Manuals")} == {
        "pump.md": "completed",
        "motor.txt": "completed",
    }
    again = invoke("knowledge", "add", base["id"], str(files[0]))
    assert again.exit_code == 0, "it has its technique already"
    twice = invoke("knowledge", "rm", "Manuals", "pump.md")
    assert (twice.exit_code, "names 2 documents" in twice.stderr) == (2, True)
    assert invoke("knowledge", "rm", "Manuals", again.stdout.strip()).exit_code == 0
    assert invoke("knowledge", "rm", "Manuals", "motor.txt").exit_code == 0
    assert [item["name"] for item in listed(invoke, "Manuals")] == ["pump.md"]
    assert invoke("knowledge", "rm", "Manuals").exit_code == 0
    assert listed(invoke) == []


def test_what_is_found_cannot_control_the_terminal(invoke: Invoke, tmp_path: Path):
    file = tmp_path / "pump.md"
    file.write_text("The pump \x9b31mstarts.\nThen it stops.")
    assert invoke("knowledge", "add", "Manuals", str(file), "--economy").exit_code == 0
    assert invoke("knowledge", "search", "Manuals", "pump").stdout == (
        "[pump.md #1]\nThe pump \\x9b31mstarts.\nThen it stops.\n\n"
    )


def test_workspaces_are_apart(invoke: Invoke, files: list[Path]):
    assert invoke("knowledge", "add", "Manuals", str(files[0]), "--economy", "--workspace", "team").exit_code == 0
    assert (listed(invoke), len(listed(invoke, "--workspace", "team"))) == ([], 1)


def test_what_cannot_be_added(invoke: Invoke, files: list[Path], tmp_path: Path):
    for arguments, said in (
        (["Manuals", str(files[0])], "No embedding model is set"),
        (["Manuals", str(files[0]), "--embedding", "small"], "PROVIDER/MODEL"),
        (["Manuals", str(files[0]), "--embedding", "a/b", "--economy"], "--economy"),
        (["Manuals", str(tmp_path / "missing.md")], "missing.md"),
        (["Manuals"], "FILES"),
        ([" ", str(files[0]), "--economy"], "1 to 40 characters"),
        (["n" * 41, str(files[0]), "--economy"], "1 to 40 characters"),
    ):
        refused = invoke("knowledge", "add", *arguments)
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr
    assert listed(invoke) == []
    for arguments in (["list", "None"], ["rm", "None"]):
        refused = invoke("knowledge", *arguments)
        assert (refused.exit_code, "no knowledge base has the name" in refused.stderr) == (2, True)


def test_a_file_that_is_refused_leaves_no_knowledge_base(invoke: Invoke, files: list[Path], tmp_path: Path):
    refused = tmp_path / "a\\b.md"
    refused.write_text("The name has a character that file systems do not allow.")
    assert invoke("knowledge", "add", "Manuals", str(refused), "--economy").exit_code != 0
    assert listed(invoke) == []
    assert invoke("knowledge", "add", "Manuals", str(files[0]), str(refused), "--economy").exit_code != 0
    assert [base["documents"] for base in listed(invoke)] == ["1"]


def test_a_file_that_cannot_be_read_fails(invoke: Invoke, tmp_path: Path):
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"not a PDF")
    failed = invoke("knowledge", "add", "Manuals", str(broken), "--economy")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "broken.pdf" in failed.stderr


def test_a_document_that_failed_is_indexed_again(invoke: Invoke, files: list[Path], tmp_path: Path):
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"no PDF at all")
    added = invoke("knowledge", "add", "Manuals", str(files[0]), str(broken), "--economy")
    assert (added.exit_code, "broken.pdf" in added.stderr) == (1, True)
    again = invoke("knowledge", "resume", "Manuals", "broken.pdf")
    assert (again.exit_code, "broken.pdf" in again.stderr, again.stdout) == (1, True, "")
    for arguments, message in (
        (("pause", "Manuals", "broken.pdf"), "is not being indexed"),
        (("resume", "Manuals", "pump.md"), "neither paused nor in error"),
        (("pause", "Manuals", "missing.md"), "names 0 documents"),
    ):
        refused = invoke("knowledge", *arguments)
        assert refused.exit_code != 0
        assert message in refused.stderr
